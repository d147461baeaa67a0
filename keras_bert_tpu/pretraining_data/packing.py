"""Several sequences in one row: which ones, and the rows that come out.

Longest-pack-first histogram packing (arXiv 2107.02027): lengths are gone through from the longest
on, and each goes to the row that it fills best. It works on the number of sequences of each length,
so its time does not grow with them. numpy only.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class PackKind(NamedTuple):
    """Rows that hold sequences of the same lengths.

    Attributes:
        lengths: tuple of int. Tokens of each sequence.
        number: int. Rows of this kind.
    """

    lengths: tuple[int, ...]
    number: int


def plan_packs(
    counts: Sequence[int],
    capacity: int,
    max_sequences: int,
    costs: Sequence[int] | None = None,
    max_cost: int | None = None,
) -> list[PackKind]:
    """Plans the rows of some sequences.

    Args:
        counts: How many sequences have 0, 1, 2, ... tokens, up to `capacity`.
        capacity: int. Tokens of a row.
        max_sequences: int. Most sequences in a row.
        costs: For each length a second size, the predictions of a sequence, or None.
        max_cost: int or None. Most of it in a row.

    Returns:
        list of PackKind. Each sequence is in one row; the lengths of a row do not grow.

    Raises:
        ValueError: If a sequence alone has more tokens, or a higher cost, than a row.
    """
    if costs is None:
        costs, max_cost = [0] * len(counts), 0
    left = list(counts)
    if len(left) > capacity + 1 and any(left[capacity + 1 :]):
        raise ValueError(f"A sequence is longer than the {capacity} tokens of a row.")
    # Rows with room, by their room: lists of [number, lengths].
    open_rows: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
    done: list[PackKind] = []

    def put(number: int, lengths: tuple[int, ...]) -> None:
        room = capacity - sum(lengths)
        if room and len(lengths) < max_sequences:
            open_rows.setdefault(room, []).append((number, lengths))
        else:
            done.append(PackKind(lengths, number))

    for length in range(min(capacity, len(left) - 1), 0, -1):
        if left[length] and costs[length] > max_cost:
            raise ValueError(f"A sequence of {length} tokens has a cost of {costs[length]}.")
        while left[length]:
            found = _best_row(open_rows, length, costs, max_cost)
            if found is None:
                # As many of this length as a row holds, as they would be put one by one.
                each = min(capacity // length, max_sequences, left[length])
                if costs[length]:
                    each = min(each, max_cost // costs[length])
                number = left[length] // each
                put(number, (length,) * each)
                left[length] -= number * each
                continue
            number, lengths = found
            taken = min(number, left[length])
            if number > taken:
                put(number - taken, lengths)
            put(taken, (*lengths, length))
            left[length] -= taken
    for rows in open_rows.values():
        done.extend(PackKind(lengths, number) for number, lengths in rows)
    return sorted(done, key=lambda kind: kind.lengths, reverse=True)


def _best_row(
    open_rows: dict[int, list[tuple[int, tuple[int, ...]]]],
    length: int,
    costs: Sequence[int],
    max_cost: int,
) -> tuple[int, tuple[int, ...]] | None:
    """Takes the rows with the least room that a sequence fits in."""
    for room in sorted(room for room in open_rows if room >= length):
        rows = open_rows[room]
        for place in range(len(rows) - 1, -1, -1):
            cost = sum(costs[other] for other in rows[place][1])
            if cost + costs[length] <= max_cost:
                found = rows.pop(place)
                if not rows:
                    del open_rows[room]
                return found
    return None


def assign_packs(lengths: np.ndarray, kinds: Sequence[PackKind]) -> list[list[int]]:
    """Returns the sequences of each row, those of a length in their order.

    Args:
        lengths: int array [n]. Tokens of each sequence.
        kinds: What `plan_packs` planned for them.
    """
    order = np.argsort(lengths, kind="stable")
    starts = np.searchsorted(lengths[order], np.arange(int(lengths.max(initial=0)) + 2))
    following = {
        length: iter(order[starts[length] : starts[length + 1]].tolist())
        for length in range(len(starts) - 1)
    }
    return [
        [next(following[length]) for length in kind.lengths]
        for kind in kinds
        for _ in range(kind.number)
    ]
