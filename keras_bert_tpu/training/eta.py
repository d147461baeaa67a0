"""How long a run will still take."""

from collections.abc import Sequence

from keras_bert_tpu.config import PhaseConfig


def remaining_seconds(
    phases: Sequence[PhaseConfig],
    step: int,
    seconds_per_step: float,
    flops_per_step: Sequence[float],
) -> float:
    """Estimates the time that training still takes, evaluations and checkpoints left out.

    Steps of phases to come are taken to be slower or faster than those of now in proportion to
    their operations.

    Args:
        phases: PhaseConfigs of the run.
        step: int. Steps of the run that are made; at the end of a phase it is the phase before, in
            which they were timed, that is the one of now.
        seconds_per_step: float. How long a step of the phase of now takes.
        flops_per_step: For each phase the operations of a step, for example batch size times
            `model_flops`.
    """
    speed = None
    seconds = 0.0
    end = 0
    for phase, flops in zip(phases, flops_per_step, strict=True):
        begin, end = end, end + phase.steps
        if speed is None and step <= end:
            speed = flops / seconds_per_step
        if speed is not None:
            seconds += (end - max(begin, step)) * flops / speed
    return seconds
