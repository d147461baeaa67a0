"""The shards of a split, and the reading of one: every record that is counted, or an error.

A file that is longer or shorter than the manifest says is named, and a damaged record with its
number in the file, counted from 0, and the byte offset at which it begins. All of it is graph, so
that a dataset can be sent to other hosts.
"""

import re
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.damage import ShardScan, Stretch
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.record_files import framed_size, read_records

# Files that are read at the same time: hides the latency of gs://, and is kept low because reading
# competes with the parsing of the current window for the host's cores.
PARALLEL_READS = 4


class ShardTable(NamedTuple):
    """The readable records of one split, shard by shard in the order of the manifest.

    A shard without damage is one stretch; a shard without any readable record is left out.

    Attributes:
        counts: int64 array [shards]. Readable records of each shard.
        first_stretch: int64 array [shards + 1]. The stretches of shard s are those from
            first_stretch[s] to before first_stretch[s + 1].
        files: string array [stretches].
        offsets: int64 array [stretches]. Byte at which the stretch begins in its file.
        stretch_counts: int64 array [stretches]. Records in the stretch.
        is_whole: bool array [stretches]. Whether the file must end behind the stretch.
        first_number: int64 array [stretches]. Number of the stretch's first record, counted over
            all records of the split, damaged ones too, so that it does not change with the damage.
    """

    counts: np.ndarray
    first_stretch: np.ndarray
    files: np.ndarray
    offsets: np.ndarray
    stretch_counts: np.ndarray
    is_whole: np.ndarray
    first_number: np.ndarray

    @property
    def num_examples(self) -> int:
        """Readable records of all shards."""
        return int(self.counts.sum())


def shard_table(manifest: Manifest, split: str, scan: ShardScan | None = None) -> ShardTable:
    """Returns what there is to read of a split.

    Args:
        manifest: Manifest.
        split: str. "train" or "validation".
        scan: ShardScan or None. Damage to read around; None takes the shards to be whole.

    Raises:
        InputError: If nothing is there to read.
    """
    stretches: list[tuple[str, Stretch, bool, int]] = []
    counts, first_stretch, base = [], [0], 0
    for shard in getattr(manifest, split):
        damaged = None if scan is None else scan.stretches.get(shard.file)
        parts = (Stretch(0, 0, shard.num_examples),) if damaged is None else damaged
        parts = [part for part in parts if part.num_records]
        if parts:
            path = manifest.path_of(shard)
            stretches += [(path, part, damaged is None, base + part.first_record) for part in parts]
            counts.append(sum(part.num_records for part in parts))
            first_stretch.append(len(stretches))
        base += shard.num_examples
    if not stretches:
        what = "training" if split == "train" else split
        fault = f"its manifest counts {base}" + (", all of them damaged" if base else "")
        raise InputError(
            f"There are no {what} records in {manifest.directory}: {fault}; prepare the records "
            f"again, from more documents or with another validation_rate."
        )
    return ShardTable(
        counts=np.array(counts, np.int64),
        first_stretch=np.array(first_stretch, np.int64),
        files=np.array([path for path, _, _, _ in stretches]),
        offsets=np.array([part.byte_offset for _, part, _, _ in stretches], np.int64),
        stretch_counts=np.array([part.num_records for _, part, _, _ in stretches], np.int64),
        is_whole=np.array([whole for _, _, whole, _ in stretches]),
        first_number=np.array([number for _, _, _, number in stretches], np.int64),
    )


def read_stretches(table: ShardTable, chosen: tf.Tensor) -> tf.data.Dataset:
    """Reads stretches, several at a time, and gives them in the order in which they are chosen.

    Args:
        table: ShardTable.
        chosen: int64 tensor [n]. Numbers of stretches.

    Returns:
        Dataset of n string tensors, the serialized records of a stretch each.
    """
    columns = (table.files, table.offsets, table.stretch_counts, table.is_whole)
    stretches = tf.data.Dataset.from_tensor_slices(
        tuple(tf.gather(column, chosen) for column in columns)
    )
    return stretches.interleave(
        _read_stretch,
        cycle_length=PARALLEL_READS,
        num_parallel_calls=PARALLEL_READS,
        deterministic=True,
    )


def damage_message(error: tf.errors.OpError) -> str | None:
    """Returns what is wrong with which shard, if that is what the error is about; else None."""
    found = _REFUSAL.search(error.message)
    return found[1] if found else None


def _read_stretch(
    file: tf.Tensor, offset: tf.Tensor, count: tf.Tensor, is_whole: tf.Tensor
) -> tf.data.Dataset:
    """One string tensor [count] of serialized records, or an error naming the file."""
    # One record more than expected is asked for, to notice a longer file.
    limit = count + tf.cast(is_whole, tf.int64)
    records = read_records(file, offset).take(limit).batch(limit)
    # TensorFlow's message on a damaged record names neither the file nor the record, so the error
    # becomes a lack of records. Only one attempt is made, because a file that cannot be opened
    # would otherwise be opened again without end.
    attempt = tf.data.Dataset.zip((tf.data.Dataset.range(1), records)).ignore_errors()
    none, zero = tf.zeros([0], tf.string), tf.constant(0, tf.int64)
    # If there is none, the first byte is read, which fails with the cause and the name where the
    # file cannot be opened at all; if there is one, the records before the damage are measured.
    first_byte = tf.data.FixedLengthRecordDataset(file, 1).take(1)
    sizes = read_records(file, offset).take(limit).map(framed_size).ignore_errors().batch(limit)
    good = sizes.map(lambda bytes: (none, tf.size(bytes, tf.int64), tf.reduce_sum(bytes)))
    nothing = tf.data.Dataset.from_tensors((none, zero, zero))
    damaged = first_byte.flat_map(lambda _: good.concatenate(nothing).take(1))
    empty = tf.data.Dataset.from_tensors((none, zero, zero - 1))

    def check(records: tf.Tensor, num_good: tf.Tensor, num_bytes: tf.Tensor) -> tf.Tensor:
        fault = _fault(count, records, num_good, offset + num_bytes, num_bytes < 0)
        return tf.cond(
            tf.size(records, tf.int64) == count,
            lambda: records,
            lambda: _refuse(file, offset, count, is_whole, fault),
        )

    outcome = attempt.map(lambda _, records: (records, zero, zero))
    return outcome.concatenate(damaged).concatenate(empty).take(1).map(check)


def _fault(
    count: tf.Tensor, records: tf.Tensor, num_good: tf.Tensor, end: tf.Tensor, is_empty: tf.Tensor
) -> tf.Tensor:
    found, text = tf.size(records, tf.int64), tf.strings.as_string
    return tf.case(
        [
            (found > count, lambda: tf.constant("has more than that")),
            (found > 0, lambda: tf.strings.join(["has ", text(found)])),
            (is_empty, lambda: tf.constant("is empty")),
        ],
        default=lambda: tf.strings.join(
            ["is damaged or cut off in record ", text(num_good), " at byte offset ", text(end)]
        ),
    )


# What `_refuse` says, among what TensorFlow puts around it.
_REFUSAL = re.compile(
    r"\[((?:The manifest counts|The scan found) \d+ records .*start a new run\)\.)\]", re.DOTALL
)


def _refuse(
    file: tf.Tensor, offset: tf.Tensor, count: tf.Tensor, is_whole: tf.Tensor, fault: tf.Tensor
) -> tf.Tensor:
    text = tf.strings.as_string
    expected = tf.cond(
        is_whole,
        lambda: tf.strings.join(["The manifest counts ", text(count), " records in ", file]),
        lambda: tf.strings.join(
            ["The scan found ", text(count), " records from byte offset ", text(offset), " of "]
            + [file]
        ),
    )
    message = tf.strings.join(
        [
            expected,
            ", but the file ",
            fault,
            " (records are numbered from 0): copy it again from where it was prepared, prepare the "
            "records again, or read around the damage with on_damage=skip (if that is set, the "
            "file was changed after its scan: start a new run).",
        ]
    )
    with tf.control_dependencies([tf.debugging.Assert(False, [message])]):
        return tf.zeros([0], tf.string)
