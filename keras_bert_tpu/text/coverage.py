"""How well a vocabulary fits a text."""

import dataclasses

import numpy as np

from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import WordCounts

_BATCH_WORDS = 100_000


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Shares of the words of a text, repeated words counted each time.

    Attributes:
        whole_words: float. Share of the words that are one piece.
        pieces_per_word: float. Mean number of pieces; [UNK] counts as one.
        unknown_words: float. Share of the words that become [UNK].
    """

    whole_words: float
    pieces_per_word: float
    unknown_words: float


def measure_coverage(tokenizer: BertTokenizer, word_counts: WordCounts) -> Coverage:
    """Tokenizes each word once and weighs it by its count.

    Args:
        tokenizer: BertTokenizer with the same `lower_case` and `strip_accents` as the words were
            counted with.
        word_counts: WordCounts of at least one word.
    """
    words = list(word_counts.counts)
    counts = np.fromiter(word_counts.counts.values(), np.int64, len(words))
    pieces = np.empty(len(words), np.int64)
    is_unknown = np.empty(len(words), bool)
    for start in range(0, len(words), _BATCH_WORDS):
        batch = slice(start, start + _BATCH_WORDS)
        ids = tokenizer(words[batch])
        pieces[batch] = ids.row_lengths().numpy()
        first = ids.values.numpy()[ids.row_starts().numpy()]
        is_unknown[batch] = first == tokenizer.vocabulary.unk_id
    total = counts.sum()
    return Coverage(
        whole_words=float(counts[(pieces == 1) & ~is_unknown].sum() / total),
        pieces_per_word=float((pieces * counts).sum() / total),
        unknown_words=float(counts[is_unknown].sum() / total),
    )
