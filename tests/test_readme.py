"""The README's commands and run files work as they stand there; only the size is made small."""

import gzip
import os
import pathlib
import re
import subprocess
import sys

import pytest

from keras_bert_tpu.config import PretrainingConfig

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN_FILES = sorted((ROOT / "gcs_configs").glob("*.yaml"))


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def run(command, folder):
    environment = {
        **os.environ,
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.name)
def test_run_files_load(path):
    assert PretrainingConfig.from_yaml(str(path)).total_steps > 0


def test_from_your_own_text_to_a_blank_filled_in(tmp_path, sample_text):
    (commands,) = [block for block in code_blocks("bash") if "kbt-vocab" in block]
    vocab, prepare, inspect, pretrain = commands.strip().splitlines()
    (tmp_path / "corpus").mkdir()
    with open(sample_text, "rb") as text, gzip.open(tmp_path / "corpus" / "a.txt.gz", "wb") as file:
        file.write(text.read())
    (tmp_path / "gcs_configs").symlink_to(ROOT / "gcs_configs")
    run(vocab, tmp_path)
    run(f"{prepare} --validation_rate=0.1", tmp_path)  # The text has 41 documents.
    assert "all examples were read" in run(inspect, tmp_path)
    assert (tmp_path / "records.png").read_bytes().startswith(b"\x89PNG")
    vocab_size = len((tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines())
    settings = [
        "encoder.preset=tiny",
        f"encoder.vocab_size={vocab_size}",
        "optimizer.warmup_steps=1",
        "phases.0.steps=4",
        "evaluate_examples=32",
    ]
    out = run(f"{pretrain} {' '.join(f'--set {setting}' for setting in settings)}", tmp_path)
    assert "Done: 4 of 4 steps; the model is in run/model." in out
    (fill_mask,) = [block for block in code_blocks("python") if "FillMask" in block]
    program = "\n".join(
        ["import keras_bert_tpu as kbt", fill_mask.strip().replace("fill([", "print(fill([")]
    ).replace("[0][0]  #", "[0][0])  #")
    (tmp_path / "fill.py").write_text(program)
    assert run("python fill.py", tmp_path).count("Guess(piece=") == 5
