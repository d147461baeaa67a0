"""A distribution strategy from a name: a TPU, else the GPUs of this machine, else its CPU."""

import fcntl
import glob
import importlib.metadata
import json
import math
import os
import re
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tpu.nodes import wait_until_ready

# Of libtpu, whose first user locks it until it ends.
_LOCK_FILE = "/tmp/libtpu_lockfile"


class Connection(NamedTuple):
    """A strategy and what it runs on, in words."""

    strategy: tf.distribute.Strategy
    description: str


def connect(
    tpu: str | None = None, zone: str | None = None, project: str | None = None
) -> Connection:
    """Connects to the accelerators of a run.

    Args:
        tpu: str. "local" on a TPU VM, the name of a TPU, or a grpc:// address. None takes the
            processes of the variable TF_CONFIG, or else the GPUs of this machine or, without one,
            its CPU.
        zone: str. Cloud zone of a named TPU; by default that of this machine.
        project: str. Cloud project of a named TPU; by default that of this machine.

    Returns:
        Connection. Models and optimizers must be created in the scope of its strategy.

    Raises:
        InputError: If the TPU cannot be reached, or `keras.distribution` is in use.
    """
    if keras.distribution.distribution() is not None:
        raise InputError(
            "A keras.distribution is set, which the TensorFlow backend silently ignores; call "
            "keras.distribution.set_distribution(None) and let connect choose the strategy."
        )
    if tpu:
        return _connect_tpu(tpu, zone, project)
    if processes := _num_processes():
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        replicas = strategy.num_replicas_in_sync
        return Connection(strategy, f"{replicas} replicas in {processes} processes")
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        strategy = tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])
        return Connection(strategy, f"{len(gpus)} GPUs of this machine")
    if gpus:
        return Connection(tf.distribute.get_strategy(), "one GPU of this machine")
    cpus = tf.config.list_logical_devices("CPU")
    if len(cpus) > 1:
        # The default cross-device operations deadlock on several logical CPUs when a function
        # runs more than one step; one device adding up is exact and good enough for tests.
        strategy = tf.distribute.MirroredStrategy(
            [cpu.name for cpu in cpus], cross_device_ops=tf.distribute.ReductionToOneDevice()
        )
        return Connection(strategy, f"{len(cpus)} logical CPU devices of this machine")
    return Connection(tf.distribute.get_strategy(), "the CPU of this machine")


def _num_processes() -> int:
    """The processes that TF_CONFIG tells of; 0 if it tells of no other than this one."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return 0
    try:
        tasks = json.loads(text).get("cluster", {})
        processes = sum(len(tasks.get(name, ())) for name in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"TF_CONFIG is not the JSON object of a cluster and a task ({error}); see the "
            f"documentation of tf.distribute.MultiWorkerMirroredStrategy. Received: {text!r}."
        ) from error
    return processes if processes > 1 else 0


def check_data_path(path: str, tpu: str | None) -> None:
    """Raises InputError if records are where the TPU's machine, which reads them, cannot go.

    Args:
        path: str. Folder of records.
        tpu: str or None. As in `connect`.
    """
    if tpu and tpu != "local" and "://" not in path:
        raise InputError(
            f"TPU {tpu!r} is another machine, which cannot read {path} on this one; copy the "
            f"records to a bucket, for example with gcloud storage cp -r {path} gs://BUCKET/, or "
            f"run on the TPU VM itself with --tpu=local."
        )


def _connect_tpu(tpu: str, zone: str | None, project: str | None) -> Connection:
    kind = ""
    if tpu != "local" and "://" not in tpu:
        node = wait_until_ready(tpu, zone, project)
        kind = f" ({node.accelerator_type})" if node.accelerator_type else ""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=tpu, zone=zone, project=project
        )
        if tpu != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        topology = tf.tpu.experimental.initialize_tpu_system(resolver)
    except Exception as error:  # The resolver raises what each of its clients raises.
        raise InputError(_unreachable(tpu, str(error) or type(error).__name__)) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    shape = [int(size) for size in topology.mesh_shape]
    hosts = topology.num_tasks
    cores = strategy.num_replicas_in_sync
    return Connection(
        strategy,
        f"TPU {tpu}{kind}: {cores} replicas on {hosts} host{'s'[: hosts > 1]}, "
        f"{math.prod(shape[:-1])} chips of {shape[-1]} devices each, "
        f"{'x'.join(map(str, shape[:-1]))}",
    )


def _unreachable(tpu: str, reason: str) -> str:
    """What to do about an error of TensorFlow's, in a sentence."""
    lines = [line.strip() for line in reason.splitlines()]
    # Around what TensorFlow raises from a graph stand lines that say nothing of the reason.
    frame = ("Graph execution error", "Detected at node", "<stack traces", "[[")
    first = next((line for line in lines if line and not line.startswith(frame)), reason)
    busy = re.search(r"already in use|libtpu_lockfile|Device or resource busy", reason)
    # TensorFlow finds out when it is imported, keeps it to itself, and then has no such device.
    holder = "another process" if busy else None
    if tpu == "local" and _has_tpu_build():
        holder = _holder() or holder
    if holder:
        return (
            f"TPU {tpu!r} is held by {holder} ({first}); end it (sudo lsof -w /dev/accel* "
            f"/dev/vfio/* tells which), and if there is none remove {_LOCK_FILE}."
        )
    if tpu == "local" and not _has_tpu_build():
        return (
            f"TPU 'local' cannot be reached ({first}): this is the build of TensorFlow without TPU "
            f"support; on a TPU VM install tensorflow-tpu as the README tells, elsewhere leave "
            f"--tpu out."
        )
    if tpu == "local":
        return (
            f"No TPU was found on this machine ({first}); --tpu=local is for a TPU VM, from "
            f"elsewhere give the TPU's name."
        )
    return (
        f"TPU {tpu!r} cannot be reached ({first}); check its address, and that this machine is in "
        f"its network."
    )


def _holder() -> str | None:
    """Who holds the TPU of this machine: whoever has the lock that libtpu is loaded under."""
    try:
        with open(_LOCK_FILE, "r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except FileNotFoundError:
        return None
    except OSError:  # It is locked, or another user's.
        pass
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if re.match(r"/dev/(accel|vfio/)\d", os.readlink(path)):
                return f"process {path.split('/')[2]}"
        except OSError:  # It has ended, or is another user's.
            continue
    return "another process"


def _has_tpu_build() -> bool:
    try:
        importlib.metadata.version("tensorflow-tpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
