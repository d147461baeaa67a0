"""CoNLL columns: one word a line with its label, a blank line between sentences."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from absl import logging

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks.ner.schemes import OUTSIDE, Scheme, first_break, scheme_of, split_label
from keras_bert_tpu.tasks.output_files import write_lines
from keras_bert_tpu.tasks.row_files import place_of, quoted, read_text_lines, some

_DOCUMENT_START = "-DOCSTART-"


class Sentence(NamedTuple):
    """Words and their labels.

    Attributes:
        id: str. Number of the sentence in the file, from 0.
        words: tuple of str, at least one.
        labels: tuple of str. One for each word; none if the file is read without.
        line: int. Line of the file, from 1, that the first word stands on; the others follow.
    """

    id: str
    words: tuple[str, ...]
    labels: tuple[str, ...]
    line: int


def read(
    path: str,
    token_column: int = 0,
    label_column: int | None = -1,
    labels: Sequence[str] = (),
    scheme: Scheme | None = None,
) -> list[Sentence]:
    """Reads CoNLL columns, parted by tabs or, in a line without, by other white space.

    Args:
        path: str. Local or gs:// path, plain or .gz.
        token_column: int. Column of the words, from 0; -1 is the last one.
        label_column: int or None. Column of the labels; None reads words only.
        labels: Sequence of str. All labels that may stand there; none takes what there is.
        scheme: "BIO", "IOB1", "IO", "BIOES" or None. What the labels must be in; None does not
            ask. See `schemes`.

    Returns:
        List of Sentence, at least one, without lines that begin a document (-DOCSTART-).

    Raises:
        InputError: If the file cannot be read, is not UTF-8, or a line has other columns than the
            first one, no word, or a label that is none, not one of `labels` or breaks the scheme.
            The line is named.
    """
    sentences = list(read_sentences(path, token_column, label_column, labels))
    if not sentences:
        raise InputError(f"{path!r} has no words; give a file with one word on a line.")
    if scheme is not None:
        _check_scheme(sentences, scheme, path)
    return sentences


def read_sentences(
    path: str,
    token_column: int = 0,
    label_column: int | None = None,
    labels: Sequence[str] = (),
) -> Iterator[Sentence]:
    """Reads CoNLL columns sentence by sentence, whatever the size of the file.

    Args:
        path: str. As for `read`.
        token_column: int. As for `read`.
        label_column: int or None. As for `read`; None reads words only.
        labels: Sequence of str. As for `read`.

    Yields:
        Sentence.

    Raises:
        InputError: As for `read`.
    """
    for index, (first, rows) in enumerate(_groups(path)):
        words, found = [], []
        for number, fields in enumerate(rows, start=first):
            place = place_of(path, number)
            words.append(_column(fields, token_column, "word", place))
            if label_column is not None:
                label = _column(fields, label_column, "label", place)
                _check_label(label, labels, place)
                found.append(label)
        yield Sentence(str(index), tuple(words), tuple(found), first)


def label_names(sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """Returns the labels that occur, `O` first and the others sorted; a label's id is its place.

    Args:
        sentences: Sequence of Sentence with labels.
    """
    names = {label for sentence in sentences for label in sentence.labels}
    return (OUTSIDE, *sorted(names - {OUTSIDE}))


def find_scheme(sentences: Sequence[Sentence]) -> Scheme:
    """Tells the scheme of labels, and logs if some break it.

    Args:
        sentences: Sequence of Sentence with labels.

    Returns:
        "BIO", "IOB1", "IO" or "BIOES".
    """
    scheme = scheme_of([sentence.labels for sentence in sentences])
    broken = [s for s in sentences if first_break(s.labels, scheme) is not None]
    if broken:
        first = broken[0].line + first_break(broken[0].labels, scheme)
        logging.warning(
            "The labels seem to be in the scheme %s, which %d of %d sentences break, the first on "
            "line %d; they are scored by the rules of conlleval.",
            scheme,
            len(broken),
            len(sentences),
            first,
        )
    return scheme


def write_predictions(
    path: str, predictions: Iterable[Sequence[str]], sentences: Iterable[Sentence]
) -> None:
    """Writes CoNLL columns, parted by tabs: word, label if there is one, predicted label.

    Both iterables are gone over once, side by side.

    Args:
        path: str. Local or gs:// path.
        predictions: Labels of the words of each sentence.
        sentences: Iterable of Sentence, as many.

    Raises:
        InputError: If there is not one prediction for each word, or the file cannot be written.
    """
    pairs = zip(predictions, sentences, strict=True)
    write_lines(path, (line for pair in pairs for line in _predicted_lines(*pair)))


def check_length(predicted: Sequence[str], sentence: Sentence) -> None:
    """Checks that there is one prediction for each word.

    Args:
        predicted: Labels of the words.
        sentence: Sentence.

    Raises:
        InputError: If there is not.
    """
    if len(predicted) != len(sentence.words):
        raise InputError(
            f"Each word needs one prediction. Received: {len(predicted)} for the "
            f"{len(sentence.words)} words of sentence {sentence.id}."
        )


def _predicted_lines(predicted: Sequence[str], sentence: Sentence) -> Iterator[str]:
    check_length(predicted, sentence)
    columns = [sentence.words, *([sentence.labels] if sentence.labels else []), predicted]
    for fields in zip(*columns, strict=True):
        yield "\t".join(fields)
    yield ""


def _groups(path: str) -> Iterator[tuple[int, list[list[str]]]]:
    """Yields the columns of the lines of each sentence, and the number of its first line."""
    rows: list[list[str]] = []
    first = columns = 0
    for number, line in enumerate(read_text_lines(path), start=1):
        fields = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or fields[0] == _DOCUMENT_START:
            if rows:
                yield first, rows
            rows = []
            continue
        columns = columns or len(fields)
        if len(fields) != columns:
            raise InputError(
                f"Line {number} of {path!r} has {len(fields)} columns, and the lines before have "
                f"{columns}; mend the line."
            )
        first = first if rows else number
        rows.append(fields)
    if rows:
        yield first, rows


def _column(fields: Sequence[str], column: int, name: str, place: str) -> str:
    if not -len(fields) <= column < len(fields):
        raise InputError(
            f"There is no column {column} for the {name} in {place}, which has {len(fields)}; "
            f"columns are counted from 0, and -1 is the last one."
        )
    value = fields[column].strip()
    if not value:
        raise InputError(f"The {name} in column {column} of {place} is empty; fill it in.")
    return value


def _check_label(label: str, allowed: Sequence[str], place: str) -> None:
    if allowed:
        if label not in allowed:
            raise InputError(
                f"The label of {place} must be one of {some(list(allowed))}. Received: "
                f"{quoted(label)}."
            )
        return
    try:
        split_label(label)
    except InputError as error:
        raise InputError(f"The label of {place} is none. {error}") from error


def _check_scheme(sentences: Sequence[Sentence], scheme: Scheme, path: str) -> None:
    for sentence in sentences:
        position = first_break(sentence.labels, scheme)
        if position is not None:
            raise InputError(
                f"The label {sentence.labels[position]!r} of "
                f"{place_of(path, sentence.line + position)} breaks the scheme {scheme}; mend it, "
                f"or name the scheme that the file is in."
            )
