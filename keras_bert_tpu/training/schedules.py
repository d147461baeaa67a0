"""Learning rates as a function of the step."""

from typing import Any

import keras
from keras import ops

from keras_bert_tpu.config import InputError


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from zero to the peak, then linear to the end (arXiv 1810.04805, A.2).

    Step s, counted from 0, has the rate `peak x s / warmup_steps` up to the end of the warm-up,
    so the first step of a warmed-up run does not move the weights.

    Args:
        learning_rate: float. The peak, reached at step `warmup_steps`.
        warmup_steps: int. May be 0.
        total_steps: int. The step at which `end_learning_rate` is reached and kept.
        end_learning_rate: float.

    Raises:
        InputError: If the warm-up is not shorter than the run.
    """

    def __init__(
        self,
        learning_rate: float,
        warmup_steps: int,
        total_steps: int,
        end_learning_rate: float = 0.0,
    ):
        if warmup_steps >= total_steps:
            raise InputError(
                f"optimizer.warmup_steps={warmup_steps} must be less than the {total_steps} steps "
                f"of all phases; shorten the warm-up, for example to {total_steps // 10}."
            )
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.end_learning_rate = end_learning_rate

    def __call__(self, step: Any) -> Any:
        """Returns the float32 learning rate of an integer step, counted from 0."""
        step = ops.cast(step, "float32")
        rising = self.learning_rate * step / max(self.warmup_steps, 1)
        left = (self.total_steps - step) / (self.total_steps - self.warmup_steps)
        left = ops.clip(left, 0.0, 1.0)
        falling = self.end_learning_rate + (self.learning_rate - self.end_learning_rate) * left
        return ops.where(step < self.warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "end_learning_rate": self.end_learning_rate,
        }
