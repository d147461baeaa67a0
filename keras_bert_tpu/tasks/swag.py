"""SWAG and other multiple choice in its columns: which ending follows.

Columns of the csv files: `sent1` (the context), `sent2` (how the next sentence begins),
`ending0`, `ending1`, ... (two or more) and `label` (the number of the right ending). Others are
not looked at. A choice is the pair of the context and of the beginning with an ending (Devlin et
al. 2018, section 4.4).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import metrics
from keras_bert_tpu.tasks.output_files import write_table
from keras_bert_tpu.tasks.row_files import Row, quoted, read_rows, some

CONTEXT, BEGINNING, ENDING, LABEL = "sent1", "sent2", "ending", "label"


class ChoiceExample(NamedTuple):
    """A question with its choices.

    Attributes:
        id: str. Number of the row, from 0.
        context: str. The first segment of all choices; empty if all is in the beginning.
        choices: tuple of str. The second segments: the beginning with each ending.
        label: int or None. The right choice, from 0; None if there is no label.
    """

    id: str
    context: str
    choices: tuple[str, ...]
    label: int | None


def read(path: str) -> list[ChoiceExample]:
    """Reads a file in the columns of SWAG, with labels.

    Args:
        path: str. Local or gs:// path of a .csv, .tsv or .jsonl file, plain or .gz.

    Returns:
        List of ChoiceExample, at least one. All have as many choices.

    Raises:
        InputError: If the file cannot be read, a column is missing, or a row has an empty ending,
            neither context nor beginning, or a label that is not the number of an ending. The row
            is named.
    """
    examples = list(_examples(path, needs_label=True))
    if not examples:
        raise InputError(f"{path!r} has no rows; give a table with at least one.")
    return examples


def read_unlabelled(path: str) -> Iterator[ChoiceExample]:
    """Reads a file to predict on, row by row, whatever its size; a label is not looked at.

    Args:
        path: str. As for `read`.

    Yields:
        ChoiceExample without a label.

    Raises:
        InputError: As for `read`, but for labels.
    """
    yield from _examples(path, needs_label=False)


def score(predictions: Sequence[int], examples: Sequence[ChoiceExample]) -> dict[str, float]:
    """Returns the `accuracy` of predictions.

    Args:
        predictions: Choices, from 0 [examples].
        examples: Sequence of ChoiceExample with labels.
    """
    labels = np.array([example.label for example in examples], np.int32)
    return {"accuracy": metrics.accuracy(predictions, labels)}


def write_predictions(
    path: str, predictions: Iterable[int], examples: Iterable[ChoiceExample]
) -> None:
    """Writes a table with the columns `id` and `label`.

    Both iterables are gone over once, side by side.

    Args:
        path: str. Local or gs:// path of a .csv, .tsv or .jsonl file.
        predictions: Choices, from 0 [examples].
        examples: Iterable of ChoiceExample, as many.

    Raises:
        InputError: If the format is not known or the file cannot be written.
    """
    rows = zip(examples, predictions, strict=True)
    write_table(path, ["id", LABEL], ([example.id, int(choice)] for example, choice in rows))


def _examples(path: str, needs_label: bool) -> Iterator[ChoiceExample]:
    endings: list[str] = []
    for number, row in enumerate(read_rows(path)):
        endings = endings or _endings(list(row.values), path, needs_label)
        yield _example(str(number), row, endings, needs_label)


def _endings(names: list[str], path: str, needs_label: bool) -> list[str]:
    """Returns the columns of endings in their order, if all columns that are needed are there."""
    endings = [f"{ENDING}{number}" for number in range(len(names))]
    endings = [name for name in endings if name in names]
    needed = [CONTEXT, BEGINNING, *([LABEL] if needs_label else [])]
    missing = [name for name in needed if name not in names]
    # A gap in the numbers would shift the labels.
    missing += [f"{ENDING}{n}" for n in range(max(2, len(endings))) if f"{ENDING}{n}" not in names]
    if missing:
        raise InputError(
            f"{path!r} lacks the columns {some(missing)}; multiple choice needs {CONTEXT}, "
            f"{BEGINNING}, two or more endings from {ENDING}0 on and, to train or score, {LABEL}. "
            f"Its columns are {some(names)}."
        )
    return endings


def _example(number: str, row: Row, endings: list[str], needs_label: bool) -> ChoiceExample:
    context, beginning = row.text(CONTEXT).strip(), row.text(BEGINNING).strip()
    if not context and not beginning:
        raise InputError(
            f"The columns {CONTEXT!r} and {BEGINNING!r} of {row.place} are both empty; fill one in."
        )
    choices = []
    for name in endings:
        ending = row.text(name).strip()
        if not ending:
            raise InputError(
                f"The ending in column {name!r} of {row.place} is empty; fill it in or leave the "
                f"row out."
            )
        choices.append(f"{beginning} {ending}".strip())
    label = _label(row, len(endings)) if needs_label else None
    return ChoiceExample(number, context, tuple(choices), label)


def _label(row: Row, endings: int) -> int:
    value = row.text(LABEL).strip()
    # Compared as text: a file may hold a number of any length.
    if value not in map(str, range(endings)):
        raise InputError(
            f"The label in column {LABEL!r} of {row.place} must be the number of an ending, 0 to "
            f"{endings - 1}. Received: {quoted(value)}."
        )
    return int(value)
