"""Questions and passages as rows of a model: windows of long passages, and where answers stand."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import windows
from keras_bert_tpu.tasks.squad.reading import Question, is_in_place
from keras_bert_tpu.text.rows import join_rows
from keras_bert_tpu.text.tokenizer import BertTokenizer

# Texts that are tokenized at once.
_BATCH = 512
SPECIALS = 3  # [CLS] question [SEP] passage [SEP]
# The paper's settings: pieces from window to window, and of a question.
DOC_STRIDE, MAX_QUERY_LENGTH = 128, 64


class SquadFeatures(NamedTuple):
    """Rows `[CLS] question [SEP] window of the passage [SEP]` of many questions.

    Attributes:
        token_ids, segment_ids, padding_mask: int32 [rows, length]. As from `join_rows`.
        start_position, end_position: int32 [rows]. First and last piece of the first answer; 0,
            [CLS], if the window does not hold all of it.
        trainable: bool [rows]. False where the question's first answer does not stand in the
            passage where its offset says.
        question_index: int32 [rows], ascending. Whose question it is.
        char_starts, char_ends: int32 [rows, length]. Where in the passage each piece stands, in
            characters; 0 for what is not of the passage.
        has_max_context: bool [rows, length]. Whether the piece is of the passage and no other
            window gives it more context; an answer may begin only there.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    padding_mask: np.ndarray
    start_position: np.ndarray
    end_position: np.ndarray
    trainable: np.ndarray
    question_index: np.ndarray
    char_starts: np.ndarray
    char_ends: np.ndarray
    has_max_context: np.ndarray


class _Pieces(NamedTuple):
    """Pieces of one text: ids, starts and ends, each int32 [pieces]."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


class _Rows(NamedTuple):
    """Windows of all questions, each attribute with one entry for a row."""

    question: np.ndarray  # Index of the question.
    start: np.ndarray  # First piece of the window, in its passage.
    length: np.ndarray  # Pieces of the window.
    offset: np.ndarray  # Where in the row the window begins.


def make_features(
    questions: Sequence[Question],
    tokenizer: BertTokenizer,
    sequence_length: int = 384,
    doc_stride: int = DOC_STRIDE,
    max_query_length: int = MAX_QUERY_LENGTH,
) -> SquadFeatures:
    """Makes the rows of questions; passages that are too long are cut into windows.

    The rules are those of run_squad.py of google-research/bert, but for the pieces of an answer:
    they are those that stand on its characters, where Google goes by words between spaces and then
    looks for the answer in them. Of 5,232 rows of the train sets 9 have other positions, all of
    answers that end within a word ("3" in "23,").

    Args:
        questions: Sequence of Question.
        tokenizer: BertTokenizer.
        sequence_length: int. Length of all rows.
        doc_stride: int. Pieces from the start of a window to that of the next one.
        max_query_length: int. Pieces of a question that are kept, the first ones.

    Returns:
        SquadFeatures, in the order of the questions.

    Raises:
        InputError: If the lengths leave no room for a passage.
    """
    if min(doc_stride, max_query_length, sequence_length - SPECIALS - max_query_length) < 1:
        raise InputError(
            f"doc_stride and max_query_length must be at least 1, and sequence_length greater than "
            f"max_query_length + {SPECIALS}, to leave room for the passage. Received: "
            f"doc_stride={doc_stride}, max_query_length={max_query_length}, "
            f"sequence_length={sequence_length}."
        )
    contexts = list(dict.fromkeys(question.context for question in questions))
    index_of_context = {context: index for index, context in enumerate(contexts)}
    passages = _tokenize(contexts, tokenizer)
    queries = [
        pieces.ids[:max_query_length]
        for pieces in _tokenize([question.question for question in questions], tokenizer)
    ]
    passage_of = [passages[index_of_context[question.context]] for question in questions]
    rows, in_max_context = _cut(passage_of, queries, sequence_length, doc_stride)
    model_rows = _join(rows, passage_of, queries, tokenizer, sequence_length)
    shape = (len(rows.question), sequence_length)
    row_index = np.repeat(np.arange(shape[0]), rows.length)
    within = np.arange(len(row_index)) - np.repeat(
        np.cumsum(rows.length) - rows.length, rows.length
    )
    column_index = within + np.repeat(rows.offset, rows.length)

    def scatter(values: np.ndarray) -> np.ndarray:
        result = np.zeros(shape, values.dtype)
        result[row_index, column_index] = values
        return result

    starts, ends, trainable = _positions(questions, passage_of, rows)
    return SquadFeatures(
        **model_rows,
        start_position=starts,
        end_position=ends,
        trainable=trainable,
        question_index=rows.question,
        char_starts=scatter(_of_windows([pieces.starts for pieces in passage_of], rows)),
        char_ends=scatter(_of_windows([pieces.ends for pieces in passage_of], rows)),
        has_max_context=scatter(in_max_context),
    )


def _tokenize(texts: Sequence[str], tokenizer: BertTokenizer) -> list[_Pieces]:
    found = []
    for start in range(0, len(texts), _BATCH):
        ragged = tokenizer.tokenize_with_offsets(
            tf.constant(texts[start : start + _BATCH]), unit="char"
        )
        splits = ragged[0].row_splits.numpy()[1:-1]
        parts = [np.split(part.values.numpy(), splits) for part in ragged]
        found += [_Pieces(*pieces) for pieces in zip(*parts, strict=True)]
    return found


def _cut(
    passage_of: Sequence[_Pieces], queries: Sequence[np.ndarray], sequence_length: int, stride: int
) -> tuple[_Rows, np.ndarray]:
    """Returns all windows, and for each of their pieces whether it has its most context there."""
    columns: list[tuple[np.ndarray, ...]] = []
    in_max_context = [np.zeros(0, bool)]
    for index, (pieces, query) in enumerate(zip(passage_of, queries, strict=True)):
        size = len(pieces.ids)
        found = windows.spans(size, sequence_length - SPECIALS - len(query), stride)
        best = windows.max_context(found, size)
        for number, (start, length) in enumerate(zip(*found, strict=True)):
            in_max_context.append(best[start : start + length] == number)
        count = len(found.starts)
        # [CLS] question [SEP] stand before the window.
        offset = np.full(count, len(query) + 2, np.int32)
        columns.append((np.full(count, index, np.int32), found.starts, found.lengths, offset))
    empty = (np.zeros(0, np.int32),) * 4
    rows = _Rows(*(np.concatenate(column) for column in zip(empty, *columns, strict=True)))
    return rows, np.concatenate(in_max_context)


def _of_windows(values_of_question: Sequence[np.ndarray], rows: _Rows) -> np.ndarray:
    """Returns values of the pieces of all windows, one window after another."""
    parts = [
        values_of_question[question][start : start + length]
        for question, start, length in zip(rows.question, rows.start, rows.length, strict=True)
    ]
    return np.concatenate([np.zeros(0, np.int32), *parts])


def _join(
    rows: _Rows,
    passage_of: Sequence[_Pieces],
    queries: Sequence[np.ndarray],
    tokenizer: BertTokenizer,
    sequence_length: int,
) -> dict[str, np.ndarray]:
    query_of_row = [queries[question] for question in rows.question]
    segments = [
        tf.RaggedTensor.from_row_lengths(
            np.concatenate([np.zeros(0, np.int32), *query_of_row]),
            np.array([len(query) for query in query_of_row], np.int64),
        ),
        tf.RaggedTensor.from_row_lengths(
            _of_windows([pieces.ids for pieces in passage_of], rows), rows.length.astype(np.int64)
        ),
    ]
    joined = join_rows(segments, tokenizer.vocabulary, sequence_length)
    return {name: value.numpy() for name, value in joined.items()}


def _positions(
    questions: Sequence[Question], passage_of: Sequence[_Pieces], rows: _Rows
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the first and last piece of the answer in each row, and whether it can be trained."""
    # Without an answer, pieces that no window holds.
    first, last = np.full((2, len(questions)), -1, np.int32)
    trainable = np.ones(len(questions), bool)
    for index, (question, pieces) in enumerate(zip(questions, passage_of, strict=True)):
        if not question.answers:
            continue
        answer = question.answers[0]
        if not is_in_place(answer, question.context):
            trainable[index] = False
            continue
        is_inside = (pieces.ends > answer.start) & (pieces.starts < answer.start + len(answer.text))
        if is_inside.any():
            places = np.flatnonzero(is_inside)
            first[index], last[index] = places[0], places[-1]
    in_row = first[rows.question] - rows.start, last[rows.question] - rows.start
    holds = (in_row[0] >= 0) & (in_row[1] < rows.length)
    starts, ends = (np.where(holds, place + rows.offset, 0).astype(np.int32) for place in in_row)
    return starts, ends, trainable[rows.question]
