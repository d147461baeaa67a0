"""kbt-pretrain as a process: its flags, and what a preempted machine does to it."""

import signal
import subprocess
import sys
import time

import pytest

from keras_bert_tpu.dataclass_yaml import from_dict, to_yaml

from programs import run_program

COMMAND = [sys.executable, "-m", "keras_bert_tpu.scripts.pretrain"]


@pytest.fixture
def arguments(tmp_path, records, vocabulary):
    """Flags of a run of 300 steps."""
    from keras_bert_tpu.config import PretrainingConfig

    config = from_dict(
        PretrainingConfig,
        {
            "encoder": {"preset": "tiny", "vocab_size": len(vocabulary), "max_positions": 64},
            "optimizer": {"learning_rate": 1e-3, "warmup_steps": 5},
            "phases": [
                {
                    "data": "short",
                    "batch_size": 16,
                    "sequence_length": 32,
                    "max_predictions": 5,
                    "steps": 300,
                }
            ],
            "compute_dtype": "float32",
            "log_every": 5,
            "evaluate_every": 150,
            "evaluate_examples": 32,
        },
    )
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    return [
        f"--config={tmp_path / 'run.yaml'}",
        f"--data={records}",
        f"--output={tmp_path / 'run'}",
    ]


def test_sigterm_ends_the_program_with_a_status_of_its_own_and_a_checkpoint(tmp_path, arguments):
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    until = time.monotonic() + 240
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 75
    (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    step = int(checkpoint.name.removeprefix("step-"))
    assert said.splitlines()[-1] == (
        f"kbt-pretrain: SIGTERM: step {step} of 300 is saved; the same command goes on from there."
    )


def test_profile_and_histograms_are_written_for_tensorboard(tmp_path, arguments):
    settings = ["--set=phases.0.steps=20", "--set=histogram_every=10", "--profile_steps=3:5"]
    done = run_program("pretrain", *arguments, *settings)
    assert done.returncode == 0, done.stderr
    assert "Profile of steps 3 to 5 written" in done.stdout
    boards = tmp_path / "run" / "tensorboard"
    assert list(boards.glob("plugins/profile/*/*.xplane.pb"))
    assert list((boards / "weights").glob("events*"))


def test_flags_that_cannot_be_are_told_in_a_sentence(arguments):
    done = run_program("pretrain", *arguments, "--profile_steps=5-7")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("kbt-pretrain: profile_steps must be a first")
    done = run_program("pretrain", *arguments, "--tracker=paper")
    assert done.returncode == 2 and "wandb|mlflow" in done.stderr
