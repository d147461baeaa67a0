"""Damaged shards: found before training, named, and read around.

A record in a TFRecord file is its length (8 bytes), a checksum of the length (4), the content and a
checksum of the content (4). Where a content does not fit its checksum but the length does, the next
record is found behind it, and one record is lost; where the length is damaged or the file ends,
the rest of the file is lost.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tqdm.auto import tqdm

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.record_files import (
    FRAME_BYTES,
    GZIP_SUFFIX,
    framed_size,
    read_records,
)

_LOG = logging.getLogger(__name__)

SPLITS = ("train", "validation")

# The length of a record and its checksum.
_HEADER_BYTES = 12

# Files that are scanned at the same time: a scan waits for gs:// more than it computes.
PARALLEL_SCANS = 16

# Records that are read in one go; behind the last whole one they are gone through one by one.
_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Readable records that stand one after the other in a file.

    Attributes:
        first_record: int. Number of the first one in the file, from 0, damaged ones counted.
        byte_offset: int. Where it begins.
        num_records: int.
    """

    first_record: int
    byte_offset: int
    num_records: int


@dataclasses.dataclass(frozen=True)
class Fault:
    """A damaged place in a shard.

    Attributes:
        split: str. "train" or "validation".
        file: str. As in the manifest.
        record: int. Number of the first damaged or missing record in the file, from 0.
        byte_offset: int. Where it begins (in a .gz file: in the uncompressed content).
        num_records: int. Records that cannot be used: 1, or all that should follow.
        reason: str. What is wrong, for people.
    """

    split: str
    file: str
    record: int
    byte_offset: int
    num_records: int
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.file}: record {self.record} at byte offset {self.byte_offset}: {self.reason}; "
            f"{self.num_records} record{'s'[: self.num_records != 1]} left out"
        )


@dataclasses.dataclass(frozen=True)
class ShardScan:
    """What a scan of shards found. Equal scans give equal orders of training.

    Attributes:
        fingerprint: str. Of the list of shards that were scanned.
        splits: tuple of str. The splits that were scanned.
        faults: tuple of Fault. In the order of the manifest.
        stretches: dict of tuples of Stretch. What is readable in the shards that have a fault.
    """

    fingerprint: str
    splits: tuple[str, ...]
    faults: tuple[Fault, ...]
    stretches: Mapping[str, tuple[Stretch, ...]]

    def num_skipped(self, *splits: str) -> int:
        """Returns how many records cannot be used, in the given splits or in all."""
        return sum(f.num_records for f in self.faults if not splits or f.split in splits)

    def to_dict(self) -> dict[str, Any]:
        """Returns the scan as values of JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ShardScan":
        """Reads what `to_dict` returned.

        Raises:
            InputError: If the values are not those of a scan.
        """
        try:
            return cls(
                fingerprint=values["fingerprint"],
                splits=tuple(values["splits"]),
                faults=tuple(Fault(**fault) for fault in values["faults"]),
                stretches={
                    file: tuple(Stretch(**stretch) for stretch in stretches)
                    for file, stretches in values["stretches"].items()
                },
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(
                f"The scan of the shards cannot be read ({type(error).__name__}: {error}); scan "
                f"them again."
            ) from error

    def check(self, manifest: Manifest, splits: Sequence[str], max_skipped: int) -> None:
        """Checks that the scan is of these shards and found no more damage than is allowed.

        Args:
            manifest: Manifest.
            splits: The splits that are to be read.
            max_skipped: int. Most records that may be left out, over these splits.

        Raises:
            InputError: If it does not.
        """
        if not set(splits) <= set(self.splits) or self.fingerprint != _fingerprint(
            manifest, self.splits
        ):
            raise InputError(
                f"The scan is not of the {' and '.join(splits)} shards of {manifest.directory}; "
                f"scan these again."
            )
        skipped = self.num_skipped(*splits)
        if skipped > max_skipped:
            first = next(fault for fault in self.faults if fault.split in splits)
            raise InputError(
                f"{skipped} of the records in {manifest.directory} cannot be used and max_skipped "
                f"is {max_skipped} (the first fault is in {first}): copy the files again, prepare "
                f"the records again, or raise max_skipped."
            )


def scan_shards(
    manifest: Manifest, splits: Sequence[str] = SPLITS, progress: bool = True
) -> ShardScan:
    """Reads all shards once, checksums included, and finds what is damaged, lacking or too much.

    Each fault is logged as a warning. Nothing but the framing is looked at, not what is in the
    records.

    Args:
        manifest: Manifest.
        splits: Sequence of str. Of "train" and "validation".
        progress: bool. Show a progress bar.

    Returns:
        ShardScan.

    Raises:
        tf.errors.OpError: If a file cannot be read for another reason than damage.
    """
    work = [(split, shard) for split in splits for shard in getattr(manifest, split)]
    faults: list[Fault] = []
    stretches: dict[str, tuple[Stretch, ...]] = {}
    with (
        concurrent.futures.ThreadPoolExecutor(PARALLEL_SCANS) as pool,
        tqdm(total=len(work), unit="shard", desc="Scanning", disable=not progress) as bar,
    ):
        scans = pool.map(
            lambda entry: _scan_file(manifest.path_of(entry[1]), entry[1].num_examples), work
        )
        for (split, shard), (found, readable) in zip(work, scans, strict=True):
            bar.update()
            if found:
                stretches[shard.file] = readable
            for record, offset, num_records, reason in found:
                faults.append(Fault(split, shard.file, record, offset, num_records, reason))
                _LOG.warning("%s", faults[-1])
    return ShardScan(_fingerprint(manifest, splits), tuple(splits), tuple(faults), stretches)


def _fingerprint(manifest: Manifest, splits: Sequence[str]) -> str:
    shards = [
        [split, shard.file, shard.num_examples, shard.sha256]
        for split in splits
        for shard in getattr(manifest, split)
    ]
    return hashlib.sha256(json.dumps(shards).encode()).hexdigest()


def _scan_file(
    path: str, expected: int
) -> tuple[list[tuple[int, int, int, str]], tuple[Stretch, ...]]:
    """Faults (record, byte offset, records lost, reason) and readable stretches of a file."""
    faults, stretches = [], []
    number, offset = 0, 0
    while True:
        try:
            good, end, is_damaged = _good_run(path, offset, expected - number)
        except tf.errors.NotFoundError:
            return [(0, 0, expected, "the file is missing")], ()
        if good:
            stretches.append(Stretch(number, offset, good))
        number, offset = number + good, end
        if not is_damaged:
            break
        reason, size = _judge(path, offset)
        faults.append((number, offset, 1 if size else expected - number, reason))
        if not size:
            return faults, tuple(stretches)
        number, offset = number + 1, offset + size
    # TensorFlow takes less than the head of a record for the end of the file.
    has_more = not path.endswith(GZIP_SUFFIX) and tf.io.gfile.stat(path).length > offset
    if number < expected:
        reason = "the file is cut off in it" if has_more else "the file ends here"
        faults.append((number, offset, expected - number, reason))
        return faults, tuple(stretches)
    surplus, _, is_damaged = _good_run(path, offset)
    if surplus or is_damaged or has_more:
        # Counted as at least one record, so that a cap of 0 refuses the file.
        reason = f"the file goes on beyond the {expected} records that the manifest counts"
        faults.append((expected, offset, max(1, surplus), reason))
    return faults, tuple(stretches)


def _good_run(path: str, offset: int, limit: int = -1) -> tuple[int, int, bool]:
    """Good records from a byte on, at most `limit`: how many, their end, whether damage follows."""
    good = 0
    # Eagerly and on the host, also where a strategy is being built around this.
    with tf.init_scope(), tf.device("CPU:0"):
        for batch in (_BATCH, 1):
            left = limit if limit < 0 else limit - good
            sizes = read_records(path, offset).take(left).map(framed_size).batch(batch)
            try:
                for part in sizes.as_numpy_iterator():
                    good += len(part)
                    offset += int(part.sum())
            except tf.errors.DataLossError:
                continue
            return good, offset, False
    return good, offset, True


def _judge(path: str, offset: int) -> tuple[str, int | None]:
    """What is wrong with a record, and how many bytes it has if the next one can be found."""
    if path.endswith(GZIP_SUFFIX):
        return "it, or the compressed file around it, is damaged", None
    with tf.io.gfile.GFile(path, "rb") as file:
        file.seek(offset)
        header = file.read(_HEADER_BYTES)
        num_bytes = file.size()
    if len(header) < _HEADER_BYTES:
        return "the file is cut off in it", None
    if _masked_crc32c(header[:8]) != int.from_bytes(header[8:], "little"):
        return "its length is damaged, so that the next record cannot be found", None
    size = FRAME_BYTES + int.from_bytes(header[:8], "little")
    if offset + size > num_bytes:
        return "the file is cut off in it", None
    return "its content does not fit its checksum", size


def _masked_crc32c(data: bytes) -> int:
    """CRC-32C with the rotation and the constant that TFRecord files add to it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            # The reflected polynomial of Castagnoli (RFC 3720, appendix B.4).
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    # tensorflow/core/lib/hash/crc32c.h, `Mask`.
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
