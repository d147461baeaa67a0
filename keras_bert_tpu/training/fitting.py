"""One stretch of a run under any strategy, and callbacks that see one training in all of them."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_bert_tpu.training.train_step import PretrainingStep


class RunCallbacks(keras.callbacks.CallbackList):
    """The callbacks of a run that is made of many calls of `fit`.

    `fit` is called once for each stretch between two evaluations; callbacks from outside see one
    training that begins once, ends once, and has an epoch for each evaluation.
    """

    def __init__(self, callbacks: list[keras.callbacks.Callback], model: keras.Model):
        super().__init__(callbacks, add_history=True, model=model)
        self._begun = False

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Passes on the first call only."""
        if not self._begun:
            self._begun = True
            super().on_train_begin(logs)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Waits for `close`."""

    def close(self, logs: Mapping[str, Any] | None = None) -> None:
        """Tells all callbacks that the run has ended, if it ever began."""
        if self._begun:
            super().on_train_end(logs)

    def evaluate_again(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """Tells of an evaluation that a run which was broken off did not come to."""
        self.on_train_begin()
        super().on_epoch_begin(epoch)
        super().on_epoch_end(epoch, logs)


def fit_stretch(
    step: PretrainingStep,
    training: Any,
    validation: Any,
    validation_steps: int | None,
    steps: int,
    epoch: int,
    callbacks: RunCallbacks,
    is_multi_process: bool,
) -> None:
    """Makes the steps of a stretch and the evaluation behind them.

    Args:
        step: PretrainingStep, compiled.
        training: Batches, endless.
        validation: Held-out batches, or None.
        validation_steps: int or None. Batches of `validation`.
        steps: int. Steps to make.
        epoch: int. What callbacks are told.
        callbacks: RunCallbacks.
        is_multi_process: bool. Under a MultiWorkerMirroredStrategy of several processes Keras'
            `fit` ends in "Attempt to convert a value (PerReplica...) to a Tensor" (Keras 3.15), so
            that the steps are made here, by the very train function that `fit` calls.
    """
    if not is_multi_process:
        step.fit(
            training,
            initial_epoch=epoch,
            epochs=epoch + 1,
            steps_per_epoch=steps,
            validation_data=validation,
            # Told, because Keras takes the end of data of unknown length for a fault.
            validation_steps=validation_steps,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
        return
    step.stop_training = False
    step.make_train_function()
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(epoch)
    step.reset_metrics()
    batches = iter(training)
    logs = {}
    for made in range(0, steps, step.steps_per_execution):
        callbacks.on_train_batch_begin(made)
        logs = step.train_function(batches)
        callbacks.on_train_batch_end(made + step.steps_per_execution - 1, logs)
        if step.stop_training:
            break
    if validation is not None:
        logs |= evaluate(step, validation, validation_steps, callbacks, is_multi_process)
    callbacks.on_epoch_end(epoch, logs)


def evaluate(
    step: PretrainingStep,
    validation: Any,
    validation_steps: int,
    callbacks: RunCallbacks,
    is_multi_process: bool,
) -> dict[str, Any]:
    """Evaluates held-out batches; the arguments are those of `fit_stretch`.

    Returns:
        Dict of metrics, each name with `val_` before it, as `on_epoch_end` of callbacks has them.
    """
    if not is_multi_process:
        logs = step.evaluate(
            validation, steps=validation_steps, callbacks=callbacks, return_dict=True, verbose=0
        )
        return {f"val_{name}": value for name, value in logs.items()}
    callbacks.on_test_begin()
    step.reset_metrics()
    batches = iter(validation)
    for number in range(validation_steps):
        callbacks.on_test_batch_begin(number)
        step.held_out_function(batches)
        callbacks.on_test_batch_end(number)
    logs = {name: float(value) for name, value in step.get_metrics_result().items()}
    callbacks.on_test_end(logs)
    return {f"val_{name}": value for name, value in logs.items()}
