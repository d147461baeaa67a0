"""Checkpoints of Google's BERT and of the Model Garden: outputs, and the way there and back."""

import json
import pathlib
import shutil
import subprocess
import sys
import warnings

import pytest

from keras_bert_tpu.checkpoints.google import write_google
from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.config import InputError

from golden_sources import GOLDEN, assert_outputs, assert_same, golden


@pytest.mark.parametrize(
    ("folder", "file", "names"),
    [
        ("google/pretraining", "google/outputs.npz", ["sequence_output", "pooled_output"]),
        ("google/pretraining", "google/outputs.npz", ["mlm_logits", "nsp_logits"]),
        ("google/squad", "google/outputs.npz", ["scores"]),
        ("model_garden/encoder", "model_garden/encoder.npz", ["sequence_output", "pooled_output"]),
        ("model_garden/pretraining", "model_garden/pretraining.npz", ["mlm_logits", "nsp_logits"]),
    ],
)
def test_outputs_are_those_of_the_framework(folder, file, names):
    assert_outputs(golden(folder), file, *names)


@pytest.fixture
def written(tmp_path):
    """A pre-trained model of Hugging Face's as a checkpoint of Google's, and what it was."""
    source = golden("hugging_face/pretraining")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That Google's code has no exact GELU.
        write_google(str(tmp_path / "google"), source)
    return tmp_path / "google", source


def test_checkpoint_of_google_comes_back_bit_equal(written):
    folder, source = written
    assert_same(source, read_weights(str(folder)))


def test_settings_of_other_sizes_than_the_weights_are_refused(written):
    folder, _ = written
    (file,) = folder.glob("*settings*.json")
    values = json.loads(file.read_text())
    values["encoder"]["num_layers"] = 10_000
    file.write_text(json.dumps(values))
    with pytest.raises(InputError, match="has num_layers=10000, and the weights beside it have 2"):
        read_weights(str(folder))


@pytest.mark.parametrize("name", ["bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"])
def test_truncated_checkpoint_is_told_in_a_sentence(tmp_path, name):
    folder = shutil.copytree(GOLDEN / "google" / "pretraining", tmp_path / "google")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError) as error:
        read_weights(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("to", ["hf", "google", "kbt"])
def test_program_converts_there_and_back(tmp_path, to):
    source = GOLDEN / "hugging_face" / "pretraining"

    def convert(start, end, to):
        command = [sys.executable, "-m", "keras_bert_tpu.scripts.convert"]
        command += [f"--input={start}", f"--output={end}", f"--to={to}"]
        return subprocess.run(command, capture_output=True, text=True)

    done = convert(source, tmp_path / to, to)
    assert done.returncode == 0, done.stderr
    assert "encoder/layer_1" in done.stdout
    done = convert(tmp_path / to, tmp_path / "back", "kbt")
    assert done.returncode == 0, done.stderr
    assert_same(golden("hugging_face/pretraining"), read_weights(str(tmp_path / "back")))
    again = convert(source, tmp_path / to, to)
    assert again.returncode == 2
    (line,) = again.stderr.splitlines()
    assert str(pathlib.Path(tmp_path / to)) in line
