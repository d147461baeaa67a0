"""Classification and regression from tables: csv, tsv, jsonl, or tensorflow-datasets.

The way is `read`, `label_names` and `label_ids`, a model, and from its predictions `score` and
`write_predictions`.

A table has one or two columns of text and, unless it is only to be predicted on, one with a label.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import metrics
from keras_bert_tpu.tasks.columns import TableColumns, find_columns
from keras_bert_tpu.tasks.data_sets import read_data_set_rows
from keras_bert_tpu.tasks.labels import Label, LabelReader, sorted_names
from keras_bert_tpu.tasks.output_files import write_table
from keras_bert_tpu.tasks.row_files import Row, read_rows, some


class TextExample(NamedTuple):
    """One or two texts with what is to be said of them.

    Attributes:
        id: str. From the column of ids, or else the number of the row, from 0.
        texts: tuple of str. One or two.
        label: str, tuple of str, float or None. Name of the class; names where a text may have any
            number of them; a number for regression; None if there is no label.
    """

    id: str
    texts: tuple[str, ...]
    label: Label | None


def read(
    path: str,
    columns: TableColumns | None = None,
    labels: Sequence[str] = (),
    regression: bool = False,
    separator: str = "",
) -> list[TextExample]:
    """Reads a table with labels.

    Args:
        path: str. Local or gs:// path of a .csv, .tsv or .jsonl file, plain or .gz.
        columns: TableColumns. None looks for usual names.
        labels: Sequence of str. Names of the classes; none takes what stands in the file.
        regression: bool. Whether labels are numbers to predict, not names of classes.
        separator: str. What parts the names in a label that may have any number of them, none too;
            a JSON list is read as well. Empty if a label is one name.

    Returns:
        List of TextExample, at least one, in the order of the file.

    Raises:
        InputError: If the file cannot be read or a column is missing, or a row has an empty text,
            or a label that is empty, not one of `labels`, not a number where it must be one, or a
            word among numbers. The row is named.
    """
    reader = LabelReader(labels, regression, separator)
    found = list(labelled_examples(read_rows(path), path, columns, reader))
    if not found:
        raise InputError(f"{path!r} has no rows; give a table with at least one.")
    return found


def read_data_set(
    name: str,
    columns: TableColumns | None = None,
    labels: Sequence[str] = (),
    regression: bool = False,
    separator: str = "",
    data_dir: str = "",
) -> list[TextExample]:
    """Reads a data set of tensorflow-datasets with labels.

    Args:
        name: str. `NAME[/CONFIG][:VERSION]@SPLIT`, for example `imdb_reviews@train[:10%]`.
        columns: TableColumns. Features of the data set; None looks for usual names.
        labels: Sequence of str. As for `read`.
        regression: bool. As for `read`.
        separator: str. As for `read`.
        data_dir: str. Folder of tensorflow-datasets, local or gs://; empty takes the variable
            TFDS_DATA_DIR or else ~/tensorflow_datasets.

    Returns:
        List of TextExample, at least one, in the order of the data set's files. Classes have the
        names that the data set gives them.

    Raises:
        InputError: If the data set cannot be loaded, or as for `read`.
    """
    rows = read_data_set_rows(name, data_dir)
    reader = LabelReader(labels, regression, separator)
    found = list(labelled_examples(rows, name, columns, reader))
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
    columns: TableColumns | None,
    read_label: LabelReader,
    allow_empty: bool = False,
) -> Iterator[TextExample]:
    """Turns rows into examples with labels; errors are those of `read`.

    Args:
        rows: Iterator of Row.
        source: str. Name of the file or data set in errors.
        columns: As for `read`.
        read_label: LabelReader.
        allow_empty: bool. Whether a text may be empty.

    Yields:
        TextExample.
    """
    resolved: TableColumns | None = None
    for number, row in enumerate(rows):
        resolved = resolved or find_columns(list(row.values), source, columns, needs_label=True)
        texts = _texts_of(row, resolved, allow_empty)
        has_names = read_label.separator and resolved.label in row.nested
        value = row.values[resolved.label] if has_names else row.text(resolved.label)
        label = read_label(value, resolved.label, row.place)
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
    """Returns the names of the classes of labelled examples, sorted, numbers in their order.

    Args:
        examples: Sequence of TextExample with labels that are names.

    Returns:
        Tuple of str; the id of a class is its place.
    """
    return sorted_names([example.label for example in examples])


def label_ids(examples: Sequence[TextExample], labels: Sequence[str]) -> np.ndarray:
    """Returns the ids of the classes of labelled examples.

    Args:
        examples: Sequence of TextExample.
        labels: Sequence of str. Names of the classes.

    Returns:
        int32 [examples]; if texts may have several classes [examples, classes], 1 for those.

    Raises:
        InputError: If the label of an example is not one of `labels`.
    """
    ids = {label: index for index, label in enumerate(labels)}
    several = any(isinstance(example.label, tuple) for example in examples)
    result = np.zeros((len(examples), len(labels)) if several else len(examples), np.int32)
    for index, example in enumerate(examples):
        for name in example.label if several else (example.label,):
            if name not in ids:
                raise InputError(
                    f"The label of example {example.id!r} must be one of {some(list(labels))}. "
                    f"Received: {name!r}."
                )
            result[(index, ids[name]) if several else index] = 1 if several else ids[name]
    return result


def score(
    predictions: Sequence[int] | Sequence[float] | np.ndarray,
    examples: Sequence[TextExample],
    labels: Sequence[str] = (),
) -> dict[str, float]:
    """Compares predictions with labels.

    Args:
        predictions: Ids of classes, or numbers for a regression [examples]; if texts may have
            several classes [examples, classes], 1 for those.
        examples: Sequence of TextExample with labels.
        labels: Sequence of str. Names of the classes; none for a regression.

    Returns:
        Dict. Of classes `accuracy` and `f1` (that of the second of two classes, or else the mean
        of all classes); of several classes `accuracy` (of texts that have just the right ones),
        `f1` (of all pairs of a text and a class of it) and `macro_f1` (mean over classes); of a
        regression `pearson` and `spearman`.

    Raises:
        InputError: If there is not one prediction for each example, or a label is not one of
            `labels`.
    """
    if not labels:
        targets = [float(example.label) for example in examples]
        return {
            "pearson": metrics.pearson(predictions, targets),
            "spearman": metrics.spearman(predictions, targets),
        }
    ids = label_ids(examples, labels)
    if ids.ndim == 2:
        return metrics.multi_label_scores(predictions, ids)
    f1 = metrics.f1 if len(labels) == 2 else metrics.macro_f1
    return {"accuracy": metrics.accuracy(predictions, ids), "f1": f1(predictions, ids)}


def write_predictions(
    path: str,
    predictions: Iterable[int] | Iterable[float] | Iterable[Sequence[int]],
    examples: Iterable[TextExample],
    labels: Sequence[str] = (),
    probabilities: Iterable[Sequence[float]] | None = None,
    separator: str = "",
) -> None:
    """Writes a table with the columns `id`, `prediction` and, for classes, their probabilities.

    All iterables are gone over once, side by side, so that files of any size can be predicted on.

    Args:
        path: str. Local or gs:// path of a .csv, .tsv or .jsonl file.
        predictions: Ids of classes, or numbers for a regression [examples]; if texts may have
            several classes [examples, classes], 1 for those, whose names are written with the
            separator between them.
        examples: Iterable of TextExample.
        labels: Sequence of str. Names of the classes; none for a regression.
        probabilities: Of each class [examples, classes]; None leaves them out. Their columns have
            the names `probability_LABEL`.
        separator: str. What parts names; empty if a text has one class.

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
            _written(prediction, labels, separator),
            *(round(float(number), 6) for number in row),
        ]
        for (example, prediction), row in zip(pairs, numbers, strict=probabilities is not None)
    )
    write_table(path, header, rows)


def _written(
    prediction: int | float | Sequence[int], labels: Sequence[str], separator: str
) -> str | float:
    if separator:
        return separator.join(n for n, chosen in zip(labels, prediction, strict=True) if chosen)
    return labels[int(prediction)] if labels else float(prediction)


def _texts_of(row: Row, columns: TableColumns, allow_empty: bool) -> tuple[str, ...]:
    texts = tuple(row.text(name) for name in columns.texts)
    for name, text in zip(columns.texts, texts, strict=True):
        if not text.strip() and not allow_empty:
            raise InputError(
                f"The text in column {name!r} of {row.place} is empty; fill it in or leave the row "
                f"out."
            )
    return texts


def _id_of(row: Row, columns: TableColumns, number: int) -> str:
    return row.text(columns.id) if columns.id else str(number)
