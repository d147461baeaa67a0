"""When checkpoints are written, which of them is the best, and what SIGTERM does."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_bert_tpu.training.checkpointing import Best, Checkpointer
from keras_bert_tpu.training.hosts import Hosts
from keras_bert_tpu.training.optimizers import BertOptimizer
from keras_bert_tpu.training.progress import Progress
from keras_bert_tpu.training.termination import Terminated, TerminationSignal

# Metrics of which more is better; of the others, losses, it is less.
_GROWING = ("mlm_accuracy", "nsp_accuracy")


class SaveCheckpoints(keras.callbacks.Callback):
    """Writes a checkpoint each `save_every` steps, and at an evaluation that is the best so far.

    Args:
        checkpointer: Checkpointer.
        save_every: int. Steps between two checkpoints.
        progress: Progress. Knows the step, and whether the weights are sound.
        state: Callable from the step to the JSON values that are stored beside it.
        phase: Callable from the step to its phase.
        best_metric: str. Name of the held-out figure; "none" keeps no best.
        saved_step: int. Step of the checkpoint that the run goes on from; -1 if there is none.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        save_every: int,
        progress: Progress,
        state: Callable[[int], Mapping[str, Any]],
        phase: Callable[[int], int],
        best_metric: str = "none",
        saved_step: int = -1,
    ):
        super().__init__()
        self._checkpointer = checkpointer
        self._save_every = save_every
        self._progress = progress
        self._state = state
        self._phase = phase
        self._best_metric = best_metric
        self.saved_step = saved_step
        self.best = self._known_best()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Saves at multiples of `save_every`."""
        if self._progress.step % self._save_every == 0:
            self.save()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Saves, and names it the best, if the evaluation behind the step is."""
        value = (logs or {}).get(f"val_{self._best_metric}")
        if value is None or not np.isfinite(value):
            return
        step = self._progress.step
        best = Best(step, self._best_metric, float(value), self._phase(step))
        if not is_better(best, self.best):
            return
        self.best = best
        if step == self.saved_step:
            self._checkpointer.mark_best(best)
        else:
            self.save(best)

    def save(self, best: Best | None = None) -> None:
        """Saves the step that was made last, unless it is saved already."""
        step = self._progress.step
        if step != self.saved_step:
            self._progress.check_skipped()
            self._checkpointer.save(step, self._state(step), best)
            self.saved_step = step

    def go_back(self, step: int) -> None:
        """Goes on from an earlier checkpoint, all later ones being gone."""
        self.saved_step = step
        self.best = self._known_best()

    def _known_best(self) -> Best | None:
        best = self._checkpointer.best()
        if best is None or best.metric != self._best_metric or best.step > self.saved_step:
            return None
        return best


class StopOnTermination(keras.callbacks.Callback):
    """Ends a run, by the exception Terminated, once any of its processes has had SIGTERM."""

    def __init__(self, signal: TerminationSignal, hosts: Hosts):
        super().__init__()
        self._signal = signal
        self._hosts = hosts

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Looks behind each visit of the host; it belongs behind the callback that saves."""
        self._look()

    def on_test_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Looks in evaluations, too: what is saved is the step before them."""
        self._look()

    def _look(self) -> None:
        if self._hosts.any(self._signal.is_received):
            raise Terminated


class EvaluateAverages(keras.callbacks.Callback):
    """Puts the averages of the weights in their place while held-out documents are evaluated.

    Args:
        variables: Those that the optimizer was built on.
        optimizer: BertOptimizer. Without averages nothing is done.
    """

    def __init__(self, variables: list[Any], optimizer: BertOptimizer):
        super().__init__()
        self._pairs = list(zip(variables, optimizer.averages, strict=False))
        self._weights: list[np.ndarray] | None = None

    def on_test_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Puts the averages in."""
        self.put_in()

    def on_test_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Puts the weights back."""
        self.put_back()

    def put_in(self) -> None:
        """Replaces the weights by their averages, if there are any."""
        if self._pairs and self._weights is None:
            self._weights = [np.array(keras.ops.convert_to_numpy(v)) for v, _ in self._pairs]
            for variable, average in self._pairs:
                variable.assign(keras.ops.convert_to_numpy(average))

    def put_back(self) -> None:
        """Undoes `put_in`, if it was done."""
        if self._weights is not None:
            for (variable, _), weight in zip(self._pairs, self._weights, strict=True):
                variable.assign(weight)
            self._weights = None


def is_better(one: Best, other: Best | None) -> bool:
    """Tells whether a figure is better than another; that of a later phase always is."""
    if other is None or one.phase != other.phase or one.metric != other.metric:
        return True
    if one.metric in _GROWING:
        return one.value > other.value
    return one.value < other.value
