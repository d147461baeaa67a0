"""Pre-training examples on disk: TFRecord shards and the manifest beside them.

Feature names, dtypes and padding are those of Google's `create_pretraining_data.py`, so that its
files can be read here and ours by its tools. This module is the one place where they and the names
that the package uses are translated into each other.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.dataclass_yaml import from_dict, to_dict

MANIFEST_FILE = "manifest.json"
VOCABULARY_FILE = "vocab.txt"
FORMAT_VERSION = 1

_PIECE_BYTES = 1 << 22


def serialize_example(
    token_ids: Sequence[int],
    segment_ids: Sequence[int],
    padding_mask: Sequence[int],
    mask_positions: Sequence[int],
    mask_ids: Sequence[int],
    mask_weights: Sequence[float],
    next_sentence_label: int,
) -> bytes:
    """Serializes one padded example as Google's `write_instance_to_example_files` does.

    Args:
        token_ids: [sequence_length] ints. With the masks in place.
        segment_ids: [sequence_length] ints, 0 or 1.
        padding_mask: [sequence_length] ints, 1 = real token.
        mask_positions: [max_predictions] ints.
        mask_ids: [max_predictions] ints. The original pieces.
        mask_weights: [max_predictions] floats, 1 = prediction, 0 = padding.
        next_sentence_label: int. 0 = part b follows part a, 1 = it is random.

    Returns:
        bytes of a `tf.train.Example`, the same for the same example.
    """
    example = tf.train.Example()
    feature = example.features.feature
    feature["input_ids"].int64_list.value.extend(token_ids)
    feature["input_mask"].int64_list.value.extend(padding_mask)
    feature["segment_ids"].int64_list.value.extend(segment_ids)
    feature["masked_lm_positions"].int64_list.value.extend(mask_positions)
    feature["masked_lm_ids"].int64_list.value.extend(mask_ids)
    feature["masked_lm_weights"].float_list.value.extend(mask_weights)
    feature["next_sentence_labels"].int64_list.value.append(next_sentence_label)
    # Without this the order of the features, and so the bytes, may differ between processes.
    return example.SerializeToString(deterministic=True)


def parse_examples(
    serialized: tf.Tensor, sequence_length: int, max_predictions: int
) -> dict[str, tf.Tensor]:
    """Parses a batch of records; usable eagerly and in `tf.data` functions.

    Args:
        serialized: string tensor [batch]; batch may be unknown.
        sequence_length: int. Tokens of each example.
        max_predictions: int. Mask positions of each example.

    Returns:
        dict of tensors. int32 `token_ids`, `segment_ids` and `padding_mask` [batch,
        sequence_length]; int32 `mask_positions` and `mask_ids` and float32 `mask_weights` [batch,
        max_predictions]; int32 `next_sentence_label` [batch, 1].

    Raises:
        tf.errors.InvalidArgumentError: When it runs, if a record has another length or lacks a
            feature, or is no `tf.train.Example`.
    """
    length = "sequence_length", sequence_length
    predictions = "max_predictions", max_predictions
    # Parsed as ragged, because the parser's own message on a fixed length that does not fit names
    # neither what was expected nor what was found.
    features = tf.io.parse_example(
        serialized,
        {
            name: tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)
            for name, dtype in (
                ("input_ids", tf.int64),
                ("segment_ids", tf.int64),
                ("input_mask", tf.int64),
                ("masked_lm_positions", tf.int64),
                ("masked_lm_ids", tf.int64),
                ("masked_lm_weights", tf.float32),
                ("next_sentence_labels", tf.int64),
            )
        },
    )

    def dense(name: str, setting: tuple[str, int], dtype: tf.DType) -> tf.Tensor:
        ragged = features[name]
        setting_name, width = setting
        lengths = ragged.row_lengths()
        check = tf.debugging.Assert(
            tf.reduce_all(lengths == width),
            [
                f"The records do not have {setting_name}={width}: feature {name} must hold {width} "
                f"values (0 means that it is missing), see the settings in {MANIFEST_FILE} beside "
                f"them. Values found:",
                tf.unique(lengths)[0],
            ],
        )
        rows = serialized.shape[0]
        # An eager assertion has already raised, and is None.
        with tf.control_dependencies([] if check is None else [check]):
            values = tf.reshape(ragged.values, [-1 if rows is None else rows, width])
        return tf.cast(values, dtype)

    return {
        "token_ids": dense("input_ids", length, tf.int32),
        "segment_ids": dense("segment_ids", length, tf.int32),
        "padding_mask": dense("input_mask", length, tf.int32),
        "mask_positions": dense("masked_lm_positions", predictions, tf.int32),
        "mask_ids": dense("masked_lm_ids", predictions, tf.int32),
        "mask_weights": dense("masked_lm_weights", predictions, tf.float32),
        "next_sentence_label": dense("next_sentence_labels", ("labels", 1), tf.int32),
    }


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
        file: str. Its name within the folder of the manifest.
        num_examples: int.
        bytes: int. Size of the file.
        sha256: str. Of its content, in hexadecimal.
    """

    file: str
    num_examples: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Counts:
    """What went into the records of a split; the counts of its parts add up to its own.

    Attributes:
        documents: int. Documents with at least one token.
        dropped_documents: int. Without any, or left alone in their block by such ones.
        sentences: int. Sentences with at least one token.
        dropped_sentences: int. Without any, or in a dropped document.
        tokens: int. Word pieces of these sentences.
        unknown_tokens: int. How many of them are [UNK].
        examples: int. Over all passes, like all that follows.
        short_examples: int. Of documents whose target length was drawn at random.
        random_next: int. Examples whose part b is from another document.
        real_tokens: int. Positions that are not padding.
        predictions: int. Masked-language-model targets.
        predictions_masked: int. Of them, replaced by [MASK].
        predictions_kept: int. Left as they were.
        predictions_random: int. Replaced by a random piece.
    """

    documents: int = 0
    dropped_documents: int = 0
    sentences: int = 0
    dropped_sentences: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    examples: int = 0
    short_examples: int = 0
    random_next: int = 0
    real_tokens: int = 0
    predictions: int = 0
    predictions_masked: int = 0
    predictions_kept: int = 0
    predictions_random: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            *map(sum, zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True))
        )

    @property
    def mean_length(self) -> float:
        """Mean number of real tokens in an example."""
        return _ratio(self.real_tokens, self.examples)

    @property
    def masks_per_example(self) -> float:
        """Mean number of predictions in an example."""
        return _ratio(self.predictions, self.examples)

    @property
    def random_next_share(self) -> float:
        """Share of the examples whose part b is from another document."""
        return _ratio(self.random_next, self.examples)

    def padding_share(self, sequence_length: int) -> float:
        """Share of the positions that are padding."""
        return 1.0 - self.mean_length / sequence_length if self.examples else 0.0


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a folder of records holds. Written last, it marks the preparation as complete.

    Attributes:
        directory: str. Local or gs:// folder that it was read from or is written to.
        config: DataConfig. The settings that the records were prepared with.
        input_files: tuple of str. Text files, in the order in which they were read.
        vocabulary_size: int.
        vocabulary_sha256: str. Fingerprint of the vocabulary, `Vocabulary.sha256`.
        train: tuple of Shard. In order.
        validation: tuple of Shard. In order; empty if nothing was held out.
        train_counts: Counts.
        validation_counts: Counts.
    """

    directory: str
    config: DataConfig
    input_files: tuple[str, ...]
    vocabulary_size: int
    vocabulary_sha256: str
    train: tuple[Shard, ...]
    validation: tuple[Shard, ...]
    train_counts: Counts
    validation_counts: Counts

    @property
    def num_examples(self) -> int:
        """Training examples in all shards."""
        return sum(shard.num_examples for shard in self.train)

    @property
    def num_validation_examples(self) -> int:
        """Held-out examples in all shards."""
        return sum(shard.num_examples for shard in self.validation)

    def to_json(self) -> str:
        """Returns the text of the manifest file."""
        values = {
            "format_version": FORMAT_VERSION,
            "num_examples": self.num_examples,
            "num_validation_examples": self.num_validation_examples,
            "settings": to_dict(self.config),
            "vocabulary": {
                "file": VOCABULARY_FILE,
                "size": self.vocabulary_size,
                "sha256": self.vocabulary_sha256,
            },
            "input_files": list(self.input_files),
            "train": self._split_to_dict(self.train, self.train_counts),
            "validation": self._split_to_dict(self.validation, self.validation_counts),
        }
        return json.dumps(values, indent=2) + "\n"

    def _split_to_dict(self, shards: tuple[Shard, ...], counts: Counts) -> dict[str, Any]:
        return {
            "num_examples": sum(shard.num_examples for shard in shards),
            "mean_length": counts.mean_length,
            "padding_share": counts.padding_share(self.config.sequence_length),
            "random_next_share": counts.random_next_share,
            "masks_per_example": counts.masks_per_example,
            "counts": dataclasses.asdict(counts),
            "shards": [dataclasses.asdict(shard) for shard in shards],
        }

    def save(self) -> None:
        """Writes `manifest.json` into the folder, under a temporary name until it is whole."""
        path = tf.io.gfile.join(self.directory, MANIFEST_FILE)
        with tf.io.gfile.GFile(f"{path}.partial", "w") as file:
            file.write(self.to_json())
        tf.io.gfile.rename(f"{path}.partial", path, overwrite=True)

    @classmethod
    def load(cls, directory: str) -> "Manifest":
        """Reads the manifest of a folder and checks that its shards are there.

        Args:
            directory: str. Local or gs:// folder that `kbt-prepare` wrote.

        Raises:
            InputError: If there is no manifest, it cannot be read or is of an unknown version, or a
                shard that it lists is missing.
        """
        path = tf.io.gfile.join(directory, MANIFEST_FILE)
        try:
            with tf.io.gfile.GFile(path, "r") as file:
                values = json.loads(file.read())
        except tf.errors.NotFoundError as error:
            raise InputError(
                f"There is no {MANIFEST_FILE} in {directory!r}: either it is not a folder of "
                f"records, or their preparation did not finish; check the path or run kbt-prepare."
            ) from error
        except (tf.errors.OpError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); prepare the records again with kbt-prepare."
            ) from error
        version = values.get("format_version") if isinstance(values, Mapping) else None
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path} has format_version {version!r}, but this version of the package reads "
                f"{FORMAT_VERSION}; prepare the records again with kbt-prepare, or use the version "
                f"that wrote them."
            )
        try:
            manifest = cls(
                directory=directory,
                config=from_dict(DataConfig, values["settings"]),
                input_files=tuple(values["input_files"]),
                vocabulary_size=values["vocabulary"]["size"],
                vocabulary_sha256=values["vocabulary"]["sha256"],
                train=tuple(Shard(**shard) for shard in values["train"]["shards"]),
                validation=tuple(Shard(**shard) for shard in values["validation"]["shards"]),
                train_counts=Counts(**values["train"]["counts"]),
                validation_counts=Counts(**values["validation"]["counts"]),
            )
        except (InputError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not a whole manifest ({type(error).__name__}: {error}); prepare the "
                f"records again with kbt-prepare."
            ) from error
        # One listing, because asking for each file of a bucket takes a request for each.
        present = {name.rstrip("/") for name in tf.io.gfile.listdir(directory)}
        missing = [
            shard.file
            for shard in (*manifest.train, *manifest.validation)
            if shard.file not in present
        ]
        if missing:
            raise InputError(
                f"{len(missing)} of the {len(manifest.train) + len(manifest.validation)} shards "
                f"that {path} lists are missing, the first is {missing[0]}; copy the whole folder, "
                f"or prepare the records again with kbt-prepare."
            )
        return manifest


def shard_name(split: str, index: int, num_shards: int) -> str:
    """Returns the file name of a shard, for example train-00000-of-00012.tfrecord."""
    return f"{split}-{index:05d}-of-{num_shards:05d}.tfrecord"


def write_shard(directory: str, name: str, serialized: Sequence[bytes]) -> Shard:
    """Writes records to a file that has its name only when it is whole.

    Args:
        directory: str. Local or gs:// folder.
        name: str. File name, from `shard_name`.
        serialized: The records, in order.

    Returns:
        Shard. Size and checksum are of what was read back from the file.

    Raises:
        tf.errors.OpError: If the folder cannot be written to.
    """
    path = tf.io.gfile.join(directory, name)
    partial = f"{path}.partial"
    with tf.io.TFRecordWriter(partial) as writer:
        for record in serialized:
            writer.write(record)
    digest = hashlib.sha256()
    num_bytes = 0
    with tf.io.gfile.GFile(partial, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            num_bytes += len(piece)
    tf.io.gfile.rename(partial, path, overwrite=True)
    return Shard(name, len(serialized), num_bytes, digest.hexdigest())


def serialize_examples(arrays: Mapping[str, np.ndarray]) -> list[bytes]:
    """Serializes a batch of examples.

    Args:
        arrays: dict of arrays, by the names and with the shapes of `parse_examples`.

    Returns:
        list of bytes, one for each row.
    """
    columns = [
        arrays[name].tolist()
        for name in (
            "token_ids",
            "segment_ids",
            "padding_mask",
            "mask_positions",
            "mask_ids",
            "mask_weights",
        )
    ]
    labels = arrays["next_sentence_label"][:, 0].tolist()
    return [serialize_example(*row) for row in zip(*columns, labels, strict=True)]


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
