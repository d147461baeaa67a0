"""Layer normalization by hand: values and gradients are those of the definition."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.layers.configured import layer_norm
from keras_bert_tpu.models.encoder import BertEncoder

WIDTH = 64
CONFIG = EncoderConfig(
    vocab_size=50, num_layers=1, hidden_size=WIDTH, num_heads=2, intermediate_size=128
)


def values_and_slopes(layer, inputs, upstream, gamma, beta):
    layer.build(inputs.shape)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    inputs = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
        total = tf.reduce_sum(outputs * upstream)
    slopes = tape.gradient(total, [inputs, layer.gamma, layer.beta])
    return [np.asarray(tf.cast(tensor, tf.float64)) for tensor in (outputs, *slopes)]


@pytest.mark.parametrize("mean", [0.0, 5.0])
def test_values_and_gradients_are_those_of_the_definition_in_float64(mean):
    rng = np.random.default_rng(0)
    inputs = rng.normal(mean, 2.0, (3, 5, WIDTH)).astype("float32")
    upstream = rng.normal(size=inputs.shape).astype("float32")
    gamma, beta = rng.normal(1, 0.3, WIDTH), rng.normal(0, 0.3, WIDTH)
    ours = layer_norm(CONFIG, "float32", "layer_norm")
    found = values_and_slopes(ours, inputs, upstream, gamma, beta)
    exact = keras.layers.LayerNormalization(epsilon=1e-12, dtype="float64")
    expected = values_and_slopes(
        exact, inputs.astype("float64"), upstream.astype("float64"), gamma, beta
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


def test_a_row_of_one_value_gives_the_offset_and_no_nan():
    layer = layer_norm(CONFIG, "float32", "layer_norm")
    inputs = np.full((2, WIDTH), 3.7, "float32")
    beta = np.arange(WIDTH, dtype="float32")
    outputs, *slopes = values_and_slopes(layer, inputs, np.ones_like(inputs), np.ones(WIDTH), beta)
    assert all(np.isfinite(slope).all() for slope in slopes)
    # The variance may be off by its rounding, a millionth of the squared mean.
    assert np.abs(outputs - beta).max() < 1.0


def test_every_normalization_of_the_encoder_is_this_one():
    encoder = BertEncoder(CONFIG, dtype="float32")
    layers = [layer for layer in encoder._flatten_layers() if "layer_norm" in layer.name]
    assert len(layers) == 3
    assert {type(layer) for layer in layers} == {type(layer_norm(CONFIG, "float32", "one"))}
    assert type(layers[0]) is not keras.layers.LayerNormalization
