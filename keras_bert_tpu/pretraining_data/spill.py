"""Between units and shards: a shuffle of all examples in memory that does not grow with them.

A worker writes the examples of a unit to one file, sorted by the shard that they will go to. Once
all units are there, a shard is put together from its part of each unit's file, in the order of the
examples' random keys. So every shard is a random sample of the whole split, and no more than a unit
or a shard is in memory at a time.

    unit file:  uint64 [shards + 1], where each shard's part begins, in bytes of the file
                for each shard: uint64, its number of entries; the entries; the records end to end
"""

from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from keras_bert_tpu.pretraining_data.examples import ExampleBatch
from keras_bert_tpu.pretraining_data.records import ShardContent

# One for each example. Little-endian, so that another machine may put the shards together.
_ENTRY = np.dtype([("key", "<u8"), ("document", "<u8"), ("length", "<u4"), ("bytes", "<u4")])
_WORD = np.dtype("<u8")


def shard_of(order_keys: np.ndarray, num_shards: int) -> np.ndarray:
    """Returns the shard of each example: equal ranges of the random order keys.

    Args:
        order_keys: uint64 array [n].
        num_shards: int. Below 2**32.
    """
    high = np.asarray(order_keys, np.uint64) >> np.uint64(32)
    return (high * np.uint64(num_shards) >> np.uint64(32)).astype(np.int64)


def write_unit(path: str, batches: Iterable[ExampleBatch], num_shards: int) -> None:
    """Writes the examples of a unit; the file has its name only when it is whole.

    Args:
        path: str. Local or gs:// path.
        batches: The examples; all of them are in memory at once.
        num_shards: int. Of their split.

    Raises:
        tf.errors.OpError: If the file cannot be written.
    """
    entries: list[np.ndarray] = [np.zeros(0, _ENTRY)]
    records: list[bytes] = []
    for batch in batches:
        part = np.empty(len(batch.serialized), _ENTRY)
        part["key"] = batch.order_keys
        part["document"] = batch.documents
        part["length"] = batch.lengths
        part["bytes"] = [len(record) for record in batch.serialized]
        entries.append(part)
        records += batch.serialized
    table = np.concatenate(entries)
    shards = shard_of(table["key"], num_shards)
    order = np.argsort(shards, kind="stable")
    table = table[order]
    examples = np.bincount(shards, minlength=num_shards)
    ends = np.cumsum(examples)
    bytes_before = np.concatenate([[0], np.cumsum(table["bytes"], dtype=np.int64)])
    sizes = _WORD.itemsize + examples * _ENTRY.itemsize
    sizes += bytes_before[ends] - bytes_before[ends - examples]
    header = (num_shards + 1) * _WORD.itemsize
    offsets = header + np.concatenate([[0], np.cumsum(sizes)])
    partial = f"{path}.partial"
    with tf.io.gfile.GFile(partial, "wb") as file:
        file.write(offsets.astype(_WORD).tobytes())
        for end, count in zip(ends.tolist(), examples.tolist(), strict=True):
            part = slice(end - count, end)
            file.write(
                b"".join(
                    (
                        np.array([count], _WORD).tobytes(),
                        table[part].tobytes(),
                        *(records[place] for place in order[part].tolist()),
                    )
                )
            )
    tf.io.gfile.rename(partial, path, overwrite=True)


def read_shard(unit_files: Sequence[str], shard: int) -> ShardContent:
    """Puts a shard together from its part of each unit.

    Args:
        unit_files: Paths of all units of the split, in order; the order decides only between
            examples with the same key.
        shard: int. Number of the shard.

    Raises:
        tf.errors.OpError: If a file cannot be read.
    """
    tables: list[np.ndarray] = [np.zeros(0, _ENTRY)]
    records: list[bytes] = []
    for path in unit_files:
        with tf.io.gfile.GFile(path, "rb") as file:
            file.seek(shard * _WORD.itemsize)
            start, end = np.frombuffer(file.read(2 * _WORD.itemsize), _WORD).tolist()
            file.seek(start)
            content = file.read(end - start)
        (count,) = np.frombuffer(content, _WORD, 1).tolist()
        table = np.frombuffer(content, _ENTRY, count, _WORD.itemsize)
        at = _WORD.itemsize + count * _ENTRY.itemsize
        for size in table["bytes"].tolist():
            records.append(content[at : at + size])
            at += size
        tables.append(table)
    table = np.concatenate(tables)
    order = np.argsort(table["key"], kind="stable")
    return ShardContent(
        [records[place] for place in order.tolist()],
        len(np.unique(table["document"])),
        table["length"][order],
    )
