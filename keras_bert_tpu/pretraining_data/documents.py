"""Files of documents, cut into the independent units of work of the preparation.

A file holds one sentence on a line and a blank line between documents, as for Google's
`create_pretraining_data.py`. Documents are numbered by (file, position); the number decides
everything that follows: whether a document is held out, its block and its shard. So no state but
the plan is needed to hand out the work, and any number of workers does the same work.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.text.files import read_lines

TRAIN = "train"
VALIDATION = "validation"
# The place of a split in this tuple is part of the keys of its random numbers: do not reorder.
SPLITS = (TRAIN, VALIDATION)

# What a random number is for, the first part of its key, so that no two uses share a stream.
HELD_OUT_KEY = 0
EXAMPLES_KEY = 1
SHUFFLE_KEY = 2


def keyed_generator(seed: int, *key: int) -> np.random.Generator:
    """Returns a generator whose numbers depend on `seed` and `key` only.

    Args:
        seed: int. Not negative.
        *key: ints, not negative. First what the numbers are for, then of which unit of work.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    return np.random.Generator(np.random.Philox(sequence))


def read_documents(paths: Sequence[str]) -> Iterator[list[str]]:
    """Reads documents in order, one at a time; a document never spans files.

    Args:
        paths: Local or gs:// paths of text files, plain or gzip.

    Yields:
        list of str. The sentences of a document that has at least one, without the white space
        around them. Bytes that are not UTF-8 are left out, as in Google's `tokenization.py`.

    Raises:
        InputError: If a file cannot be read.
    """
    for path in paths:
        sentences: list[str] = []
        for line in read_lines(path):
            sentence = line.decode("utf-8", "ignore").strip()
            if sentence:
                sentences.append(sentence)
            elif sentences:
                yield sentences
                sentences = []
        if sentences:
            yield sentences


@dataclasses.dataclass(frozen=True)
class HoldOut:
    """The rule that holds out documents: one, drawn at random, of each group in a row.

    Attributes:
        rate: float. Share of the documents; a group has round(1 / rate) of them, 0 holds out none.
        seed: int. The draw of a group depends on (seed, group) only. A group cut short by the end
            of the corpus draws as a whole one does, and may so hold out none.
    """

    rate: float
    seed: int

    @property
    def group_size(self) -> int:
        """Documents in a group; 0 if none is held out."""
        return round(1.0 / self.rate) if self.rate else 0

    def splits(self) -> Iterator[str]:
        """Yields, without end, the split of document 0, 1, 2 and so on."""
        group = 0
        while not self.group_size:
            yield TRAIN
        while True:
            generator = keyed_generator(self.seed, HELD_OUT_KEY, group)
            drawn = int(generator.integers(self.group_size))
            for position in range(self.group_size):
                yield VALIDATION if position == drawn else TRAIN
            group += 1


@dataclasses.dataclass(frozen=True)
class CorpusPlan:
    """The corpus in numbers, which fix the block and the shard of every document.

    Attributes:
        paths: tuple of str. Input files in the order in which they are read.
        config: DataConfig.
        documents: dict of int. For each split, how many documents it has.
        sentences: int. Lines that are not blank.
        characters: int. Their total length.
    """

    paths: tuple[str, ...]
    config: DataConfig
    documents: dict[str, int]
    sentences: int
    characters: int

    def num_blocks(self, split: str) -> int:
        """Blocks of a split: the remainder joins the last full one, so one has n to 2n-1 documents.

        A split with fewer than `block_documents` documents is one block.
        """
        documents = self.documents[split]
        return max(1, documents // self.config.block_documents) if documents else 0

    def num_shards(self, split: str) -> int:
        """Shards of a split; the last may have fewer blocks than the others."""
        return -(-self.num_blocks(split) // self.config.blocks_per_shard)

    def block_of(self, split: str, number: int) -> int:
        """The block of a document, given its number within its split."""
        return min(number // self.config.block_documents, self.num_blocks(split) - 1)


@dataclasses.dataclass(frozen=True)
class ShardText:
    """The text of one shard, which a worker turns into examples knowing nothing else.

    Attributes:
        split: str. "train" or "validation".
        index: int. Number of the shard within its split.
        num_shards: int. Shards of the split.
        first_block: int. Number, within the split, of the first of the blocks.
        blocks: list of blocks, each a list of documents, each a list of sentences.
    """

    split: str
    index: int
    num_shards: int
    first_block: int
    blocks: list[list[list[str]]]

    @property
    def num_documents(self) -> int:
        """Documents of all blocks."""
        return sum(len(block) for block in self.blocks)


def plan_corpus(paths: Sequence[str], config: DataConfig) -> CorpusPlan:
    """Counts the documents of each split in one pass over the files, without tokenizing.

    Args:
        paths: Paths of text files.
        config: DataConfig. Gives the split and the size of blocks and shards.

    Returns:
        CorpusPlan.

    Raises:
        InputError: If a file cannot be read, or a split has too few documents to draw a random next
            sentence from another document.
    """
    hold_out = HoldOut(config.validation_rate, config.seed)
    documents = dict.fromkeys(SPLITS, 0)
    sentences = characters = 0
    for split, document in zip(hold_out.splits(), _with_end(paths), strict=False):
        if document is None:
            break
        documents[split] += 1
        sentences += len(document)
        characters += sum(map(len, document))
    _check_documents(documents, hold_out, len(paths))
    return CorpusPlan(tuple(paths), config, documents, sentences, characters)


def read_shards(plan: CorpusPlan) -> Iterator[ShardText]:
    """Reads the corpus again and hands out its shards as they fill, one pass for both splits.

    At most one unfinished shard of each split is in memory.

    Args:
        plan: CorpusPlan. Of the same files.

    Yields:
        ShardText. Train and validation shards, each in order.

    Raises:
        InputError: If the files no longer hold as many documents as when they were counted.
    """
    blocks_per_shard = plan.config.blocks_per_shard
    hold_out = HoldOut(plan.config.validation_rate, plan.config.seed)
    seen = dict.fromkeys(SPLITS, 0)
    open_blocks: dict[str, list[list[list[str]]]] = {split: [] for split in SPLITS}

    def close(split: str, next_block: int) -> ShardText:
        blocks, open_blocks[split] = open_blocks[split], []
        first_block = next_block - len(blocks)
        index = first_block // blocks_per_shard
        return ShardText(split, index, plan.num_shards(split), first_block, blocks)

    for split, document in zip(hold_out.splits(), _with_end(plan.paths), strict=False):
        if document is None:
            break
        if seen[split] == plan.documents[split]:
            raise _changed_while_read(plan)
        block = plan.block_of(split, seen[split])
        if seen[split] == 0 or block > plan.block_of(split, seen[split] - 1):
            if len(open_blocks[split]) == blocks_per_shard:
                yield close(split, block)
            open_blocks[split].append([])
        open_blocks[split][-1].append(document)
        seen[split] += 1
    if seen != plan.documents:
        raise _changed_while_read(plan)
    for split in SPLITS:
        if open_blocks[split]:
            yield close(split, plan.num_blocks(split))


def _check_documents(documents: dict[str, int], hold_out: HoldOut, num_files: int) -> None:
    total = sum(documents.values())
    if total < 2:
        raise InputError(
            f"The {num_files} input file(s) hold {total} document(s), but at least 2 are needed, "
            f"because a random next sentence comes from another document; put one sentence on a "
            f"line and a blank line between documents."
        )
    needs_validation = hold_out.group_size > 0
    if documents[TRAIN] >= 2 and (documents[VALIDATION] >= 2 or not needs_validation):
        return
    found = (
        f"The corpus has {total} documents, of which validation_rate={hold_out.rate:g} leaves "
        f"{documents[TRAIN]} for training and {documents[VALIDATION]} for validation, but each "
        f"needs at least 2, because a random next sentence comes from another document"
    )
    # Two whole groups hold out two documents, whatever is drawn; groups of one leave no training.
    group_size = min(max(2, hold_out.group_size), total // 2)
    if group_size < 2:
        raise InputError(f"{found}; give at least 4 documents, or set validation_rate=0.")
    raise InputError(
        f"{found}; give more documents, or set validation_rate to {_rate_text(group_size)} or, to "
        f"hold out none, to 0."
    )


def _rate_text(group_size: int) -> str:
    """The shortest decimal number whose rate makes groups of that size."""
    for digits in range(1, 17):
        text = f"{1.0 / group_size:.{digits}g}"
        if HoldOut(float(text), 0).group_size == group_size:
            break
    return text


def _with_end(paths: Sequence[str]) -> Iterator[list[str] | None]:
    """The documents and then None, so that `zip` with an endless iterator ends after the last."""
    yield from read_documents(paths)
    yield None


def _changed_while_read(plan: CorpusPlan) -> InputError:
    return InputError(
        f"The input files changed while they were read: {sum(plan.documents.values())} documents "
        f"were counted at first; start again when nothing writes to them."
    )
