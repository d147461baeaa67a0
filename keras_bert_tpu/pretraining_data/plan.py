"""The plan of a preparation: which documents make up which block and unit, and how many shards.

    documents ──hygiene──> kept ones ──held out or not──> blocks ──> units of several blocks

A block is what examples are made of, a unit what a worker does at a time and what a preparation
that is started again does not do twice. One pass over the text makes the plan, and no other state
is needed to hand out the work, so any number of workers does the same work.
"""

import base64
import dataclasses
import itertools
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data.corpora import Corpus, read_documents
from keras_bert_tpu.pretraining_data.documents import (
    SPLITS,
    TRAIN,
    VALIDATION,
    Block,
    HoldOut,
    num_blocks,
    passes_of,
)
from keras_bert_tpu.pretraining_data.hygiene import Hygiene

# Text of a unit times its passes: its records, about twice as many bytes, are in a worker's memory.
UNIT_CHARACTERS = 16_000_000
# A small corpus has smaller units, so that there are enough of them for all cores.
MIN_UNITS = 64
# Text times passes of a shard, which gives files of some 15 MB: large enough for a bucket's
# throughput, and the input pipeline holds two or three windows of 8 files in memory.
SHARD_CHARACTERS = 8_000_000
# More files make the preparation's second half slow, as each takes a little of every unit. Past 32
# billion characters times passes, shards grow instead, and with them what a worker has in memory.
MAX_SHARDS = 4096


class Unit(NamedTuple):
    """Consecutive blocks of one corpus and split.

    Attributes:
        split: str. "train" or "validation".
        corpus: int. Number of the corpus.
        first_block: int. Number of the first of its blocks, within the corpus and split.
        num_blocks: int.
        characters: int. Of all its blocks, each pass counted.
    """

    split: str
    corpus: int
    first_block: int
    num_blocks: int
    characters: int


@dataclasses.dataclass(frozen=True)
class CorpusCounts:
    """What one corpus holds.

    Attributes:
        documents: Mapping of str to int. Documents that are kept, by split.
        sentences: int. Their sentences.
        characters: int. Of these sentences.
        dropped: Mapping of str to int. Documents that hygiene dropped, by reason.
        file_documents: tuple of int. Documents read from each file, or, as one, from a set of
            tensorflow-datasets.
        is_kept: bool array [documents read], or None if every document is kept.
    """

    documents: Mapping[str, int]
    sentences: int
    characters: int
    dropped: Mapping[str, int]
    file_documents: tuple[int, ...]
    is_kept: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class CorpusPlan:
    """The corpora in numbers, which fix the block, unit and shard of every document.

    Attributes:
        corpora: tuple of Corpus.
        config: DataConfig.
        counts: tuple of CorpusCounts. One for each corpus.
        units: tuple of Unit. By corpus, split and block.
        num_shards: Mapping of str to int. Files of each split.
    """

    corpora: tuple[Corpus, ...]
    config: DataConfig
    counts: tuple[CorpusCounts, ...]
    units: tuple[Unit, ...]
    num_shards: Mapping[str, int]

    def num_documents(self, split: str) -> int:
        """Documents of a split that are kept, over all corpora."""
        return sum(counts.documents[split] for counts in self.counts)

    def first_document(self, unit: Unit) -> int:
        """Number of a unit's first document within its corpus and split."""
        return unit.first_block * self.config.block_documents

    def end_document(self, unit: Unit) -> int:
        """One past the number of a unit's last document."""
        documents = self.counts[unit.corpus].documents[unit.split]
        end_block = unit.first_block + unit.num_blocks
        if end_block == num_blocks(documents, self.config):
            return documents
        return end_block * self.config.block_documents

    def to_json(self) -> str:
        """Returns the plan as text; `from_json` needs the corpora and the config besides."""
        counts = []
        for entry in self.counts:
            values = dataclasses.asdict(entry)
            if entry.is_kept is not None:
                packed = zlib.compress(np.packbits(entry.is_kept).tobytes())
                bits = base64.b64encode(packed).decode("ascii")
                values["is_kept"] = {"documents": len(entry.is_kept), "bits": bits}
            counts.append(values)
        return json.dumps(
            {"counts": counts, "units": self.units, "num_shards": dict(self.num_shards)}
        )

    @classmethod
    def from_json(cls, text: str, corpora: tuple[Corpus, ...], config: DataConfig) -> "CorpusPlan":
        """Reads what `to_json` gave."""
        values = json.loads(text)
        counts = []
        for entry in values["counts"]:
            if entry["is_kept"] is not None:
                packed = zlib.decompress(base64.b64decode(entry["is_kept"]["bits"]))
                bits = np.unpackbits(np.frombuffer(packed, np.uint8))
                entry["is_kept"] = bits[: entry["is_kept"]["documents"]].astype(bool)
            counts.append(
                CorpusCounts(**{**entry, "file_documents": tuple(entry["file_documents"])})
            )
        units = tuple(Unit(*unit) for unit in values["units"])
        return cls(corpora, config, tuple(counts), units, values["num_shards"])


def plan_corpora(
    corpora: Sequence[Corpus], config: DataConfig, progress: bool = False
) -> CorpusPlan:
    """Counts the documents of each split in one pass over the text, without tokenizing.

    Args:
        corpora: The corpora, in order.
        config: DataConfig.
        progress: bool. Show a progress bar.

    Returns:
        CorpusPlan.

    Raises:
        InputError: If a text cannot be read, or a split of a corpus has too few documents.
    """
    if config.validation_rate > 0.5:
        raise InputError(
            f"validation_rate must be at most 0.5, which holds out one document of two. Received: "
            f"{config.validation_rate}."
        )
    hygiene = Hygiene(config)
    counts: list[CorpusCounts] = []
    blocks: list[dict[str, list[int]]] = []
    with tqdm(desc="Reading", unit="doc", unit_scale=True, disable=not progress) as bar:
        for number, corpus in enumerate(corpora):
            corpus_counts, corpus_blocks = _count_corpus(number, corpus, config, hygiene, bar)
            _check_documents(corpus, corpus_counts, config)
            _check_passes(number, corpus, len(corpus_blocks[TRAIN]), config)
            counts.append(corpus_counts)
            blocks.append(corpus_blocks)
    units = _make_units(corpora, blocks, config)
    num_shards = {}
    for split in SPLITS:
        characters = sum(unit.characters for unit in units if unit.split == split)
        chosen = config.num_shards if split == TRAIN else 0
        automatic = min(MAX_SHARDS, -(-characters // SHARD_CHARACTERS))
        num_shards[split] = (chosen or automatic) if characters else 0
    return CorpusPlan(tuple(corpora), config, tuple(counts), tuple(units), num_shards)


def read_units(plan: CorpusPlan, done: Collection[int] = ()) -> Iterator[tuple[int, list[Block]]]:
    """Reads the text again and hands out units as they fill, one pass for both splits.

    At most one unfinished unit of each split is in memory.

    Args:
        plan: CorpusPlan. Of the same text.
        done: Numbers of units that are not wanted.

    Yields:
        The number of a unit in the plan, and its blocks.

    Raises:
        InputError: If the text no longer holds the documents that were counted.
    """
    numbers = {unit: number for number, unit in enumerate(plan.units)}
    for corpus_number, corpus in enumerate(plan.corpora):
        own = {
            split: iter([u for u in plan.units if u[:2] == (split, corpus_number)])
            for split in SPLITS
        }
        current = {split: next(own[split], None) for split in SPLITS}
        collected: dict[str, list[list[str]]] = {split: [] for split in SPLITS}
        seen = dict.fromkeys(SPLITS, 0)
        for split, document in _kept_documents(plan, corpus_number, corpus):
            unit = current[split]
            if unit is None:
                raise changed_while_read(corpus)
            seen[split] += 1
            is_wanted = numbers[unit] not in done
            if is_wanted:
                collected[split].append(document)
            if seen[split] == plan.end_document(unit):
                if is_wanted:
                    documents, collected[split] = collected[split], []
                    yield numbers[unit], _cut_blocks(plan, unit, documents)
                current[split] = next(own[split], None)
        if seen != plan.counts[corpus_number].documents:
            raise changed_while_read(corpus)


def _count_corpus(
    number: int, corpus: Corpus, config: DataConfig, hygiene: Hygiene, bar: tqdm
) -> tuple[CorpusCounts, dict[str, list[int]]]:
    """Counts, and the characters of each whole or unfinished block."""
    splits = HoldOut(config.validation_rate, config.seed, number).splits()
    before = dict(hygiene.counts)
    documents = dict.fromkeys(SPLITS, 0)
    blocks: dict[str, list[int]] = {split: [] for split in SPLITS}
    sentences = characters = 0
    is_kept = bytearray()
    file_documents = [0] * max(1, len(corpus.files))
    for file, document in _documents_of_files(corpus, config):
        bar.update()
        file_documents[file] += 1
        is_kept.append(hygiene.drop_reason(document) is None)
        if not is_kept[-1]:
            continue
        split = next(splits)
        if documents[split] % config.block_documents == 0:
            blocks[split].append(0)
        length = sum(map(len, document))
        blocks[split][-1] += length
        documents[split] += 1
        sentences += len(document)
        characters += length
    for split in SPLITS:
        wanted = num_blocks(documents[split], config)
        if len(blocks[split]) > wanted:
            blocks[split][-2:] = [sum(blocks[split][-2:])]
    dropped = {
        reason: count - before.get(reason, 0)
        for reason, count in hygiene.counts.items()
        if count > before.get(reason, 0)
    }
    mask = np.frombuffer(bytes(is_kept), bool) if dropped else None
    counts = CorpusCounts(documents, sentences, characters, dropped, tuple(file_documents), mask)
    return counts, blocks


def _documents_of_files(corpus: Corpus, config: DataConfig) -> Iterator[tuple[int, list[str]]]:
    """Each document with the number of its file."""
    parts = [dataclasses.replace(corpus, files=(path,)) for path in corpus.files] or [corpus]
    for file, part in enumerate(parts):
        for document in read_documents(part, config.input_format, config.text_field):
            yield file, document


def _make_units(
    corpora: Sequence[Corpus], blocks: Sequence[Mapping[str, Sequence[int]]], config: DataConfig
) -> list[Unit]:
    """Groups consecutive blocks, given their characters."""
    # What each block stands for: its characters times its passes.
    sizes = [
        (
            split,
            number,
            [
                length * passes_of(config, corpus.weight, split, number, block)
                for block, length in enumerate(corpus_blocks[split])
            ],
        )
        for number, (corpus, corpus_blocks) in enumerate(zip(corpora, blocks, strict=True))
        for split in SPLITS
    ]
    total = sum(sum(lengths) for _, _, lengths in sizes)
    largest = min(UNIT_CHARACTERS, total // MIN_UNITS)
    units: list[Unit] = []
    for split, number, lengths in sizes:
        first, characters = 0, 0
        for block, length in enumerate(lengths):
            if block > first and characters + length > largest:
                units.append(Unit(split, number, first, block - first, characters))
                first, characters = block, 0
            characters += length
        if lengths:
            units.append(Unit(split, number, first, len(lengths) - first, characters))
    return units


def _kept_documents(
    plan: CorpusPlan, number: int, corpus: Corpus
) -> Iterator[tuple[str, list[str]]]:
    config, counts = plan.config, plan.counts[number]
    documents: Iterator[list[str]] = read_documents(corpus, config.input_format, config.text_field)
    if counts.is_kept is not None:
        # A text that grew since then runs past the end, which `read_units` notices.
        more = itertools.repeat(True)
        documents = itertools.compress(documents, itertools.chain(counts.is_kept, more))
    splits = HoldOut(config.validation_rate, config.seed, number).splits()
    for document in documents:
        yield next(splits), document


def _cut_blocks(plan: CorpusPlan, unit: Unit, documents: list[list[str]]) -> list[Block]:
    size = plan.config.block_documents
    weight = plan.corpora[unit.corpus].weight
    blocks = []
    for place in range(unit.num_blocks):
        number = unit.first_block + place
        end = None if place == unit.num_blocks - 1 else (place + 1) * size
        blocks.append(
            Block(
                unit.split,
                unit.corpus,
                number,
                number * size,
                passes_of(plan.config, weight, unit.split, unit.corpus, number),
                documents[place * size : end],
            )
        )
    return blocks


def _check_documents(corpus: Corpus, counts: CorpusCounts, config: DataConfig) -> None:
    documents = counts.documents
    total = sum(documents.values())
    needs_two = config.objective == "mlm+nsp"
    least = 2 if needs_two else 1
    reason = (
        "because a random next sentence comes from another document"
        if needs_two
        else "as there must be something to make examples of"
    )
    dropped = sum(counts.dropped.values())
    besides = f" besides the {dropped} that were dropped" if dropped else ""
    if total < least:
        raise InputError(
            f"The corpus {corpus.name} holds {total} document(s){besides}, but at least {least} "
            f"are needed, {reason}; see that input_format={config.input_format} is the format of "
            f"the text (for sentences: one on a line, a blank line between documents)."
        )
    hold_out = HoldOut(config.validation_rate, config.seed)
    needs_validation = hold_out.group_size > 0
    if documents[TRAIN] >= least and (documents[VALIDATION] >= least or not needs_validation):
        return
    found = (
        f"The corpus {corpus.name} has {total} documents{besides}, of which validation_rate="
        f"{hold_out.rate:g} leaves {documents[TRAIN]} for training and {documents[VALIDATION]} for "
        f"validation, but each needs at least {least}, {reason}"
    )
    # As many whole groups hold out as many documents, whatever is drawn; groups of one leave no
    # training.
    group_size = min(max(2, hold_out.group_size), total // least)
    if group_size < 2:
        raise InputError(f"{found}; give at least {2 * least} documents, or set validation_rate=0.")
    raise InputError(
        f"{found}; give more documents, or set validation_rate to {_rate_text(group_size)} or, to "
        f"hold out none, to 0."
    )


def _check_passes(number: int, corpus: Corpus, blocks: int, config: DataConfig) -> None:
    passes = (passes_of(config, corpus.weight, TRAIN, number, block) for block in range(blocks))
    if not any(passes):
        raise InputError(
            f"No example would come from the corpus {corpus.name}: with weight {corpus.weight:g} "
            f"and dupe_factor={config.dupe_factor}, a share of "
            f"{corpus.weight * config.dupe_factor:g} of its {blocks} block(s) of "
            f"{config.block_documents} documents is drawn, which came to none; raise its weight or "
            f"dupe_factor, or leave it out."
        )


def _rate_text(group_size: int) -> str:
    """The shortest decimal number whose rate makes groups of that size."""
    for digits in range(1, 17):
        text = f"{1.0 / group_size:.{digits}g}"
        if HoldOut(float(text), 0).group_size == group_size:
            break
    return text


class ChangedTextError(InputError):
    """A text does not hold the documents that were counted."""


def changed_while_read(corpus: Corpus) -> ChangedTextError:
    """The error to raise when a text does not hold the documents that were counted."""
    return ChangedTextError(
        f"The text of the corpus {corpus.name} changed while it was read: it does not hold the "
        f"documents that were counted at first; start again, with --overwrite, when nothing writes "
        f"to it."
    )
