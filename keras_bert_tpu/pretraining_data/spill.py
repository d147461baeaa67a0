"""Between units and shards: a shuffle of all examples in memory that does not grow with them.

A worker writes the examples of a unit to files of some megabytes, each sorted by the shard that
they will go to. Once all units are there, a shard is put together from its part of each file, in
the order of the examples' random keys. So every shard is a random sample of the whole split, and no
more than a file or a shard is in memory at a time.

    part:       uint64, its number of entries; the entries; the records end to end
    file:       uint64 [shards + 1], where each shard's part begins, in bytes of the file
                for each shard: its part
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from keras_bert_tpu.pretraining_data.examples import ExampleBatch
from keras_bert_tpu.pretraining_data.records import ShardContent

# One for each example. Little-endian, so that another machine may put the shards together.
_ENTRY = np.dtype([("key", "<u8"), ("document", "<u8"), ("length", "<u4"), ("bytes", "<u4")])
_WORD = np.dtype("<u8")
# Of records in a file of a unit, of which a worker has one in memory.
FILE_BYTES = 64_000_000
EMPTY_PART = np.zeros(1, _WORD).tobytes()


def shard_of(order_keys: np.ndarray, num_shards: int) -> np.ndarray:
    """Returns the shard of each example: equal ranges of the random order keys.

    Args:
        order_keys: uint64 array [n].
        num_shards: int. Below 2**32.
    """
    high = np.asarray(order_keys, np.uint64) >> np.uint64(32)
    return (high * np.uint64(num_shards) >> np.uint64(32)).astype(np.int64)


def write_unit(prefix: str, batches: Iterable[ExampleBatch], num_shards: int) -> list[str]:
    """Writes the examples of a unit to as many files as it takes.

    Args:
        prefix: str. Local or gs:// path that those of the files begin with.
        batches: The examples; those of one file are in memory at once.
        num_shards: int. Of their split.

    Returns:
        The paths, at least one, in the order of the examples.

    Raises:
        tf.errors.OpError: If a file cannot be written.
    """
    paths: list[str] = []
    collected: list[ExampleBatch] = []
    size = 0

    def write() -> None:
        paths.append(f"{prefix}-{len(paths):03d}")
        _write_file(paths[-1], collected, num_shards)
        collected.clear()

    for batch in batches:
        collected.append(batch)
        size += sum(map(len, batch.serialized))
        if size >= FILE_BYTES:
            write()
            size = 0
    if collected or not paths:
        write()
    return paths


def _write_file(path: str, batches: Iterable[ExampleBatch], num_shards: int) -> None:
    """Writes some examples of a unit; the file has its name only when it is whole."""
    table, records, ends = _sort_by_shard(batches, num_shards)
    examples = np.diff(ends, prepend=0)
    bytes_before = np.concatenate([[0], np.cumsum(table["bytes"], dtype=np.int64)])
    sizes = _WORD.itemsize + examples * _ENTRY.itemsize
    sizes += bytes_before[ends] - bytes_before[ends - examples]
    header = (num_shards + 1) * _WORD.itemsize
    offsets = header + np.concatenate([[0], np.cumsum(sizes)])
    partial = f"{path}.partial"
    with tf.io.gfile.GFile(partial, "wb") as file:
        file.write(offsets.astype(_WORD).tobytes())
        for end, count in zip(ends.tolist(), examples.tolist(), strict=True):
            file.write(_pack(table, records, slice(end - count, end)))
    tf.io.gfile.rename(partial, path, overwrite=True)


def split_by_shard(batches: Iterable[ExampleBatch], num_shards: int) -> Iterator[tuple[int, bytes]]:
    """Splits examples into one part for each shard that gets some.

    Args:
        batches: The examples; all of them are in memory at once.
        num_shards: int. Of their split.

    Yields:
        The number of a shard, and its part, for `merge_parts`.
    """
    table, records, ends = _sort_by_shard(batches, num_shards)
    start = 0
    for shard, end in enumerate(ends.tolist()):
        if end > start:
            yield shard, _pack(table, records, slice(start, end))
        start = end


def _sort_by_shard(
    batches: Iterable[ExampleBatch], num_shards: int
) -> tuple[np.ndarray, list[bytes], np.ndarray]:
    """Entries and records, shard by shard, and where each shard ends in them."""
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
    ends = np.cumsum(np.bincount(shards, minlength=num_shards))
    return table[order], [records[place] for place in order.tolist()], ends


def _pack(table: np.ndarray, records: list[bytes], part: slice) -> bytes:
    count = np.array([part.stop - part.start], _WORD)
    return b"".join((count.tobytes(), table[part].tobytes(), *records[part]))


def read_shard(unit_files: Sequence[str], shard: int) -> ShardContent:
    """Puts a shard together from its part of each unit.

    Args:
        unit_files: Paths of the files of all units of the split, in order; the order decides only
            between examples with the same key.
        shard: int. Number of the shard.

    Raises:
        tf.errors.OpError: If a file cannot be read.
    """
    return merge_parts(_read_part(path, shard) for path in unit_files)


def _read_part(unit_file: str, shard: int) -> bytes:
    with tf.io.gfile.GFile(unit_file, "rb") as file:
        file.seek(shard * _WORD.itemsize)
        start, end = np.frombuffer(file.read(2 * _WORD.itemsize), _WORD).tolist()
        file.seek(start)
        return file.read(end - start)


def merge_parts(parts: Iterable[bytes]) -> ShardContent:
    """Puts a shard together from its parts.

    Args:
        parts: In an order that decides only between examples with the same key.
    """
    tables: list[np.ndarray] = [np.zeros(0, _ENTRY)]
    records: list[bytes] = []
    for content in parts:
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
