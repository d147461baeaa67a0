"""AdamW as BERT was trained with."""

from typing import Any

import keras
from keras import ops

from keras_bert_tpu.config import OptimizerConfig
from keras_bert_tpu.training.schedules import WarmupLinearDecay

# Last parts of the paths of variables that weight decay leaves alone: biases and layer
# normalization (google-research/bert, optimization.py).
NOT_DECAYED = ("bias", "output_bias", "gamma", "beta")


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertAdamW(keras.optimizers.Optimizer):
    """Adam with decoupled weight decay and, by default, without bias correction.

    For gradient g of step t (from 1) and rate lr:
    m = beta_1 m + (1 - beta_1) g; v = beta_2 v + (1 - beta_2) g^2;
    w = w - lr (m / (sqrt(v) + epsilon) + weight_decay w).
    With bias correction m and v are first divided by 1 - beta_1^t and 1 - beta_2^t.
    `keras.optimizers.AdamW` always corrects and has other defaults. Clipping is the train step's
    business: it must see the gradient that was summed over the replicas.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
        beta_1: float. Decay of the first moment.
        beta_2: float. Decay of the second moment.
        epsilon: float. Added to the root of the second moment.
        decay_rate: float. Decoupled weight decay, not on biases and layer normalization.
        bias_correction: bool. False is Google's rule in pre-training.
        name: str.
        **kwargs: Those of `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-4,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        decay_rate: float = 0.01,
        bias_correction: bool = False,
        name: str = "bert_adamw",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.decay_rate = decay_rate
        self.bias_correction = bias_correction

    def build(self, variables: list[Any]) -> None:
        """Creates both moments of each variable."""
        if self.built:
            return
        super().build(variables)
        self._first_moments = [
            self.add_variable_from_reference(variable, "first_moment") for variable in variables
        ]
        self._second_moments = [
            self.add_variable_from_reference(variable, "second_moment") for variable in variables
        ]
        self._paths = [variable.path for variable in variables]
        self._decayed = [is_decayed(path) for path in self._paths]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its moments."""
        index = self._get_variable_index(variable)
        first, second = self._first_moments[index], self._second_moments[index]
        gradient = ops.cast(gradient, variable.dtype)
        rate = ops.cast(learning_rate, variable.dtype)
        # m + (g - m) (1 - beta) is beta m + (1 - beta) g with one product less.
        new_first = first + (gradient - first) * (1.0 - self.beta_1)
        new_second = second + (ops.square(gradient) - second) * (1.0 - self.beta_2)
        self.assign(first, new_first)
        self.assign(second, new_second)
        if self.bias_correction:
            step = ops.cast(self.iterations + 1, variable.dtype)
            new_first = new_first / (1.0 - ops.power(self.beta_1, step))
            new_second = new_second / (1.0 - ops.power(self.beta_2, step))
        update = new_first / (ops.sqrt(new_second) + self.epsilon)
        if self._decayed[index]:
            update = update + self.decay_rate * variable
        self.assign_sub(variable, rate * update)

    def named_variables(self, model_name: str) -> dict[str, Any]:
        """Returns the step and all moments under names that do not depend on the model's name.

        Args:
            model_name: str. Name of the model whose weights are trained.
        """
        named = {"iterations": self.iterations}
        for path, first, second in zip(
            self._paths, self._first_moments, self._second_moments, strict=True
        ):
            name = path.removeprefix(f"{model_name}/")
            named[f"first_moment/{name}"] = first
            named[f"second_moment/{name}"] = second
        return named

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "decay_rate": self.decay_rate,
            "bias_correction": self.bias_correction,
        }


def is_decayed(path: str) -> bool:
    """Tells whether weight decay applies to the variable of that path."""
    return path.rsplit("/", 1)[-1] not in NOT_DECAYED


def make_schedule(config: OptimizerConfig, total_steps: int) -> WarmupLinearDecay:
    """Returns the learning rate of a run of `total_steps` steps.

    Raises:
        InputError: If the warm-up is not shorter than the run.
    """
    return WarmupLinearDecay(
        config.learning_rate, config.warmup_steps, total_steps, config.end_learning_rate
    )


def make_optimizer(config: OptimizerConfig, schedule: WarmupLinearDecay) -> BertAdamW:
    """Returns the optimizer of a run; create it in the scope of the strategy."""
    return BertAdamW(
        learning_rate=schedule,
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        epsilon=config.epsilon,
        decay_rate=config.weight_decay,
        bias_correction=config.bias_correction,
    )
