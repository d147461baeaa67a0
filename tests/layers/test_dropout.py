import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.layers.dropout import SITES_PER_STEP, Dropout


def seed(step):
    return tf.constant([7, step * SITES_PER_STEP])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(500, 400), (501, 399)])
def test_share_of_the_elements_is_dropped_and_the_rest_scaled(rate, shape):
    out = Dropout(rate, site=1)(tf.ones(shape), training=True, seed=seed(1)).numpy()
    kept = out != 0
    # Five standard errors of the share of 200,000 elements.
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / out.size)
    np.testing.assert_allclose(out[kept], 1 / (1 - rate), rtol=1e-4)


def test_decisions_from_one_random_number_are_independent():
    out = Dropout(0.5, site=1)(tf.ones((400, 1000)), training=True, seed=seed(1)).numpy() != 0
    upper, lower = out[:200], out[200:]
    together = (upper & lower).mean()
    assert abs(together - 0.25) < 5 * np.sqrt(0.25 * 0.75 / upper.size)


def test_mask_depends_on_step_and_site_and_on_nothing_else():
    def mask(site, step):
        out = Dropout(0.5, site)(tf.ones((64, 64)), training=True, seed=seed(step))
        return (out.numpy() != 0).tolist()

    assert mask(1, 1) == mask(1, 1)
    assert mask(1, 1) != mask(1, 2)
    assert mask(1, 1) != mask(2, 1)


def test_rate_next_to_1_stays_finite():
    out = Dropout(0.999999, site=1)(tf.ones((1000, 1000)), training=True, seed=seed(1)).numpy()
    assert np.isfinite(out).all()
    assert (out != 0).any()


def test_identity_outside_of_training():
    x = tf.constant([[1.0, 2.0]])
    np.testing.assert_array_equal(Dropout(0.5, site=1)(x, training=False), x)
