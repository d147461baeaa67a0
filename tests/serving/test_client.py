"""The client, against a server with TF Serving's own service definitions."""

import http.server
import json
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.serving import Client, ServingError
from keras_bert_tpu.serving.deployment import (
    curl_command,
)
from keras_bert_tpu.serving.export import export, servable

from exported import (
    TEXTS,
    assert_classes_of_model,
    classifier,
    examples_of,
)
from loopback import serving


@pytest.fixture(scope="module")
def server(bases):
    with serving(*(str(bases[0] / name) for name in bases[1])) as models:
        yield models


@pytest.fixture(params=["rest", "grpc"])
def connect(request, server):
    """Makes clients of one protocol."""
    server.refusals, server.pause = 0, 0.0
    clients = []

    def make(model="weather", **settings):
        clients.append(Client(getattr(server, request.param), model, **settings))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_texts_get_what_the_model_gives(connect, bases):
    client, model = connect(), bases[1]["weather"]
    assert_classes_of_model(client.predict(text=TEXTS), model, TEXTS)
    examples = examples_of(text=TEXTS[:3])
    assert_classes_of_model(client.predict("serving_examples", examples=examples), model, TEXTS[:3])


def test_ids_get_what_the_model_gives(connect, bases):
    ids = np.random.default_rng(0).integers(10, 200, [4, 20])
    rows = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": np.ones_like(ids)}
    found = connect().predict("serving_ids", **{name: row.tolist() for name, row in rows.items()})
    expected = bases[1]["weather"]({name: row.astype("int32") for name, row in rows.items()})
    np.testing.assert_allclose(found["logits"], expected, atol=1e-5)


def test_a_single_output_has_its_name(connect, bases):
    found = connect("sentences").predict(text=TEXTS[1:4])
    vectors = bases[1]["sentences"].predict(TEXTS[1:4], verbose=0)
    np.testing.assert_allclose(found["embedding"], vectors, atol=1e-5)


def test_lists_of_choices_are_sent(connect, bases):
    choices = [["Rain.", "It was fine."], ["A garden.", "Nobody."]]
    found = connect("choices").predict(context=TEXTS[1:3], choices=choices)
    scores = bases[1]["choices"].predict((TEXTS[1:3], choices), verbose=0)
    assert found["choice"].tolist() == scores.argmax(axis=1).tolist()
    assert found["choice"].dtype == np.int32


def test_answers_are_those_of_the_model(connect, bases):
    questions, passages = ["Where?", "Who was it?"], ["Im Café, später.", TEXTS[30] * 3]
    found = connect("questions").predict(question=questions, context=passages)
    expected = bases[1]["questions"].predict((questions, passages), verbose=0)
    assert found["answer"].tolist() == [answer.text for answer in expected]
    np.testing.assert_allclose(found["probability"], [a.probability for a in expected], atol=1e-5)
    for text, passage, start, end in zip(
        found["answer"], passages, found["char_start"], found["char_end"], strict=True
    ):
        assert passage[start:end] == text


def test_bytes_that_are_no_text_and_nulls_are_sent_as_they_are(connect):
    strange = [b"\xff\xfe a", "a\0b", '"\\\n', "\U0001f600"]
    assert np.isfinite(connect().predict(text=strange)["logits"]).all()
    passage = b"\xff caf\xc3\xa9 \xff"
    found = connect("questions").predict(question=["Where?"], context=[passage])
    start, end = found["byte_start"][0], found["byte_end"][0]
    assert found["answer"][0] == passage[start:end].decode("utf-8", "replace")


def test_no_texts_get_no_answers(connect):
    found = connect().predict(text=[])
    assert {name: value.shape for name, value in found.items()} == {
        "logits": (0, 2),
        "probabilities": (0, 2),
        "label": (0,),
    }


def test_large_requests_go_through(connect, bases):
    texts = ["Rain. " + "x" * 10_000] * 600
    found = connect().predict(text=texts)
    assert_classes_of_model({k: v[:1] for k, v in found.items()}, bases[1]["weather"], texts[:1])
    assert len(found["label"]) == 600


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("name", ["weather", "choices", "questions"])
def test_the_command_that_the_export_prints_gets_an_answer(server, bases, name):
    folder, models = bases
    line = curl_command(str(folder / name), servable(models[name]))
    command = shlex.split(line.replace("http://localhost:8501", server.rest))
    done = subprocess.run([*command, "--silent"], capture_output=True, check=True)
    inputs = servable(models[name]).sample_request()
    outputs = json.loads(done.stdout)["outputs"]
    with Client(server.rest, name) as client:
        expected = client.predict(**inputs)
    assert set(outputs) == set(expected)
    assert all(len(value) == 1 for value in outputs.values())


def test_signatures_and_states_are_told(connect):
    signatures = connect().signatures()
    assert set(signatures) == {"serving_default", "serving_ids", "serving_examples"}
    default = signatures["serving_default"]
    assert default.inputs["text"] == (np.dtype(object), (-1,))
    assert default.outputs["logits"] == (np.dtype("float32"), (-1, 2))
    assert connect().states() == {1: "AVAILABLE"}
    assert connect().wait() == 1 and connect(version=1).wait() == 1


def test_the_version_that_is_asked_for_answers(connect, bases, tmp_path):
    other = classifier()
    other.head.bias.assign([5.0, 0.0])
    base = str(tmp_path / "two")
    export(bases[1]["weather"], base, warmup=False)
    export(other, base, warmup=False)
    with serving(base) as models:
        address = models.rest if "http" in connect().address else models.grpc
        with Client(address, "two") as newest, Client(address, "two", version=1) as first:
            assert_classes_of_model(newest.predict(text=TEXTS[:4]), other, TEXTS[:4])
            assert_classes_of_model(first.predict(text=TEXTS[:4]), bases[1]["weather"], TEXTS[:4])
            assert newest.wait() == 2 and newest.states() == {1: "AVAILABLE", 2: "AVAILABLE"}
        with Client(address, "two", version=3) as third:
            with pytest.raises(ServingError, match="not found"):
                third.predict(text=["a"])
            with pytest.raises(ServingError, match="no answer in time.*AVAILABLE"):
                third.wait(deadline=0.5)


def test_a_model_that_is_not_there_is_told_at_once(connect):
    began = time.monotonic()
    with pytest.raises(ServingError, match="nothing at .*not found"):
        connect("nothing").predict(text=["a"])
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        ("other", {"text": ["a"]}, "no signature 'other'; it has serving_default, serving_ex"),
        ("serving_default", {"txt": ["a"]}, "takes text. Received: txt"),
        ("serving_default", {}, "takes text. Received: nothing"),
        ("serving_default", {"text": "a"}, r"text must be strings \[any\].* shape \[\]"),
        ("serving_default", {"text": [["a"]]}, r"shape \[1, 1\]"),
        ("serving_default", {"text": [1]}, "text must be of str or bytes. Received: 1"),
        ("serving_ids", {"token_ids": [[1.5]]}, r"token_ids must be int32 \[any, any\]"),
        ("serving_ids", {"token_ids": [[2**40]]}, "token_ids has numbers that are no int32"),
        ("serving_ids", {"token_ids": [[1], [1, 2]]}, "token_ids must be int32"),
    ],
)
def test_what_a_signature_does_not_take_is_told_before_it_is_sent(
    connect, server, signature, inputs, message
):
    client = connect()
    client.signatures()
    before = server.requests
    if signature == "serving_ids":
        inputs = {"segment_ids": [[0]], "padding_mask": [[1]], **inputs}
    with pytest.raises(InputError, match=message):
        client.predict(signature, **inputs)
    assert server.requests == before


def test_what_the_model_refuses_is_told_and_not_asked_again(connect, server):
    client, ones = connect(), np.ones([1, 600], "int32")
    client.signatures()
    before = server.requests
    with pytest.raises(ServingError, match="at most 512 tokens"):
        client.predict("serving_ids", token_ids=ones, segment_ids=ones, padding_mask=ones)
    assert server.requests == before + 1
    assert len(client.predict(text=["a"])["label"]) == 1


def test_a_busy_server_is_asked_again(connect, server, bases):
    client = connect()
    server.refusals = 3
    assert_classes_of_model(client.predict(text=TEXTS[:2]), bases[1]["weather"], TEXTS[:2])
    assert server.refusals < 0


def test_a_server_that_stays_busy_is_told_at_the_deadline(connect, server):
    server.refusals = 10_000
    client = connect(deadline=1.5)
    began = time.monotonic()
    with pytest.raises(ServingError, match="gave no answer in time: busy"):
        client.predict(text=["a"])
    assert 1.0 < time.monotonic() - began < 5


def test_a_server_that_takes_too_long_is_told(connect, server):
    client = connect()
    client.signatures()
    server.pause = 5.0
    began = time.monotonic()
    with pytest.raises(ServingError, match="took too long"):
        client.predict(text=["a"], deadline=0.5)
    assert time.monotonic() - began < 4
    server.pause = 0.0
    assert len(client.predict(text=["a"])["label"]) == 1


@pytest.mark.parametrize("scheme", ["http://", "grpc://"])
def test_a_server_that_is_away_is_told(scheme):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"{scheme}localhost:{free.getsockname()[1]}"
    began = time.monotonic()
    with Client(address, "weather", deadline=1.0) as client:
        with pytest.raises(ServingError, match="gave no answer in time.*see that the server runs"):
            client.predict(text=["a"])
    assert time.monotonic() - began < 6


def test_a_server_that_is_started_later_answers(connect, bases):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    scheme = "http://" if "http" in connect().address else ""
    found = {}

    def ask():
        with Client(f"{scheme}localhost:{port}", "weather", deadline=60) as client:
            found.update(client.predict(text=TEXTS[:2]))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(1.0)
    with serving(str(bases[0] / "weather"), **{"rest_port" if scheme else "grpc_port": port}):
        thread.join()
    assert_classes_of_model(found, bases[1]["weather"], TEXTS[:2])


def test_a_server_of_another_kind_is_told():
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *arguments):
            pass

    other = http.server.HTTPServer(("localhost", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    client = Client(f"http://localhost:{other.server_address[1]}", "weather", deadline=5)
    with pytest.raises(ServingError, match="no TF Serving: <html>hello"):
        client.predict(text=["a"])
    other.shutdown()
    other.server_close()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://host:1", "must begin with http://"),
        ("http://", "one such as http://localhost:8501"),
        ("http://host:port", "one such as http://localhost:8501"),
    ],
)
def test_an_address_that_is_none_is_told(address, message):
    with pytest.raises(InputError, match=message):
        Client(address, "weather")
    with pytest.raises(InputError, match="name of a model"):
        Client("localhost:1", "")
    with pytest.raises(InputError, match="greater than 0 seconds"):
        Client("localhost:1", "weather", deadline=0)


def test_grpc_without_its_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(InputError, match=r"keras_bert_tpu\[serving\].*http://"):
        Client("localhost:8500", "weather")


def test_threads_share_a_client(connect, bases):
    client, wrong = connect(), []
    model = bases[1]["weather"]
    scores = model.predict(TEXTS, verbose=0)

    def ask(first):
        for index in range(first, len(TEXTS), 4):
            found = client.predict(text=[TEXTS[index]])["logits"][0]
            if not np.allclose(found, scores[index], atol=1e-5):
                wrong.append(index)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
