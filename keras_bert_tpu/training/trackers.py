"""Experiment trackers: the records of metrics.jsonl go to Weights & Biases or to MLflow, too."""

import json
import os
import posixpath
import queue
import sys
import textwrap
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf
import tqdm.auto as tqdm

from keras_bert_tpu.checkpoints.storage import read_bytes, write_atomically
from keras_bert_tpu.config import TRACKERS, InputError
from keras_bert_tpu.dataclass_yaml import flatten

# In the folder of the run: under which id each tracker knows it.
IDS = "trackers.json"
PROJECT = "keras_bert_tpu"


class TrackedRun(Protocol):
    """What `Tracker` needs of a tracker's own run.

    Attributes:
        id: str. With it the tracker finds the run again.
    """

    id: str

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Adds values to the run."""

    def finish(self, failed: bool) -> None:
        """Ends the run."""


class Tracker:
    """Hands records to a tracker from a thread of its own, so that training never waits for it.

    What the tracker cannot take is told once, and training goes on.

    Args:
        name: str. For messages.
        run: TrackedRun.
    """

    def __init__(self, name: str, run: TrackedRun):
        self._name = name
        self._run = run
        self._records: queue.SimpleQueue = queue.SimpleQueue()
        self._has_warned = False
        self._failed = False
        # A daemon, because a process whose training is over must not wait for a dead network.
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def log(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Passes on a record.

        Args:
            split: str. "train" or "validation"; put before the names of the values.
            step: int. Steps of the run that are made.
            values: Mapping of names to numbers.
        """
        named = {f"{split}/{name}": float(value) for name, value in values.items()}
        self._records.put((named, step))

    def close(self, failed: bool = False, timeout: float = 60.0) -> None:
        """Ends the tracker's run once it has all records.

        Args:
            failed: bool. Whether the run broke off; the tracker shows it so.
            timeout: float. Seconds after which what is not handed over is given up.
        """
        self._failed = failed
        self._records.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._warn(f"it did not take all records within {timeout:.0f} s")

    def _work(self) -> None:
        while (record := self._records.get()) is not None:
            try:
                self._run.write(*record)
            except Exception as error:  # Whatever it is, it is no reason to stop training.
                self._warn(f"step {record[1]} was not taken: {_reason(error)}")
        try:
            self._run.finish(self._failed)
        except Exception as error:
            self._warn(f"its run could not be ended: {_reason(error)}")

    def _warn(self, what: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            message = f"Tracker {self._name}: {what}; metrics.jsonl has all records."
            tqdm.tqdm.write(message, file=sys.stderr)


def make_tracker(
    name: str, directory: str, settings: Mapping[str, Any], run_name: str | None = None
) -> Tracker:
    """Starts a run at a tracker, or goes on with the one that this folder's run has there.

    Server, login and project are what the tracker's own environment variables say; without one for
    it, the project or experiment is "keras_bert_tpu".

    Args:
        name: str. "wandb" (Weights & Biases) or "mlflow".
        directory: str. Local or gs:// folder of the run; it exists. The id of the tracker's run is
            kept there in trackers.json.
        settings: Mapping. Plain values, nested at will, that the tracker shows as the config.
        run_name: str or None. Name to show. None leaves it to the tracker.

    Raises:
        InputError: If the name is unknown, the package is not installed, or the tracker refuses.
    """
    if name not in TRACKERS:
        raise InputError(f"tracker must be one of {', '.join(TRACKERS)}. Received: {name!r}.")
    path = posixpath.join(directory, IDS)
    ids = json.loads(read_bytes(path)) if tf.io.gfile.exists(path) else {}
    start = _WandbRun if name == "wandb" else _MlflowRun
    try:
        run = start(directory, ids.get(name), settings, run_name)
    except ImportError as error:
        raise InputError(
            f"tracker {name} needs the package {name}; install it with `pip install "
            f"'keras_bert_tpu[{name}]'`, or leave the tracker out."
        ) from error
    except Exception as error:  # Each has many of its own, and those of what it is built on.
        raise InputError(
            f"tracker {name} cannot be started ({_reason(error)}); put that right, or leave the "
            f"tracker out."
        ) from error
    if ids.get(name) != run.id:
        write_atomically(path, json.dumps({**ids, name: run.id}).encode())
    return Tracker(name, run)


class _WandbRun:
    """A run of Weights & Biases."""

    def __init__(
        self, directory: str, run_id: str | None, settings: Mapping[str, Any], run_name: str | None
    ):
        # Not `import wandb`: without the package, a folder of that name beside the program, which
        # is what wandb leaves where it runs, would be taken for it.
        from wandb import init

        self._run = init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            config=dict(settings),
            # Of a run that goes on, what no weight depends on may have changed.
            allow_val_change=True,
            name=run_name,
            id=run_id,
            resume="allow",
            dir=None if directory.startswith("gs://") else directory,
            # A run that a notebook has open is somebody else's.
            reinit="create_new",
        )
        self.id = self._run.id
        # An axis of its own: on wandb's, steps that a resumed run makes again would be refused.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def finish(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class _MlflowRun:
    """A run of MLflow; by its client, because the active run of a notebook is somebody else's."""

    def __init__(
        self, directory: str, run_id: str | None, settings: Mapping[str, Any], run_name: str | None
    ):
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric = Metric
        self._client = MlflowClient()
        if run_id is not None:
            self._client.update_run(run_id, status="RUNNING")
            self.id = run_id
            return
        run = self._client.create_run(self._experiment(), run_name=run_name)
        self.id = run.info.run_id
        # Parameters cannot be changed, so a run that goes on keeps those it began with.
        params = [Param(key, str(value)) for key, value in flatten(settings).items()]
        self._client.log_batch(self.id, params=params)

    def _experiment(self) -> str:
        if told := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return told
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def write(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def finish(self, failed: bool) -> None:
        self._client.set_terminated(self.id, "FAILED" if failed else "FINISHED")


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return textwrap.shorten(lines[0], 200, placeholder=" ...") if lines else type(error).__name__
