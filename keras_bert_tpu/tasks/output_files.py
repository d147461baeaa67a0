"""Files of results, local or gs://: written line by line, and there whole or not at all."""

import csv
import io
import json
import posixpath
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks.row_files import suffix_of

# Lines are gathered to pieces that are worth a call.
_PIECE_LINES = 1024


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Writes lines of text as UTF-8, each with a line feed behind it.

    Where going over the lines raises an error, nothing is left behind, and a file that was there
    stays.

    Args:
        path: str. Local or gs:// path; missing local folders are made, a file is replaced.
        lines: Iterable of str, gone over once.

    Raises:
        InputError: If the file cannot be written.
    """
    # In a bucket, too: what is written until an error comes would appear there.
    temporary = f"{path}.tmp"
    try:
        if folder := posixpath.dirname(path):
            tf.io.gfile.makedirs(folder)
        with tf.io.gfile.GFile(temporary, "wb") as file:
            piece: list[str] = []
            for line in lines:
                piece.append(line)
                if len(piece) == _PIECE_LINES:
                    file.write("".join(f"{line}\n" for line in piece).encode("utf-8"))
                    piece = []
            file.write("".join(f"{line}\n" for line in piece).encode("utf-8"))
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except tf.errors.OpError as error:
        raise InputError(f"{path!r} cannot be written: {error.message}") from error
    except BaseException:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.remove(temporary)
        raise


def write_json(path: str, value: Any) -> None:
    """Writes a value as indented JSON.

    Args:
        path: str. Local or gs:// path.
        value: Plain data without NaN.

    Raises:
        InputError: If the file cannot be written.
    """
    write_lines(path, [json.dumps(value, indent=4, ensure_ascii=False, allow_nan=False)])


def write_table(path: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table as csv, tsv (without quoting) or jsonl, by the suffix of the name.

    Args:
        path: str. Local or gs:// path.
        header: Sequence of str. Names of the columns.
        rows: Iterable of sequences of str and numbers, gone over once.

    Raises:
        InputError: If the suffix is another one, the file cannot be written, or a value holds a tab
            or a line break that a tsv file cannot hold.
    """
    suffix = suffix_of(path)
    if path.lower().endswith(".gz"):
        raise InputError(f"{path!r} is written uncompressed; give it a name without .gz.")
    if suffix == ".jsonl":
        write_lines(
            path,
            (json.dumps(dict(zip(header, row, strict=True)), ensure_ascii=False) for row in rows),
        )
        return
    as_line = _csv_line if suffix == ".csv" else _tsv_line
    write_lines(path, (as_line(row, path) for row in _with_header(header, rows)))


def _with_header(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterable[Sequence[Any]]:
    yield header
    yield from rows


def _csv_line(row: Sequence[Any], path: str) -> str:
    del path  # All values can stand in csv.
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(row)
    return line.getvalue()


def _tsv_line(row: Sequence[Any], path: str) -> str:
    values = [str(value) for value in row]
    for value in values:
        if "\t" in value or "\n" in value or "\r" in value:
            raise InputError(
                f"{value[:80]!r} holds a tab or a line break, which {path!r} cannot hold; write "
                f".csv or .jsonl."
            )
    return "\t".join(values)
