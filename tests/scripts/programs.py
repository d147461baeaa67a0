"""Runs command line programs, in a process of their own as console scripts do, or in this one."""

import subprocess
import sys
from types import ModuleType

import pytest
from absl import flags


def run_program(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs kbt-`name`; nothing is raised when it fails."""
    program = f"from keras_bert_tpu.scripts.{name} import run; run()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=300
    )


def call_program(module: ModuleType, *arguments: str) -> None:
    """Runs what a program does behind its flags within this process; errors are raised."""
    values = flags.FlagValues()
    module.define_flags(values)
    values([module.PROGRAM, *arguments])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flags, "FLAGS", values)
        module.main()
