"""A run as stretches of steps, and where in the data each step stands."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras_bert_tpu.config import PretrainingConfig


class Stretch(NamedTuple):
    """Steps that one call of `fit` makes: within a phase, up to an evaluation.

    Attributes:
        phase_index: int. Phase, from 0.
        first_step: int. Steps of the run that lie before.
        last_step: int. Steps of the run once it is done.
        phase_start: int. Step of the run at which the phase began.
    """

    phase_index: int
    first_step: int
    last_step: int
    phase_start: int


@dataclasses.dataclass(frozen=True)
class Rewind:
    """A return to an earlier step, behind which the data that led astray is left out.

    Attributes:
        step: int. The step gone back to.
        phase: int. Phase whose data is left out, from 0.
        skipped_steps: int. Batches of it that are left out.
        spiked_step: int. The step that was gone back from.
        loss: float. The loss there.
    """

    step: int
    phase: int
    skipped_steps: int
    spiked_step: int
    loss: float


def stretches(config: PretrainingConfig, first_step: int) -> list[Stretch]:
    """Cuts what is left of a run at the ends of phases and at multiples of `evaluate_every`.

    Args:
        config: PretrainingConfig.
        first_step: int. Steps that were made already.
    """
    result = []
    phase_start = 0
    for index, phase in enumerate(config.phases):
        phase_end = phase_start + phase.steps
        begin = max(first_step, phase_start)
        while begin < phase_end:
            end = min((begin // config.evaluate_every + 1) * config.evaluate_every, phase_end)
            result.append(Stretch(index, begin, end, phase_start))
            begin = end
        phase_start = phase_end
    return result


def stretch_before(config: PretrainingConfig, step: int) -> Stretch | None:
    """Returns the stretch that ends with a step, behind which an evaluation stands, if one does."""
    return next((s for s in stretches(config, 0) if s.last_step == step), None)


def phase_of(config: PretrainingConfig, step: int) -> tuple[int, int]:
    """Returns the phase that a run is in once a step is made, and the step the phase began at.

    The end of a phase still belongs to it.
    """
    start = 0
    for index, phase in enumerate(config.phases[:-1]):
        if step <= start + phase.steps:
            return index, start
        start += phase.steps
    return len(config.phases) - 1, start


def next_example(
    config: PretrainingConfig, phase_index: int, phase_step: int, rewinds: Sequence[Rewind]
) -> int:
    """Returns the example of a phase's stream that comes next, from 0.

    Args:
        config: PretrainingConfig.
        phase_index: int. Phase, from 0.
        phase_step: int. Steps of the phase that are made.
        rewinds: Those of the run.
    """
    skipped = sum(r.skipped_steps for r in rewinds if r.phase == phase_index)
    return (phase_step + skipped) * config.phases[phase_index].batch_size


def position(config: PretrainingConfig, step: int, rewinds: Sequence[Rewind]) -> dict[str, Any]:
    """Where in the data a run stands after `step` steps, for the checkpoint's reader."""
    phase_index, start = phase_of(config, step)
    return {
        "seed": config.seed,
        "data_position": {
            "phase": phase_index,
            "phase_step": step - start,
            "next_example": next_example(config, phase_index, step - start, rewinds),
        },
    }
