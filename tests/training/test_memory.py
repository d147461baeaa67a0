"""What recomputation and slices are for: a step in less memory, each in a process of its own."""

import json
import pathlib
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).parent / "memory_program.py"


def peak(**options):
    """Megabytes that train steps take at most, over what the process had before."""
    options = {"recompute": False, "accumulation_steps": 1, "steps_per_execution": 1, **options}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), json.dumps(options)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def plain():
    return peak()


@pytest.mark.parametrize(
    "options",
    [
        {"recompute": True},
        {"accumulation_steps": 4},
        {"accumulation_steps": 4, "steps_per_execution": 2},
    ],
)
def test_a_step_takes_less_memory(plain, options):
    # Some 1,700 MB: 8 layers of 32 x 256 tokens, with 32 x 2 x 256 x 256 attention weights each.
    assert peak(**options) < 0.6 * plain
