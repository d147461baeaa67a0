"""Layers' own gradients beside those that automatic differentiation finds for the definition."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.layers.heads import tied_product
from keras_bert_tpu.layers.transformer import gelu, gelu_tanh


def exact(x):
    return x * 0.5 * (1.0 + tf.math.erf(x / math.sqrt(2.0)))


def approximate(x):
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def value_and_slope(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y, tape.gradient(y, x)


@pytest.mark.parametrize(("ours", "definition"), [(gelu, exact), (gelu_tanh, approximate)])
def test_gelu_and_its_slope_are_those_of_the_definition(ours, definition):
    x = np.linspace(-12, 12, 1001).astype("float32")
    value, slope = value_and_slope(ours, tf.constant(x))
    true_value, true_slope = value_and_slope(definition, tf.constant(x, tf.float64))
    # TensorFlow's tanh of float32 is exactly 1 from 9 on, where it lacks some 1e-7.
    np.testing.assert_allclose(value, true_value, atol=5e-6)
    np.testing.assert_allclose(slope, true_slope, atol=5e-6)


@pytest.mark.parametrize(("ours", "definition"), [(gelu, exact), (gelu_tanh, approximate)])
def test_gelu_of_bfloat16_is_rounded_once(ours, definition):
    x = tf.cast(tf.linspace(-4.0, 4.0, 1001), tf.bfloat16)
    value, slope = value_and_slope(ours, x)
    true_value, true_slope = value_and_slope(definition, tf.cast(x, tf.float64))
    assert value.dtype == slope.dtype == tf.bfloat16
    # Half of the last of 8 bits, and what float32 leaves where the two halves nearly cancel.
    for found, true in [(value, true_value), (slope, true_slope)]:
        np.testing.assert_allclose(tf.cast(found, tf.float64), true, rtol=2**-8, atol=1e-6)


def test_gradients_of_the_tied_product_are_those_of_the_transposed_table():
    rng = np.random.default_rng(2)
    hidden, table, upstream = (
        tf.constant(rng.normal(size=shape).astype("float32")) for shape in [(6, 4), (9, 4), (6, 9)]
    )
    found, expected = [], []
    for product, gradients in [
        (tied_product, found),
        (lambda h, t: tf.matmul(h, t, transpose_b=True), expected),
    ]:
        with tf.GradientTape() as tape:
            tape.watch([hidden, table])
            scores = product(hidden, table)
        gradients += [scores, *tape.gradient(scores, [hidden, table], upstream)]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
