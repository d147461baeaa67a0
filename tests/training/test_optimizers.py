import keras
import numpy as np
import pytest

from keras_bert_tpu.config import EncoderConfig, InputError, OptimizerConfig, PhaseConfig
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.training.optimizers import (
    BertAdamW,
    BertLamb,
    is_decayed,
    make_optimizer,
    make_schedule,
)
from keras_bert_tpu.training.schedules import PhasedSchedule, WarmupDecay


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


def apply_lamb(name, value, gradients, **settings):
    weight = keras.Variable(np.array(value, "float32"), name=name)
    optimizer = BertLamb(0.1, **settings)
    optimizer.build([weight])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(np.array(gradient, "float32"))], [weight])
    return weight.numpy().tolist()


def test_two_steps_of_lamb_equal_hand_computed_numbers():
    # lr 0.1, epsilon 1e-6, decay 0.01, with bias correction, w = (3, 4).
    # Step 1, g = (0.5, -0.25): after correction m = g and sqrt(v) = |g|, so that
    #   u = (0.999998 + 0.03, -0.999996 + 0.04) = (1.029998, -0.959996).
    #   |w| = 5, |u| = 1.4079921; ratio 3.5511562; w = w - 0.35511562 u = (2.6342316, 4.3409096).
    # Step 2, g = (0.25, 0.5): m = 0.9 m + 0.1 g = (0.07, 0.0275), over 1 - 0.9^2 = 0.19 is
    #   (0.3684211, 0.1447368); v = 0.999 v + 0.001 g^2 = (0.00031225, 0.0003124375), over
    #   0.001999 is (0.1562031, 0.1562969), with roots (0.3952254, 0.3953440).
    #   u = (0.9321774 + 0.0263423, 0.3661029 + 0.0434091) = (0.9585197, 0.4095120).
    #   |w| = 5.0777061, |u| = 1.0423314; ratio 4.8714890; w = w - 0.4871489 u
    #   = (2.1672899, 4.1414163).
    found = apply_lamb("kernel", [3.0, 4.0], [[0.5, -0.25], [0.25, 0.5]])
    assert found == pytest.approx([2.1672899, 4.1414163], abs=2e-5)


@pytest.mark.parametrize("name", ["bias", "output_bias", "gamma", "beta"])
def test_lamb_neither_decays_nor_adapts_biases_and_layer_normalization(name):
    # u = g / |g|, and a ratio of 1: w = (3 - 0.1, 4 + 0.1).
    found = apply_lamb(name, [3.0, 4.0], [[0.5, -0.25]])
    assert found == pytest.approx([2.9, 4.1], abs=1e-5)


@pytest.mark.parametrize(
    ("value", "gradient", "expected"),
    # A weight of zeros moves by lr u; without gradient and decay it stays.
    [([0.0, 0.0], [0.5, -0.25], [-0.1, 0.1]), ([3.0, 4.0], [0.0, 0.0], [3.0, 4.0])],
)
def test_the_trust_ratio_is_one_where_a_norm_is_zero(value, gradient, expected):
    found = apply_lamb("kernel", value, [gradient], decay_rate=0.0)
    assert found == pytest.approx(expected, abs=1e-5)


def test_lamb_without_bias_correction_takes_the_moments_as_they_are():
    # m = 0.1 g, sqrt(v) = sqrt(0.001) |g|: u = 3.1622777 (1, -1) but for epsilon; |w| = 5,
    #   |u| = 4.4721360, and w = (3, 4) - 0.1 x 5 / 4.4721360 x 3.1622777 (1, -1).
    found = apply_lamb("kernel", [3.0, 4.0], [[0.5, -0.25]], decay_rate=0.0, bias_correction=False)
    assert found == pytest.approx([3.0 - 0.3535534, 4.0 + 0.3535534], abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "kind", "corrects"),
    [
        ({}, BertAdamW, False),
        ({"algorithm": "lamb"}, BertLamb, True),
        ({"bias_correction": True}, BertAdamW, True),
        ({"algorithm": "lamb", "bias_correction": False}, BertLamb, False),
    ],
)
def test_the_config_names_the_algorithm_and_each_has_its_own_bias_correction(
    settings, kind, corrects
):
    config = OptimizerConfig(warmup_steps=1, beta_2=0.98, weight_decay=0.1, **settings)
    optimizer = make_optimizer(config, make_schedule(config, [PhaseConfig(steps=10)]))
    assert type(optimizer) is kind and optimizer.bias_correction is corrects
    assert (optimizer.beta_2, optimizer.decay_rate) == (0.98, 0.1)


@pytest.mark.parametrize("kind", [BertAdamW, BertLamb])
def test_optimizer_survives_its_config(kind):
    first, second = WarmupDecay(1e-3, 10, 100), WarmupDecay(1e-4, 0, 50, 1e-6, "cosine")
    optimizer = kind(PhasedSchedule([0, 100], [first, second]), beta_2=0.98, bias_correction=True)
    copy = kind.from_config(optimizer.get_config())
    assert copy.get_config() == optimizer.get_config()
    assert float(copy.learning_rate) == float(optimizer.learning_rate)


@pytest.mark.parametrize(
    ("settings", "rates"),
    # Peak 1e-3 after 10 steps, then to 1e-4 at step 100. At 55 half of the way is left: a straight
    # line has 1e-4 + 9e-4 x 0.5 there, a parabola 1e-4 + 9e-4 x 0.25. A quarter of the cosine's way
    # (32.5 is no step; 28 is a fifth): (1 + cos(pi / 5)) / 2 = 0.9045085.
    [
        ({}, {0: 0.0, 1: 1e-4, 5: 5e-4, 10: 1e-3, 55: 5.5e-4, 100: 1e-4, 200: 1e-4}),
        ({"power": 2.0}, {5: 5e-4, 10: 1e-3, 55: 3.25e-4, 100: 1e-4, 200: 1e-4}),
        ({"shape": "cosine"}, {5: 5e-4, 10: 1e-3, 28: 9.1405765e-4, 55: 5.5e-4, 200: 1e-4}),
        ({"shape": "constant"}, {5: 5e-4, 10: 1e-3, 55: 1e-3, 100: 1e-3, 200: 1e-3}),
    ],
)
def test_learning_rate_rises_in_a_straight_line_then_falls_as_its_shape_says(settings, rates):
    schedule = WarmupDecay(1e-3, 10, 100, end_learning_rate=1e-4, **settings)
    for step, rate in rates.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5, abs=1e-12), step


def test_phases_share_a_schedule_until_one_sets_its_own():
    config = OptimizerConfig(learning_rate=1e-3, warmup_steps=10)
    phases = [
        PhaseConfig(steps=50),
        PhaseConfig(steps=50),
        PhaseConfig(steps=20, learning_rate=4e-4, warmup_steps=4),
        PhaseConfig(steps=20),
    ]
    schedule = make_schedule(config, phases)
    assert schedule.starts == [0, 100]
    # Up over 10 of 100 steps; half way down at 55; then up over 4 of 40, half way down at 22 of 40.
    expected = {5: 5e-4, 10: 1e-3, 55: 5e-4, 100: 0.0, 102: 2e-4, 104: 4e-4, 122: 2e-4, 140: 0.0}
    for step, rate in expected.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5, abs=1e-9), step


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([{"steps": 60}, {"steps": 40}], "optimizer.warmup_steps=100 must .* 100 steps of all"),
        ([{"steps": 900}, {"steps": 90, "learning_rate": 1e-4}], "90 steps of phases.1;.* to 9"),
        (
            [{"steps": 900}, {"steps": 9, "learning_rate": 1e-4, "warmup_steps": 20}],
            "phases.1.warmup_steps=20 must be less than the 9 steps of phases.1",
        ),
        (
            [{"steps": 9}, {"steps": 9}, {"steps": 900, "learning_rate": 1e-4}],
            "the 18 steps of phases 0 to 1",
        ),
    ],
)
def test_a_warmup_longer_than_its_schedule_is_refused(phases, message):
    with pytest.raises(InputError, match=message):
        make_schedule(OptimizerConfig(warmup_steps=100), [PhaseConfig(**p) for p in phases])
