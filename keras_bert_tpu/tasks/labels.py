"""Labels of rows: names of classes, several names at once, or numbers; checked as they are read."""

import json
import math
from collections.abc import Sequence

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks.row_files import quoted, some

Label = str | tuple[str, ...] | float


class LabelReader:
    """Reads the labels of rows one after another.

    Args:
        labels: Sequence of str. Names of the classes; none takes what there is, but not numbers
            and words in one column.
        regression: bool. Whether labels are numbers to predict.
        separator: str. What parts several names in one label, which may then have any number of
            them; a JSON list of strings and numbers is one, too. Empty if a label is one name.
    """

    def __init__(self, labels: Sequence[str], regression: bool, separator: str):
        if regression and (labels or separator):
            raise InputError(
                f"A regression has numbers for labels, not names. Received: labels={list(labels)}, "
                f"separator={separator!r}."
            )
        self._labels = frozenset(labels)
        self._shown = some(list(labels))
        self._regression = regression
        self.separator = separator
        # Whether the first label was a number, and where it stood.
        self._first: tuple[bool, str, str] | None = None

    def __call__(self, value: str, column: str, place: str) -> Label:
        """Returns a label.

        Args:
            value: str. As it stands in the row.
            column: str. Where, for errors.
            place: str. Where, for errors.

        Raises:
            InputError: If it is empty, not a finite number where it must be one, not one of the
                labels, or a word among numbers or the other way round.
        """
        value = value.strip()
        if self.separator:
            names = dict.fromkeys(_parts(value, self.separator, column, place))
            return tuple(self._name(name, column, place) for name in names)
        if not value:
            raise InputError(
                f"The label in column {column!r} of {place} is empty; fill it in or leave the row "
                f"out."
            )
        read = self._number if self._regression else self._name
        return read(value, column, place)

    def _number(self, value: str, column: str, place: str) -> float:
        if not _is_number(value):
            raise InputError(
                f"The label in column {column!r} of {place} must be a finite number. Received: "
                f"{quoted(value)}; mend it, or train a classifier if labels are names."
            )
        return float(value)

    def _name(self, name: str, column: str, place: str) -> str:
        if self._labels:
            if name not in self._labels:
                raise InputError(
                    f"The label in column {column!r} of {place} must be one of {self._shown}. "
                    f"Received: {quoted(name)}; mend it or add it to the labels."
                )
            return name
        is_number = _is_number(name)
        if is_number and not float(name).is_integer():
            raise InputError(
                f"The label in column {column!r} of {place} is the fraction {quoted(name)}, "
                f"which is no class; train a regression, or list the labels if it is a name."
            )
        self._first = self._first or (is_number, name, place)
        if self._first[0] != is_number:
            raise InputError(
                f"The labels in column {column!r} are numbers and words: {quoted(self._first[1])} "
                f"in {self._first[2]}, {quoted(name)} in {place}; mend one, or list the labels if "
                f"both are right."
            )
        return name


def sorted_names(found: Sequence[Label]) -> tuple[str, ...]:
    """Returns the names of the classes among labels, sorted, numbers in their order.

    Args:
        found: Sequence of labels that are names, or several.
    """
    names = {name for label in found for name in (label if isinstance(label, tuple) else (label,))}
    if all(_is_number(name) for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    return tuple(sorted(names))


def _parts(value: str, separator: str, column: str, place: str) -> list[str]:
    """Returns the names in a label that may have several."""
    if value.startswith(("[", "{")):
        try:
            listed = json.loads(value)
        except ValueError:
            listed = None
        if isinstance(listed, list | dict):
            names = [str(name).strip() for name in listed if isinstance(name, str | int | float)]
            if isinstance(listed, dict) or len(names) < len(listed) or not all(names):
                raise InputError(
                    f"The label in column {column!r} of {place} must be a list of names. Received: "
                    f"{quoted(value)}."
                )
            return names
    return [name.strip() for name in value.split(separator) if name.strip()]


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False
