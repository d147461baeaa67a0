"""A fine-tuning that is broken off goes on, and ends as one that was not."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.training.finetuning_checkpoints import FinetuningCheckpoints

PROGRAM = pathlib.Path(__file__).parent / "finetuning_run.py"
LORA = ["lora_rank=2"]


def run(folder, *options):
    command = [sys.executable, str(PROGRAM), str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True)


def result(folder):
    """What a fine-tuning leaves: weights, metrics, and the evaluations in its card."""
    weights = (folder / "model" / "model.safetensors").read_bytes()
    return weights, json.loads((folder / "metrics.json").read_text())


def saved_steps(folder):
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    found = {}
    for name, options in (("plain", []), ("lora", LORA)):
        folder = tmp_path_factory.mktemp(name)
        done = run(folder, *options)
        assert done.returncode == 0, done.stderr
        assert not (folder / "checkpoints").exists()
        found[name] = result(folder)
    return found


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folder of a fine-tuning that was killed behind step 14 of 16, and not evaluated there."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    assert run(folder, "after=14", "does=kill").returncode == -9
    return folder


def test_killed_it_ends_as_unbroken(tmp_path, killed, unbroken):
    folder = shutil.copytree(killed, tmp_path / "run")
    assert saved_steps(folder) == [9, 12]
    again = run(folder, "save_seconds=1000.0")  # When it saves may differ.
    assert again.returncode == 0, again.stderr
    assert "12/16" in again.stderr.split("epoch")[0]  # The bar begins there.
    assert result(folder) == unbroken["plain"]
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize(
    ("options", "after", "does", "code", "saved"),
    [
        ([], 2, "evaluation", 1, 15),
        ([], 5, "terminate", 75, 5),
        (LORA, 14, "kill", -9, 12),
    ],
)
def test_broken_off_it_ends_as_unbroken(tmp_path, unbroken, options, after, does, code, saved):
    broken = run(tmp_path, *options, f"after={after}", f"does={does}")
    assert broken.returncode == code, broken.stderr
    assert not (tmp_path / "metrics.json").exists()
    if does == "terminate":
        assert f"step {after} of 16 is saved; the same command goes on" in broken.stdout
    assert saved_steps(tmp_path)[-1] == saved
    again = run(tmp_path, *options)
    assert again.returncode == 0, again.stderr
    weights, metrics = result(tmp_path)
    expected = unbroken["lora" if options else "plain"]
    assert (weights, metrics) == expected


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, killed, unbroken):
    folder = shutil.copytree(killed, tmp_path / "run")
    weights = folder / "checkpoints" / "step-00000012" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    again = run(folder)
    assert again.returncode == 0, again.stderr
    assert "falling back to the checkpoint before" in again.stderr
    assert result(folder) == unbroken["plain"]


def test_another_fine_tuning_does_not_go_on_from_it(tmp_path, killed):
    folder = str(shutil.copytree(killed / "checkpoints", tmp_path / "checkpoints"))
    identity = json.loads((killed / "checkpoints" / "finetuning.json").read_text())
    FinetuningCheckpoints(folder, identity, 1.0)
    other = {**identity, "settings": {**identity["settings"], "learning_rate": 0.1}}
    message = "settings.learning_rate is 0.0001, and here it is 0.1; .*another output folder"
    with pytest.raises(InputError, match=message):
        FinetuningCheckpoints(folder, other, 1.0)
    with pytest.raises(InputError, match="training_data_sha256 is"):
        FinetuningCheckpoints(folder, {**identity, "training_data_sha256": "0"}, 1.0)
    # One that ended before anything was saved has left nothing to lose.
    shutil.rmtree(tmp_path / "checkpoints")
    for value in (identity, other):
        FinetuningCheckpoints(folder, value, 1.0)


def test_damaged_best_weights_are_told(tmp_path, killed):
    folder = shutil.copytree(killed, tmp_path / "run")
    (best,) = (folder / "checkpoints").glob("best-*")
    best.write_bytes(best.read_bytes()[:-1] + b"?")
    again = run(folder)
    assert again.returncode == 1
    assert "does not have the checksum" in again.stderr and "begin again" in again.stderr


def test_short_ones_are_not_slowed_down_by_saving(tmp_path):
    broken = run(tmp_path, "save_seconds=1000.0", "after=16", "does=kill")
    assert broken.returncode == -9
    assert not saved_steps(tmp_path)


def test_seeds_that_are_done_are_not_run_again(tmp_path):
    assert run(tmp_path, "seeds=2", "epochs=1").returncode == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    (tmp_path / "metrics.json").unlink()
    first, second = (tmp_path / f"seed-{seed}" for seed in (12345, 12346))
    weights = second / "model" / "model.safetensors"
    before = weights.read_bytes()
    (second / "metrics.json").unlink()
    weights.unlink()
    again = run(tmp_path, "seeds=2", "epochs=1", "save_seconds=1000.0")  # When it saves may differ.
    assert again.returncode == 0, again.stderr
    assert f"{first} is done already" in again.stdout and f"{second} is" not in again.stdout
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert weights.read_bytes() == before
    (tmp_path / "metrics.json").unlink()
    other = run(tmp_path, "seeds=2", "epochs=2")
    assert other.returncode == 1 and "with other settings than this one" in other.stderr
