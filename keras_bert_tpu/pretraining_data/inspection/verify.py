"""Checks every file of a folder of records against its manifest."""

import concurrent.futures
import dataclasses
import hashlib
from typing import Any, NamedTuple

import tensorflow as tf
from tqdm.auto import tqdm

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.damage import PARALLEL_SCANS, SPLITS, scan_shards
from keras_bert_tpu.pretraining_data.manifest import VOCABULARY_FILE, Manifest, Shard
from keras_bert_tpu.text.vocabulary import Vocabulary

_PIECE_BYTES = 1 << 22


class Problem(NamedTuple):
    """Something in a folder that is not as its manifest says.

    Attributes:
        file: str. As in the manifest.
        text: str. What is wrong.
        record: int or None. Number of the first record concerned, from 0, if it is about records.
        byte_offset: int or None. Where that begins (in a .gz file: in the uncompressed content).
    """

    file: str
    text: str
    record: int | None = None
    byte_offset: int | None = None

    def __str__(self) -> str:
        place = ""
        if self.record is not None:
            place = f"record {self.record} at byte offset {self.byte_offset}: "
        return f"{self.file}: {place}{self.text}"


@dataclasses.dataclass(frozen=True)
class Verification:
    """What a check of a folder found.

    Attributes:
        directory: str.
        shards: int. How many were checked.
        checksums: int. Shards whose sha256 the manifest knows, and which was compared.
        examples: int. Records that there should be.
        megabytes: float. Millions of bytes that there should be.
        problems: tuple of Problem. File by file in the order of the manifest, the vocabulary last.
    """

    directory: str
    shards: int
    checksums: int
    examples: int
    megabytes: float
    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems]
        size = (
            f"{_number_of(self.shards, 'shard')}, {_number_of(self.examples, 'record')}, "
            f"{self.megabytes:,.1f} MB"
        )
        if self.problems:
            files = len({problem.file for problem in self.problems})
            lines.append(
                f"{self.directory}: {_number_of(len(lines), 'problem')} in "
                f"{_number_of(files, 'file')} ({size})"
            )
        else:
            without = self.shards - self.checksums
            note = f"; for {without:,} of them no sha256 is known" if without else ""
            lines.append(f"{self.directory}: all is well ({size}{note})")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns the findings as values of JSON."""
        problems = [problem._asdict() for problem in self.problems]
        return {**dataclasses.asdict(self), "problems": problems}


def verify_records(directory: str, progress: bool = True) -> Verification:
    """Checks that each shard is there and has the size, the sha256 and the records it should have.

    Every shard is read to its end, for the sha256 and again for the checksums of its records. The
    vocabulary beside them is checked, too.

    Args:
        directory: str. Local or gs:// folder of records.
        progress: bool. Show progress bars.

    Returns:
        Verification.

    Raises:
        InputError: If there is no manifest, or a file cannot be read for another reason than
            damage.
    """
    manifest = Manifest.load(directory, check_shards=False)
    shards = [shard for split in SPLITS for shard in getattr(manifest, split)]
    try:
        with (
            concurrent.futures.ThreadPoolExecutor(PARALLEL_SCANS) as pool,
            tqdm(desc="Hashing", total=len(shards), unit="shard", disable=not progress) as bar,
        ):
            contents = []
            for content in pool.map(lambda shard: _hash(manifest.path_of(shard)), shards):
                contents.append(content)
                bar.update()
        faults = scan_shards(manifest, progress=progress).faults
    except tf.errors.OpError as error:
        raise InputError(
            f"A file in {directory} cannot be read ({error.message}); see that it may be read and "
            f"run again."
        ) from error
    problems = []
    for shard, content in zip(shards, contents, strict=True):
        if content is None:
            problems.append(Problem(shard.file, "is missing"))
            continue
        problems += _compare(shard, *content)
        for fault in faults:
            if fault.file == shard.file:
                text = fault.reason
                if fault.num_records > 1:
                    text += f" ({_number_of(fault.num_records, 'record')})"
                problems.append(Problem(shard.file, text, fault.record, fault.byte_offset))
    return Verification(
        directory=directory,
        shards=len(shards),
        checksums=sum(bool(shard.sha256) for shard in shards),
        examples=sum(shard.num_examples for shard in shards),
        megabytes=sum(shard.bytes for shard in shards) / 1e6,
        problems=(*problems, *_check_vocabulary(manifest)),
    )


def _number_of(count: int, name: str) -> str:
    return f"{count:,} {name}" + ("" if count == 1 else "s")


def _compare(shard: Shard, num_bytes: int, sha256: str) -> list[Problem]:
    if num_bytes != shard.bytes:
        # The sha256 differs, too, which says nothing more.
        return [Problem(shard.file, f"has {num_bytes} bytes, the manifest says {shard.bytes}")]
    if shard.sha256 not in ("", sha256):
        return [Problem(shard.file, f"has the sha256 {sha256}, the manifest says {shard.sha256}")]
    return []


def _hash(path: str) -> tuple[int, str] | None:
    """Size and sha256 of a file; None if it is missing."""
    digest, num_bytes = hashlib.sha256(), 0
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                num_bytes += len(piece)
    except tf.errors.NotFoundError:
        return None
    return num_bytes, digest.hexdigest()


def _check_vocabulary(manifest: Manifest) -> list[Problem]:
    try:
        found = Vocabulary.load(tf.io.gfile.join(manifest.directory, VOCABULARY_FILE)).sha256
    except InputError as error:
        return [Problem(VOCABULARY_FILE, str(error))]
    if manifest.vocabulary_sha256 in ("", found):
        return []
    text = f"its pieces have the sha256 {found}, the manifest says {manifest.vocabulary_sha256}"
    return [Problem(VOCABULARY_FILE, text)]
