"""Checkpoints of a fine-tuning: what it has, besides weights and moments, to go on as it was."""

import dataclasses
import json
import posixpath
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_tpu.checkpoints.run_layout import complete_checkpoints
from keras_bert_tpu.checkpoints.storage import (
    DamagedFileError,
    list_folder,
    read_arrays,
    read_json_object,
    write_arrays,
    write_atomically,
)
from keras_bert_tpu.config import InputError
from keras_bert_tpu.dataclass_yaml import flatten
from keras_bert_tpu.training.checkpointing import Checkpointer
from keras_bert_tpu.training.finetuning_step import TaskStep

IDENTITY, BEST_PREFIX = "finetuning.json", "best-"


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


@dataclasses.dataclass
class Progress:
    """Where a fine-tuning stands.

    Attributes:
        step: int. Optimizer steps made.
        loss: float. Sum of the losses since the last evaluation.
        weight: float. Of what that sum is over.
        evaluations: So far, in order.
        best: Index of the best of them; -1 before the first.
        best_weights: What the weights of the model were there, by `storage.weights_by_name`.
    """

    step: int = 0
    loss: float = 0.0
    weight: float = 0.0
    evaluations: list[Evaluation] = dataclasses.field(default_factory=list)
    best: int = -1
    best_weights: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


class FinetuningCheckpoints:
    """The folder of a fine-tuning's checkpoints, which holds one fine-tuning only.

    Args:
        folder: str. Local or gs:// folder.
        identity: JSON values that must be as they were for a fine-tuning to go on: settings, data.
        save_seconds: float. Time between two checkpoints, at least.

    Raises:
        InputError: If the folder has checkpoints of another fine-tuning, naming what differs.
    """

    def __init__(self, folder: str, identity: Mapping[str, Any], save_seconds: float):
        self.folder = folder
        self._save_seconds = save_seconds
        self._saved_at = time.monotonic()
        self._best_sha256: dict[str, str] = {}
        path = posixpath.join(folder, IDENTITY)
        if complete_checkpoints(folder):
            require_same(folder, read_json_object(path), identity)
        tf.io.gfile.makedirs(folder)
        write_atomically(path, json.dumps(identity, indent=2).encode())

    def open(self, step: TaskStep) -> Progress:
        """Takes what is trained, and has it go on where it was.

        Args:
            step: TaskStep, compiled with a built optimizer.

        Returns:
            Progress of the last whole checkpoint; that of a beginning, if there is none.

        Raises:
            InputError: If all checkpoints are damaged.
        """
        updates = step.low_rank.weights if step.low_rank else ()
        self._checkpointer = Checkpointer(
            self.folder,
            step.trained,
            step.optimizer,
            keep=2,
            others={variable.path: variable for variable in updates},
        )
        checkpoint = self._checkpointer.restore_latest()
        if checkpoint is None:
            return Progress()
        state = checkpoint.state["finetuning"]
        evaluations = [Evaluation(**values) for values in state["evaluations"]]
        progress = Progress(
            checkpoint.step, state["loss"], state["weight"], evaluations, state["best"]
        )
        if evaluations:
            path = self._best_path(evaluations[progress.best])
            try:
                progress.best_weights = read_arrays(path, state["best_sha256"])
            except DamagedFileError as error:
                raise InputError(f"{error}; remove {self.folder} to begin again.") from error
        return progress

    def save_if_due(self, progress: Progress) -> None:
        """Saves if enough time has gone by."""
        if time.monotonic() - self._saved_at >= self._save_seconds:
            self.save(progress)

    def save(self, progress: Progress) -> None:
        """Writes a checkpoint: the best weights, all others, and what of `Progress` is left."""
        values = dataclasses.asdict(dataclasses.replace(progress, best_weights={}))
        state = {name: values[name] for name in ("loss", "weight", "evaluations", "best")}
        if progress.evaluations:
            path = self._best_path(progress.evaluations[progress.best])
            if path not in self._best_sha256:
                self._best_sha256 = {path: write_arrays(path, progress.best_weights)}
            state["best_sha256"] = self._best_sha256[path]
        self._checkpointer.save(progress.step, {"finetuning": state})
        self._remove_best()
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Removes the folder, when all that a fine-tuning is for stands elsewhere."""
        tf.io.gfile.rmtree(self.folder)

    def _best_path(self, evaluation: Evaluation) -> str:
        return posixpath.join(self.folder, f"{BEST_PREFIX}{evaluation.step:08d}.safetensors")

    def _remove_best(self) -> None:
        """Removes best weights that no checkpoint speaks of any more."""
        states = [c.state["finetuning"] for c in complete_checkpoints(self.folder)]
        best = [state["evaluations"][state["best"]] for state in states if state["evaluations"]]
        kept = {self._best_path(Evaluation(**values)) for values in best}
        for name in list_folder(self.folder):
            path = posixpath.join(self.folder, name)
            if name.startswith(BEST_PREFIX) and path not in kept:
                tf.io.gfile.remove(path)


def require_same(folder: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Checks that what is to go on is what was broken off.

    Args:
        folder: str. Where it stands, for the message.
        before: JSON values that a file has.
        now: Those that they must be.

    Raises:
        InputError: Naming the first that differs.
    """
    before, now = flatten(before), flatten(json.loads(json.dumps(now)))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise InputError(
                f"{folder} holds a fine-tuning that was broken off, in which {key} is "
                f"{before.get(key)}, and here it is {now.get(key)}; set it as it was to go on, or "
                f"choose another output folder."
            )
