"""TPUs by name: the real cloud-tpu-client against an API on loopback."""

import importlib.util
import re
import sys

import pytest
import tensorflow as tf
from tpu_api import serve

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tpu.connect import connect
from keras_bert_tpu.tpu.nodes import Node, check_runtime_version, wait_until_ready

needs_client = pytest.mark.skipif(
    importlib.util.find_spec("cloud_tpu_client") is None,
    reason="cloud-tpu-client is not installed",
)
PLACE = {"zone": "us-central1-a", "project": "our-project"}
VERSION = ".".join(tf.__version__.split(".")[:2])
READY = {
    "state": "READY",
    "health": "HEALTHY",
    "acceleratorType": "v3-8",
    "tensorflowVersion": f"{VERSION}.0",
    "networkEndpoints": [{"ipAddress": "127.0.0.1", "port": 1}],
}


@pytest.fixture
def api(monkeypatch):
    """Serves nodes to the client, which is given credentials that nobody asks for."""
    from oauth2client.client import AccessTokenCredentials, GoogleCredentials

    monkeypatch.setattr(
        GoogleCredentials,
        "get_application_default",
        staticmethod(lambda: AccessTokenCredentials("token", "tests")),
    )
    answers = {}
    with serve(answers) as address:
        monkeypatch.setenv("TPU_API_DISCOVERY_URL", address)
        yield answers


def wait(name, **settings):
    told = []
    node = wait_until_ready(name, **PLACE, told=told.append, interval=0.01, **settings)
    return node, told


@needs_client
def test_tpu_that_is_ready_is_described(api):
    api["ours"] = [READY]
    assert wait("ours") == (Node("ours", "v3-8", f"{VERSION}.0"), [])


@needs_client
def test_each_state_on_the_way_is_told_once(api):
    starting = {"state": "CREATING"}
    sick = {**READY, "health": "UNHEALTHY_TENSORFLOW"}
    api["ours"] = [starting, starting, sick, sick, READY]
    node, told = wait("ours")
    assert node.name == "ours"
    assert told == [
        "TPU 'ours' is CREATING, its health is unknown; waiting.",
        "TPU 'ours' is READY, its health is UNHEALTHY_TENSORFLOW; waiting.",
    ]


@needs_client
@pytest.mark.parametrize(
    ("state", "advice"),
    [("PREEMPTED", "create it again"), ("STOPPED", "tpu-vm start ours"), ("DELETING", "another")],
)
def test_tpu_that_will_not_come_is_told_with_what_to_do(api, state, advice):
    api["ours"] = [{"state": state}]
    with pytest.raises(InputError, match=f"TPU 'ours' .*{advice}"):
        wait("ours")


@needs_client
def test_tpu_that_is_not_there_is_told_with_its_place(api):
    with pytest.raises(InputError, match="no TPU 'ours' in us-central1-a of project our-project"):
        wait("ours")


@needs_client
def test_waiting_ends(api):
    api["ours"] = [{**READY, "health": "TIMEOUT", "healthDescription": "no heartbeat"}]
    with pytest.raises(InputError, match="still READY and TIMEOUT after 0 s.*no heartbeat"):
        wait("ours", timeout=0.1)


@needs_client
def test_api_that_does_not_answer_is_told(api, monkeypatch):
    monkeypatch.setenv("TPU_API_DISCOVERY_URL", "http://localhost:1/discovery")
    with pytest.raises(InputError, match="The Cloud TPU API does not answer for TPU 'ours'"):
        wait("ours")


@needs_client
def test_api_that_is_ill_for_a_while_is_asked_again(api):
    api["ours"] = [503, 429, {"state": "STARTING"}, 503, READY]
    node, told = wait("ours")
    assert node.name == "ours"
    assert [sentence.rpartition("; ")[2] for sentence in told] == [
        "asking again.",
        "waiting.",
        "asking again.",
    ]


@needs_client
def test_api_that_stays_ill_is_told(api):
    api["ours"] = [503]
    with pytest.raises(InputError, match="The Cloud TPU API does not answer for TPU 'ours'.*503"):
        wait("ours")


@needs_client
def test_name_with_a_status_in_it_is_no_answer(api):
    api["tpu-404"] = [403]
    with pytest.raises(InputError, match="The Cloud TPU API does not answer for TPU 'tpu-404'"):
        wait("tpu-404")


@needs_client
def test_connect_asks_the_api_first(api):
    api["ours"] = [{"state": "PREEMPTED"}]
    with pytest.raises(InputError, match="was preempted"):
        connect("ours", **PLACE)


@pytest.mark.parametrize("runtime", ["2.20.0", "tpu-vm-tf-2.20.0-pjrt", "v2-alpha-tpuv5-lite", ""])
def test_runtime_of_the_same_version_or_of_none_passes(runtime):
    check_runtime_version(Node("ours", "", runtime), "2.20.1")


@pytest.mark.parametrize(
    ("runtime", "advice"),
    [
        ("2.12.0", "create the TPU with a runtime of TensorFlow 2.20."),
        ("tpu-vm-tf-2.17.0-pjrt", "create the TPU with a runtime of TensorFlow 2.20."),
        ("2.21.0", "install tensorflow 2.21 here, or create the TPU with a runtime of"),
    ],
)
def test_runtime_of_another_version_is_told(runtime, advice):
    message = f"runs {runtime}, and TensorFlow here is 2.20.1: {advice}"
    with pytest.raises(InputError, match=re.escape(message)):
        check_runtime_version(Node("ours", "", runtime), "2.20.1")


def test_missing_client_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloud_tpu_client", None)
    with pytest.raises(InputError, match=r"pip install 'keras_bert_tpu\[tpu\]'"):
        wait_until_ready("ours")
