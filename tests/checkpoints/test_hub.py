"""Models by their names on the Hugging Face hub: downloaded once, kept, told when not to be had.

A server on this machine stands for the hub; the client is the real one, in a process of its own, as
it takes the address when it is imported.
"""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
from hub_server import COMMIT, serve

from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.config import InputError

from golden_sources import GOLDEN, assert_same

needs_client = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None,
    reason="needs huggingface_hub, of the extra [hub]",
)
DOWNLOAD = """
import sys
from keras_bert_tpu.checkpoints.hub import download
from keras_bert_tpu.config import InputError
try:
    print(download(sys.argv[1]))
except InputError as error:
    sys.exit(str(error))
"""
# Nothing listens there.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def models(tmp_path):
    """A model with its weights pickled, too, one of which that is all, and a preset."""
    folder = tmp_path / "models"
    shutil.copytree(GOLDEN / "hugging_face" / "texts", folder / "tiny-bert")
    (folder / "tiny-bert" / "pytorch_model.bin").write_bytes(b"large")
    (folder / "acme" / "pickled").mkdir(parents=True)
    shutil.copy(folder / "tiny-bert" / "config.json", folder / "acme" / "pickled")
    (folder / "acme" / "pickled" / "pytorch_model.bin").write_bytes(b"large")
    shutil.copytree(GOLDEN / "keras_hub" / "texts", folder / "acme" / "preset")
    return folder


def run(cache, address, *command):
    """Runs Python with that hub and that cache, and without what else is set of either."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {**others, "HF_HOME": str(cache), "HF_ENDPOINT": address}
    return subprocess.run(
        [sys.executable, "-c", *command], capture_output=True, text=True, env=environment
    )


def assert_told(done, *parts):
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("There is no folder")]
    for part in parts:
        assert part in line, line


@needs_client
def test_a_model_is_downloaded_once_and_then_read_without_a_network(tmp_path, models):
    with serve(models) as hub:
        done = run(tmp_path / "cache", hub.address, DOWNLOAD, "tiny-bert")
        assert done.returncode == 0, done.stderr
    assert f"/tiny-bert/resolve/{COMMIT}/model.safetensors" in hub.requests
    assert not [path for path in hub.requests if path.endswith(".bin")]
    folder = done.stdout.strip()
    assert_same(read_weights(str(models / "tiny-bert")), read_weights(folder))
    again = run(tmp_path / "cache", NOWHERE, DOWNLOAD, "tiny-bert")
    assert (again.returncode, again.stdout.strip()) == (0, folder), again.stderr


@needs_client
def test_a_preset_of_keras_hub_comes_from_there_with_its_head(tmp_path, models):
    pytest.importorskip("keras_hub", reason="needs keras-hub, of the extra [keras-hub]")
    with serve(models) as hub:
        done = run(tmp_path / "cache", hub.address, DOWNLOAD, "acme/preset")
    assert_same(read_weights(str(models / "acme" / "preset")), read_weights(done.stdout.strip()))


@needs_client
def test_a_name_that_nobody_has_is_told_also_as_a_folder(tmp_path, models):
    with serve(models) as hub:
        for name in ("no-such-bert", "run/model"):
            done = run(tmp_path / "cache", hub.address, DOWNLOAD, name)
            assert_told(done, f"no folder '{name}'", "RepositoryNotFoundError", "check the name")


@needs_client
def test_a_model_that_is_not_kept_is_told_without_a_network(tmp_path):
    done = run(tmp_path / "cache", NOWHERE, DOWNLOAD, "tiny-bert")
    assert_told(done, "the Hugging Face hub cannot give", "check the name, the network")


@needs_client
def test_a_model_whose_weights_are_pickled_only_is_told_with_what_to_do(tmp_path, models):
    with serve(models) as hub:
        done = run(tmp_path / "cache", hub.address, DOWNLOAD, "acme/pickled")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "'acme/pickled' of the Hugging Face hub has no weights in safetensors" in done.stderr
    assert 'from_pretrained("acme/pickled").save_pretrained(' in done.stderr
    assert not [path for path in hub.requests if path.endswith(".bin")]


@needs_client
def test_a_program_takes_a_name(tmp_path, models):
    program = "from keras_bert_tpu.scripts.convert import run; run()"
    flags = ["--input=hf://tiny-bert", "--to=kbt", f"--output={tmp_path}/converted"]
    with serve(models) as hub:
        done = run(tmp_path / "cache", hub.address, program, *flags)
    assert done.returncode == 0, done.stderr
    assert_same(read_weights(str(models / "tiny-bert")), read_weights(f"{tmp_path}/converted"))


def test_without_the_client_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"no folder 'bert-base-uncased'.*bert_tpu\[hub\]'"):
        read_weights("bert-base-uncased")
    with pytest.raises(InputError, match=r"no folder 'acme/bert' .*keras_bert_tpu\[hub\]'"):
        read_weights("hf://acme/bert")


@pytest.mark.parametrize("path", ["./run/model", "run/model/", "/no/run", "a/b/c", "run\\model"])
def test_what_can_be_no_name_is_a_folder_that_is_missing(monkeypatch, path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="There is no folder .*; give a model folder"):
        read_weights(path)
