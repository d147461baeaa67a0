"""Examples as a model is given them, with what is masked put beside: for people to look at.

Records are parsed by the input pipeline's own functions, which also draw masks where these are not
in the records.
"""

import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError, PretrainingConfig
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.masking import KEPT, MASKED, RANDOM
from keras_bert_tpu.pretraining_data.parsing import batch_parser, mask_keys
from keras_bert_tpu.pretraining_data.record_files import read_records

# Of a run whose run file gives none.
DEFAULT_SEED = PretrainingConfig().seed

# Records that are parsed in one go: 15 arrays of [512, 512] int64 at most, 30 MB for each thread.
_BATCH = 512


class Examples(NamedTuple):
    """Examples as a model is given them, with what is masked put beside.

    What became of a prediction is what can be seen: a random piece that happens to be the original
    counts as kept.

    Attributes:
        numbers: int64 array [n]. Of each record, counted over the split in the order of its shards.
        token_ids: int32 array [n, length]. With masks.
        original_ids: int32 array [n, length]. Without masks.
        segment_ids: int32 array [n, length].
        padding_mask: int32 array [n, length]. 1 = real token.
        sequence_ids: int32 array [n, length]. Which sequence of the row a token belongs to, from 1;
            0 is padding.
        mask_kinds: int32 array [n, length]. MASKED, KEPT or RANDOM (see `masking`) where there is a
            prediction, else 0.
        labels: int32 array [n, sequences], or None. Next-sentence labels of the sequences, -1
            behind the last one.
    """

    numbers: np.ndarray
    token_ids: np.ndarray
    original_ids: np.ndarray
    segment_ids: np.ndarray
    padding_mask: np.ndarray
    sequence_ids: np.ndarray
    mask_kinds: np.ndarray
    labels: np.ndarray | None


class ExampleReader:
    """Reads examples of one split, with the masks of one epoch of one run if masks are drawn.

    Args:
        manifest: Manifest.
        split: str. "train" or "validation".
        epoch: int. From 0. Masks of held-out examples are the same in every epoch and every run.
        seed: int. Of the training run.

    Attributes:
        vocabulary: Vocabulary.

    Raises:
        InputError: If the vocabulary in the folder is not that of the records.
    """

    def __init__(self, manifest: Manifest, split: str, epoch: int = 0, seed: int = DEFAULT_SEED):
        self.vocabulary = manifest.load_vocabulary()
        self._manifest = manifest
        self._shards = getattr(manifest, split)
        self._first_numbers = np.cumsum([0, *(shard.num_examples for shard in self._shards)])
        self._has_labels = manifest.config.objective != "mlm"
        if split == "validation":
            epoch, seed = 0, manifest.config.seed
        parse_batch = batch_parser(manifest)

        def parse(serialized: tf.Tensor, numbers: tf.Tensor) -> dict[str, tf.Tensor]:
            return parse_batch(serialized, mask_keys(split, seed, epoch, numbers))

        # Traced here, once for all batches, or else each thread would do it.
        self._parse = tf.function(parse).get_concrete_function(
            tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64)
        )

    def read(self, shard_index: int, start: int, count: int) -> Iterator[Examples]:
        """Reads some of the records of a shard; may be called from several threads.

        Args:
            shard_index: int. In the order of the manifest.
            start: int. Records to leave out.
            count: int. Records to read; `start + count` is at most what the manifest counts.

        Yields:
            Examples, at most 512 at a time.

        Raises:
            InputError: If the file is missing, damaged, too short or not of the settings of the
                manifest.
        """
        shard = self._shards[shard_index]
        path = self._manifest.path_of(shard)
        found = 0
        try:
            for serialized in read_records(path).skip(start).take(count).batch(_BATCH):
                first = int(self._first_numbers[shard_index]) + start + found
                numbers = np.arange(first, first + len(serialized), dtype=np.int64)
                parsed = self._parse(serialized, tf.constant(numbers))
                found += len(serialized)
                yield self._to_examples(
                    path, numbers, {name: values.numpy() for name, values in parsed.items()}
                )
        except tf.errors.OpError as error:
            raise InputError(
                f"{path} cannot be read ({_in_a_line(error)}); kbt-inspect --verify says what is "
                f"damaged."
            ) from error
        if found < count:
            raise InputError(
                f"{path} ends after {start + found} records, but the manifest counts "
                f"{shard.num_examples}; copy it again, or prepare the records again."
            )

    def _to_examples(
        self, path: str, numbers: np.ndarray, arrays: dict[str, np.ndarray]
    ) -> Examples:
        token_ids = arrays["token_ids"]
        rows, slots = np.nonzero(arrays["mask_weights"] > 0)
        positions = arrays["mask_positions"][rows, slots]
        originals = arrays["mask_ids"][rows, slots]
        largest = max(token_ids.max(), originals.max(initial=0))
        if largest >= len(self.vocabulary):
            raise InputError(
                f"{path} holds the token {largest}, but the vocabulary has only "
                f"{len(self.vocabulary)} pieces; give the vocabulary that the records were made "
                f"with."
            )
        shown = token_ids[rows, positions]
        kinds = np.where(shown == originals, KEPT, RANDOM)
        kinds = np.where(shown == self.vocabulary.mask_id, MASKED, kinds)
        original_ids, mask_kinds = token_ids.copy(), np.zeros_like(token_ids)
        original_ids[rows, positions] = originals
        mask_kinds[rows, positions] = kinds
        labels = None
        if self._has_labels:
            weights = arrays.get("next_sentence_weights", np.ones((1, 1)))
            labels = np.where(weights > 0, arrays["next_sentence_label"], -1)
        return Examples(
            numbers=numbers,
            token_ids=token_ids,
            original_ids=original_ids,
            segment_ids=arrays["segment_ids"],
            padding_mask=arrays["padding_mask"],
            sequence_ids=arrays.get("sequence_ids", arrays["padding_mask"]),
            mask_kinds=mask_kinds,
            labels=labels,
        )


def _in_a_line(error: tf.errors.OpError) -> str:
    """TensorFlow's message without where in the graph it arose."""
    message = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]|name:\s*$", "", error.message)
    found = re.search(r"assertion failed: \[(.*?)\]", message, re.DOTALL)
    text = " ".join((found.group(1) if found else message.partition("[[")[0]).split())
    return textwrap.shorten(text, 300, placeholder=" ...")
