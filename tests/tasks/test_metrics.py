"""Hand-computed values, and the values that degenerate predictions have."""

import math

import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import metrics

# 3 true positives, 1 false positive, 2 false negatives, 2 true negatives.
PREDICTIONS = [1, 1, 1, 1, 0, 0, 0, 0]
LABELS = [1, 1, 1, 0, 1, 1, 0, 0]


def test_metrics_of_two_classes_are_those_computed_by_hand():
    assert metrics.accuracy(PREDICTIONS, LABELS) == 5 / 8
    assert metrics.f1(PREDICTIONS, LABELS) == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    assert metrics.macro_f1(PREDICTIONS, LABELS) == pytest.approx((6 / 9 + 4 / 7) / 2)
    expected = (3 * 2 - 1 * 2) / math.sqrt((3 + 1) * (3 + 2) * (2 + 1) * (2 + 2))
    assert metrics.matthews(PREDICTIONS, LABELS) == pytest.approx(expected)


def test_f1_is_of_class_1_whichever_is_rarer():
    assert metrics.f1([1, 1, 1, 0], [1, 1, 1, 1]) == pytest.approx(6 / 7)
    assert metrics.f1([0, 0, 0, 1], [0, 0, 0, 0]) == 0


def test_correlations_are_those_computed_by_hand():
    # Deviations -1.5 -.5 .5 1.5 and -3.75 -1.75 -.75 6.25.
    expected = 15.5 / math.sqrt(5 * (3.75**2 + 1.75**2 + 0.75**2 + 6.25**2))
    assert metrics.pearson([1, 2, 3, 4], [0, 2, 3, 10]) == pytest.approx(expected)
    assert metrics.spearman([1, 2, 3, 4], [0, 2, 3, 10]) == pytest.approx(1)
    # Ranks 1 2.5 2.5 4 and 1 3 2 4: 1 - of deviations -1.5 0 0 1.5 and -1.5 .5 -.5 1.5.
    assert metrics.spearman([1, 2, 2, 9], [1, 3, 2, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_constant_predictions_have_no_correlation_and_no_nan():
    assert metrics.matthews([0, 0, 0], [0, 1, 0]) == 0
    assert metrics.f1([0, 0, 0], [0, 1, 0]) == 0
    assert metrics.macro_f1([0, 0], [0, 0]) == 1
    assert metrics.matthews([1, 1], [1, 1]) == 0
    for metric in (metrics.pearson, metrics.spearman):
        assert metric([2.5, 2.5, 2.5], [1, 2, 3]) == 0
        assert metric([1, 2, 3], [0.1, 0.1, 0.1]) == 0
        assert metric([1.0], [2.0]) == 0


def test_numbers_that_went_wrong_are_an_error_and_no_score():
    with pytest.raises(InputError, match="Received: nan as prediction 1, counted from 0"):
        metrics.pearson([1, float("nan")], [1, 2])


def test_predictions_of_another_number_than_labels_are_refused():
    with pytest.raises(InputError, match=r"shape \(1,\) for labels of shape \(2,\)"):
        metrics.accuracy([1], [1, 0])
    with pytest.raises(InputError, match="at least one"):
        metrics.accuracy([], [])
