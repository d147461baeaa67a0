"""Reading a file of records from any record on."""

import tensorflow as tf

# Around the content of a record: its length (8 bytes) and two checksums (4 bytes each).
FRAME_BYTES = 16

# Of such files the content is compressed with GZIP.
GZIP_SUFFIX = ".gz"


def read_records(file: str | tf.Tensor, byte_offset: int | tf.Tensor = 0) -> tf.data.Dataset:
    """Reads the records of a file from a byte on; usable in `tf.data` functions.

    Args:
        file: str or string tensor []. A TFRecord file, of GZIP compression if it ends in ".gz".
        byte_offset: int or int64 tensor []. Where a record begins (in the uncompressed content).

    Returns:
        Dataset of string tensors [].
    """
    if tf.executing_eagerly():
        # A dataset that is iterated is made a graph first, and this one would lose its offsets
        # (seen with TensorFlow 2.21); within a function it is a graph already.
        arguments = (tf.convert_to_tensor(file), tf.convert_to_tensor(byte_offset, tf.int64))
        return tf.data.Dataset.from_tensors(arguments).flat_map(read_records)
    suffix = tf.strings.substr(file, -len(GZIP_SUFFIX), len(GZIP_SUFFIX))
    # tf.data.TFRecordDataset does not give access to the offsets that its kernel takes.
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=tf.reshape(file, [1]),
        compression_type=tf.where(suffix == GZIP_SUFFIX, "GZIP", ""),
        # What tf.data.TFRecordDataset sets; gs:// is read ahead in larger blocks by itself.
        buffer_size=tf.constant(256 * 1024, tf.int64),
        byte_offsets=tf.reshape(byte_offset, [1]),
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))


def framed_size(record: tf.Tensor) -> tf.Tensor:
    """Returns the bytes that records take in a file, int64, of string tensors of any shape."""
    return tf.cast(tf.strings.length(record), tf.int64) + FRAME_BYTES
