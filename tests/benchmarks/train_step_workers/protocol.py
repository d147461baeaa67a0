"""What the programs of this folder share: the shapes, the batch, and the words with their parent.

A worker makes one train step, prints a JSON line with the seconds from the start of the process to
the end of its imports, of building and of that step, and then answers each line on its standard
input with a JSON line: `run N` makes N steps and tells the seconds they took, on the clock and of
all cores together; `memory` tells the peak of its resident memory. It ends with its input.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable

import numpy as np

DROPOUT, LEARNING_RATE, BETA_1, BETA_2, EPSILON = 0.1, 1e-4, 0.9, 0.999, 1e-6
WEIGHT_DECAY, CLIP_NORM, INITIALIZER_RANGE, LAYER_NORM_EPSILON = 0.01, 1.0, 0.02, 1e-12
MAX_POSITIONS = 512


def add_shapes(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that tell the sizes of the model and of the batch."""
    for name, default in {
        "layers": 4,
        "hidden": 512,
        "heads": 8,
        "vocabulary": 30522,
        "batch": 16,
        "length": 128,
        "predictions": 20,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")


def worker_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser of the arguments that all workers have."""
    parser = argparse.ArgumentParser(description=description)
    add_shapes(parser)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    return parser


def since_start() -> float:
    """Seconds since this process began, by the clock of the kernel, in steps of 10 ms."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / 100


def peak_megabytes() -> float:
    """Of this program; `getrusage` starts from what the process had that it was forked from."""
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\s*(\d+) kB", file.read()).group(1)) / 1024


def make_batch(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Returns random examples at full length, with the names of this package."""
    rng = np.random.default_rng(0)
    batch, length, predictions = arguments.batch, arguments.length, arguments.predictions
    positions = [
        np.sort(rng.permutation(np.arange(1, length - 1))[:predictions]) for _ in range(batch)
    ]
    return {
        "token_ids": rng.integers(5, arguments.vocabulary, (batch, length), np.int32),
        "segment_ids": np.tile(np.arange(length) >= length // 2, (batch, 1)).astype(np.int32),
        "padding_mask": np.ones((batch, length), np.int32),
        "mask_positions": np.stack(positions).astype(np.int32),
        "mask_ids": rng.integers(5, arguments.vocabulary, (batch, predictions), np.int32),
        "mask_weights": np.ones((batch, predictions), np.float32),
        "next_sentence_label": rng.integers(0, 2, (batch, 1), np.int32),
    }


def serve(stages: dict[str, float], run: Callable[[int], float]) -> None:
    """Answers the parent until it closes the input.

    Args:
        stages: Seconds from the start of the process to the end of `import`, `build` and `step`.
        run: Makes as many steps as it is told, waits for them and returns the loss of the last.
    """

    def answer(**values: float) -> None:
        print(json.dumps(values), flush=True)

    answer(**stages)
    for line in sys.stdin:
        command, *rest = line.split()
        if command == "memory":
            answer(megabytes=peak_megabytes())
            continue
        began, core_began = time.perf_counter(), time.process_time()
        loss = run(int(rest[0]))
        seconds, core_seconds = time.perf_counter() - began, time.process_time() - core_began
        answer(seconds=seconds, core_seconds=core_seconds, loss=loss)
