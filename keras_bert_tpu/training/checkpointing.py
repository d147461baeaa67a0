"""Checkpoints of a run: complete or not there, verified when they are read.

A checkpoint is a folder `step-00001000` with the weights, the optimizer's moments and, written
last, `checkpoint.json`: format version, step, position in the data and the sha256 of the other
files. Without that last file the folder does not count. Arrays are stored under the paths of
their variables as safetensors, so other tools can read them. `best.json` beside the folders names
the one with the best held-out figure, which is kept however old it is.
"""

import concurrent.futures
import json
import posixpath
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from absl import logging

from keras_bert_tpu.checkpoints.run_layout import (
    BEST,
    FORMAT_VERSION,
    MARKER,
    OPTIMIZER,
    STEP_PREFIX,
    WEIGHTS,
    Checkpoint,
    check_format,
    complete_checkpoints,
)
from keras_bert_tpu.checkpoints.storage import (
    DamagedFileError,
    check_same_arrays,
    copy_arrays,
    read_arrays,
    read_bytes,
    weights_by_name,
    write_arrays,
    write_atomically,
)
from keras_bert_tpu.config import InputError
from keras_bert_tpu.training.optimizers import BertOptimizer


class Best(NamedTuple):
    """The best checkpoint of a run so far.

    Attributes:
        step: int. Its step.
        metric: str. Name of the held-out figure.
        value: float. The figure.
        phase: int. Figures are compared within a phase only: longer sequences have other ones.
    """

    step: int
    metric: str
    value: float
    phase: int


class Checkpointer:
    """Writes and reads the checkpoints of one run.

    Args:
        directory: str. Local or gs:// folder of the checkpoints.
        model: keras.Model whose `weights` are stored.
        optimizer: BertOptimizer, built.
        keep: int. How many of the last checkpoints are kept, beside the best.
        writes: bool. Of processes that train together one writes; the others only read.
        in_background: bool. Training goes on while a checkpoint is written. It waits for the one
            before; a copy of all values is in memory meanwhile.
        others: Mapping of names to variables that are stored with the weights.
    """

    def __init__(
        self,
        directory: str,
        model: keras.Model,
        optimizer: BertOptimizer,
        keep: int = 3,
        writes: bool = True,
        in_background: bool = False,
        others: Mapping[str, Any] = types.MappingProxyType({}),
    ):
        self.directory = directory
        self.keep = keep
        self.writes = writes
        self._arrays = {
            WEIGHTS: {**weights_by_name(model), **others},
            OPTIMIZER: optimizer.named_variables(model.name),
        }
        self._writer = concurrent.futures.ThreadPoolExecutor(1) if in_background else None
        self._pending: concurrent.futures.Future | None = None

    def save(self, step: int, state: Mapping[str, Any], best: Best | None = None) -> None:
        """Writes a checkpoint, then removes those beyond the last `keep` and the best.

        Args:
            step: int. Optimizer steps that were made.
            state: JSON values that tell where the run stands, such as the position in the data.
            best: Best or None. What the checkpoint is from now on, if it is the best so far.

        Raises:
            Exception: What writing raised; in the background, on the next call of this or `wait`.
        """
        if not self.writes:
            return
        self.wait()
        if self._writer is None:
            self._write(step, state, self._arrays, best)
        else:
            arrays = {name: copy_arrays(variables) for name, variables in self._arrays.items()}
            self._pending = self._writer.submit(self._write, step, state, arrays, best)

    def mark_best(self, best: Best) -> None:
        """Names a checkpoint that is there already the best so far."""
        if self.writes:
            self.wait()
            self._write_best(best)
            self._clean_up()

    def wait(self) -> None:
        """Waits for what is written in the background.

        Raises:
            Exception: What writing raised.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def best(self) -> Best | None:
        """Returns the best checkpoint; None if there is none, or it is not there any more.

        Raises:
            InputError: If best.json is not as it should be.
        """
        path = posixpath.join(self.directory, BEST)
        if not tf.io.gfile.exists(path):
            return None
        try:
            best = Best(**json.loads(read_bytes(path)))
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{path} is not whole ({error}); remove it, and the next evaluation is taken for "
                f"the best."
            ) from error
        is_there = any(c.step == best.step for c in complete_checkpoints(self.directory))
        return best if is_there else None

    def discard_after(self, step: int) -> None:
        """Removes the checkpoints of later steps."""
        self.wait()
        if self.writes:
            for checkpoint in reversed(complete_checkpoints(self.directory)):
                if checkpoint.step > step:
                    _remove(checkpoint.path)

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, ascending."""
        self.wait()
        return [checkpoint.step for checkpoint in complete_checkpoints(self.directory)]

    def _write(
        self,
        step: int,
        state: Mapping[str, Any],
        arrays: Mapping[str, Mapping[str, Any]],
        best: Best | None,
    ) -> None:
        path = posixpath.join(self.directory, f"{STEP_PREFIX}{step:08d}")
        tf.io.gfile.makedirs(path)
        marker = posixpath.join(path, MARKER)
        if tf.io.gfile.exists(marker):
            tf.io.gfile.remove(marker)  # While its files are replaced it must not count.
        checksums = {
            name: write_arrays(posixpath.join(path, name), variables)
            for name, variables in arrays.items()
        }
        values = {"format_version": FORMAT_VERSION, "step": step, **state, "sha256": checksums}
        write_atomically(marker, json.dumps(values, indent=2).encode())
        if best is not None:
            self._write_best(best)
        self._clean_up()

    def _write_best(self, best: Best) -> None:
        content = json.dumps(best._asdict(), indent=2).encode()
        write_atomically(posixpath.join(self.directory, BEST), content)

    def _clean_up(self) -> None:
        """Removes what is neither recent nor best, and what a kill left unfinished."""
        checkpoints = complete_checkpoints(self.directory)
        best = self.best()
        kept = {checkpoint.path for checkpoint in checkpoints[-self.keep :]}
        kept |= {c.path for c in checkpoints if best is not None and c.step == best.step}
        for name in tf.io.gfile.listdir(self.directory):
            path = posixpath.join(self.directory, name.rstrip("/"))
            if name.startswith(STEP_PREFIX) and path not in kept:
                _remove(path)

    def restore_latest(self) -> Checkpoint | None:
        """Loads the newest checkpoint that is whole; None only if there is none at all.

        A damaged one is reported and the one before is taken. Storage that cannot be read is an
        error, never an empty folder: a run must not start afresh over its own checkpoints.

        Raises:
            InputError: If there are checkpoints but all are damaged, or they are of another model
                or of an unknown format.
            tf.errors.OpError: If the folder cannot be listed.
        """
        self.wait()
        checkpoints = complete_checkpoints(self.directory)
        for checkpoint in reversed(checkpoints):
            try:
                self._restore(checkpoint)
                return checkpoint
            except DamagedFileError as error:
                logging.warning("%s; falling back to the checkpoint before.", error)
        if checkpoints:
            raise InputError(
                f"All {len(checkpoints)} checkpoints in {self.directory} are damaged; restore one "
                f"from a backup, or choose another output folder to start again."
            )
        return None

    def restore(self, step: int) -> Checkpoint:
        """Loads the checkpoint of a step.

        Raises:
            InputError: If it is damaged or not there, for this process at least.
        """
        self.wait()
        for checkpoint in complete_checkpoints(self.directory):
            if checkpoint.step == step:
                try:
                    self._restore(checkpoint)
                    return checkpoint
                except DamagedFileError as error:
                    raise InputError(f"{error}; start the run again to take one before.") from error
        raise InputError(
            f"{self.directory} has no checkpoint of step {step}; all processes of a run need the "
            f"same output folder, on storage that they share."
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        check_format(checkpoint)
        loaded = {
            name: read_arrays(
                posixpath.join(checkpoint.path, name), checkpoint.state["sha256"].get(name)
            )
            for name in self._arrays
        }
        for name, variables in self._arrays.items():
            check_same_arrays(posixpath.join(checkpoint.path, name), variables, loaded[name])
        for name, variables in self._arrays.items():
            for key, variable in variables.items():
                variable.assign(loaded[name][key])


def _remove(path: str) -> None:
    """Removes a checkpoint's folder, its marker first: half of it must not count."""
    marker = posixpath.join(path, MARKER)
    if tf.io.gfile.exists(marker):
        tf.io.gfile.remove(marker)
    tf.io.gfile.rmtree(path)
