"""Shapes, names and serialization of the models of tasks."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_bert_tpu.checkpoints.storage import weights_by_name
from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.layers.dropout import Dropout
from keras_bert_tpu.models.multiple_choice import BertMultipleChoice
from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.models.token_classifier import BertTokenClassifier

CONFIG = EncoderConfig.from_preset("tiny", vocab_size=50, max_positions=16)


def rows(*shape):
    random = np.random.default_rng(1)
    lengths = random.integers(3, 17, shape)[..., np.newaxis]
    mask = (np.arange(16) < lengths).astype("int32")
    return {
        "token_ids": random.integers(0, 50, (*shape, 16)).astype("int32") * mask,
        "segment_ids": np.zeros((*shape, 16), "int32"),
        "padding_mask": mask,
    }


@pytest.mark.parametrize(
    ("make", "inputs", "shape"),
    [
        (lambda: BertTextClassifier(CONFIG, 3), rows(4), (4, 3)),
        (lambda: BertTokenClassifier(CONFIG, 5), rows(4), (4, 16, 5)),
        (lambda: BertQuestionAnswerer(CONFIG), rows(4), (4, 2, 16)),
        (lambda: BertMultipleChoice(CONFIG), rows(4, 3), (4, 3)),
    ],
)
def test_scores_are_float32_and_the_config_makes_the_model_again(make, inputs, shape):
    keras.utils.set_random_seed(1)
    with_dtype = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make()
        scores = model(inputs)
        again = type(model).from_config(model.get_config())
    finally:
        keras.config.set_dtype_policy(with_dtype)
    assert tuple(scores.shape) == shape and scores.dtype == "float32"
    assert weights_by_name(again).keys() == weights_by_name(model).keys()
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(inputs), scores)
    dropped = model(inputs, training=True, seed=np.array([1, 4096], "int32"))
    assert np.abs(dropped - scores).max() > 0


def test_choices_are_scored_each_by_itself():
    model, inputs = BertMultipleChoice(CONFIG, dtype="float32"), rows(4, 3)
    scores = np.array(model(inputs))
    for choice in range(3):
        alone = model({name: value[:, choice : choice + 1] for name, value in inputs.items()})
        np.testing.assert_allclose(np.array(alone)[:, 0], scores[:, choice], atol=1e-6)


def test_dropout_before_the_head_has_a_site_of_its_own():
    model = BertTextClassifier(CONFIG, 3)
    layers = model.encoder.transformer_layers
    sites = [layer.dropout.site for layer in [model.encoder.embeddings, model]]
    for layer in layers:
        sites += [d.site for d in (layer.attention.dropout, layer.attention_dropout)]
        sites.append(layer.output_dropout.site)
    assert len(set(sites)) == len(sites) == 3 * CONFIG.num_layers + 2


def test_pieces_have_dropout_before_the_head_and_spans_have_none():
    # Google's run_squad.py has none there, its classifiers do.
    config = dataclasses.replace(CONFIG, attention_dropout=0.0)
    for model, is_dropped in [
        (BertTokenClassifier(config, 2, dtype="float32"), True),
        (BertQuestionAnswerer(config, dtype="float32"), False),
    ]:
        for layer in model.encoder._flatten_layers():
            if isinstance(layer, Dropout):
                layer.rate = 0.0
        inputs, seed = rows(4), np.array([1, 4096], "int32")
        change = np.abs(model(inputs, training=True, seed=seed) - model(inputs)).max()
        assert (change > 1e-3) == is_dropped
