"""Where the weights of a run stand: the names of its files, and its complete checkpoints.

A checkpoint is a folder `step-00001000`. Its marker is written last; without it the folder is none.
"""

import json
import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from keras_bert_tpu.checkpoints.storage import DamagedFileError, read_bytes
from keras_bert_tpu.config import InputError

FORMAT_VERSION, RUN_FORMAT_VERSION = 1, 1
# Of a run's folder.
RUN, CHECKPOINTS, MODEL, METRICS = "run.json", "checkpoints", "model", "metrics.jsonl"
# Of a checkpoint's folder.
MARKER, WEIGHTS, OPTIMIZER = "checkpoint.json", "model.safetensors", "optimizer.safetensors"
STEP_PREFIX = "step-"
# Before the names of weights, in the optimizer's file, for their moving averages.
AVERAGE_PREFIX = "average/"
# In the folder of the checkpoints: which of them is the best, and by what.
BEST = "best.json"


class Checkpoint(NamedTuple):
    """A complete checkpoint: its folder, its step and what its marker says."""

    path: str
    step: int
    state: Mapping[str, Any]


def complete_checkpoints(directory: str) -> list[Checkpoint]:
    """Lists the checkpoints whose marker is there, oldest first.

    Args:
        directory: str. Local or gs:// folder of the checkpoints; none is as one that is empty.

    Raises:
        tf.errors.OpError: If the folder cannot be listed.
    """
    if not tf.io.gfile.exists(directory):
        return []
    found = []
    for name in sorted(entry.rstrip("/") for entry in tf.io.gfile.listdir(directory)):
        path = posixpath.join(directory, name)
        marker = posixpath.join(path, MARKER)
        if name.startswith(STEP_PREFIX) and tf.io.gfile.exists(marker):
            found.append(Checkpoint(path, int(name.removeprefix(STEP_PREFIX)), _parse(marker)))
    return found


def read_checkpoint(path: str) -> Checkpoint:
    """Reads the marker of one checkpoint, whatever the name of its folder.

    Raises:
        DamagedFileError: If the marker is not valid JSON.
        InputError: If it is of an unknown format.
        tf.errors.OpError: If there is none, or it cannot be read.
    """
    checkpoint = Checkpoint(path, -1, _parse(posixpath.join(path, MARKER)))
    check_format(checkpoint)
    return checkpoint._replace(step=checkpoint.state["step"])


def check_format(checkpoint: Checkpoint) -> None:
    """Checks that this version reads a checkpoint.

    Raises:
        DamagedFileError: If its marker is not valid JSON.
        InputError: If it is of an unknown format.
    """
    version = checkpoint.state.get("format_version")
    if version is None:
        raise DamagedFileError(f"{checkpoint.path}/{MARKER} is not valid JSON")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{checkpoint.path} has checkpoint format {version}, this version reads format "
            f"{FORMAT_VERSION}; use the version of keras_bert_tpu that wrote it."
        )


def _parse(marker: str) -> Mapping[str, Any]:
    try:
        return json.loads(read_bytes(marker))
    except ValueError:
        return {}  # Listed all the same, so that it is reported as damaged.
