"""A fine-tuning that is broken off goes on, and ends as one that was not."""

import json
import pathlib
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).parent / "finetuning_run.py"
LORA = ["lora_rank=2"]


def run(folder, *options):
    command = [sys.executable, str(PROGRAM), str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True)


def result(folder):
    """What a fine-tuning leaves: weights, metrics, and the evaluations in its card."""
    weights = (folder / "model" / "model.safetensors").read_bytes()
    return weights, json.loads((folder / "metrics.json").read_text())


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


@pytest.mark.parametrize(
    ("options", "after", "does", "code"),
    [
        ([], 5, "kill", -9),
        ([], 8, "kill", -9),  # In the step before an evaluation.
        ([], 14, "kill", -9),
        (LORA, 14, "kill", -9),
        ([], 11, "crash", 1),
        ([], 2, "evaluation", 1),
        ([], 13, "terminate", 75),
        (LORA, 13, "terminate", 75),
    ],
)
def test_broken_off_it_ends_as_unbroken(tmp_path, unbroken, options, after, does, code):
    broken = run(tmp_path, *options, f"after={after}", f"does={does}")
    assert broken.returncode == code, broken.stderr
    assert not (tmp_path / "metrics.json").exists()
    if does == "terminate":
        assert f"step {after} of 16 is saved; the same command goes on" in broken.stdout
    steps = [int(path.name[5:]) for path in (tmp_path / "checkpoints").glob("step-*")]
    saved = after if does == "terminate" else {5: 3, 8: 6, 14: 12, 11: 9, 2: 15}[after]
    assert max(steps) == saved
    again = run(tmp_path, *options)
    assert again.returncode == 0, again.stderr
    assert f"{saved}/16" in again.stderr.split("epoch")[0]  # The bar begins there.
    assert result(tmp_path) == unbroken["lora" if options else "plain"]
    assert not (tmp_path / "checkpoints").exists()


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, unbroken):
    assert run(tmp_path, "after=14", "does=kill").returncode == -9
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    again = run(tmp_path)
    assert again.returncode == 0, again.stderr
    assert "falling back to the checkpoint before" in again.stderr
    assert result(tmp_path) == unbroken["plain"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("learning_rate=0.001", "settings.learning_rate is 0.0001, and here it is 0.001"),
        ("examples=72", "training_data_sha256 is "),
    ],
)
def test_another_fine_tuning_does_not_go_on_from_it(tmp_path, option, message):
    assert run(tmp_path, "after=5", "does=kill").returncode == -9
    other = run(tmp_path, option)
    assert other.returncode == 1
    assert message in other.stderr and "choose another output folder" in other.stderr


def test_when_it_saves_may_differ(tmp_path, unbroken):
    assert run(tmp_path, "after=5", "does=kill").returncode == -9
    assert run(tmp_path, "save_seconds=1000.0").returncode == 0
    assert result(tmp_path)[1] == unbroken["plain"][1]


def test_short_ones_are_not_slowed_down_by_saving(tmp_path):
    broken = run(tmp_path, "save_seconds=1000.0", "after=16", "does=kill")
    assert broken.returncode == -9
    assert not list((tmp_path / "checkpoints").glob("step-*"))


def test_seeds_that_are_done_are_not_run_again(tmp_path):
    assert run(tmp_path, "seeds=2", "epochs=1").returncode == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    (tmp_path / "metrics.json").unlink()
    first, second = (tmp_path / f"seed-{seed}" for seed in (12345, 12346))
    weights = second / "model" / "model.safetensors"
    before = weights.read_bytes()
    (second / "metrics.json").unlink()
    weights.unlink()
    again = run(tmp_path, "seeds=2", "epochs=1")
    assert again.returncode == 0, again.stderr
    assert f"{first} is done already" in again.stdout and f"{second} is" not in again.stdout
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert weights.read_bytes() == before
    (tmp_path / "metrics.json").unlink()
    other = run(tmp_path, "seeds=2", "epochs=2")
    assert other.returncode == 1 and "with other settings than this one" in other.stderr
