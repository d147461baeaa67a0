"""What all programs share: help, flags, and bad input told in one sentence before work starts."""

import subprocess
import sys

import pytest
import yaml

from keras_bert_tpu.config import InputError
from keras_bert_tpu.scripts import app

from programs import run_program

PROGRAMS = ["vocab", "prepare", "index", "pretrain", "finetune", "predict", "convert", "demo"]


def assert_one_sentence(done, name, *parts):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()  # No notice of TensorFlow's among it.
    assert line.startswith(f"kbt-{name}: ")
    for part in parts:
        assert part in line, line


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_shows_a_command_and_every_flag_and_starts_nothing(name):
    done = run_program(name, "--help")
    assert done.returncode == 0
    assert f"  kbt-{name} --" in done.stdout
    assert "--output: " in done.stdout
    assert "tensorflow" not in done.stderr.lower(), "help must not wait for TensorFlow"


@pytest.mark.parametrize("name", ["prepare", "pretrain", "finetune", "predict", "convert", "demo"])
def test_missing_flags_are_named(name):
    assert_one_sentence(run_program(name), name, "--output", "must be given", f"kbt-{name} --help")


def test_unknown_flag_is_told_with_the_nearest():
    assert_one_sentence(
        run_program("demo", "--outptu=x"), "demo", "'outptu'", "Did you mean: output"
    )


def test_argument_without_a_flag_is_told():
    assert_one_sentence(run_program("demo", "--output=x", "y"), "demo", "Unexpected argument 'y'")


@pytest.mark.parametrize(
    ("flag", "loads"), [("--tpu=ours", "0"), ("--tpu=local", "None"), ("", "None")]
)
def test_tpu_library_is_left_to_the_process_that_a_named_tpu_is(flag, loads):
    program = (
        "import os; from keras_bert_tpu.scripts import app; "
        "app.run('kbt-x', '', app.define_tpu_flags, "
        "lambda: print(os.environ.get('TPU_LOAD_LIBRARY')))"
    )
    command = [sys.executable, "-c", program, *filter(None, [flag])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == f"{loads}\n", done.stderr


def test_demo_leaves_a_folder_with_files_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert_one_sentence(run_program("demo", f"--output={tmp_path}"), "demo", "is not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_pretrain_tells_a_wrong_key_and_a_missing_folder(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"encoder": {"preset": "tiny"}}))
    paths = [f"--config={config}", f"--data={tmp_path}/absent", f"--output={tmp_path}/run"]
    done = run_program("pretrain", *paths, "--set", "optimizer.lerning_rate=1")
    assert_one_sentence(done, "pretrain", "the nearest is optimizer.learning_rate")
    done = run_program("pretrain", *paths)
    assert_one_sentence(done, "pretrain", "absent")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("library", "is_told"), [("0.0.31", False), ("0.0.35", True), ("0.0.42.1", True)]
)
def test_tpu_library_that_would_end_the_process_is_told(monkeypatch, library, is_told):
    versions = {"tensorflow-tpu": "2.20.0", "libtpu": library}
    monkeypatch.setattr(app.importlib.metadata, "version", versions.__getitem__)
    if not is_told:
        app._check_tpu_library()
        return
    with pytest.raises(InputError, match=f"beside libtpu {library}.*'libtpu<=0.0.31'"):
        app._check_tpu_library()
