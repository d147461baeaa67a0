import pytest

from keras_bert_tpu.config import EncoderConfig, PhaseConfig
from keras_bert_tpu.training.eta import remaining_seconds
from keras_bert_tpu.training.flops import model_flops

PHASES = [PhaseConfig(steps=90), PhaseConfig(steps=10)]


def test_steps_of_the_phase_of_now_take_what_they_took():
    assert remaining_seconds(PHASES[:1], 30, 2.0, [1e9]) == pytest.approx(60 * 2.0)


def test_steps_of_a_phase_to_come_are_scaled_by_their_operations():
    assert remaining_seconds(PHASES, 30, 2.0, [1e9, 4e9]) == pytest.approx(60 * 2.0 + 10 * 8.0)


def test_steps_of_a_phase_gone_by_do_not_count():
    assert remaining_seconds(PHASES, 94, 8.0, [1e9, 4e9]) == pytest.approx(6 * 8.0)


def test_at_the_end_of_a_phase_the_time_is_still_that_of_its_steps():
    assert remaining_seconds(PHASES, 90, 2.0, [1e9, 4e9]) == pytest.approx(10 * 8.0)


def test_before_the_first_step_all_of_it_remains():
    assert remaining_seconds(PHASES, 0, 2.0, [1e9, 4e9]) == pytest.approx(90 * 2.0 + 10 * 8.0)


def test_nothing_remains_at_the_end():
    assert remaining_seconds(PHASES, 100, 8.0, [1e9, 4e9]) == 0


def test_long_phase_of_bert_is_more_than_four_times_as_slow_at_equal_batches():
    """Attention is quadratic in the length, and the four times as many masked words cost too."""
    encoder = EncoderConfig.from_preset("base")
    short, long = (model_flops(encoder, *shape) for shape in [(128, 20), (512, 80)])
    remaining = remaining_seconds(PHASES, 90, 1.0, [256 * short, 256 * long])
    assert 40 < remaining < 45
