"""Rows of questions: windows, positions of answers, offsets into the passage."""

import numpy as np
import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import squad
from keras_bert_tpu.tasks.squad import Answer, Question
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import Vocabulary

WORDS = "what where is tea from china in the year 1990 ##s . , caf cafe ##e".split()


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(
        Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "number", *"abcdefghij"])
    )


def ask(context, *answers, query="where is tea", impossible=False):
    return Question(
        "q", query, context, tuple(Answer(text, start) for start, text in answers), impossible
    )


def pieces_of(features, row, tokenizer):
    ids = features.token_ids[row][features.padding_mask[row] == 1]
    return [tokenizer.vocabulary.pieces[i] for i in ids]


def test_a_short_passage_is_one_row_with_its_answer(tokenizer):
    context = "Tea,  is from CHINA."
    features = squad.make_features(
        [ask(context, (9, "from CHINA"))], tokenizer, 16, max_query_length=8
    )
    assert pieces_of(features, 0, tokenizer) == (
        "[CLS] where is tea [SEP] tea , is from china . [SEP]".split()
    )
    assert features.segment_ids[0].tolist() == [0] * 5 + [1] * 7 + [0] * 4
    assert (features.start_position[0], features.end_position[0]) == (8, 9)
    start, end = features.char_starts[0, 8], features.char_ends[0, 9]
    assert context[start:end] == "from CHINA"
    assert features.has_max_context[0].tolist() == [False] * 5 + [True] * 6 + [False] * 5
    assert features.char_ends[0].tolist() == [0] * 5 + [3, 4, 8, 13, 19, 20] + [0] * 5


def test_a_long_passage_is_cut_into_windows(tokenizer):
    context = "a b c d e f g h i j"
    question = ask(context, (10, "f g"), query="what is")
    features = squad.make_features([question], tokenizer, 11, doc_stride=3, max_query_length=2)
    rows = [pieces_of(features, row, tokenizer) for row in range(3)]
    head = ["[CLS]", "what", "is", "[SEP]"]
    assert rows == [[*head, *part, "[SEP]"] for part in ("abcdef", "defghi", "ghij")]
    # Only the second window has all of the answer; [CLS] stands for those that do not.
    assert features.start_position.tolist() == [0, 6, 0]
    assert features.end_position.tolist() == [0, 7, 0]
    assert features.question_index.tolist() == [0, 0, 0]
    where = [np.flatnonzero(row) - 4 for row in features.has_max_context]
    assert [places.tolist() for places in where] == [[0, 1, 2, 3, 4], [2, 3, 4], [2, 3]]


def test_questions_are_cut_and_passages_have_the_room_they_leave(tokenizer):
    question = ask("a b c d e f", query="what is tea from china")
    features = squad.make_features([question], tokenizer, 9, doc_stride=4, max_query_length=2)
    assert pieces_of(features, 0, tokenizer) == "[CLS] what is [SEP] a b c d [SEP]".split()


def test_an_answer_inside_a_piece_is_the_whole_piece(tokenizer):
    context = "in the 1990s, caf\u00e9"
    features = squad.make_features(
        [ask(context, (7, "1990")), ask(context, (9, "90s")), ask(context, (17, "\u00e9"))],
        tokenizer,
        16,
        max_query_length=8,
    )
    first = [context[s:e] for s, e in zip(*answer_chars(features), strict=True)]
    assert first == ["1990", "1990s", "caf\u00e9"]


def answer_chars(features):
    rows = np.arange(len(features.start_position))
    return (
        features.char_starts[rows, features.start_position],
        features.char_ends[rows, features.end_position],
    )


def test_offsets_count_characters_of_the_passage_as_given(tokenizer):
    # An accent of its own, a letter outside the basic plane, a character that is dropped.
    context = "cafe\u0301 \U0001d54f\u200b tea"
    features = squad.make_features([ask(context, (9, "tea"))], tokenizer, 16, max_query_length=8)
    start, end = answer_chars(features)
    assert context[start[0] : end[0]] == "tea"
    assert context[features.char_starts[0, 5] : features.char_ends[0, 5]] == "cafe\u0301"


def test_no_answer_and_misplaced_answers_point_to_cls(tokenizer):
    questions = [
        ask("tea is", impossible=True),
        ask("tea is", (1, "is")),
        ask("tea is", (4, "is")),
    ]
    features = squad.make_features(questions, tokenizer, 12, max_query_length=4)
    assert features.start_position.tolist() == [0, 0, 6]
    assert features.trainable.tolist() == [True, False, True]


def test_a_passage_without_pieces_has_a_row(tokenizer):
    features = squad.make_features([ask("\u200b\u200b")], tokenizer, 12, max_query_length=4)
    assert pieces_of(features, 0, tokenizer) == "[CLS] where is tea [SEP] [SEP]".split()
    assert not features.has_max_context.any()


def test_arrays_have_the_types_of_a_model(tokenizer):
    features = squad.make_features([ask("tea")] * 3, tokenizer, 12, max_query_length=4)
    for name, array in features._asdict().items():
        boolean = name in ("trainable", "has_max_context")
        assert array.dtype == (np.bool_ if boolean else np.int32), name
        assert len(array) == 3


def test_lengths_without_room_are_refused(tokenizer):
    with pytest.raises(InputError, match="max_query_length=64, sequence_length=67"):
        squad.make_features([ask("tea")], tokenizer, 67)
    with pytest.raises(InputError, match="doc_stride=0"):
        squad.make_features([ask("tea")], tokenizer, 128, doc_stride=0)
