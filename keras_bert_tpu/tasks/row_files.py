"""Rows of csv, tsv and jsonl files by the names of their columns, in memory bounded by a row."""

import csv
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from absl import logging

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.files import read_lines

SUFFIXES = (".csv", ".tsv", ".jsonl")
# An error names no more columns than a person reads.
_NAMES_SHOWN = 20
_CHARACTERS_SHOWN = 80


class Row(NamedTuple):
    """A row of a file.

    Attributes:
        place: str. File and line, as errors name them.
        values: dict of str to str. Value of each column; numbers and truth values of jsonl as
            JSON writes them, null and NaN, which is what is missing to pandas, as an empty string.
        nested: frozenset of str. Columns whose value is a list or an object of JSON.
    """

    place: str
    values: dict[str, str]
    nested: frozenset[str] = frozenset()

    def text(self, name: str) -> str:
        """Returns the value of a column that must hold text, or a number.

        Args:
            name: str. Of the column.

        Raises:
            InputError: If it is a list or an object.
        """
        if name in self.nested:
            raise InputError(
                f"The value of {name!r} in {self.place} must be a string or a number. Received: "
                f"{quoted(self.values[name])}."
            )
        return self.values[name]


def read_rows(path: str, columns: Sequence[str] = (), skip_short: bool = False) -> Iterator[Row]:
    r"""Reads a file row by row.

    The format is that of the name's suffix: `.csv` (commas; quoted as usual, line breaks within
    quotes too), `.tsv` (tabs, a quotation mark is a character like others), `.jsonl` (one object a
    line); each also with `.gz` behind it. Blank lines at the end are no rows.

    Args:
        path: str. Local or gs:// path.
        columns: Sequence of str. Names of the columns of a csv or tsv file without a header line;
            none takes them from the first line. A jsonl file has its own names.
        skip_short: bool. Whether rows of a csv or tsv file with fewer columns than named are left
            out, and their number is logged at the end, where others are an error.

    Yields:
        Row. All rows have the same columns.

    Raises:
        InputError: If the file cannot be read, is not UTF-8, has a column twice, a row has other
            columns than the first one, or a blank line stands between rows.
    """
    suffix = suffix_of(path)
    if suffix == ".jsonl":
        yield from _read_objects(path)
        return
    rows = _read_csv(path) if suffix == ".csv" else _read_tsv(path)
    rows = _without_blank_end(rows, path)
    names = list(columns)
    if not names:
        header = next(rows, None)
        if header is None:
            raise InputError(f"{path!r} is empty; its first line must name its columns.")
        names = [name.strip() for name in header[1]]
        _check_header(names, path)
    skipped = 0
    for number, fields in rows:
        if skip_short and len(fields) < len(names):
            skipped += 1
            continue
        if len(fields) != len(names):
            raise InputError(
                f"Line {number} of {path!r} has {len(fields)} columns, and {len(names)} are "
                f"expected ({some(names)}); mend the line."
            )
        yield Row(place_of(path, number), dict(zip(names, fields, strict=True)))
    if skipped:
        logging.warning("%d rows of %s lack columns and were left out.", skipped, path)


def suffix_of(path: str) -> str:
    """Returns ".csv", ".tsv" or ".jsonl" for a path, whether or not ".gz" stands behind it.

    Args:
        path: str.

    Raises:
        InputError: If the name ends otherwise.
    """
    name = path.lower().removesuffix(".gz")
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise InputError(
        f"The format of {path!r} is not known from its name; it must end with one of "
        f"{', '.join(SUFFIXES)}, or one of these and .gz."
    )


def place_of(path: str, number: int) -> str:
    """Returns how errors name a line, counted from 1."""
    return f"line {number} of {path!r}"


def some(names: Sequence[str]) -> str:
    """Returns names as errors list them, at most so many as a person reads."""
    shown = ", ".join(map(quoted, names[:_NAMES_SHOWN])) or "none"
    return shown + (", ..." if len(names) > _NAMES_SHOWN else "")


def quoted(value: str) -> str:
    """Returns a value as errors quote it, however long it is."""
    shown = repr(value[:_CHARACTERS_SHOWN])
    return f"{shown}..." if len(value) > _CHARACTERS_SHOWN else shown


def read_text_lines(path: str) -> Iterator[str]:
    """Reads lines as `text.files.read_lines` does, and refuses those that are not UTF-8.

    Args:
        path: str. Local or gs:// path.

    Yields:
        str. A line without its end.

    Raises:
        InputError: If the file cannot be read or a line is not UTF-8; it is named.
    """
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"Line {number} of {path!r} is not UTF-8 text (byte {error.start} of it is "
                f"0x{line[error.start]:02x}); save the file as UTF-8."
            ) from error


def _read_tsv(path: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(read_text_lines(path), start=1):
        yield number, line.split("\t") if line else []


def _read_csv(path: str) -> Iterator[tuple[int, list[str]]]:
    # Fields may hold line breaks, so the reader needs them.
    reader = csv.reader((f"{line}\n" for line in read_text_lines(path)), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"The row that begins on line {number} of {path!r} is not sound csv ({error}); "
                f'values with commas, quotation marks or line breaks stand in "", and quotation '
                f"marks within them are doubled."
            ) from error
        if fields is None:
            return
        yield number, fields


def _without_blank_end(
    rows: Iterator[tuple[int, list[str]]], path: str
) -> Iterator[tuple[int, list[str]]]:
    blank = 0
    for number, fields in rows:
        if not fields:
            blank = blank or number
            continue
        if blank:
            raise InputError(
                f"Line {blank} of {path!r} is blank, and rows follow; remove it or fill it in."
            )
        yield number, fields


def _check_header(names: list[str], path: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"The column {twice!r} stands twice in the first line of {path!r}; each column needs a "
            f"name of its own."
        )


def _read_objects(path: str) -> Iterator[Row]:
    lines = ((number, [line] if line else []) for number, line in _numbered(path))
    names: set[str] | None = None
    for number, (line,) in _without_blank_end(lines, path):
        values = _parse_object(line, path, number)
        names = set(values) if names is None else names
        if set(values) != names:
            differing = sorted(names.symmetric_difference(values))
            raise InputError(
                f"Line {number} of {path!r} has other keys than the first one: {some(differing)} "
                f"stand in one of them only; all lines need the same keys."
            )
        yield Row(
            place_of(path, number),
            {name: _as_text(value, name, path, number) for name, value in values.items()},
            frozenset(name for name, value in values.items() if isinstance(value, list | dict)),
        )


def _numbered(path: str) -> Iterator[tuple[int, str]]:
    return zip(itertools.count(1), map(str.strip, read_text_lines(path)), strict=False)


def _parse_object(line: str, path: str, number: int) -> dict[str, Any]:
    def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_keys([name for name, _ in pairs], path, number)
        return dict(pairs)

    try:
        values = json.loads(line, object_pairs_hook=without_repeats)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"Line {number} of {path!r} is not JSON ({error}); each line must be one JSON object."
        ) from error
    if not isinstance(values, dict):
        raise InputError(
            f"Line {number} of {path!r} must be a JSON object, with a key for each column. "
            f"Received: {quoted(line)}."
        )
    return values


def _check_keys(names: list[str], path: str, number: int) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"The key {twice!r} stands twice in line {number} of {path!r}; remove one."
        )


def _as_text(value: Any, name: str, path: str, number: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can escape halves of surrogate pairs.
        raise InputError(
            f"The value of {name!r} in line {number} of {path!r} holds half a surrogate pair, "
            f"which is no character; mend the text."
        ) from error
    return value
