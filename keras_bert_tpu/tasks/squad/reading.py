"""Files of SQuAD 1.1 and 2.0: questions about passages, with answers that stand in them."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf
from absl import logging

from keras_bert_tpu.config import InputError

_GZIP_MAGIC = b"\x1f\x8b"
# gzip packs passages and questions to a quarter or so; what unpacks to more than the second, and
# to more times its size than the first, is made to fill a memory.
_MOST_COMPRESSED = 100
_SMALL_BYTES = 1 << 26
_KINDS = {str: "a string", list: "a list", dict: "an object", int: "a whole number"}


class Answer(NamedTuple):
    """An answer that people gave.

    Attributes:
        text: str.
        start: int. Character of the passage, from 0, on which it begins.
    """

    text: str
    start: int


class Question(NamedTuple):
    """A question about a passage.

    Attributes:
        id: str.
        question: str.
        context: str. The passage.
        answers: tuple of Answer. All that are right; none if the passage has no answer, or if they
            are not known.
        is_impossible: bool. Whether the file says that the passage has no answer (SQuAD 2.0).
    """

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    is_impossible: bool


def read(path: str, needs_answers: bool = True) -> list[Question]:
    """Reads a file of SQuAD 1.1 or 2.0.

    Args:
        path: str. Local or gs:// path of a .json file, plain or gzip.
        needs_answers: bool. Whether each question that has an answer must come with it, as to
            train and to score.

    Returns:
        List of Question in the order of the file, at least one.

    Raises:
        InputError: If the file cannot be read, is not JSON of SQuAD's form, or a question is empty
            or an id stands twice. The key is named.
    """
    data = _load(path)
    questions = list(_questions(data, path, needs_answers))
    if not questions:
        raise InputError(f"{path!r} has no questions; give a file of SQuAD with at least one.")
    return questions


def misplaced_answers(questions: list[Question]) -> list[str]:
    """Finds answers that do not stand where their offsets say, and logs how many there are.

    Such answers can be scored with, but not trained on.

    Args:
        questions: List of Question.

    Returns:
        Ids of the questions whose first answer is misplaced.
    """
    found = [
        question.id
        for question in questions
        if question.answers and not is_in_place(question.answers[0], question.context)
    ]
    if found:
        logging.warning(
            "%d of %d answers do not stand in their passages where answer_start says, the first "
            "of question %r; they are not trained on.",
            len(found),
            len(questions),
            found[0],
        )
    return found


def is_in_place(answer: Answer, context: str) -> bool:
    """Returns whether the passage has the answer's text, and some text, at its offset."""
    end = answer.start + len(answer.text)
    return (
        answer.start >= 0
        and bool(answer.text.strip())
        and context[answer.start : end] == (answer.text)
    )


def _load(path: str) -> Any:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
    except tf.errors.NotFoundError as error:
        raise InputError(f"There is no file {path!r}; check the path.") from error
    except tf.errors.OpError as error:
        raise InputError(f"{path!r} cannot be read: {error.message}") from error
    if content.startswith(_GZIP_MAGIC):
        content = _decompress(content, path)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path!r} is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path!r} is not JSON ({error}); give a file of SQuAD, or copy it again."
        ) from error


def _decompress(content: bytes, path: str) -> bytes:
    most = max(_SMALL_BYTES, len(content) * _MOST_COMPRESSED)
    try:
        with gzip.open(io.BytesIO(content)) as file:
            unpacked = file.read(most + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{path!r} is cut off or no sound gzip data ({error}); copy it again."
        ) from error
    if len(unpacked) > most:
        raise InputError(
            f"{path!r} unpacks to more than {_MOST_COMPRESSED} times its size, as no text does; "
            f"give a file of SQuAD."
        )
    return unpacked


def _questions(data: Any, path: str, needs_answers: bool) -> Iterator[Question]:
    seen: set[str] = set()
    for article_key, article in _each(data, "data", list, path, ""):
        for passage_key, passage in _each(article, "paragraphs", list, path, article_key):
            context = _get(passage, "context", str, path, passage_key)
            for key, value in _each(passage, "qas", list, path, passage_key):
                question = _question(value, context, path, key, needs_answers)
                if question.id in seen:
                    raise InputError(
                        f"{key}.id of {path!r} is {question.id!r}, which an earlier question has; "
                        f"ids must be unique."
                    )
                seen.add(question.id)
                yield question


def _question(value: Any, context: str, path: str, key: str, needs_answers: bool) -> Question:
    question = _get(value, "question", str, path, key)
    question_id = _get(value, "id", str, path, key)
    for name, text in (("question", question), ("context", context)):
        if not text.strip():
            raise InputError(
                f"The {name} of {key} of {path!r} is empty; fill it in or leave the question out."
            )
    is_impossible = value.get("is_impossible", False)
    if not isinstance(is_impossible, bool):
        raise InputError(
            f"{key}.is_impossible of {path!r} must be true or false. Received: "
            f"{str(is_impossible)[:40]!r}."
        )
    answers = ()
    if not is_impossible and (needs_answers or value.get("answers")):
        answers = tuple(
            Answer(
                _get(answer, "text", str, path, answer_key),
                _get(answer, "answer_start", int, path, answer_key),
            )
            for answer_key, answer in _each(value, "answers", list, path, key)
        )
        if needs_answers and not answers and "is_impossible" not in value:
            raise InputError(
                f"{key}.answers of {path!r} is empty, and nothing says that the question has no "
                f"answer; add one, or is_impossible: true."
            )
    return Question(question_id, question, context, answers, is_impossible)


def _each(value: Any, name: str, kind: type, path: str, key: str) -> Iterator[tuple[str, Any]]:
    """Goes over a list, each member with its key."""
    prefix = f"{key}." if key else ""
    for index, member in enumerate(_get(value, name, kind, path, key)):
        yield f"{prefix}{name}[{index}]", member


def _get(value: Any, name: str, kind: type, path: str, key: str) -> Any:
    """Returns a member of an object, if it has the kind that SQuAD's files have there."""
    where = key or "The file"
    if not isinstance(value, dict):
        raise InputError(f"{where} of {path!r} must be an object. Received: {str(value)[:40]!r}.")
    if name not in value:
        raise InputError(f"{where} of {path!r} has no key {name!r}; files of SQuAD have one there.")
    member = value[name]
    full = f"{key}.{name}" if key else name
    if not isinstance(member, kind) or isinstance(member, bool):
        raise InputError(
            f"{full} of {path!r} must be {_KINDS[kind]}. Received: {str(member)[:40]!r}."
        )
    if isinstance(member, str) and any("\ud800" <= character <= "\udfff" for character in member):
        raise InputError(
            f"{full} of {path!r} holds half a surrogate pair, which is no character; mend the text."
        )
    return member
