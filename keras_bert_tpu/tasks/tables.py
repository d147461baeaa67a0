"""Classification and regression from tables: csv, tsv, jsonl, or tensorflow-datasets.

A table has one or two columns of text and, unless it is only to be predicted on, one with a label.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import metrics
from keras_bert_tpu.tasks.columns import TableColumns, find_columns
from keras_bert_tpu.tasks.data_sets import read_data_set_rows
from keras_bert_tpu.tasks.output_files import write_table
from keras_bert_tpu.tasks.row_files import Row, read_rows, some


class TextExample(NamedTuple):
    """One or two texts with what is to be said of them.

    Attributes:
        id: str. From the column of ids, or else the number of the row, from 0.
        texts: tuple of str. One or two.
        label: str, float or None. Name of the class; a number for regression; None if there is no
            label.
    """

    id: str
    texts: tuple[str, ...]
    label: str | float | None


def read(
    path: str,
    columns: TableColumns | None = None,
    labels: Sequence[str] = (),
    regression: bool = False,
) -> list[TextExample]:
    """Reads a table with labels.

    Args:
        path: str. Local or gs:// path of a .csv, .tsv or .jsonl file, plain or .gz.
        columns: TableColumns. None looks for usual names.
        labels: Sequence of str. Names of the classes; none takes what stands in the file.
        regression: bool. Whether labels are numbers to predict, not names of classes.

    Returns:
        List of TextExample, at least one, in the order of the file.

    Raises:
        InputError: If the file cannot be read or a column is missing, or a row has an empty text,
            or a label that is empty, not one of `labels`, not a number where it must be one, or a
            word among numbers. The row is named.
    """
    found = list(labelled_examples(read_rows(path), path, columns, labels, regression))
    if not found:
        raise InputError(f"{path!r} has no rows; give a table with at least one.")
    return found


def read_data_set(
    name: str,
    columns: TableColumns | None = None,
    labels: Sequence[str] = (),
    regression: bool = False,
    data_dir: str = "",
) -> list[TextExample]:
    """Reads a data set of tensorflow-datasets with labels.

    Args:
        name: str. `NAME[/CONFIG][:VERSION]@SPLIT`, for example `imdb_reviews@train[:10%]`.
        columns: TableColumns. Features of the data set; None looks for usual names.
        labels: Sequence of str. As for `read`.
        regression: bool. As for `read`.
        data_dir: str. Folder of tensorflow-datasets, local or gs://; empty takes the variable
            TFDS_DATA_DIR or else ~/tensorflow_datasets.

    Returns:
        List of TextExample, at least one, in the order of the data set's files. Classes have the
        names that the data set gives them.

    Raises:
        InputError: If the data set cannot be loaded, or as for `read`.
    """
    rows = read_data_set_rows(name, data_dir)
    found = list(labelled_examples(rows, name, columns, labels, regression))
    if not found:
        raise InputError(f"The data set {name!r} has no rows; name a split with at least one.")
    return found


def read_unlabelled(path: str, columns: TableColumns | None = None) -> Iterator[TextExample]:
    """Reads a table to predict on, row by row, whatever its size; a label is not looked at.

    Args:
        path: str. As for `read`.
        columns: TableColumns. None looks for usual names.

    Yields:
        TextExample without a label.

    Raises:
        InputError: As for `read`, but for labels.
    """
    yield from unlabelled_examples(read_rows(path), path, columns)


def labelled_examples(
    rows: Iterator[Row],
    source: str,
    columns: TableColumns | None = None,
    labels: Sequence[str] = (),
    regression: bool = False,
    allow_empty: bool = False,
) -> Iterator[TextExample]:
    """Turns rows into examples with labels; errors are those of `read`.

    Args:
        rows: Iterator of Row.
        source: str. Name of the file or data set in errors.
        columns: As for `read`.
        labels: As for `read`.
        regression: As for `read`.
        allow_empty: bool. Whether a text may be empty.

    Yields:
        TextExample.
    """
    resolved: TableColumns | None = None
    check = _LabelCheck(labels, regression)
    for number, row in enumerate(rows):
        resolved = resolved or find_columns(list(row.values), source, columns, needs_label=True)
        texts = _texts_of(row, resolved, allow_empty)
        label = check(row.values[resolved.label].strip(), resolved.label, row.place)
        yield TextExample(_id_of(row, resolved, number), texts, label)


def unlabelled_examples(
    rows: Iterator[Row],
    source: str,
    columns: TableColumns | None = None,
    allow_empty: bool = False,
) -> Iterator[TextExample]:
    """Turns rows into examples without labels; errors are those of `read_unlabelled`.

    Args:
        rows: Iterator of Row.
        source: str. Name of the file in errors.
        columns: As for `read_unlabelled`.
        allow_empty: bool. Whether a text may be empty.

    Yields:
        TextExample.
    """
    resolved: TableColumns | None = None
    for number, row in enumerate(rows):
        resolved = resolved or find_columns(list(row.values), source, columns, needs_label=False)
        texts = _texts_of(row, resolved, allow_empty)
        yield TextExample(_id_of(row, resolved, number), texts, None)


def label_names(examples: Sequence[TextExample]) -> tuple[str, ...]:
    """Returns the names of the classes of labelled examples, numbers in their order.

    Args:
        examples: Sequence of TextExample with labels that are names.

    Returns:
        Tuple of str, sorted; the id of a class is its place.
    """
    names = {str(example.label) for example in examples}
    if all(_is_number(name) for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    return tuple(sorted(names))


def label_ids(examples: Sequence[TextExample], labels: Sequence[str]) -> np.ndarray:
    """Returns the ids of the classes of labelled examples.

    Args:
        examples: Sequence of TextExample.
        labels: Sequence of str. Names of the classes.

    Returns:
        int32 [examples].

    Raises:
        InputError: If the label of an example is not one of `labels`.
    """
    ids = {label: index for index, label in enumerate(labels)}
    for example in examples:
        if example.label not in ids:
            raise InputError(
                f"The label of example {example.id!r} must be one of {some(list(labels))}. "
                f"Received: {example.label!r}."
            )
    return np.array([ids[example.label] for example in examples], np.int32)


def score(
    predictions: Sequence[int] | Sequence[float],
    examples: Sequence[TextExample],
    labels: Sequence[str] = (),
) -> dict[str, float]:
    """Compares predictions with labels.

    Args:
        predictions: Ids of classes, or numbers for a regression [examples].
        examples: Sequence of TextExample with labels.
        labels: Sequence of str. Names of the classes; none for a regression.

    Returns:
        Dict. Of classes `accuracy` and `f1` (that of the second of two classes, or else the mean
        of all classes); of a regression `pearson` and `spearman`.
    """
    if not labels:
        targets = [float(example.label) for example in examples]
        return {
            "pearson": metrics.pearson(predictions, targets),
            "spearman": metrics.spearman(predictions, targets),
        }
    ids = label_ids(examples, labels)
    f1 = metrics.f1 if len(labels) == 2 else metrics.macro_f1
    return {"accuracy": metrics.accuracy(predictions, ids), "f1": f1(predictions, ids)}


def write_predictions(
    path: str,
    predictions: Iterable[int] | Iterable[float],
    examples: Iterable[TextExample],
    labels: Sequence[str] = (),
    probabilities: Iterable[Sequence[float]] | None = None,
) -> None:
    """Writes a table with the columns `id`, `prediction` and, for classes, their probabilities.

    All iterables are gone over once, side by side, so that files of any size can be predicted on.

    Args:
        path: str. Local or gs:// path of a .csv, .tsv or .jsonl file.
        predictions: Ids of classes, or numbers for a regression [examples].
        examples: Iterable of TextExample.
        labels: Sequence of str. Names of the classes; none for a regression.
        probabilities: Of each class [examples, classes]; None leaves them out. Their columns have
            the names `probability_LABEL`.

    Raises:
        InputError: If the format is not known or the file cannot be written.
    """
    if probabilities is None:
        header = ["id", "prediction"]
        numbers: Iterable[Sequence[float]] = itertools.repeat(())
    else:
        header = ["id", "prediction", *(f"probability_{label}" for label in labels)]
        numbers = probabilities
    pairs = zip(examples, predictions, strict=True)
    rows = (
        [
            example.id,
            labels[int(prediction)] if labels else float(prediction),
            *(round(float(number), 6) for number in row),
        ]
        for (example, prediction), row in zip(pairs, numbers, strict=probabilities is not None)
    )
    write_table(path, header, rows)


class _LabelCheck:
    """Checks the labels of rows one after another, and gives their values."""

    def __init__(self, labels: Sequence[str], regression: bool):
        self._labels = frozenset(labels)
        self._shown = some(list(labels))
        self._regression = regression
        # Whether the first label was a number, and where it stood.
        self._first: tuple[bool, str, str] | None = None

    def __call__(self, label: str, column: str, place: str) -> str | float:
        if not label:
            raise InputError(
                f"The label in column {column!r} of {place} is empty; fill it in or leave the row "
                f"out."
            )
        if self._regression:
            if not _is_number(label):
                raise InputError(
                    f"The label in column {column!r} of {place} must be a finite number. Received: "
                    f"{label!r}; mend it, or train a classifier if labels are names."
                )
            return float(label)
        if self._labels:
            if label not in self._labels:
                raise InputError(
                    f"The label in column {column!r} of {place} must be one of {self._shown}. "
                    f"Received: {label!r}; mend it or add it to the labels."
                )
            return label
        self._check_kind(label, column, place)
        return label

    def _check_kind(self, label: str, column: str, place: str) -> None:
        is_number = _is_number(label)
        if is_number and not float(label).is_integer():
            raise InputError(
                f"The label in column {column!r} of {place} is the fraction {label}, which is no "
                f"class; train a regression, or list the labels if it is a name."
            )
        self._first = self._first or (is_number, label, place)
        if self._first[0] != is_number:
            raise InputError(
                f"The labels in column {column!r} are numbers and words: {self._first[1]!r} in "
                f"{self._first[2]}, {label!r} in {place}; mend one, or list the labels if both are "
                f"right."
            )


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def _texts_of(row: Row, columns: TableColumns, allow_empty: bool) -> tuple[str, ...]:
    texts = tuple(row.values[name] for name in columns.texts)
    for name, text in zip(columns.texts, texts, strict=True):
        if not text.strip() and not allow_empty:
            raise InputError(
                f"The text in column {name!r} of {row.place} is empty; fill it in or leave the row "
                f"out."
            )
    return texts


def _id_of(row: Row, columns: TableColumns, number: int) -> str:
    return row.values[columns.id] if columns.id else str(number)
