"""Pre-training examples as records in TFRecord shards.

Feature names, dtypes and padding are those of Google's `create_pretraining_data.py`, so that its
files can be read here and ours by its tools. This module is the one place where they and the names
that the package uses are translated into each other.
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_tpu.pretraining_data.example_encoding import encode_examples
from keras_bert_tpu.pretraining_data.manifest import MANIFEST_FILE, Shard, count_lengths

_PIECE_BYTES = 1 << 22


class ShardContent(NamedTuple):
    """The examples of one shard, in their order.

    Attributes:
        records: list of n bytes objects.
        num_documents: int. Documents that they are from.
        lengths: int array [n]. Real tokens of each.
    """

    records: list[bytes]
    num_documents: int
    lengths: np.ndarray


# The names of features on disk, and the package's own.
_DISK_NAMES = {
    "token_ids": "input_ids",
    "padding_mask": "input_mask",
    "segment_ids": "segment_ids",
    "mask_positions": "masked_lm_positions",
    "mask_ids": "masked_lm_ids",
    "mask_weights": "masked_lm_weights",
    "next_sentence_label": "next_sentence_labels",
    "continues_word": "continues_word",
    "cls_positions": "cls_positions",
}
# What TensorFlow's Model Garden calls otherwise if --use_v2_feature_names is set.
_V2_DISK_NAMES = {"token_ids": "input_word_ids", "segment_ids": "input_type_ids"}


def serialize_examples(arrays: Mapping[str, np.ndarray]) -> list[bytes]:
    """Serializes a batch of examples as Google's `write_instance_to_example_files` does.

    Args:
        arrays: Mapping of arrays by the names and with the shapes of `parse_examples`. Records
            whose masks are drawn later lack the three that are about masks, and may have
            `continues_word` [n, sequence_length]; packed ones have `cls_positions` [n, sequences].

    Returns:
        list of bytes, one `tf.train.Example` for each row, the same for the same example.
    """
    return encode_examples({_DISK_NAMES[name]: values for name, values in arrays.items()})


def disk_name(name: str, feature_names: str = "v1") -> str:
    """Returns what a tensor is called in records.

    Args:
        name: str. The package's own name.
        feature_names: str. "v1" or "v2", see `Manifest`.
    """
    names = _DISK_NAMES if feature_names == "v1" else {**_DISK_NAMES, **_V2_DISK_NAMES}
    return names[name]


def parse_examples(
    serialized: tf.Tensor,
    sequence_length: int,
    max_predictions: int,
    *,
    feature_names: str = "v1",
    has_masks: bool = True,
    has_next_sentence: bool = True,
    has_words: bool = False,
    sequences_per_row: int = 1,
) -> dict[str, tf.Tensor]:
    """Parses a batch of records; usable eagerly and in `tf.data` functions.

    Args:
        serialized: string tensor [batch]; batch may be unknown.
        sequence_length: int. Tokens of each example.
        max_predictions: int. Mask positions of each example.
        feature_names: str. "v1" or "v2", see `Manifest`.
        has_masks: bool. False for records whose masks are drawn when they are read.
        has_next_sentence: bool. Whether the label is read.
        has_words: bool. Whether it is read which pieces continue a word.
        sequences_per_row: int. Largest number of sequences in a row; above 1 they are packed.

    Returns:
        dict of tensors. int32 `token_ids`, `segment_ids` and `padding_mask` [batch,
        sequence_length]; with masks int32 `mask_positions` and `mask_ids` and float32
        `mask_weights` [batch, max_predictions]; with next sentences int32 `next_sentence_label`
        [batch, sequences]; with words int32 `continues_word` [batch, sequence_length]. Packed rows
        have int32 `sequence_ids` (1 and up, 0 = padding) and `position_ids` [batch,
        sequence_length], int32 `cls_positions` [batch, sequences] (0 behind the last one) and
        float32 `next_sentence_weights` [batch, sequences], 1 where there is a sequence.

    Raises:
        tf.errors.InvalidArgumentError: When it runs, if a record has another length or lacks a
            feature, or is no `tf.train.Example`.
    """
    length = "sequence_length", sequence_length
    wanted = {name: length for name in ("token_ids", "segment_ids", "padding_mask")}
    if has_masks:
        predictions = "max_predictions", max_predictions
        wanted |= {name: predictions for name in ("mask_positions", "mask_ids", "mask_weights")}
    if has_next_sentence:
        wanted["next_sentence_label"] = "max_sequences", sequences_per_row
    if has_words:
        wanted["continues_word"] = length
    if sequences_per_row == 1:
        return _parse(serialized, wanted, feature_names)
    wanted["cls_positions"] = "max_sequences", sequences_per_row
    batch = _parse(serialized, wanted, feature_names)
    return {**batch, **_sequences(batch["cls_positions"], batch["padding_mask"])}


def _sequences(cls_positions: tf.Tensor, padding_mask: tf.Tensor) -> dict[str, tf.Tensor]:
    """What follows from where sequences begin; only the first of a row does at position 0."""
    is_sequence = tf.pad(cls_positions[:, 1:] > 0, [[0, 0], [1, 0]], constant_values=True)
    positions = tf.range(tf.shape(padding_mask)[1])
    # [batch, sequences, length]: whether a token stands at or behind a sequence's first.
    is_behind = is_sequence[..., tf.newaxis] & (positions >= cls_positions[..., tf.newaxis])
    number = tf.math.count_nonzero(is_behind, axis=1, dtype=tf.int32)
    first = tf.reduce_max(tf.where(is_behind, cls_positions[..., tf.newaxis], 0), axis=1)
    return {
        "sequence_ids": number * padding_mask,
        "position_ids": (positions - first) * padding_mask,
        "next_sentence_weights": tf.cast(is_sequence, tf.float32),
    }


def parse_lengths(serialized: tf.Tensor, sequence_length: int) -> tf.Tensor:
    """Parses no more of a batch of records than how many real tokens each has.

    Args:
        serialized: string tensor [batch].
        sequence_length: int. Tokens of each example, padding included.

    Returns:
        int32 tensor [batch]. Place of the last real token, from 1.

    Raises:
        tf.errors.InvalidArgumentError: As `parse_examples`.
    """
    wanted = {"padding_mask": ("sequence_length", sequence_length)}
    padding_mask = _parse(serialized, wanted, "v1")["padding_mask"]
    return tf.reduce_max(padding_mask * tf.range(1, sequence_length + 1), axis=1)


def _parse(
    serialized: tf.Tensor, wanted: Mapping[str, tuple[str, int]], feature_names: str
) -> dict[str, tf.Tensor]:
    """Tensors of the wanted names; each is given with the setting that says how wide it is."""
    disk_names = {name: disk_name(name, feature_names) for name in wanted}
    # Parsed as ragged, because the parser's own message on a fixed length that does not fit names
    # neither what was expected nor what was found.
    features = tf.io.parse_example(
        serialized,
        {
            disk_names[name]: tf.io.RaggedFeature(
                tf.float32 if name == "mask_weights" else tf.int64, row_splits_dtype=tf.int64
            )
            for name in wanted
        },
    )

    found = tf.stack([features[disk_names[name]].row_lengths() for name in wanted])
    widths = tf.constant([width for _, width in wanted.values()], tf.int64)
    fits = tf.reduce_all(found == widths[:, tf.newaxis], axis=1)
    first = tf.argmin(tf.cast(fits, tf.int32))  # The first feature that does not fit.
    width = tf.strings.as_string(widths[first])
    message = tf.strings.join(
        [
            "The records do not have ",
            tf.gather([setting for setting, _ in wanted.values()], first),
            "=",
            width,
            ": feature ",
            tf.gather([disk_names[name] for name in wanted], first),
            " must hold ",
            width,
            f" values (0 means that it is missing), see the settings in {MANIFEST_FILE} beside "
            f"them. Values found:",
        ]
    )
    check = tf.debugging.Assert(tf.reduce_all(fits), [message, tf.unique(found[first])[0]])

    def dense(name: str) -> tf.Tensor:
        rows = serialized.shape[0]
        shape = [-1 if rows is None else rows, wanted[name][1]]
        dtype = tf.float32 if name == "mask_weights" else tf.int32
        return tf.cast(tf.reshape(features[disk_names[name]].values, shape), dtype)

    # An eager assertion has already raised, and is None.
    with tf.control_dependencies([] if check is None else [check]):
        return {name: dense(name) for name in wanted}


def shard_name(split: str, index: int, num_shards: int) -> str:
    """Returns the file name of a shard, for example train-00000-of-00012.tfrecord."""
    return f"{split}-{index:05d}-of-{num_shards:05d}.tfrecord"


def write_shard(directory: str, name: str, content: ShardContent, sequence_length: int) -> Shard:
    """Writes records to a file that has its name only when it is whole.

    Args:
        directory: str. Local or gs:// folder.
        name: str. File name, from `shard_name`.
        content: ShardContent. The records, in order.
        sequence_length: int. Of the records.

    Returns:
        Shard. Size and checksum are of what was read back from the file.

    Raises:
        tf.errors.OpError: If the folder cannot be written to.
    """
    path = tf.io.gfile.join(directory, name)
    partial = f"{path}.partial"
    with tf.io.TFRecordWriter(partial) as writer:
        for record in content.records:
            writer.write(record)
    digest = hashlib.sha256()
    num_bytes = 0
    with tf.io.gfile.GFile(partial, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            num_bytes += len(piece)
    tf.io.gfile.rename(partial, path, overwrite=True)
    return Shard(
        name,
        len(content.records),
        num_bytes,
        digest.hexdigest(),
        content.num_documents,
        count_lengths(content.lengths, sequence_length),
    )
