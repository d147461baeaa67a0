"""Raw text in `fit`, `evaluate` and `predict`."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.text_classifier import BertTextClassifier

CHECKPOINT = str(pathlib.Path(__file__).parents[1] / "golden" / "mini_reference")
GOOD = [f"What a {w} day it is, she said." for w in ("fine", "lovely", "happy", "bright")]
BAD = [f"What a {w} night it was, he said." for w in ("bad", "dark", "sad", "dreadful")]
TEXTS, LABELS = GOOD + BAD, ["good"] * 4 + ["bad"] * 4


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(1)
    model = BertTextClassifier.from_pretrained(
        CHECKPOINT, labels=["good", "bad"], sequence_length=24
    )
    held_out = (TEXTS, LABELS)
    history = model.fit(
        TEXTS, LABELS, batch_size=4, epochs=20, validation_data=held_out, verbose=0
    ).history
    return model, history


def test_strings_and_names_of_labels_train_a_model(trained):
    model, history = trained
    assert history["val_accuracy"][-1] == 1.0
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    loss, accuracy = model.evaluate(TEXTS, np.array([0] * 4 + [1] * 4), verbose=0)
    assert accuracy == 1.0 and loss == pytest.approx(history["val_loss"][-1], rel=1e-4)


def test_forms_of_text_are_scored_alike(trained):
    model, _ = trained
    scores = model.predict(TEXTS, verbose=0)
    assert scores.shape == (8, 2) and (scores.argmax(1) == [0] * 4 + [1] * 4).all()
    dataset = tf.data.Dataset.from_tensor_slices(TEXTS)
    for form in (np.array(TEXTS), tf.constant(TEXTS), dataset, dataset.batch(3)):
        np.testing.assert_allclose(model.predict(form, verbose=0), scores, atol=1e-5)


def test_pairs_are_scored_in_their_order(trained):
    model, _ = trained
    pairs = model.predict((GOOD, BAD), verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices((GOOD, BAD))
    np.testing.assert_allclose(model.predict(dataset, verbose=0), pairs, atol=1e-5)
    assert np.abs(model.predict((BAD, GOOD), verbose=0) - pairs).max() > 1e-3


def test_dataset_with_labels_trains_on_where_the_last_training_ended(trained):
    model, _ = trained
    before = model.get_weights()
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, [0] * 4 + [1] * 4))
    for form in (dataset, dataset.batch(4)):
        model.fit(form, verbose=0)
        assert any(
            np.abs(a - b).max() > 0 for a, b in zip(before, model.get_weights(), strict=True)
        )
        before = model.get_weights()


def test_own_optimizer_and_arrays_of_ids_work_as_in_keras(trained):
    model = BertTextClassifier.from_pretrained(CHECKPOINT, num_classes=2, sequence_length=24)
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(TEXTS, np.array([0] * 4 + [1] * 4), batch_size=8, verbose=0)
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    rows = {
        "token_ids": np.ones((3, 24), "int32"),
        "segment_ids": np.zeros((3, 24), "int32"),
        "padding_mask": np.ones((3, 24), "int32"),
    }
    assert model.predict(rows, verbose=0).shape == (3, 2)


def test_wrong_labels_are_told(trained):
    model, _ = trained
    with pytest.raises(InputError, match="one of \\['good', 'bad'\\], or its number. Received: 'o"):
        model.fit(TEXTS, ["odd"] * 8, verbose=0)
    with pytest.raises(InputError, match="for each of 8 texts"):
        model.fit(TEXTS, [0, 1], verbose=0)
