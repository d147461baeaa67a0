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
from keras_bert_tpu.training.finetuning_checkpoints import (
    Evaluation,
    FinetuningCheckpoints,
    Progress,
)
from keras_bert_tpu.training.finetuning_step import TaskStep
from keras_bert_tpu.training.optimizers import BertAdamW
from keras_bert_tpu.training.schedules import WarmupDecay
from keras_bert_tpu.training.task_batches import TaskArrays, TrainingBatches, allowed_lengths
from keras_bert_tpu.training.task_prediction import Predictor, has_static_shapes
from keras_bert_tpu.training.termination import Terminated, TerminationSignal

# Rows of a prediction to one of a training step: there is no gradient to keep anything for.
_PREDICTION_ROWS = 2


class DivergedError(InputError):
    """The loss is not finite any more: these settings cannot be trained, others may."""


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """What a fine-tuning gave; the model has the weights of the best evaluation.

    Attributes:
        evaluations: Of the whole training, in order.
        best: The Evaluation whose weights the model has.
        trained_parameters: int. How many numbers were trained.
        predictor: Predictor of the model. What was computed for the best evaluation it does not
            compute again.
    """

    evaluations: Sequence[Evaluation]
    best: Evaluation
    trained_parameters: int
    predictor: Predictor


def finetune(
    model: TaskModel,
    step: TaskStep,
    training: TaskArrays,
    config: FinetuningConfig,
    evaluate: Callable[[Predictor], Mapping[str, float]],
    best_metric: str,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoints: FinetuningCheckpoints | None = None,
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
        callbacks: Keras callbacks; an epoch, to them, is what lies between two evaluations, or
            moments at which a checkpoint may be written.
        checkpoints: FinetuningCheckpoints, from which it goes on if it was broken off.

    Raises:
        InputError: If the batch cannot be shared by the replicas.
        DivergedError: If the loss is not finite.
        Terminated: After SIGTERM, once the step that was made last is saved.
    """
    strategy = strategy or tf.distribute.get_strategy()
    require_shared_batch(config, strategy)
    run = _Finetuning(model, step, training, config, strategy, checkpoints)
    return run.train(evaluate, best_metric, callbacks)


def require_shared_batch(config: FinetuningConfig, strategy: tf.distribute.Strategy) -> None:
    """Raises InputError if the batch cannot be divided among the replicas."""
    if config.batch_size % strategy.num_replicas_in_sync:
        raise InputError(
            f"batch_size={config.batch_size} cannot be divided among "
            f"{strategy.num_replicas_in_sync} replicas; take a multiple of that."
        )


class _KeepingPredictor(Predictor):
    """Keeps what it computed for the best evaluation: a development set may be large."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._latest: dict[int, tuple[TaskArrays, np.ndarray]] = {}
        self._best = self._latest
        self._has_best_weights = False

    def __call__(self, arrays: TaskArrays, progress: bool = False) -> np.ndarray:
        if self._has_best_weights and id(arrays) in self._best:
            return self._best[id(arrays)][1]
        scores = super().__call__(arrays, progress)
        self._latest[id(arrays)] = arrays, scores
        return scores

    def begin(self) -> None:
        """An evaluation begins."""
        self._latest = {}

    def keep(self) -> None:
        """It is the best so far."""
        self._best = self._latest

    def finish(self) -> None:
        """The model has the weights of the best evaluation, for good."""
        self._has_best_weights = True


class _Finetuning:
    def __init__(
        self,
        model: TaskModel,
        step: TaskStep,
        training: TaskArrays,
        config: FinetuningConfig,
        strategy: tf.distribute.Strategy,
        checkpoints: FinetuningCheckpoints | None,
    ):
        self.model, self.step, self.config, self.strategy = model, step, config, strategy
        is_static = has_static_shapes(strategy)
        lengths = allowed_lengths(training.max_length, config.by_length, is_static)
        if is_static and len(lengths) > 1:
            step.length_buckets = lengths
        self.batches = TrainingBatches(
            training, config.batch_size, config.seed, config.by_length, lengths
        )
        self.steps_per_epoch = math.ceil(len(training) / config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
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
        rows = config.batch_size * _PREDICTION_ROWS
        self.predictor = _KeepingPredictor(model, rows, config.by_length, strategy)
        self.checkpoints = checkpoints
        self.progress = checkpoints.open(step) if checkpoints else Progress()
        self.evaluated_at = self._evaluation_steps()

    def train(
        self,
        evaluate: Callable[[Predictor], Mapping[str, float]],
        best_metric: str,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> Finetuned:
        progress = self.progress
        bar = tqdm.tqdm(total=self.total_steps, initial=progress.step, unit="step")
        with bar, TerminationSignal() as signal:
            own = [_Bar(bar), *callbacks, _Stop(signal)]
            while progress.step < self.total_steps and not self._has_no_patience():
                self._make_steps(own)
                if signal.is_received:
                    self._say_farewell()
                if progress.step in self.evaluated_at:
                    bar.write(self._evaluate(evaluate, best_metric))
                if self.checkpoints:
                    self.checkpoints.save_if_due(progress)
        best = progress.evaluations[progress.best]
        if best is not progress.evaluations[-1] or self.step.low_rank:
            for name, variable in weights_by_name(self.model).items():
                variable.assign(progress.best_weights[name])
        trained = sum(math.prod(variable.shape) for variable in self.step.trainable_variables)
        self.predictor.finish()
        return Finetuned(tuple(progress.evaluations), best, trained, self.predictor)

    def _evaluation_steps(self) -> list[int]:
        """Those behind which the development set is looked at, ascending."""
        number = min(self.config.evaluations_per_epoch, self.steps_per_epoch)
        return [
            epoch * self.steps_per_epoch + round((i + 1) * self.steps_per_epoch / number)
            for epoch in range(self.config.epochs)
            for i in range(number)
        ]

    def _make_steps(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Makes the steps up to the next evaluation, or moment to save at."""
        config, progress = self.config, self.progress
        epoch, start = divmod(progress.step, self.steps_per_epoch)
        end = min(step for step in self.evaluated_at if step > progress.step)
        end = min(end, (progress.step // config.save_every + 1) * config.save_every)
        part = self.batches.part(epoch, start, end - epoch * self.steps_per_epoch)
        self.step.fit(self._distribute(part), verbose=0, callbacks=callbacks, shuffle=False)
        (ratio, *_) = self.step.metrics
        loss, weight = (float(part.numpy()) for part in (ratio.numerator, ratio.denominator))
        if self.step.skipped_in_row or not np.isfinite(loss):
            raise DivergedError(
                f"The loss is not finite in epoch {epoch + 1}; lower learning_rate="
                f"{config.learning_rate:g}, or look for labels that are not numbers."
            )
        progress.loss += loss
        progress.weight += weight
        # After SIGTERM these are fewer than was meant.
        progress.step = int(self.step.optimizer.iterations.numpy())

    def _evaluate(
        self, evaluate: Callable[[Predictor], Mapping[str, float]], best_metric: str
    ) -> str:
        """Looks at the development set; returns a line for people."""
        progress = self.progress
        loss = progress.loss / progress.weight if progress.weight else 0.0
        progress.loss = progress.weight = 0.0
        updates = self.step.low_rank
        self.predictor.begin()
        with updates.merged() if updates else contextlib.nullcontext():
            metrics = {name: float(value) for name, value in evaluate(self.predictor).items()}
            epoch = progress.step / self.steps_per_epoch
            progress.evaluations.append(Evaluation(progress.step, epoch, loss, metrics))
            best = progress.evaluations[progress.best].metrics[best_metric]
            if progress.best < 0 or metrics[best_metric] > best:
                progress.best = len(progress.evaluations) - 1
                progress.best_weights = copy_arrays(weights_by_name(self.model))
                self.predictor.keep()
        figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        return f"epoch {epoch:.4g}: loss {loss:.4f}, {figures}"

    def _has_no_patience(self) -> bool:
        since = len(self.progress.evaluations) - 1 - self.progress.best
        return 0 < self.config.patience <= since

    def _say_farewell(self) -> None:
        step = f"step {self.progress.step} of {self.total_steps}"
        if self.checkpoints is None:
            raise Terminated(f"SIGTERM after {step}; nothing was saved.")
        self.checkpoints.save(self.progress)
        raise Terminated(f"SIGTERM: {step} is saved; the same command goes on from there.")

    def _distribute(self, batches: tf.data.Dataset) -> Any:
        if self.strategy.num_replicas_in_sync == 1:
            return batches
        return self.strategy.experimental_distribute_dataset(batches)


class _Stop(keras.callbacks.Callback):
    """Ends the steps behind the one in which SIGTERM came."""

    def __init__(self, signal: TerminationSignal):
        super().__init__()
        self._signal = signal

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self.model.stop_training |= self._signal.is_received


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
