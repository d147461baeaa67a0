"""The demo, whole."""

import re
import subprocess
import sys
import time

import pytest


@pytest.mark.slow
def test_demo_learns_and_fills_blanks_in_five_minutes(tmp_path):
    began = time.monotonic()
    program = "from keras_bert_tpu.scripts.demo import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program, f"--output={tmp_path / 'demo'}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 300
    assert len(re.findall(r"true word: ", done.stdout)) == 10
    assert int(re.search(r"(\d+) of 10 true words are among", done.stdout)[1]) >= 1
    accuracies = [float(a) for a in re.findall(r"held-out loss [\d.]+, mlm ([\d.]+)%", done.stdout)]
    # The commonest piece, the comma, is about 5% of the masked ones.
    assert accuracies[-1] > 8
    assert (tmp_path / "demo" / "run" / "curves.png").exists()
