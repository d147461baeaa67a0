"""Masked-language-model targets, by the rules of Google's BERT.

The rules are those of `create_masked_lm_predictions` in Google's `create_pretraining_data.py` (BERT
paper, section 3.1, task 1), worked out for many examples at a time. numpy only.
"""

import dataclasses

import numpy as np

# Of the chosen pieces, 80 % become [MASK], 10 % stay and 10 % become a random piece (BERT paper,
# appendix A.1).
MASK_SHARE = 0.8
KEEP_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class MaskedExamples:
    """Examples with masks.

    Attributes:
        token_ids: int32 array [n, length]. With the chosen pieces replaced.
        mask_positions: int32 array [n, max_predictions]. Ascending, then 0 as padding.
        mask_ids: int32 array [n, max_predictions]. The original pieces there, then 0.
        mask_weights: float32 array [n, max_predictions]. 1 for a prediction, 0 for padding.
        num_masked: int. Predictions that became [MASK], over all examples.
        num_kept: int. Predictions that stayed as they were.
        num_random: int. Predictions that became a random piece.
    """

    token_ids: np.ndarray
    mask_positions: np.ndarray
    mask_ids: np.ndarray
    mask_weights: np.ndarray
    num_masked: int
    num_kept: int
    num_random: int


def num_predictions(lengths: np.ndarray, mask_rate: float, max_predictions: int) -> np.ndarray:
    """How many pieces of an example are chosen: min(max_predictions, max(1, round(length x rate))).

    Args:
        lengths: int array [n]. Real tokens, [CLS] and [SEP] counted.
        mask_rate: float.
        max_predictions: int.

    Returns:
        int64 array [n]. Halves are rounded to the even neighbour, as Python's `round` does.
    """
    rounded = np.rint(np.asarray(lengths) * mask_rate).astype(np.int64)
    return np.minimum(max_predictions, np.maximum(1, rounded))


def mask_tokens(
    token_ids: np.ndarray,
    padding_mask: np.ndarray,
    *,
    special_ids: tuple[int, ...],
    mask_id: int,
    vocab_size: int,
    mask_rate: float,
    max_predictions: int,
    rng: np.random.Generator,
    continues_word: np.ndarray | None = None,
) -> MaskedExamples:
    """Chooses pieces at random, replaces them and keeps the originals as targets.

    The pieces that a random number in each place puts first are chosen. For whole words it is the
    words that are put in order; they are gone through until there are as many pieces as
    `num_predictions` says, and a word that would go beyond is skipped, so there may be fewer (none,
    if every word is longer). The replacement is drawn for each piece on its own.

    Args:
        token_ids: int32 array [n, length].
        padding_mask: int array [n, length]. 1 = real token.
        special_ids: Ids that are never chosen: [CLS] and [SEP].
        mask_id: int. Id of [MASK].
        vocab_size: int. A random piece is any of the vocabulary, each as likely.
        mask_rate: float. Share of the real tokens, [CLS] and [SEP] counted.
        max_predictions: int. Most pieces chosen in an example, and the width of the results.
        rng: numpy Generator.
        continues_word: bool array [vocab_size], or None. Whether a piece continues the word before
            it ("##"); given, whole words are chosen. A piece that continues a word belongs to the
            last candidate before it even across a [SEP] (Google's rule; it happens where part b was
            truncated from the front).

    Returns:
        MaskedExamples.
    """
    is_real = np.asarray(padding_mask) == 1
    is_candidate = is_real & ~np.isin(token_ids, special_ids)
    wanted = num_predictions(is_real.sum(axis=1), mask_rate, max_predictions)
    order_keys = rng.random(token_ids.shape)
    if continues_word is None:
        is_chosen = _choose_pieces(is_candidate, order_keys, wanted)
    else:
        is_chosen = _choose_words(is_candidate, continues_word[token_ids], order_keys, wanted)

    rows, columns = np.nonzero(is_chosen)
    originals = token_ids[rows, columns]
    draws = rng.random(len(rows))
    random_ids = rng.integers(0, vocab_size, len(rows))
    becomes_mask = draws < MASK_SHARE
    stays = ~becomes_mask & (draws < MASK_SHARE + KEEP_SHARE)
    masked_ids = np.array(token_ids, np.int32)
    masked_ids[rows, columns] = np.where(
        becomes_mask, mask_id, np.where(stays, originals, random_ids)
    )

    chosen_in_row = is_chosen.sum(axis=1)
    # np.nonzero goes row by row: the place within a row is the place overall less the row's first.
    first = np.cumsum(chosen_in_row) - chosen_in_row
    place = np.arange(len(rows)) - np.repeat(first, chosen_in_row)
    shape = len(token_ids), max_predictions
    mask_positions = np.zeros(shape, np.int32)
    mask_ids = np.zeros(shape, np.int32)
    mask_weights = np.zeros(shape, np.float32)
    mask_positions[rows, place] = columns
    mask_ids[rows, place] = originals
    mask_weights[rows, place] = 1.0
    num_masked, num_kept = int(becomes_mask.sum()), int(stays.sum())
    return MaskedExamples(
        token_ids=masked_ids,
        mask_positions=mask_positions,
        mask_ids=mask_ids,
        mask_weights=mask_weights,
        num_masked=num_masked,
        num_kept=num_kept,
        num_random=len(rows) - num_masked - num_kept,
    )


def _choose_pieces(
    is_candidate: np.ndarray, order_keys: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    wanted = np.minimum(wanted, is_candidate.sum(axis=1))
    # The keys are below 1, so that all candidates come before what is none.
    order = np.argsort(np.where(is_candidate, order_keys, 1.0), axis=1, kind="stable")
    is_chosen = np.zeros(is_candidate.shape, bool)
    np.put_along_axis(is_chosen, order, np.arange(order.shape[1]) < wanted[:, None], axis=1)
    return is_chosen


def _choose_words(
    is_candidate: np.ndarray, continues: np.ndarray, order_keys: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    # The first candidate starts a word even if it continues one that was truncated away.
    is_first = is_candidate & (np.cumsum(is_candidate, axis=1) == 1)
    starts_word = is_candidate & (~continues | is_first)
    # Words are numbered from 1 in each row; what is no candidate is word 0.
    word = np.where(is_candidate, np.cumsum(starts_word, axis=1), 0)
    is_chosen = np.zeros(is_candidate.shape, bool)
    for row, limit in enumerate(wanted.tolist()):
        sizes = np.bincount(word[row])
        taken = np.zeros(len(sizes), bool)
        total = 0
        for number in (1 + np.argsort(order_keys[row, starts_word[row]])).tolist():
            if total >= limit:
                break
            if total + sizes[number] <= limit:
                taken[number] = True
                total += int(sizes[number])
        is_chosen[row] = taken[word[row]]
    return is_chosen
