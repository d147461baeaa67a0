"""The steps of the Beam pipeline: plain callables, of which `beam` makes a pipeline.

    FilePart ──ReadDocuments──> documents of a block ──MakeExamples──> parts of shards, and counts
    parts of a shard ──WriteShard──> its file              counts of a split ──WriteCounts──> a file

A step's result depends on what it is given alone, and files take the place of earlier ones at once
and as a whole; so a runner may run a step again, elsewhere, or twice at the same time.
"""

import contextlib
import dataclasses
import functools
import json
import threading
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import documents, spill
from keras_bert_tpu.pretraining_data.corpora import Corpus, read_documents
from keras_bert_tpu.pretraining_data.examples import ExampleMaker
from keras_bert_tpu.pretraining_data.manifest import Counts
from keras_bert_tpu.pretraining_data.packed_records import pack_shard
from keras_bert_tpu.pretraining_data.plan import CorpusPlan, changed_while_read
from keras_bert_tpu.pretraining_data.records import shard_name, write_shard
from keras_bert_tpu.text.vocabulary import Vocabulary

# (split, corpus, block) and (split, shard).
BlockKey = tuple[str, int, int]
ShardKey = tuple[str, int]
# Where a part of a shard is from: (corpus, block, batch of the block). Parts in this order hold
# examples in that of `prepare`'s units, which decides between equal keys.
Origin = tuple[int, int, int]
NO_ORIGIN = (-1, -1, -1)

_maker_lock = threading.Lock()
_is_callers_process = False


@contextlib.contextmanager
def in_callers_process() -> Iterator[None]:
    """While it lasts, steps in this process leave its settings of TensorFlow alone."""
    global _is_callers_process
    _is_callers_process = True
    try:
        yield
    finally:
        _is_callers_process = False


def shard_result(name: str) -> str:
    """Name, in the work folder, of the file about a shard: the fields of `Shard` as JSON."""
    return f"{name}.json"


def counts_result(split: str) -> str:
    """Name, in the work folder, of the file about a split: the fields of `Counts` as JSON."""
    return f"counts-{split}.json"


@dataclasses.dataclass(frozen=True)
class FilePart:
    """A file, or a data set as a whole, and the numbers of its documents.

    Attributes:
        corpus: Corpus. With no other file.
        corpus_number: int.
        documents: int. Documents to be read from it.
        first: tuple of int. For each split: how many documents of the corpus are in files before.
        kept: bytes. Which documents are kept, as packed and compressed bits; empty if all are.
    """

    corpus: Corpus
    corpus_number: int
    documents: int
    first: tuple[int, ...]
    kept: bytes = b""


def file_parts(plan: CorpusPlan) -> list[FilePart]:
    """Returns the files of a plan, each with all that is needed to read it on its own."""
    parts = []
    for number, (corpus, counts) in enumerate(zip(plan.corpora, plan.counts, strict=True)):
        hold_out = documents.HoldOut(plan.config.validation_rate, plan.config.seed, number)
        files = [dataclasses.replace(corpus, files=(path,)) for path in corpus.files] or [corpus]
        first = first_kept = 0
        for file, size in zip(files, counts.file_documents, strict=True):
            sizes = hold_out.split_sizes(first_kept)
            kept, num_kept = b"", size
            if counts.is_kept is not None:
                is_kept = counts.is_kept[first : first + size]
                kept = zlib.compress(np.packbits(is_kept).tobytes())
                num_kept = int(np.count_nonzero(is_kept))
            starts = tuple(sizes[split] for split in documents.SPLITS)
            parts.append(FilePart(file, number, size, starts, kept))
            first += size
            first_kept += num_kept
    return parts


@dataclasses.dataclass(frozen=True)
class ReadDocuments:
    """A file -> its documents, each with its block.

    Attributes:
        config: DataConfig.
        split_documents: tuple of dict. For each corpus, documents by split.
    """

    config: DataConfig
    split_documents: tuple[Mapping[str, int], ...]

    def __call__(self, part: FilePart) -> Iterator[tuple[BlockKey, tuple[int, list[str]]]]:
        """Yields ((split, corpus, block), (number within corpus and split, sentences)).

        Raises:
            InputError: If the file does not hold the documents that were counted.
        """
        config, corpus = self.config, part.corpus_number
        is_kept = np.ones(part.documents, bool)
        if part.kept:
            bits = np.frombuffer(zlib.decompress(part.kept), np.uint8)
            is_kept = np.unpackbits(bits)[: part.documents].astype(bool)
        sizes = self.split_documents[corpus]
        last_block = {split: documents.num_blocks(sizes[split], config) - 1 for split in sizes}
        next_number = dict(zip(documents.SPLITS, part.first, strict=True))
        hold_out = documents.HoldOut(config.validation_rate, config.seed, corpus)
        splits = hold_out.splits(sum(part.first))
        seen = 0
        for document in read_documents(part.corpus, config.input_format, config.text_field):
            if seen == part.documents:
                raise changed_while_read(part.corpus)
            seen += 1
            if not is_kept[seen - 1]:
                continue
            split = next(splits)
            number = next_number[split]
            next_number[split] += 1
            block = min(number // config.block_documents, last_block[split])
            yield (split, corpus, block), (number, document)
        if seen < part.documents:
            raise changed_while_read(part.corpus)


@dataclasses.dataclass(frozen=True)
class MakeExamples:
    """The documents of a block -> parts of shards, and counts.

    Attributes:
        config: DataConfig.
        split_documents: tuple of dict. For each corpus, documents by split.
        num_shards: Mapping of str to int. Of each split.
        weights: tuple of float. Of each corpus.
        vocab: str. Path of the vocabulary.
        vocabulary_sha256: str. What it must be.
    """

    config: DataConfig
    split_documents: tuple[Mapping[str, int], ...]
    num_shards: Mapping[str, int]
    weights: tuple[float, ...]
    vocab: str
    vocabulary_sha256: str

    def __call__(
        self, element: tuple[BlockKey, Iterable[tuple[int, list[str]]]]
    ) -> Iterator[tuple[tuple[str, list[int]], list[tuple[ShardKey, tuple[Origin, bytes]]]]]:
        """Yields, for some examples at a time, (split, counts) and parts of shards.

        A part is ((split, shard), ((corpus, block, batch), part for `spill.merge_parts`)).
        """
        (split, corpus, number), found = element
        numbered = sorted(found, key=lambda pair: pair[0])
        size, total = self.config.block_documents, self.split_documents[corpus][split]
        is_last = number == documents.num_blocks(total, self.config) - 1
        expected = range(number * size, total if is_last else (number + 1) * size)
        if [place for place, _ in numbered] != list(expected):
            raise RuntimeError(
                f"Block {number} of corpus {corpus} ({split}) must have the documents {expected}, "
                f"but the runner delivered {len(numbered)}, some of them lost or twice."
            )
        block = documents.Block(
            split,
            corpus,
            number,
            expected.start,
            documents.passes_of(self.config, self.weights[corpus], split, corpus, number),
            [document for _, document in numbered],
        )
        maker = _example_maker(self.vocab, self.vocabulary_sha256, self.config)
        for place, batch in enumerate(maker.make(block)):
            parts = spill.split_by_shard([batch], self.num_shards[split])
            yield (
                (split, list(dataclasses.astuple(batch.counts))),
                [((split, shard), ((corpus, number, place), part)) for shard, part in parts],
            )


@dataclasses.dataclass(frozen=True)
class WriteShard:
    """The parts of a shard -> its file, and a file about it in the work folder.

    Attributes:
        output: str. Local or gs:// folder.
        work: str. Folder below it.
        num_shards: Mapping of str to int. Of each split.
        config: DataConfig.
    """

    output: str
    work: str
    num_shards: Mapping[str, int]
    config: DataConfig

    def __call__(self, element: tuple[ShardKey, Iterable[tuple[Origin, bytes]]]) -> None:
        """Writes the shard; safe to be run several times, also at once."""
        (split, index), parts = element
        in_order = sorted(parts, key=lambda pair: pair[0])
        content = pack_shard(spill.merge_parts(part for _, part in in_order), self.config)
        name = shard_name(split, index, self.num_shards[split])
        # A folder of its own for each attempt, so that none renames what another still writes.
        folder = tf.io.gfile.join(self.work, f"attempt-{uuid.uuid4().hex}")
        tf.io.gfile.makedirs(folder)
        shard = write_shard(folder, name, content, self.config.sequence_length)
        tf.io.gfile.rename(
            tf.io.gfile.join(folder, name), tf.io.gfile.join(self.output, name), overwrite=True
        )
        _write_json(tf.io.gfile.join(self.work, shard_result(name)), dataclasses.asdict(shard))


@dataclasses.dataclass(frozen=True)
class WriteCounts:
    """The counts of a split -> a file in the work folder.

    Attributes:
        work: str. Local or gs:// folder.
    """

    work: str

    def __call__(self, element: tuple[str, list[int]]) -> None:
        """Writes the counts, given in the order of the fields of `Counts`."""
        split, values = element
        counts = dataclasses.asdict(Counts(*values))
        _write_json(tf.io.gfile.join(self.work, counts_result(split)), counts)


def _example_maker(vocab: str, sha256: str, config: DataConfig) -> ExampleMaker:
    """The one maker of this process; made when the first block comes."""
    with _maker_lock:
        return _make_maker(vocab, sha256, config)


@functools.lru_cache(maxsize=1)
def _make_maker(vocab: str, sha256: str, config: DataConfig) -> ExampleMaker:
    if not _is_callers_process:
        # Nothing here is for an accelerator. A process that another one started for this is free to
        # go without; in the one of `prepare_with_beam`, that is for the caller to say.
        with contextlib.suppress(RuntimeError):  # TensorFlow has started.
            tf.config.set_visible_devices([], "GPU")
    vocabulary = Vocabulary.load(vocab)
    if vocabulary.sha256 != sha256:
        raise InputError(
            f"{vocab} changed while the records were made; start again, with --overwrite, when "
            f"nothing else writes to its folder."
        )
    return ExampleMaker(vocabulary, config)


def _write_json(path: str, values: Mapping[str, Any]) -> None:
    """Writes a file that has its name only when it is whole, whoever else writes it too."""
    partial = f"{path}.{uuid.uuid4().hex}"
    with tf.io.gfile.GFile(partial, "w") as file:
        file.write(json.dumps(values))
    tf.io.gfile.rename(partial, path, overwrite=True)
