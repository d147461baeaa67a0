"""The count agrees with the matrix products of the program that is really compiled."""

import math
import re

import pytest
import tensorflow as tf

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.training.flops import model_flops

BATCH, LENGTH, PREDICTIONS = 3, 40, 7
ENCODER = EncoderConfig(
    vocab_size=301,
    num_layers=3,
    hidden_size=64,
    num_heads=4,
    intermediate_size=160,
    max_positions=LENGTH,
)
SHAPE = r"\w+\[([\d,]*)\][^ ]* "
DOT = re.compile(rf"= {SHAPE}dot\({SHAPE}.*lhs_contracting_dims={{([\d,]*)}}.*op_name=\"(.*?)\"")


def matrix_products(function, batch):
    """The operations of each product in the XLA program of a function, by the op it comes from."""
    compiled = tf.function(function, jit_compile=True)
    program = compiled.experimental_get_compiler_ir(batch)(stage="hlo")
    products = []
    for line in program.splitlines():
        if " dot(" in line:
            output, left, contracted, op = DOT.search(line).groups()
            left = [int(size) for size in left.split(",")]
            inner = math.prod(left[int(axis)] for axis in contracted.split(","))
            products.append((op, 2 * inner * math.prod(int(size) for size in output.split(","))))
    return products


@pytest.fixture(scope="module")
def pretrainer():
    return BertPretrainer(ENCODER)


@pytest.fixture(scope="module")
def batch():
    ones = tf.ones([BATCH, LENGTH], tf.int32)
    return {
        "token_ids": ones,
        "segment_ids": ones,
        "padding_mask": ones,
        "mask_positions": tf.ones([BATCH, PREDICTIONS], tf.int32),
    }


def count(products):
    # The lookup of segments, which the model writes as a product: see `BertEmbeddings`.
    return sum(flops for op, flops in products if "/embeddings" not in op) / BATCH


def test_forward_pass_has_a_third_of_the_operations(pretrainer, batch):
    def forward(batch):
        outputs = pretrainer(batch)
        return outputs["mlm_logits"], outputs["nsp_logits"]

    assert count(matrix_products(forward, batch)) == model_flops(ENCODER, LENGTH, PREDICTIONS) / 3


def test_forward_and_backward_pass_have_all_of_them(pretrainer, batch):
    def gradients(batch):
        with tf.GradientTape() as tape:
            outputs = pretrainer(batch)
            loss = tf.reduce_sum(outputs["mlm_logits"] ** 2)
            loss += tf.reduce_sum(outputs["nsp_logits"] ** 2)
        found = tape.gradient(loss, pretrainer.trainable_variables)
        return [tf.convert_to_tensor(gradient) for gradient in found]

    assert count(matrix_products(gradients, batch)) == model_flops(ENCODER, LENGTH, PREDICTIONS)


def test_base_at_128_tokens_is_near_six_operations_for_each_weight_and_token():
    config = EncoderConfig.from_preset("base")
    weights = 12 * 12 * 768 * 768  # Of the products with each token: layers times 12 h squared.
    per_token = model_flops(config, 128, 20) / 128
    # The rest is attention (2.8%) and the scores of 20 in 128 tokens (4.4%).
    assert 6 * weights < per_token < 1.1 * 6 * weights
