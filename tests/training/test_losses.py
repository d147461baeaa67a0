import math

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.training.losses import (
    losses_and_hits,
    masked_language_model_sums,
    next_sentence_sums,
    total_weights,
)


def test_masked_language_model_loss_counts_real_targets_only():
    # Scores (0, ln 3) give probabilities 1/4 and 3/4. Targets: 1 (hit, loss ln 4/3), 0 (miss,
    # loss ln 4), and a padded position that must not count whatever it holds.
    logits = tf.constant([[[0.0, math.log(3)], [0.0, math.log(3)], [9.0, -9.0]]])
    sums = masked_language_model_sums(
        logits, tf.constant([[1, 0, 1]]), tf.constant([[1.0, 1.0, 0.0]])
    )
    assert float(sums.loss) == pytest.approx(math.log(4 / 3) + math.log(4), rel=1e-6)
    assert float(sums.correct) == 1.0
    assert float(sums.weight) == 2.0


def test_next_sentence_loss_is_a_sum_over_sequences_of_plain_rows():
    # Probabilities (1/4, 3/4) for label 1 and (1/2, 1/2) for label 0: ln 4/3 + ln 2.
    logits = tf.constant([[0.0, math.log(3)], [0.0, 0.0]])
    sums = next_sentence_sums(logits, tf.constant([[1], [0]]))
    assert float(sums.loss) == pytest.approx(math.log(4 / 3) + math.log(2), rel=1e-6)
    assert float(sums.correct) == 2.0
    assert float(sums.weight) == 2.0


def test_next_sentence_loss_of_packed_rows_leaves_out_empty_places():
    logits = tf.constant([[[0.0, math.log(3)], [5.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    weights = tf.constant([[1.0, 0.0], [1.0, 0.0]])
    sums = next_sentence_sums(logits, tf.constant([[1, 1], [0, 0]]), weights)
    assert float(sums.loss) == pytest.approx(math.log(4 / 3) + math.log(2), rel=1e-6)
    assert float(sums.weight) == 2.0


def test_total_weights_count_words_and_rows():
    batch = {
        "mask_weights": tf.constant([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
        "next_sentence_label": tf.constant([[0], [1]]),
    }
    assert [float(total) for total in total_weights(batch)] == [3.0, 2.0]
    batch["next_sentence_weights"] = tf.constant([[1.0], [0.0]])
    assert [float(total) for total in total_weights(batch)] == [3.0, 1.0]


def test_padding_rows_have_no_gradient():
    logits = tf.Variable(np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32"))
    with tf.GradientTape() as tape:
        loss = masked_language_model_sums(
            logits, tf.ones((2, 3), tf.int32), tf.constant([[1.0, 0, 1], [0, 0, 0]])
        ).loss
    gradient = tape.gradient(loss, logits).numpy()
    assert not gradient[1].any() and not gradient[0, 1].any()
    assert gradient[0, 0].any() and gradient[0, 2].any()


@pytest.mark.parametrize("scale", [1.0, 40.0, 1e4])
def test_cross_entropy_and_its_gradient_are_tensorflows(scale):
    rng = np.random.default_rng(4)
    logits = tf.constant((scale * rng.normal(size=(5, 4, 50))).astype("float32"))
    labels = tf.constant(rng.integers(50, size=(5, 4)), tf.int32)
    upstream = tf.constant(rng.normal(size=(5, 4)).astype("float32"))
    found = []
    for function in (
        lambda scores: losses_and_hits(scores, labels)[0],
        lambda scores: tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores),
    ):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = function(logits)
        found.append((losses, tape.gradient(losses, logits, upstream)))
    (ours, our_gradient), (theirs, their_gradient) = found
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(our_gradient, their_gradient, rtol=1e-5, atol=1e-6)


def test_cross_entropy_of_a_score_that_is_not_finite_is_not_finite():
    for value in (math.nan, math.inf):
        losses, _ = losses_and_hits(tf.constant([[0.0, value]]), tf.constant([0]))
        assert not np.isfinite(losses.numpy()).any()
