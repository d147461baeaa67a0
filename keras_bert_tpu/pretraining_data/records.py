"""Pre-training examples as records in TFRecord shards.

Feature names, dtypes and padding are those of Google's `create_pretraining_data.py`, so that its
files can be read here and ours by its tools. This module is the one place where they and the names
that the package uses are translated into each other.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from keras_bert_tpu.pretraining_data.manifest import MANIFEST_FILE, Shard

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
