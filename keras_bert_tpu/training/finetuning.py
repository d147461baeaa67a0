"""Fine-tuning a task model: epochs, evaluations, the best weights."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tqdm.auto as tqdm

from keras_bert_tpu.checkpoints.storage import copy_arrays, weights_by_name
from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.models.task_model import TaskModel
from keras_bert_tpu.training.finetuning_step import TaskStep
from keras_bert_tpu.training.optimizers import BertAdamW
from keras_bert_tpu.training.schedules import WarmupDecay
from keras_bert_tpu.training.task_batches import TaskArrays, training_batches
from keras_bert_tpu.training.task_prediction import Predictor

# Rows of a prediction to one of a training step: there is no gradient to keep anything for.
_PREDICTION_ROWS = 2
_LENGTH_MULTIPLE = 8


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation on the development set gave.

    Attributes:
        step: int. Optimizer steps made.
        epoch: float. The same in epochs.
        loss: float. Mean loss of the training since the evaluation before.
        metrics: Mapping of the names of metrics to figures.
    """

    step: int
    epoch: float
    loss: float
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """What a fine-tuning gave; the model has the weights of the best evaluation.

    Attributes:
        evaluations: Of the whole training, in order.
        best: The Evaluation whose weights the model has.
        trained_parameters: int. How many numbers were trained.
    """

    evaluations: Sequence[Evaluation]
    best: Evaluation
    trained_parameters: int


def finetune(
    model: TaskModel,
    step: TaskStep,
    training: TaskArrays,
    config: FinetuningConfig,
    evaluate: Callable[[Predictor], Mapping[str, float]],
    best_metric: str,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Finetuned:
    """Trains a task model.

    Args:
        model: TaskModel. What is frozen is so already.
        step: TaskStep of the model, made in the scope of the strategy, too.
        training: TaskArrays.
        config: FinetuningConfig.
        evaluate: Callable from a Predictor of the model to metrics, for the development set.
        best_metric: str. The metric by which the best weights are kept; of all, more is better.
        strategy: What `tpu.connect` returned as strategy. Defaults to the current one.
        callbacks: Keras callbacks; an epoch, to them, is what lies between two evaluations.

    Raises:
        InputError: If the batch cannot be shared by the replicas, or the loss is not finite.
    """
    strategy = strategy or tf.distribute.get_strategy()
    if config.batch_size % strategy.num_replicas_in_sync:
        raise InputError(
            f"batch_size={config.batch_size} cannot be divided among "
            f"{strategy.num_replicas_in_sync} replicas; take a multiple of that."
        )
    run = _Finetuning(model, step, training, config, strategy)
    return run.train(evaluate, best_metric, callbacks)


def make_predictor(
    model: TaskModel, config: FinetuningConfig, strategy: tf.distribute.Strategy | None = None
) -> Predictor:
    """Returns what computes a model's outputs in batches of twice the rows of a step."""
    rows = config.batch_size * _PREDICTION_ROWS
    return Predictor(model, rows, _length_multiple(config), strategy)


def _length_multiple(config: FinetuningConfig) -> int:
    return _LENGTH_MULTIPLE if config.by_length else 0


class _Finetuning:
    def __init__(
        self,
        model: TaskModel,
        step: TaskStep,
        training: TaskArrays,
        config: FinetuningConfig,
        strategy: tf.distribute.Strategy,
    ):
        self.model, self.step, self.training, self.config = model, step, training, config
        self.strategy = strategy
        self.steps_per_epoch = math.ceil(len(training) / config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.multiple = _length_multiple(config)
        with strategy.scope():
            schedule = WarmupDecay(
                config.learning_rate,
                round(config.warmup_rate * self.total_steps),
                self.total_steps,
                shape=config.schedule,
            )
            optimizer = BertAdamW(schedule, decay_rate=config.weight_decay, bias_correction=True)
            optimizer.build(step.trainable_variables)
            if config.layer_decay < 1:
                layers = model.config.num_layers
                optimizer.scale_rates(lambda path: config.layer_decay ** _depth(path, layers))
            step.compile(optimizer=optimizer, jit_compile=False)
        self.predictor = make_predictor(model, config, strategy)

    def train(
        self,
        evaluate: Callable[[Predictor], Mapping[str, float]],
        best_metric: str,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> Finetuned:
        config = self.config
        evaluations: list[Evaluation] = []
        best: Evaluation | None = None
        best_weights: dict[str, np.ndarray] = {}
        with tqdm.tqdm(total=self.total_steps, unit="step") as bar:
            for loss, step in self._parts(bar, callbacks):
                updates = self.step.low_rank
                with updates.merged() if updates else contextlib.nullcontext():
                    metrics = dict(evaluate(self.predictor))
                    done = Evaluation(step, step / self.steps_per_epoch, loss, metrics)
                    evaluations.append(done)
                    if best is None or metrics[best_metric] > best.metrics[best_metric]:
                        best, best_weights = done, copy_arrays(weights_by_name(self.model))
                figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
                bar.write(f"epoch {done.epoch:.4g}: loss {loss:.4f}, {figures}")
                since = len(evaluations) - 1 - evaluations.index(best)
                if config.patience and since >= config.patience:
                    break
        if best is not evaluations[-1] or self.step.low_rank:
            for name, variable in weights_by_name(self.model).items():
                variable.assign(best_weights[name])
        trained = sum(math.prod(variable.shape) for variable in self.step.trainable_variables)
        return Finetuned(tuple(evaluations), best, trained)

    def _parts(self, bar: tqdm.tqdm, callbacks: Sequence[keras.callbacks.Callback]) -> Any:
        """Makes the steps between two evaluations; yields their mean loss and the last step."""
        config = self.config
        number = min(config.evaluations_per_epoch, self.steps_per_epoch)
        ends = [round((i + 1) * self.steps_per_epoch / number) for i in range(number)]
        own = [_Bar(bar), *callbacks]
        for epoch in range(config.epochs):
            batches = training_batches(
                self.training,
                config.batch_size,
                config.seed,
                epoch,
                config.by_length,
                self.multiple,
            )
            start = 0
            for end in ends:
                part = batches.skip(start).take(end - start)
                self.step.reset_metrics()
                history = self.step.fit(
                    self._distribute(part), verbose=0, callbacks=own, shuffle=False
                ).history
                loss = history["loss"][-1]
                if self.step.skipped_in_row or not np.isfinite(loss):
                    raise InputError(
                        f"The loss is not finite in epoch {epoch + 1}; lower learning_rate="
                        f"{config.learning_rate:g}, or look for labels that are not numbers."
                    )
                yield loss, epoch * self.steps_per_epoch + end
                start = end

    def _distribute(self, batches: tf.data.Dataset) -> Any:
        if self.strategy.num_replicas_in_sync == 1:
            return batches
        return self.strategy.experimental_distribute_dataset(batches)


class _Bar(keras.callbacks.Callback):
    def __init__(self, bar: tqdm.tqdm):
        super().__init__()
        self._bar = bar

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        loss = (logs or {}).get("loss")
        self._bar.set_postfix(loss=f"{float(loss):.4f}", refresh=False)
        self._bar.update()


def _depth(path: str, num_layers: int) -> int:
    """How many layers lie above a weight: none for the head, all for the embeddings."""
    if "/embeddings/" in path:
        return num_layers + 1
    for part in path.split("/"):
        if part.startswith("layer_") and part.removeprefix("layer_").isdecimal():
            return num_layers - int(part.removeprefix("layer_"))
    return 0
