"""The metrics of tasks, by scikit-learn and scipy: always a number, never a NaN.

A correlation with a constant has no value; it counts as 0 here, as scikit-learn's Matthews
correlation has it, so that a model that has learned nothing has a score that files can hold.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.stats
import sklearn.metrics

from keras_bert_tpu.config import InputError


def accuracy(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Returns the share of predictions that are right.

    Args:
        predictions: Ids of classes [examples].
        labels: Ids of classes [examples].

    Raises:
        InputError: If there are none, or not one for each.
    """
    predictions, labels = _pair(predictions, labels)
    return float(np.mean(predictions == labels))


def f1(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Returns the F1 of class 1 of two; 0 if no prediction and no label is of it.

    Args:
        predictions: Ids of classes, 0 or 1 [examples].
        labels: Ids of classes, 0 or 1 [examples].

    Raises:
        InputError: If there are none, or not one for each.
    """
    predictions, labels = _pair(predictions, labels)
    return float(sklearn.metrics.f1_score(labels == 1, predictions == 1, zero_division=0))


def macro_f1(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Returns the mean of the F1 of each class that a prediction or a label is of.

    Args:
        predictions: Ids of classes [examples].
        labels: Ids of classes [examples].

    Raises:
        InputError: If there are none, or not one for each.
    """
    predictions, labels = _pair(predictions, labels)
    return float(sklearn.metrics.f1_score(labels, predictions, average="macro", zero_division=0))


def multi_label_scores(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Scores predictions of any number of classes for each example.

    Args:
        predictions: 0 or 1 [examples, classes].
        labels: 0 or 1 [examples, classes].

    Returns:
        Dict with `accuracy` (examples with just the right classes), `f1` (of all entries) and
        `macro_f1` (the mean of the F1 of each class).

    Raises:
        InputError: If there are none, or not one for each.
    """
    predictions, labels = np.asarray(predictions, np.int64), np.asarray(labels, np.int64)
    _check_shapes(predictions, labels, dimensions=2)
    right = np.sum(predictions & labels, axis=0)
    found = np.sum(predictions, axis=0) + np.sum(labels, axis=0)
    of_classes = np.where(found > 0, 2 * right / np.maximum(found, 1), 0.0)
    return {
        "accuracy": float(np.mean(np.all(predictions == labels, axis=1))),
        "f1": float(2 * right.sum() / max(found.sum(), 1)),
        "macro_f1": float(of_classes.mean()),
    }


def matthews(predictions: Sequence[int], labels: Sequence[int]) -> float:
    """Returns Matthews' correlation, -1 to 1; 0 if predictions or labels are all of one class.

    Args:
        predictions: Ids of classes [examples].
        labels: Ids of classes [examples].

    Raises:
        InputError: If there are none, or not one for each.
    """
    predictions, labels = _pair(predictions, labels)
    if _is_constant(predictions) or _is_constant(labels):
        return 0.0  # As scikit-learn has it, without its warning.
    return float(sklearn.metrics.matthews_corrcoef(labels, predictions))


def pearson(predictions: Sequence[float], labels: Sequence[float]) -> float:
    """Returns Pearson's correlation, -1 to 1; 0 if predictions or labels are all equal.

    Args:
        predictions: Numbers [examples].
        labels: Numbers [examples].

    Raises:
        InputError: If there are none, not one for each, or one is not finite.
    """
    return _correlation(scipy.stats.pearsonr, predictions, labels)


def spearman(predictions: Sequence[float], labels: Sequence[float]) -> float:
    """Returns Spearman's correlation of ranks, -1 to 1; 0 if predictions or labels are all equal.

    Args:
        predictions: Numbers [examples].
        labels: Numbers [examples].

    Raises:
        InputError: If there are none, not one for each, or one is not finite.
    """
    return _correlation(scipy.stats.spearmanr, predictions, labels)


def _correlation(function: Callable[..., Any], predictions: Any, labels: Any) -> float:
    pair = _pair(predictions, labels)
    for name, values in zip(("prediction", "label"), pair, strict=True):
        if not np.all(np.isfinite(values)):
            first = int(np.argmin(np.isfinite(values)))
            raise InputError(
                f"A correlation needs finite numbers. Received: {values[first]} as {name} {first}, "
                f"counted from 0; find where the numbers went wrong."
            )
    if any(map(_is_constant, pair)):
        return 0.0
    return float(function(*(values.astype(np.float64) for values in pair)).statistic)


def _is_constant(values: np.ndarray) -> bool:
    return bool(np.all(values == values[0]))


def _pair(predictions: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    _check_shapes(predictions, labels, dimensions=1)
    return predictions, labels


def _check_shapes(predictions: np.ndarray, labels: np.ndarray, dimensions: int) -> None:
    if labels.ndim != dimensions or predictions.shape != labels.shape or not labels.size:
        raise InputError(
            f"A metric needs one prediction for each label, and at least one. Received: "
            f"predictions of shape {predictions.shape} for labels of shape {labels.shape}."
        )
