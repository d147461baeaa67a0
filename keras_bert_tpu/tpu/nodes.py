"""TPUs by name, as the Cloud TPU API knows them: waits until one is ready, and tells why not."""

import re
import time
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_bert_tpu.config import InputError

# States of the API (cloud.google.com/tpu/docs/reference/rest/v1/projects.locations.nodes) that
# lead to READY by themselves, and those that do not.
_ON_THE_WAY = ("CREATING", "STARTING", "RESTARTING", "REIMAGING", "REPAIRING")
_GONE = {
    "PREEMPTED": "was preempted; delete it and create it again",
    "TERMINATED": "was terminated; delete it and create it again",
    "STOPPED": "is stopped; start it with: gcloud compute tpus tpu-vm start {name}",
    "STOPPING": "is being stopped; start it again once it has",
    "DELETING": "is being deleted; create another one",
}


# The versions of TensorFlow that this package runs with, see setup.cfg.
_SUPPORTED = ("2.20", "2.21")
# So many questions that are not answered do not end the waiting.
_RETRIES = 5


class Node(NamedTuple):
    """A TPU that is ready.

    Attributes:
        name: str.
        accelerator_type: str. For example "v3-8"; empty if the API does not tell.
        runtime_version: str. For example "2.12.0" or "tpu-vm-tf-2.17.0-pjrt"; empty likewise.
    """

    name: str
    accelerator_type: str
    runtime_version: str


def wait_until_ready(
    name: str,
    zone: str | None = None,
    project: str | None = None,
    told: Callable[[str], None] = print,
    timeout: float = 1200.0,
    interval: float = 10.0,
) -> Node:
    """Waits until a TPU is READY and HEALTHY.

    Args:
        name: str. Of the TPU.
        zone: str. Its zone; by default that of this machine.
        project: str. Its project; by default that of this machine.
        told: Callable that is given a sentence whenever the state changes.
        timeout: float. Seconds to wait at most.
        interval: float. Seconds between two questions.

    Raises:
        InputError: If cloud-tpu-client is not installed, the TPU is not there, will not become
            ready by itself or has not within `timeout`, or runs another TensorFlow than this
            machine.
    """
    client = _client(name, zone, project)
    ends = time.monotonic() + timeout
    before, failures = None, 0
    while True:
        # One answer, so that state and health are of the same moment.
        try:
            found = client._fetch_cloud_tpu_metadata()
        except Exception as error:  # The client turns what the API answers into a ValueError.
            reason = _not_found(name, client, error)
            failures += 1
            if failures > _RETRIES or not _may_pass(error):
                raise InputError(reason) from error
            if failures == 1:
                told(f"{reason}; asking again.")
            time.sleep(interval)
            continue
        failures = 0
        state, health = found.get("state", "unknown"), found.get("health", "unknown")
        if state in _GONE:
            raise InputError(f"TPU {name!r} {_GONE[state].format(name=name)}.")
        if state == "READY" and health == "HEALTHY":
            node = Node(name, found.get("acceleratorType", ""), found.get("tensorflowVersion", ""))
            check_runtime_version(node)
            return node
        if time.monotonic() + interval > ends:
            hint = found.get("healthDescription") or "see it in the Cloud console"
            raise InputError(
                f"TPU {name!r} is still {state} and {health} after {timeout:.0f} s of waiting; "
                f"{hint}."
            )
        if (state, health) != before:
            soon = "" if state in _ON_THE_WAY or state == "READY" else ", which is not known here"
            told(f"TPU {name!r} is {state}{soon}, its health is {health}; waiting.")
            before = state, health
        time.sleep(interval)


def check_runtime_version(node: Node, installed: str = tf.__version__) -> None:
    """Raises InputError if a TPU runs another minor version of TensorFlow than this machine.

    Args:
        node: Node. A runtime whose name tells no version of TensorFlow passes.
        installed: str. Version of TensorFlow on this machine.
    """
    match = re.search(r"(?:^|tf-)(\d+)\.(\d+)", node.runtime_version)
    if match and [match[1], match[2]] != installed.split(".")[:2]:
        minor = f"{match[1]}.{match[2]}"
        own = ".".join(installed.split(".")[:2])
        here = f"install tensorflow {minor} here, or " if minor in _SUPPORTED else ""
        raise InputError(
            f"TPU {node.name!r} runs {node.runtime_version}, and TensorFlow here is {installed}: "
            f"{here}create the TPU with a runtime of TensorFlow {own}."
        )


def _client(name: str, zone: str | None, project: str | None):
    try:
        from cloud_tpu_client import Client
    except ImportError as error:
        raise InputError(
            f"To find TPU {name!r} by its name, cloud-tpu-client is needed: pip install "
            f"'keras_bert_tpu[tpu]'. On the TPU VM itself --tpu=local needs no name."
        ) from error
    try:
        return Client(tpu=name, zone=zone, project=project)
    except OSError as error:  # It asks the metadata of a Google Cloud machine for both.
        raise InputError(
            f"This is no machine of Google Cloud that could tell where TPU {name!r} is ({error}); "
            f"give --zone and --project."
        ) from error


def _status(error: Exception) -> int:
    """What the API answered with, or 0 if it did not."""
    cause = error.__context__ or error
    return int(getattr(getattr(cause, "resp", None), "status", 0))


def _may_pass(error: Exception) -> bool:
    """Whether it is worth asking again: the API is busy or ill, or the network is away."""
    from httplib2 import HttpLib2Error

    status = _status(error)
    away = isinstance(error.__context__ or error, OSError | HttpLib2Error)
    return status == 429 or status >= 500 or (status == 0 and away)


def _not_found(name: str, client, error: Exception) -> str:
    place = f"{client._zone} of project {client._project}"
    if _status(error) == 404:
        return (
            f"There is no TPU {name!r} in {place}; see gcloud compute tpus tpu-vm list "
            f"--zone={client._zone}, and give --zone and --project if it is elsewhere."
        )
    reason = str(error).rsplit("Exception: ", 1)[-1].strip().splitlines()[0]
    return f"The Cloud TPU API does not answer for TPU {name!r} in {place}: {reason}"
