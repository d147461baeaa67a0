"""Long texts as overlapping windows, and the window in which a piece has most context.

The rules are those of run_squad.py of google-research/bert.
"""

from typing import NamedTuple

import numpy as np

# What a window's length adds to the score of its pieces: of two windows with the same context, the
# longer one is better.
LENGTH_WEIGHT = 0.01


class Spans(NamedTuple):
    """Windows of one text: pieces `starts[i]` to `starts[i] + lengths[i]`.

    Attributes:
        starts: int32 [windows].
        lengths: int32 [windows].
    """

    starts: np.ndarray
    lengths: np.ndarray


def spans(pieces: int, capacity: int, stride: int) -> Spans:
    """Cuts a text into windows that overlap.

    Of 10 pieces, with room for 6 and a stride of 3: 0 to 6, 3 to 9 and 6 to 10.

    Args:
        pieces: int. Of the text, 0 or more.
        capacity: int. Pieces that a window may have, at least 1.
        stride: int. Pieces from the start of a window to that of the next one, at least 1; no more
            than `capacity`, so that windows cover the text.

    Returns:
        Spans, at least one; the last one ends where the text does.
    """
    stride = min(stride, capacity)
    count = 1 + max(0, -(-(pieces - capacity) // stride))
    starts = np.arange(count, dtype=np.int32) * stride
    return Spans(starts, np.minimum(capacity, pieces - starts).astype(np.int32))


def max_context(found: Spans, pieces: int) -> np.ndarray:
    """Finds the window in which each piece has most context.

    That is the one where the lesser of the numbers of pieces on its left and right is greatest;
    with equal ones, the longer window, and then the first. In the example of `spans` piece 4 has 1
    piece on its right in window 0, and 1 on its left in window 1: they are equally long, so it is
    window 0. Piece 5 has 0 and 2: it is window 1.

    Args:
        found: Spans that cover the text.
        pieces: int. Of the text.

    Returns:
        int32 [pieces]. Number of the window.
    """
    position = np.arange(pieces)[np.newaxis]
    starts, lengths = found.starts[:, np.newaxis], found.lengths[:, np.newaxis]
    left = position - starts
    right = starts + lengths - 1 - position
    score = np.minimum(left, right) + LENGTH_WEIGHT * lengths
    score[(left < 0) | (right < 0)] = -np.inf
    return np.argmax(score, axis=0).astype(np.int32)
