"""Many requests from many clients; and TF Serving itself, where there is one."""

import json
import os
import pathlib
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
    BATCHING,
    MODELS,
    write_deployment,
)
from keras_bert_tpu.serving.export import export

from exported import (
    TEXTS,
    assert_classes_of_model,
    classifier,
)

# Where a real server is, if not on the PATH.
MODEL_SERVER = os.environ.get("TENSORFLOW_MODEL_SERVER") or shutil.which("tensorflow_model_server")
needs_server = pytest.mark.skipif(
    MODEL_SERVER is None,
    reason="tensorflow_model_server is not on the PATH, nor named in TENSORFLOW_MODEL_SERVER",
)


@pytest.mark.slow
def test_twenty_thousand_requests_of_eight_clients_leave_memory_flat(bases):
    program = pathlib.Path(__file__).with_name("loopback.py")
    folder, models = bases
    scores = models["weather"].predict(TEXTS, verbose=0)
    command = [sys.executable, str(program), str(folder / "weather")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        addresses = json.loads(process.stdout.readline())
        wrong, sizes, lock = [], [], threading.Lock()

        def ask(number):
            with Client(addresses["rest" if number % 2 else "grpc"], "weather") as client:
                for turn in range(2500):
                    index = (7 * turn + number) % len(TEXTS)
                    found = client.predict(text=[TEXTS[index]])["logits"][0]
                    if not np.allclose(found, scores[index], atol=1e-5):
                        wrong.append(index)
                    if number == 0 and turn % 100 == 99:
                        with lock:
                            sizes.append(_resident(process.pid))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.stdin.close()
    assert not wrong and len(sizes) == 25
    # What the first thousands of requests take once is not counted.
    assert np.mean(sizes[-5:]) < 1.03 * np.mean(sizes[5:10]), sizes


def _resident(process):
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


@pytest.fixture(scope="module")
def model_server(bases):
    """The real server, with batching; yields the addresses of both protocols."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(free.getsockname()[1])
    base = bases[0] / "weather"
    write_deployment(str(base))
    config = (base / MODELS).read_text().replace("/models/weather", str(base))
    (base / MODELS).write_text(config)
    command = [MODEL_SERVER, f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    command += [f"--model_config_file={base / MODELS}", "--enable_batching=true"]
    command += [f"--batching_parameters_file={base / BATCHING}"]
    with subprocess.Popen(command) as process:
        yield f"http://localhost:{ports[1]}", f"localhost:{ports[0]}"
        process.terminate()


@needs_server
@pytest.mark.parametrize("protocol", [0, 1], ids=["rest", "grpc"])
def test_the_real_server_gives_what_the_model_gives(model_server, bases, protocol):
    with Client(model_server[protocol], "weather") as client:
        client.wait()
        assert_classes_of_model(client.predict(text=TEXTS), bases[1]["weather"], TEXTS)
        with pytest.raises(InputError, match="no signature 'other'"):
            client.predict("other", text=["a"])
    with Client(model_server[protocol], "nothing") as client:
        with pytest.raises(ServingError, match="nothing at"):
            client.predict(text=["a"])


@needs_server
def test_the_real_server_changes_versions_under_load(model_server, bases):
    folder, models = bases
    done, failed = threading.Event(), []

    def ask(address):
        with Client(address, "weather") as client:
            while not done.is_set():
                try:
                    client.predict(text=TEXTS[: 1 + np.random.randint(8)])
                except ServingError as error:
                    failed.append(error)

    threads = [threading.Thread(target=ask, args=(model_server[i % 2],)) for i in range(4)]
    for thread in threads:
        thread.start()
    other = classifier()
    other.head.bias.assign([5.0, 0.0])
    export(other, str(folder / "weather"))
    with Client(model_server[0], "weather", version=2) as client:
        client.wait(deadline=60)
    time.sleep(2.0)
    done.set()
    for thread in threads:
        thread.join()
    assert not failed
    with Client(model_server[0], "weather") as client:
        assert_classes_of_model(client.predict(text=TEXTS), other, TEXTS)
