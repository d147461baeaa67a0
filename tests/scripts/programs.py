"""Runs a command line program in a process of its own, as its console script does."""

import subprocess
import sys


def run_program(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs kbt-`name`; nothing is raised when it fails."""
    program = f"from keras_bert_tpu.scripts.{name} import run; run()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=300
    )
