"""Checkpoints of a run: complete or not there, verified when they are read.

A checkpoint is a folder `step-00001000` with the weights, the optimizer's moments and, written
last, `checkpoint.json`: format version, step, position in the data and the sha256 of the other
files. Without that last file the folder does not count. Arrays are stored under the paths of
their variables as safetensors, so other tools can read them.
"""

import json
import posixpath
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from keras_bert_tpu.checkpoints.run_layout import (
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
    read_arrays,
    weights_by_name,
    write_arrays,
    write_atomically,
)
from keras_bert_tpu.config import InputError
from keras_bert_tpu.training.optimizers import BertOptimizer


class Checkpointer:
    """Writes and reads the checkpoints of one run.

    Args:
        directory: str. Local or gs:// folder of the checkpoints.
        model: keras.Model whose `weights` are stored.
        optimizer: BertOptimizer, built.
        keep: int. How many of the last checkpoints are kept.
    """

    def __init__(
        self,
        directory: str,
        model: keras.Model,
        optimizer: BertOptimizer,
        keep: int = 3,
    ):
        self.directory = directory
        self.keep = keep
        self._arrays = {
            WEIGHTS: weights_by_name(model),
            OPTIMIZER: optimizer.named_variables(model.name),
        }

    def save(self, step: int, state: Mapping[str, Any]) -> str:
        """Writes a checkpoint, then removes those beyond the last `keep`.

        Args:
            step: int. Optimizer steps that were made.
            state: JSON values that tell where the run stands, such as the position in the data.

        Returns:
            str. The folder of the checkpoint.
        """
        path = posixpath.join(self.directory, f"{STEP_PREFIX}{step:08d}")
        tf.io.gfile.makedirs(path)
        marker = posixpath.join(path, MARKER)
        if tf.io.gfile.exists(marker):
            tf.io.gfile.remove(marker)  # While its files are replaced it must not count.
        checksums = {
            name: write_arrays(posixpath.join(path, name), variables)
            for name, variables in self._arrays.items()
        }
        values = {"format_version": FORMAT_VERSION, "step": step, **state, "sha256": checksums}
        write_atomically(marker, json.dumps(values, indent=2).encode())
        for checkpoint in complete_checkpoints(self.directory)[: -self.keep]:
            tf.io.gfile.rmtree(checkpoint.path)
        return path

    def restore_latest(self) -> Checkpoint | None:
        """Loads the newest checkpoint that is whole; None only if there is none at all.

        A damaged one is reported and the one before is taken. Storage that cannot be read is an
        error, never an empty folder: a run must not start afresh over its own checkpoints.

        Raises:
            InputError: If there are checkpoints but all are damaged, or they are of another model
                or of an unknown format.
            tf.errors.OpError: If the folder cannot be listed.
        """
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
