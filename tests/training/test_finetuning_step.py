"""The losses of tasks, held to sums by hand."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.training.finetuning_step import (
    ClassificationStep,
    MultiLabelStep,
    RegressionStep,
    SpanStep,
)
from keras_bert_tpu.training.optimizers import BertAdamW

LN3 = math.log(3)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return BertTextClassifier(EncoderConfig.from_preset("tiny", vocab_size=30), 2)


def sums(step, data, outputs):
    (found,) = step.sums(data, tf.constant(outputs))
    assert float(found.weight) == pytest.approx(float(step.totals(data)[0]))
    return float(found.loss), float(found.correct), float(found.weight)


def test_classes_of_texts(model):
    # Scores (0, ln 3) give 1/4 and 3/4; the last row fills up a batch.
    data = {"label": tf.constant([1, 0, 0]), "label_weights": tf.constant([1.0, 1.0, 0.0])}
    found = sums(ClassificationStep(model, 1.0, 1), data, [[0.0, LN3], [0.0, LN3], [5.0, 0.0]])
    assert found == pytest.approx((math.log(4 / 3) + math.log(4), 1.0, 2.0))


def test_classes_weigh_as_they_are_told(model):
    data = {"label": tf.constant([1, 0]), "label_weights": tf.constant([1.0, 1.0])}
    step = ClassificationStep(model, 1.0, 1, class_weights=[3.0, 0.5])
    found = sums(step, data, [[0.0, LN3], [0.0, LN3]])
    assert found == pytest.approx((0.5 * math.log(4 / 3) + 3 * math.log(4), 0.5, 3.5))


def test_classes_of_pieces_count_where_they_have_weight(model):
    data = {
        "label": tf.constant([[0, 1, 0], [1, 0, 0]]),
        "label_weights": tf.constant([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
    }
    found = sums(ClassificationStep(model, 1.0, 1), data, [[[0.0, LN3]] * 3] * 2)
    assert found == pytest.approx((2 * math.log(4 / 3), 2.0, 2.0))


def test_several_labels_of_a_text_are_judged_each(model):
    # Scores ln 3 and -ln 3 give 3/4 and 1/4; labels 1 and 1: losses ln 4/3 and ln 4.
    data = {"label": tf.constant([[1.0, 1.0]]), "label_weights": tf.constant([1.0])}
    found = sums(MultiLabelStep(model, 1.0, 1), data, [[LN3, -LN3]])
    assert found == pytest.approx(((math.log(4 / 3) + math.log(4)) / 2, 0.5, 1.0))


def test_numbers_are_judged_by_squared_error(model):
    data = {"label": tf.constant([1.0, 2.5]), "label_weights": tf.constant([1.0, 1.0])}
    assert sums(RegressionStep(model, 1.0, 1), data, [[3.0], [2.0]])[0] == pytest.approx(4.25)


def test_spans_are_judged_by_both_ends(model):
    data = {
        "start_position": tf.constant([1, 1]),
        "end_position": tf.constant([1, 0]),
        "label_weights": tf.constant([1.0, 1.0]),
    }
    found = sums(SpanStep(model, 1.0, 1), data, [[[0.0, LN3]] * 2] * 2)
    hit, miss = math.log(4 / 3), math.log(4)
    assert found == pytest.approx((hit + (hit + miss) / 2, 1.0, 2.0))


def test_a_step_trains_the_model_on_what_counts_alone(model):
    step = ClassificationStep(model, 1.0, 1)
    optimizer = BertAdamW(1e-3, decay_rate=0.0, bias_correction=True)
    optimizer.build(model.trainable_variables)
    step.compile(optimizer=optimizer)
    rows = np.random.default_rng(1).integers(0, 30, (4, 8)).astype("int32")
    data = {
        "token_ids": rows,
        "segment_ids": np.zeros_like(rows),
        "padding_mask": np.ones_like(rows),
        "label": np.array([0, 1, 0, 1], "int32"),
        "label_weights": np.zeros(4, "float32"),
    }
    before = [weight.numpy() for weight in model.weights]
    dataset = tf.data.Dataset.from_tensors(data)
    step.fit(dataset, verbose=0)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    data["label_weights"] = np.ones(4, "float32")
    losses = step.fit(tf.data.Dataset.from_tensors(data).repeat(30), verbose=0, epochs=2)
    assert losses.history["loss"][1] < 0.5 * losses.history["loss"][0]
