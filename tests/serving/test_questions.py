"""Questions about passages of any length, answered by an export."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.serving.export import export
from keras_bert_tpu.serving.warmup import FILE
from keras_bert_tpu.tasks import squad

from exported import (
    CHECKPOINT,
    KNOWN_OPERATIONS,
    answerer,
    answers_of,
    examples_of,
    operations_of,
)

SQUAD = pathlib.Path(__file__).parents[2].parent / "shared" / "data" / "squad"
SAMPLE = pathlib.Path(__file__).parents[2] / "keras_bert_tpu" / "sample" / "the_secret_garden.txt"


def questions_and_passages(number):
    lines = [line for line in SAMPLE.read_text().splitlines() if len(line) > 40]
    # Passages of one line and of many windows, and questions of more pieces than are kept.
    questions = [
        " ".join(lines[i].split()[: 5 + i % 7] * (1 + 20 * (i == 9))) for i in range(number)
    ]
    passages = ["\n".join(lines[i : i + 1 + 3 * (i % 9)]) for i in range(number)]
    passages[5] = "É" + passages[5].replace("e", "é")
    passages[7] = "x"
    passages[8] = " ".join(["the cat and the dog"] * 60)  # Many equal stretches.
    return questions, passages


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A model and its export."""
    model = answerer()
    return model, export(model, str(tmp_path_factory.mktemp("served") / "questions"))[0]


@pytest.fixture(scope="module")
def ask(served):
    return answers_of(served[1])


def assert_answers(found, expected, passages):
    for index, (answer, passage) in enumerate(zip(expected, passages, strict=True)):
        text = found["answer"][index].decode()
        assert text == answer.text
        np.testing.assert_allclose(found["probability"][index], answer.probability, atol=1e-5)
        np.testing.assert_allclose(found["null_odds"][index], answer.null_odds, atol=1e-3)
        start, end = found["char_start"][index], found["char_end"][index]
        assert passage[start:end] == text
        start, end = found["byte_start"][index], found["byte_end"][index]
        assert passage.encode()[start:end].decode() == text


def test_answers_are_those_of_the_model(served, ask):
    questions, passages = questions_and_passages(40)
    expected = served[0].predict((questions, passages), verbose=0)
    assert len({answer.text for answer in expected}) > 20
    assert max(len(passage) for passage in passages) > 1500
    assert_answers(ask(question=questions, context=passages), expected, passages)


def test_an_answer_does_not_depend_on_what_is_asked_with_it(served, ask):
    questions, passages = questions_and_passages(9)
    together = ask(question=questions, context=passages)
    alone = ask(question=questions[3:4], context=passages[3:4])
    for name, value in alone.items():
        if value.dtype == object:
            assert value[0] == together[name][3]
        else:
            np.testing.assert_allclose(value[0], together[name][3], atol=1e-4)


def test_examples_get_the_same(served, ask):
    questions, passages = questions_and_passages(9)
    examples = examples_of(question=questions, context=passages)
    found = answers_of(served[1], "serving_examples")(examples=examples)
    assert found["answer"].tolist() == ask(question=questions, context=passages)["answer"].tolist()


def test_rows_of_ids_get_scores_of_starts_and_ends(served):
    model, folder = served
    ids = np.random.default_rng(0).integers(10, 200, [3, 40]).astype("int32")
    rows = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": np.ones_like(ids)}
    found = answers_of(folder, "serving_ids")(**rows)
    expected = model(rows).numpy()
    np.testing.assert_allclose(found["start_logits"], expected[:, 0], atol=1e-5)
    np.testing.assert_allclose(found["end_logits"], expected[:, 1], atol=1e-5)


@pytest.mark.parametrize(
    "passage",
    ["", " \n", "\x00", b"\xff\xfe", "word " * 3_000, "x" * 100_000],
    ids=["empty", "spaces", "null", "no utf-8", "long", "long word"],
)
def test_strange_passages_are_answered_and_others_as_before(ask, passage):
    questions, passages = (column[:2] for column in questions_and_passages(9))
    before = ask(question=questions, context=passages)
    found = ask(
        question=[questions[0], "Where?", "", questions[1]],
        context=[passages[0], passage, passage, passages[1]],
    )
    assert found["answer"][[0, 3]].tolist() == before["answer"].tolist()
    passage = passage if isinstance(passage, bytes) else passage.encode()
    for index in (1, 2):
        start, end = found["byte_start"][index], found["byte_end"][index]
        assert passage[start:end] == found["answer"][index]
        assert np.isfinite(found["null_odds"][index])
    if not passage.strip(b" \n\0\xff\xfe"):
        assert found["answer"][1] == b"" and found["probability"][1] == 1.0


def test_no_question_gets_no_answer(ask):
    nothing = np.array([], object)
    found = ask(question=tf.constant(nothing, tf.string), context=tf.constant(nothing, tf.string))
    assert {name: value.shape for name, value in found.items()} == dict.fromkeys(found, (0,))


def test_a_question_without_a_passage_is_told(ask):
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many context as question"):
        ask(question=["a", "b"], context=["c"])


def test_operations_are_those_that_released_servers_know(served):
    assert operations_of(served[1]) <= KNOWN_OPERATIONS


def test_warmup_has_questions_of_each_length(served):
    from tensorflow_serving.apis import prediction_log_pb2

    lengths = set()
    for record in tf.data.TFRecordDataset(os.path.join(served[1], FILE)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        if request.model_spec.signature_name == "serving_ids":
            ids = tf.make_ndarray(request.inputs["token_ids"])
            assert (tf.make_ndarray(request.inputs["padding_mask"]) == 1).all()
            lengths.add(ids.shape[1])
    assert lengths == {16, 32, 48, 64, 80, 96, 112, 128}


def test_rows_that_leave_no_room_for_a_passage_are_told(tmp_path):
    model = BertQuestionAnswerer.from_pretrained(CHECKPOINT, sequence_length=64)
    with pytest.raises(InputError, match="greater sequence_length"):
        export(model, str(tmp_path / "out"), warmup=False)


@pytest.mark.skipif(not SQUAD.is_dir(), reason="the shared SQuAD set is not there")
@pytest.mark.parametrize("number", [60, pytest.param(None, marks=pytest.mark.slow)])
def test_offsets_name_the_answers_of_squad(ask, number):
    of_passages = {}
    for question in squad.read(str(SQUAD / "dev-v1.1.json.gz")):
        of_passages.setdefault(question.context, question.question)
    # Passages with letters that are no ASCII come first.
    pairs = sorted(of_passages.items(), key=lambda pair: pair[0].isascii())[:number]
    assert not pairs[0][0].isascii()
    assert number or len(pairs) > 2000
    for first in range(0, len(pairs), 200):
        passages, questions = zip(*pairs[first : first + 200], strict=True)
        found = ask(question=questions, context=passages)
        for index, passage in enumerate(passages):
            text = found["answer"][index].decode()
            assert text
            assert passage[found["char_start"][index] : found["char_end"][index]] == text
            start, end = found["byte_start"][index], found["byte_end"][index]
            assert passage.encode()[start:end].decode() == text
