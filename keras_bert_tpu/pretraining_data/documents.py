"""What decides what becomes of a document: the keys of random numbers, the split, the block.

Documents that are kept are numbered by (corpus, position); the number decides everything that
follows: whether a document is held out, its block, and with it all random numbers.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.pretraining_data.keyed_random import fold_in

TRAIN = "train"
VALIDATION = "validation"
# The place of a split in this tuple is part of the keys of its random numbers: do not reorder.
SPLITS = (TRAIN, VALIDATION)

# What a random number is for, the first part of its key, so that no two uses share a stream.
HELD_OUT_KEY = 0
PAIRS_KEY = 1
ORDER_KEY = 2
MASKS_KEY = 3
PASSES_KEY = 4
PACKS_KEY = 5


def keyed_generator(seed: int, *key: int) -> np.random.Generator:
    """Returns a generator whose numbers depend on `seed` and `key` only.

    Args:
        seed: int. Not negative.
        *key: ints, not negative. First what the numbers are for, then of which unit of work.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    return np.random.Generator(np.random.Philox(sequence))


@dataclasses.dataclass(frozen=True)
class HoldOut:
    """The rule that holds out documents: one, drawn at random, of each group in a row.

    Attributes:
        rate: float. Share of the documents; a group has round(1 / rate) of them, 0 holds out none.
        seed: int. The draw of a group depends on (seed, corpus, group) only. A group cut short by
            the end of the corpus draws as a whole one does, and may so hold out none.
        corpus: int. Number of the corpus.
    """

    rate: float
    seed: int
    corpus: int = 0

    @property
    def group_size(self) -> int:
        """Documents in a group; 0 if none is held out."""
        return round(1.0 / self.rate) if self.rate else 0

    def splits(self, first: int = 0) -> Iterator[str]:
        """Yields, without end, the split of document `first`, `first` + 1 and so on."""
        while not self.group_size:
            yield TRAIN
        group, start = divmod(first, self.group_size)
        while True:
            generator = keyed_generator(self.seed, HELD_OUT_KEY, self.corpus, group)
            drawn = int(generator.integers(self.group_size))
            for position in range(start, self.group_size):
                yield VALIDATION if position == drawn else TRAIN
            group, start = group + 1, 0

    def split_sizes(self, documents: int) -> dict[str, int]:
        """How many of the first `documents` documents are in each split."""
        whole, rest = divmod(documents, self.group_size) if self.group_size else (0, 0)
        last = itertools.islice(self.splits(documents - rest), rest)
        held_out = whole + sum(split == VALIDATION for split in last)
        return {TRAIN: documents - held_out, VALIDATION: held_out}


class Block(NamedTuple):
    """Documents of which examples are made, knowing nothing else.

    Attributes:
        split: str. "train" or "validation".
        corpus: int. Number of the corpus.
        number: int. Of the block, within the corpus and split.
        first_document: int. Number of its first document, within the corpus and split.
        passes: int. How often the block is gone over.
        documents: list of documents, each a list of sentences.
    """

    split: str
    corpus: int
    number: int
    first_document: int
    passes: int
    documents: list[list[str]]


def passes_of(config: DataConfig, weight: float, split: str, corpus: int, block: int) -> int:
    """How often a block is gone over: `dupe_factor` times the weight of its corpus.

    The fraction that is over makes one more pass over as large a share of the blocks, drawn by
    (seed, split, corpus, block). Held-out documents are gone over at least once.
    """
    whole, fraction = divmod(config.dupe_factor * weight, 1.0)
    key = fold_in(config.seed, PASSES_KEY, SPLITS.index(split), corpus, block)
    passes = int(whole) + (int(key) >> 11 < fraction * 2.0**53)
    return max(passes, 1) if split == VALIDATION else passes


def num_blocks(documents: int, config: DataConfig) -> int:
    """Blocks of a split of a corpus, given its number of documents.

    The remainder joins the last full block, so that one has n to 2n-1 documents; with fewer than
    `block_documents` documents there is one block.
    """
    return max(1, documents // config.block_documents) if documents else 0
