import keras
import numpy as np
import pytest

from keras_bert_tpu.config import EncoderConfig, InputError, OptimizerConfig
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.training.optimizers import BertAdamW, is_decayed, make_schedule
from keras_bert_tpu.training.schedules import WarmupLinearDecay


def variable(name, value):
    return keras.Variable(np.array([value], "float32"), name=name)


def apply_twice(optimizer, name):
    weight = variable(name, 1.0)
    optimizer.build([weight])
    for gradient in (0.5, -0.25):
        optimizer.apply([keras.ops.convert_to_tensor([gradient])], [weight])
    return float(weight.numpy()[0])


def test_two_steps_without_bias_correction_equal_hand_computed_numbers():
    # lr 0.1, epsilon 1e-6, decay 0.01, w = 1.
    # Step 1: m = 0.1 x 0.5 = 0.05; v = 0.001 x 0.25 = 0.00025; sqrt(v) = 0.0158113883;
    #   m / (sqrt(v) + 1e-6) = 3.1620777; w = 1 - 0.1 (3.1620777 + 0.01) = 0.68279223.
    # Step 2: m = 0.9 x 0.05 + 0.1 x -0.25 = 0.02; v = 0.999 x 0.00025 + 0.001 x 0.0625
    #   = 0.00031225; sqrt(v) = 0.0176706; m / (...) = 1.1317576;
    #   w = 0.68279223 - 0.1 (1.1317576 + 0.01 x 0.68279223) = 0.56893368.
    assert apply_twice(BertAdamW(0.1), "kernel") == pytest.approx(0.56893368, abs=2e-6)


def test_biases_and_layer_normalization_are_not_decayed():
    # As above without the decay terms: 1 - 0.1 (3.1620777 + 1.1317576) = 0.57061647.
    for name in ("bias", "output_bias", "gamma", "beta"):
        assert apply_twice(BertAdamW(0.1), name) == pytest.approx(0.57061647, abs=2e-6), name


def test_bias_correction_divides_both_moments():
    # Step 1: m / 0.1 = 0.5, v / 0.001 = 0.25: update 0.5 / (0.5 + 1e-6) = 0.999998;
    #   w = 1 - 0.1 x 0.999998 = 0.9000002.
    # Step 2: m / 0.19 = 0.105263158; v / 0.001999 = 0.156203102, root 0.395225381;
    #   update 0.266336; w = 0.9000002 - 0.0266336 = 0.8733666.
    optimizer = BertAdamW(0.1, decay_rate=0.0, bias_correction=True)
    assert apply_twice(optimizer, "kernel") == pytest.approx(0.8733666, abs=2e-6)


def test_in_the_model_only_kernels_and_tables_are_decayed():
    model = BertPretrainer(EncoderConfig.from_preset("tiny", vocab_size=30, max_positions=8))
    for weight in model.weights:
        is_matrix = len(weight.shape) > 1 and not weight.path.endswith("bias")
        assert is_decayed(weight.path) == is_matrix, weight.path


def test_optimizer_survives_its_config():
    optimizer = BertAdamW(WarmupLinearDecay(1e-3, 10, 100), beta_2=0.98, bias_correction=True)
    copy = BertAdamW.from_config(optimizer.get_config())
    assert copy.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    ("step", "rate"),
    # Peak 1e-3 after 10 steps, then to 1e-4 at step 100: at 55 half of the way, 5.5e-4.
    [(0, 0.0), (1, 1e-4), (5, 5e-4), (10, 1e-3), (55, 5.5e-4), (100, 1e-4), (200, 1e-4)],
)
def test_learning_rate_rises_then_falls_in_straight_lines(step, rate):
    schedule = WarmupLinearDecay(1e-3, 10, 100, end_learning_rate=1e-4)
    assert float(schedule(step)) == pytest.approx(rate, rel=1e-5, abs=1e-12)


def test_warmup_longer_than_the_run_is_refused():
    with pytest.raises(InputError, match="optimizer.warmup_steps=10000 must be less than the 100"):
        make_schedule(OptimizerConfig(), total_steps=100)
