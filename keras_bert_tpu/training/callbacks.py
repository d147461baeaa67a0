"""What happens between steps: the progress bar, the logs, the checkpoints."""

import json
import posixpath
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
import tqdm.auto as tqdm

from keras_bert_tpu.checkpoints.storage import read_bytes, write_atomically
from keras_bert_tpu.config import PhaseConfig
from keras_bert_tpu.training.checkpointing import Checkpointer


class MetricsLog:
    """metrics.jsonl and TensorBoard: one line, and one point a curve, for each record.

    Args:
        directory: str. Local or gs:// folder of the run.
        resume_step: int. Records of later steps are dropped: they will be made again.
    """

    def __init__(self, directory: str, resume_step: int):
        self.path = posixpath.join(directory, "metrics.jsonl")
        self._boards = {
            split: tf.summary.create_file_writer(posixpath.join(directory, "tensorboard", split))
            for split in ("train", "validation")
        }
        kept = [record for record in self._records() if record["step"] <= resume_step]
        write_atomically(self.path, "".join(f"{json.dumps(r)}\n" for r in kept).encode())

    def write(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Appends a record of the split "train" or "validation"."""
        record = {"split": split, "step": step, **values}
        with tf.io.gfile.GFile(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")
        with self._boards[split].as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)
        self._boards[split].flush()

    def close(self) -> None:
        """Closes the TensorBoard files."""
        for board in self._boards.values():
            board.close()

    def _records(self) -> list[dict[str, Any]]:
        if not tf.io.gfile.exists(self.path):
            return []
        return parse_records(read_bytes(self.path))


def parse_records(content: bytes) -> list[dict[str, Any]]:
    """Parses metrics.jsonl; a last line that a crash cut short is left out."""
    lines = content.decode().split("\n")
    return [json.loads(line) for line in lines[:-1]]


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


class Progress(keras.callbacks.Callback):
    """Progress bar, and a record of the metrics each `log_every` steps and each evaluation.

    The metrics of a record are those of the steps since the record before.

    Args:
        log: MetricsLog.
        first_step: int. Steps that were made before.
        total_steps: int. Steps of the whole run.
        log_every: int. Steps between two records.
        learning_rate: Callable from the number of steps made to the rate of the next.
    """

    def __init__(
        self,
        log: MetricsLog,
        first_step: int,
        total_steps: int,
        log_every: int,
        learning_rate: Callable[[int], float],
    ):
        super().__init__()
        self._log = log
        self._total_steps = total_steps
        self._log_every = log_every
        self._learning_rate = learning_rate
        self._bar: tqdm.tqdm | None = None
        self.step = first_step

    def begin_stretch(self, phase: PhaseConfig, step: int, title: str) -> None:
        """Announces the next call of `fit`: its phase, and the steps made before it."""
        self._phase = phase
        self.step = self._stretch_start = step
        if self._bar is None:
            # In a file instead of a terminal each refresh is a line of its own.
            interval = 0.5 if sys.stdout.isatty() else 30.0
            self._bar = tqdm.tqdm(
                total=self._total_steps,
                initial=step,
                unit="step",
                file=sys.stdout,
                mininterval=interval,
                maxinterval=interval,
            )
        self._bar.set_description(title, refresh=False)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Starts the clock anew: what lies between two stretches is not training."""
        self._restart_clock()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Counts the steps; `batch` is the last step of this visit, from 0 in the stretch."""
        previous, self.step = self.step, self._stretch_start + batch + 1
        self._bar.update(self.step - previous)
        if self.step % self._log_every == 0:
            self._record(logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Records the evaluation that closes each stretch."""
        values = {
            name.removeprefix("val_"): float(value)
            for name, value in (logs or {}).items()
            if name.startswith("val_") and name != "val_gradient_norm"
        }
        if values:
            self._log.write("validation", self.step, values)
            self._bar.write(f"step {self.step}: held-out {describe(values)}", file=sys.stdout)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()

    def _restart_clock(self) -> None:
        self.model.take_length()
        self.model.take_input_wait()
        self._counted_from, self._clock = self.step, time.perf_counter()

    def _record(self, logs: Mapping[str, float]) -> None:
        seconds = time.perf_counter() - self._clock
        steps = self.step - self._counted_from
        sequences = steps * self._phase.batch_size / seconds
        values = {name: float(value) for name, value in logs.items()}
        values |= {
            "learning_rate": self._learning_rate(self.step),
            "sequences_per_second": sequences,
            "tokens_per_second": self.model.take_length() * self._phase.batch_size / seconds,
            "input_wait_share": min(self.model.take_input_wait() / seconds, 1.0),
        }
        self._log.write("train", self.step, values)
        self._bar.set_postfix_str(
            f"{describe(values)}, {sequences:.1f} seq/s, "
            f"{values['tokens_per_second']:.0f} tokens/s, "
            f"input wait {values['input_wait_share']:.0%}",
            refresh=False,
        )
        self.model.reset_metrics()
        self._restart_clock()


class SaveCheckpoints(keras.callbacks.Callback):
    """Writes a checkpoint each `save_every` steps.

    Args:
        checkpointer: Checkpointer.
        save_every: int. Steps between two checkpoints.
        progress: Progress. Knows the step.
        state: Callable from the step to the JSON values that are stored beside it.
        saved_step: int. Step of the checkpoint that the run goes on from; -1 if there is none.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        save_every: int,
        progress: Progress,
        state: Callable[[int], Mapping[str, Any]],
        saved_step: int = -1,
    ):
        super().__init__()
        self._checkpointer = checkpointer
        self._save_every = save_every
        self._progress = progress
        self._state = state
        self.saved_step = saved_step

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Saves at multiples of `save_every`."""
        if self._progress.step % self._save_every == 0:
            self.save()

    def save(self) -> None:
        """Saves the step that was made last, unless it is saved already."""
        step = self._progress.step
        if step != self.saved_step:
            self._checkpointer.save(step, self._state(step))
            self.saved_step = step


def describe(values: Mapping[str, float]) -> str:
    """Returns the losses and accuracies of a record as people read them."""
    text = f"loss {values['loss']:.3f}, mlm {values['mlm_accuracy']:.1%}"
    # Without next sentences there is no such loss at all; a mean of some is never zero.
    return f"{text}, nsp {values['nsp_accuracy']:.1%}" if values["nsp_loss"] else text
