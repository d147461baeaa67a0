import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_bert_tpu.pretraining_data.packing import assign_packs, plan_packs


def histogram(lengths, capacity):
    return np.bincount(lengths, minlength=capacity + 1).tolist()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 64), max_size=200),
    st.integers(1, 9),
    st.integers(10, 20),
)
def test_every_sequence_is_in_one_row_and_no_row_holds_too_much(lengths, most, max_cost):
    costs = [max(1, round(0.15 * length)) for length in range(65)]
    kinds = plan_packs(histogram(lengths, 64), 64, most, costs, max_cost)
    packed = collections.Counter()
    for kind in kinds:
        assert sum(kind.lengths) <= 64
        assert len(kind.lengths) <= most
        assert sum(costs[length] for length in kind.lengths) <= max_cost
        assert kind.number > 0
        for length in kind.lengths:
            packed[length] += kind.number
    assert packed == collections.Counter(lengths)
    rows = assign_packs(np.array(lengths, np.int64), kinds)
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    assert [[lengths[place] for place in row] for row in rows] == [
        list(kind.lengths) for kind in kinds for _ in range(kind.number)
    ]


def test_halves_and_thirds_fill_rows():
    assert plan_packs(histogram([32] * 4 + [64], 64), 64, 8) == [((64,), 1), ((32, 32), 2)]
    assert plan_packs(histogram([40, 24, 20, 20], 64), 64, 8) == [((40, 24), 1), ((20, 20), 1)]


def test_a_row_has_no_more_sequences_than_allowed():
    assert plan_packs(histogram([8] * 9, 64), 64, 3) == [((8, 8, 8), 3)]


def test_lengths_of_wikipedia_fill_at_least_95_percent():
    # As arXiv 2107.02027 has them: half of the tokens padding, a mean of 255.8 tokens, and 23.4 %
    # of the rows full; the others by a distribution that gives this mean.
    rng = np.random.default_rng(0)
    full = rng.random(100_000) < 0.234
    others = np.clip(rng.gamma(1.6, 110, len(full)).round().astype(int), 5, 511)
    lengths = np.where(full, 512, others)
    assert abs(lengths.mean() - 255.8) < 6
    costs = [min(76, max(1, round(0.15 * length))) for length in range(513)]
    kinds = plan_packs(histogram(lengths, 512), 512, 8, costs, 80)
    rows = sum(kind.number for kind in kinds)
    assert lengths.sum() / (rows * 512) > 0.95


def test_sequence_that_no_row_holds_is_refused():
    with pytest.raises(ValueError, match="longer than the 64 tokens"):
        plan_packs(histogram([65], 65), 64, 2)
    with pytest.raises(ValueError, match="a cost of 10"):
        plan_packs(histogram([64], 64), 64, 2, list(range(10)) * 6 + [10] * 5, 9)
