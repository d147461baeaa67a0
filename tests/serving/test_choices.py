"""Texts with choices, answered by an export."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.serving.export import export

from exported import (
    KNOWN_OPERATIONS,
    TEXTS,
    answers_of,
    chooser,
    examples_of,
    operations_of,
)

CONTEXTS = TEXTS[1:21]
CHOICES = [[TEXTS[1 + (i + 7 * j) % 40] for j in range(3)] for i in range(20)]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A model and its export."""
    model = chooser()
    return model, export(model, str(tmp_path_factory.mktemp("served") / "choices"))[0]


@pytest.fixture(scope="module")
def ask(served):
    return answers_of(served[1])


def assert_choices(found, scores):
    np.testing.assert_allclose(found["logits"], scores, atol=1e-5)
    np.testing.assert_allclose(found["probabilities"], tf.nn.softmax(scores), atol=1e-5)
    assert found["choice"].tolist() == scores.argmax(axis=1).tolist()


def test_choices_are_those_of_the_model(served, ask):
    scores = served[0].predict((CONTEXTS, CHOICES), verbose=0)
    assert len(set(scores.argmax(axis=1))) == 3
    assert_choices(ask(context=CONTEXTS, choices=CHOICES), scores)


def test_an_empty_choice_is_none(served, ask):
    choices = [[*row, ""] for row in CHOICES]
    choices[3][1] = ""
    found = ask(context=CONTEXTS, choices=choices)
    scores = served[0].predict((CONTEXTS, CHOICES), verbose=0)
    assert (found["probabilities"][:, 3] == 0).all() and found["probabilities"][3, 1] == 0
    np.testing.assert_allclose(found["logits"][4:, :3], scores[4:], atol=1e-5)
    np.testing.assert_allclose(
        found["probabilities"][3, [0, 2]], tf.nn.softmax(scores[3, [0, 2]]), atol=1e-5
    )


def test_examples_may_have_other_numbers_of_choices(served):
    examples = examples_of(context=CONTEXTS[:2], choices=[CHOICES[0], CHOICES[1][:2]])
    found = answers_of(served[1], "serving_examples")(examples=examples)
    scores = served[0].predict((CONTEXTS[:2], CHOICES[:2]), verbose=0)
    np.testing.assert_allclose(found["logits"][0], scores[0], atol=1e-5)
    np.testing.assert_allclose(found["logits"][1, :2], scores[1, :2], atol=1e-5)
    assert found["probabilities"][1, 2] == 0


def test_rows_of_ids_get_the_same(served):
    ids = np.random.default_rng(0).integers(10, 200, [4, 3, 20]).astype("int32")
    rows = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": np.ones_like(ids)}
    scores = served[0](rows).numpy()
    assert_choices(answers_of(served[1], "serving_ids")(**rows), scores)


def test_what_no_model_takes_is_told_and_others_answered(ask):
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many choices as context"):
        ask(context=["a", "b"], choices=[["c", "d"]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="one choice at least"):
        ask(context=["a"], choices=tf.zeros([1, 0], tf.string))
    nothing = ask(context=tf.constant([], tf.string), choices=tf.zeros([0, 2], tf.string))
    assert nothing["logits"].shape == (0, 2)
    strange = ["", "\0", b"\xff", "word " * 50_000]
    found = ask(context=["", b"\xff"], choices=[strange, strange])
    assert found["choice"].shape == (2,) and (found["choice"] > 0).all()


def test_operations_are_those_that_released_servers_know(served):
    assert operations_of(served[1]) <= KNOWN_OPERATIONS
