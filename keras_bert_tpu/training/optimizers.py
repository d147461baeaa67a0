"""AdamW as BERT was trained with, and LAMB for large batches."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_bert_tpu.checkpoints.run_layout import AVERAGE_PREFIX
from keras_bert_tpu.config import InputError, OptimizerConfig, PhaseConfig
from keras_bert_tpu.training.schedules import PhasedSchedule, WarmupDecay

# Last parts of the paths of variables that weight decay leaves alone: biases and layer
# normalization (google-research/bert, optimization.py).
NOT_DECAYED = ("bias", "output_bias", "gamma", "beta")


class BertOptimizer(keras.optimizers.Optimizer):
    """What both algorithms share: two moments, decoupled decay, and the names of their variables.

    For gradient g of step t (from 1) and rate lr:
    m = beta_1 m + (1 - beta_1) g; v = beta_2 v + (1 - beta_2) g^2;
    u = m / (sqrt(v) + epsilon) + weight_decay w.
    With bias correction m and v are first divided by 1 - beta_1^t and 1 - beta_2^t. Clipping is the
    train step's business: it must see the gradient that was summed over the replicas.

    An average a of each weight, if asked for, follows it by a = d a + (1 - d) w, with d the smaller
    of `average_decay` and t / (9 + t), as `tf.train.ExponentialMovingAverage` has it: early on, the
    weights of the beginning are to be forgotten soon.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
        beta_1: float. Decay of the first moment.
        beta_2: float. Decay of the second moment.
        epsilon: float. Added to the root of the second moment.
        decay_rate: float. Decoupled weight decay, not on biases and layer normalization.
        bias_correction: bool.
        average_decay: float. Of the moving average of the weights; 0 keeps none.
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
        average_decay: float = 0.0,
        name: str = "bert_optimizer",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.decay_rate = decay_rate
        self.bias_correction = bias_correction
        self.average_decay = average_decay

    def build(self, variables: list[Any]) -> None:
        """Creates both moments of each variable, and its average, which begins where it stands."""
        if self.built:
            return
        super().build(variables)
        self._first_moments = [
            self.add_variable_from_reference(variable, "first_moment") for variable in variables
        ]
        self._second_moments = [
            self.add_variable_from_reference(variable, "second_moment") for variable in variables
        ]
        self._averages = []
        if self.average_decay:
            for variable in variables:
                average = self.add_variable_from_reference(variable, "average")
                average.assign(ops.convert_to_numpy(variable))
                self._averages.append(average)
        self._paths = [variable.path for variable in variables]
        self._decayed = [is_decayed(path) for path in self._paths]
        self._rate_scales = [1.0] * len(self._paths)

    def scale_rates(self, scale: Callable[[str], float]) -> None:
        """Gives each variable that it was built on a learning rate of its own.

        Args:
            scale: Callable from a variable's path to the factor of its rate.
        """
        self._rate_scales = [scale(path) for path in self._paths]

    @property
    def averages(self) -> list[Any]:
        """The averages of the variables that it was built on, in their order; empty without."""
        return self._averages

    def apply_reduced(
        self, gradients: Sequence[tf.Tensor], variables: Sequence[Any], share: tf.Tensor
    ) -> None:
        """Makes a step with gradients that were summed over the replicas already.

        Keras' `apply` would sum them once more: twice the traffic between replicas. Call it in the
        replica context.

        Args:
            gradients: Finite tensors, the same on all replicas.
            variables: Those that the optimizer was built on, or some of them.
            share: float32 scalar. 1 makes the step; 0 counts it, and changes nothing else.
        """

        def update(strategy: tf.distribute.Strategy, gradients: Any, rate: Any, share: Any) -> None:
            for gradient, variable in zip(gradients, variables, strict=True):
                strategy.extended.update(
                    variable.value,
                    lambda variable, *values: self.update_step(values[0], variable, *values[1:]),
                    args=(gradient, rate, share),
                    group=False,
                )

        # What Keras' own optimizers call, too: not all strategies have a merge_call everywhere.
        tf.__internal__.distribute.interim.maybe_merge_call(
            update, tf.distribute.get_strategy(), list(gradients), self.learning_rate, share
        )
        self.iterations.assign_add(1)

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any, share: Any = 1.0
    ) -> None:
        """Updates one variable, its moments and its average, see `apply_reduced`."""
        scale = self._rate_scales[self._get_variable_index(variable)]
        rate = ops.cast(learning_rate, variable.dtype) * share
        if scale != 1.0:
            rate = rate * scale
        self.move(gradient, variable, rate, share)
        if self._averages:
            average = self._averages[self._get_variable_index(variable)]
            step = ops.cast(self.iterations + 1, variable.dtype)
            decay = ops.minimum(self.average_decay, step / (9.0 + step))
            self.assign_add(average, (variable - average) * ((1.0 - decay) * share))

    def move(self, gradient: Any, variable: Any, rate: Any, share: Any) -> None:
        """Updates a variable and its moments.

        Args:
            gradient: Tensor.
            variable: The variable.
            rate: Scalar of the variable's dtype, the learning rate times the share.
            share: 1 for a step; 0 for none, see `apply_reduced`.
        """
        raise NotImplementedError

    def advance(self, gradient: Any, variable: Any, share: Any = 1.0) -> tuple[Any, bool]:
        """Updates the moments of a variable.

        Returns:
            The direction u, of the variable's shape, and whether the variable is decayed.
        """
        index = self._get_variable_index(variable)
        first, second = self._first_moments[index], self._second_moments[index]
        gradient = ops.cast(gradient, variable.dtype)
        # m + (g - m) (1 - beta) is beta m + (1 - beta) g with one product less.
        new_first = first + (gradient - first) * ((1.0 - self.beta_1) * share)
        new_second = second + (ops.square(gradient) - second) * ((1.0 - self.beta_2) * share)
        self.assign(first, new_first)
        self.assign(second, new_second)
        if self.bias_correction:
            step = ops.cast(self.iterations + 1, variable.dtype)
            new_first = new_first / (1.0 - ops.power(self.beta_1, step))
            new_second = new_second / (1.0 - ops.power(self.beta_2, step))
        update = new_first / (ops.sqrt(new_second) + self.epsilon)
        if self._decayed[index]:
            update = update + self.decay_rate * variable
        return update, self._decayed[index]

    def named_variables(self, model_name: str) -> dict[str, Any]:
        """Returns the step, moments and averages by names that are free of the model's name.

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
        for path, average in zip(self._paths, self._averages, strict=False):
            named[f"{AVERAGE_PREFIX}{path.removeprefix(f'{model_name}/')}"] = average
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
            "average_decay": self.average_decay,
        }


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertAdamW(BertOptimizer):
    """Adam with decoupled weight decay: w = w - lr u, see `BertOptimizer`.

    Google's BERT pre-trains without bias correction, the default here. `keras.optimizers.AdamW`
    always corrects, and has other defaults.
    """

    def __init__(self, *args: Any, name: str = "bert_adamw", **kwargs: Any):
        super().__init__(*args, name=name, **kwargs)

    def move(self, gradient: Any, variable: Any, rate: Any, share: Any) -> None:
        """Updates the variable and its moments.

        TensorFlow's fused Adam goes through memory once, the operations of the rule one by one a
        dozen times: a fifth of a step of a small model on a CPU. It knows no decay, so
        w (1 - lr decay) comes first, which is the same rule.
        """
        index = self._get_variable_index(variable)
        if self._decayed[index]:
            self.assign(variable, variable * (1.0 - rate * self.decay_rate))
        power_1 = power_2 = 0.0
        if self.bias_correction:
            step = ops.cast(self.iterations + 1, variable.dtype)
            power_1, power_2 = ops.power(self.beta_1, step), ops.power(self.beta_2, step)
        # In float32 the factor 1 - 0.999 that it gives new squares is 1.3e-5 off, and so is v; this
        # much of its root goes out of the quotient again.
        root = math.sqrt((1.0 - float(np.float32(self.beta_2))) / (1.0 - self.beta_2))
        weight, first, second = (
            (v.value if isinstance(v, keras.Variable) else v).handle
            for v in (variable, self._first_moments[index], self._second_moments[index])
        )
        tf.raw_ops.ResourceApplyAdam(
            var=weight,
            m=first,
            v=second,
            beta1_power=power_1,
            beta2_power=power_2,
            lr=rate * root,
            beta1=1.0 - (1.0 - self.beta_1) * share,
            beta2=1.0 - (1.0 - self.beta_2) * share,
            # It adds epsilon before the correction of v, the rule here after that.
            epsilon=self.epsilon * root * ops.sqrt(1.0 - power_2),
            grad=ops.cast(gradient, variable.dtype),
        )


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertLamb(BertOptimizer):
    """LAMB (arXiv 1904.00962, algorithm 2): w = w - lr (|w| / |u|) u, see `BertOptimizer`.

    The trust ratio |w| / |u|, of the whole variable, is 1 where either norm is zero, and for biases
    and layer normalization, which are not decayed. `keras.optimizers.Lamb` leaves the decay out of
    u, and excludes nothing.
    """

    def __init__(
        self, *args: Any, bias_correction: bool = True, name: str = "bert_lamb", **kwargs: Any
    ):
        super().__init__(*args, bias_correction=bias_correction, name=name, **kwargs)

    def move(self, gradient: Any, variable: Any, rate: Any, share: Any) -> None:
        """Subtracts the direction times the rate and, where it is adapted, the trust ratio."""
        update, is_adapted = self.advance(gradient, variable, share)
        if is_adapted:
            weight_norm, update_norm = (
                ops.sqrt(ops.sum(ops.square(tensor))) for tensor in (variable, update)
            )
            is_usable = ops.logical_and(weight_norm > 0, update_norm > 0)
            # The inner choice keeps the quotient of an unused branch finite.
            ratio = weight_norm / ops.where(is_usable, update_norm, 1.0)
            rate = rate * ops.where(is_usable, ratio, 1.0)
        self.assign_sub(variable, rate * update)


def is_decayed(path: str) -> bool:
    """Tells whether weight decay applies to the variable of that path."""
    return path.rsplit("/", 1)[-1] not in NOT_DECAYED


def make_schedule(optimizer: OptimizerConfig, phases: Sequence[PhaseConfig]) -> PhasedSchedule:
    """Returns the learning rate of a run.

    A phase that sets its own `learning_rate` begins a schedule of its own, which lasts until the
    next one begins; the first schedule begins with the run.

    Raises:
        InputError: If a warm-up is not shorter than its schedule.
    """
    firsts = [i for i, phase in enumerate(phases) if i == 0 or phase.learning_rate is not None]
    starts, schedules = [], []
    for first, end in zip(firsts, [*firsts[1:], len(phases)], strict=True):
        starts.append(sum(phase.steps for phase in phases[:first]))
        steps = sum(phase.steps for phase in phases[first:end])
        peak, warmup_steps = phases[first].learning_rate, phases[first].warmup_steps
        owner = "optimizer" if warmup_steps is None else f"phases.{first}"
        warmup_steps = optimizer.warmup_steps if warmup_steps is None else warmup_steps
        if warmup_steps >= steps:
            raise InputError(
                f"{owner}.warmup_steps={warmup_steps} must be less than the {steps} steps of "
                f"{_phases_text(first, end, len(phases))}; shorten the warm-up, for example to "
                f"{steps // 10}."
            )
        schedules.append(
            WarmupDecay(
                optimizer.learning_rate if peak is None else peak,
                warmup_steps,
                steps,
                optimizer.end_learning_rate,
                optimizer.schedule,
                optimizer.power,
            )
        )
    return PhasedSchedule(starts, schedules)


def make_optimizer(config: OptimizerConfig, schedule: PhasedSchedule) -> BertOptimizer:
    """Returns the optimizer of a run; create it in the scope of the strategy."""
    settings = {
        "learning_rate": schedule,
        "beta_1": config.beta_1,
        "beta_2": config.beta_2,
        "epsilon": config.epsilon,
        "decay_rate": config.weight_decay,
        "average_decay": config.average_decay,
    }
    if config.bias_correction is not None:
        settings["bias_correction"] = config.bias_correction
    return BertLamb(**settings) if config.algorithm == "lamb" else BertAdamW(**settings)


def _phases_text(first: int, end: int, number: int) -> str:
    if (first, end) == (0, number):
        return "all phases"
    return f"phases.{first}" if end == first + 1 else f"phases {first} to {end - 1}"
