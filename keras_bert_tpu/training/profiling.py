"""A profile of a few steps of a run, for TensorBoard's profiler."""

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
import tqdm.auto as tqdm

from keras_bert_tpu.config import InputError


def parse_profile_steps(text: str) -> tuple[int, int]:
    """Parses "a:b", the first and the last step of a profile.

    Args:
        text: str. Two numbers of steps of the run, from 1.

    Raises:
        InputError: If it is not of this form, or no step lies in it.
    """
    match = re.fullmatch(r"(\d+):(\d+)", text.strip())
    if match is None:
        raise InputError(
            f"profile_steps must be a first and a last step with a colon between, for example "
            f"100:110. Received: {text!r}."
        )
    first, last = int(match[1]), int(match[2])
    if not 1 <= first <= last:
        raise InputError(
            f"profile_steps counts from 1, and its last step must not lie before its first. "
            f"Received: {text!r}."
        )
    return first, last


class ProfileSteps(keras.callbacks.Callback):
    """Profiles the steps of a run from `first` to `last`, both included, counted from 1.

    What the host visits together (`steps_per_execution`) is profiled together. The profile is
    below `log_dir` in plugins/profile/, where TensorBoard finds it once its plugin
    tensorboard-plugin-profile is installed. `close` must be called when training breaks off, too;
    without that call the profile is neither written nor the profiler free.

    It belongs behind the callback that counts the steps.

    Args:
        log_dir: str. Local or gs:// folder.
        first: int. First step of the profile.
        last: int. Last step of the profile.
        step: Callable that returns the steps of the run that are made.
    """

    def __init__(self, log_dir: str, first: int, last: int, step: Callable[[], int]):
        super().__init__()
        self._log_dir = log_dir
        self._first, self._last = first, last
        self._step = step
        self._is_waiting, self._is_running = True, False
        self._trace: tf.profiler.experimental.Trace | None = None

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the profiler if the first step is among those of this visit."""
        made = self._step()
        if self._is_waiting and made + self.model.steps_per_execution >= self._first:
            self._is_waiting = False
            if made >= self._first:
                _tell(
                    f"Steps {self._first} to {self._last} are not profiled: the run goes on after "
                    f"step {made}."
                )
            else:
                self._start()
        if self._is_running:
            # What the profiler takes for the limits of a step; _r marks the outermost such event.
            self._trace = tf.profiler.experimental.Trace("train", step_num=made + 1, _r=1)
            self._trace.__enter__()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Stops the profiler if the last step is made."""
        self._end_trace()
        if self._is_running and self._step() >= self._last:
            # The device may still be at work on what the host has sent off.
            for value in (logs or {}).values():
                keras.ops.convert_to_numpy(value)
            self._stop()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Writes what there is if the run ends before the last step."""
        self.close()

    def close(self) -> None:
        """Stops the profiler if it runs, and writes what there is."""
        self._end_trace()
        if self._is_running:
            self._stop()
        elif self._is_waiting:
            self._is_waiting = False
            _tell(
                f"Steps {self._first} to {self._last} are not profiled: the run ended after step "
                f"{self._step()}."
            )

    def _start(self) -> None:
        try:
            tf.profiler.experimental.start(self._log_dir)
        except tf.errors.AlreadyExistsError:
            _tell(
                f"Steps {self._first} to {self._last} are not profiled: another profile is being "
                f"made in this process."
            )
            return
        self._is_running = True
        self._began_after = self._step()

    def _stop(self) -> None:
        self._is_running = False
        tf.profiler.experimental.stop()
        _tell(
            f"Profile of steps {self._began_after + 1} to {self._step()} written below "
            f"{self._log_dir}."
        )

    def _end_trace(self) -> None:
        if self._trace is not None:
            self._trace.__exit__(None, None, None)
            self._trace = None


def _tell(message: str) -> None:
    # Around a progress bar, if there is one.
    tqdm.tqdm.write(message, file=sys.stdout)
