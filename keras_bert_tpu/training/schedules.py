"""Learning rates as a function of the step."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from zero to the peak (arXiv 1810.04805, A.2), then down as the shape says.

    Step s, counted from 0, has the rate `peak x s / warmup_steps` up to the end of the warm-up,
    so the first step of a warmed-up run does not move the weights. Behind it, with x the share of
    the steps after the warm-up that are made:

    - "polynomial": end + (peak - end) (1 - x)^power; power 1 is a straight line, BERT's own rule.
    - "cosine": end + (peak - end) (1 + cos(pi x)) / 2.
    - "constant": peak.

    Args:
        learning_rate: float. The peak, reached at step `warmup_steps`.
        warmup_steps: int. Less than `total_steps`; may be 0.
        total_steps: int. The step at which `end_learning_rate` is reached and kept.
        end_learning_rate: float.
        shape: str. "polynomial", "cosine" or "constant".
        power: float. Of the polynomial.
    """

    def __init__(
        self,
        learning_rate: float,
        warmup_steps: int,
        total_steps: int,
        end_learning_rate: float = 0.0,
        shape: str = "polynomial",
        power: float = 1.0,
    ):
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.end_learning_rate = end_learning_rate
        self.shape = shape
        self.power = power

    def __call__(self, step: Any) -> Any:
        """Returns the float32 learning rate of an integer step, counted from 0."""
        step = ops.cast(step, "float32")
        rising = self.learning_rate * step / max(self.warmup_steps, 1)
        left = (self.total_steps - step) / (self.total_steps - self.warmup_steps)
        left = ops.clip(left, 0.0, 1.0)
        if self.shape == "constant":
            share = ops.ones_like(left)
        elif self.shape == "cosine":
            share = (1.0 - ops.cos(math.pi * left)) / 2.0
        elif self.power == 1.0:
            share = left
        else:
            share = ops.power(left, self.power)
        falling = self.end_learning_rate + (self.learning_rate - self.end_learning_rate) * share
        return ops.where(step < self.warmup_steps, rising, falling)

    def describe(self) -> str:
        """Returns the rule in words, for people."""
        text = f"{self.learning_rate:g}"
        if self.warmup_steps:
            text += f" after a warm-up of {self.warmup_steps:,} steps"
        if self.shape == "constant":
            return f"{text}, then constant"
        power = f" (power {self.power:g})" if self.shape == "polynomial" else ""
        return (
            f"{text}, then {self.shape}{power} to {self.end_learning_rate:g} at its step "
            f"{self.total_steps:,}"
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "end_learning_rate": self.end_learning_rate,
            "shape": self.shape,
            "power": self.power,
        }


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class PhasedSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Schedules one after the other, each with steps that count from its own start.

    Args:
        starts: Steps of the run at which they begin, ascending, the first 0.
        schedules: As many of `WarmupDecay`.
    """

    def __init__(self, starts: Sequence[int], schedules: Sequence[WarmupDecay]):
        self.starts = list(starts)
        self.schedules = list(schedules)

    def __call__(self, step: Any) -> Any:
        """Returns the float32 learning rate of an integer step of the run, counted from 0."""
        rate = self.schedules[0](step)
        for start, schedule in zip(self.starts[1:], self.schedules[1:], strict=True):
            rate = ops.where(step < start, rate, schedule(step - start))
        return rate

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "starts": self.starts,
            "schedules": [keras.saving.serialize_keras_object(s) for s in self.schedules],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PhasedSchedule":
        """Makes a schedule of what `get_config` returned."""
        schedules = [keras.saving.deserialize_keras_object(s) for s in config["schedules"]]
        return cls(config["starts"], schedules)
