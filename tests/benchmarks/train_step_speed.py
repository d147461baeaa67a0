"""Speed, memory and start of a train step, beside KerasHub's and Hugging Face's in PyTorch.

    python tests/benchmarks/train_step_speed.py
    python tests/benchmarks/train_step_speed.py --peer_python=torch-env/bin/python --only=float32

All make the same step of a BERT with both heads on the same random batch: dropout, AdamW, clipping
by the global norm. Each runs in a process of its own (the programs in train_step_workers/), all at
once, of which one works while the others wait: in each round each of them makes --steps steps,
after one that does not count. The table tells the median of the rounds, and the ratio is the median
of the ratios of the rounds, so that what else the machine does slows down both.

- KerasHub: as Keras compiles it by itself (with XLA), and without XLA.
- PyTorch: needs another environment, of which --peer_python is the python:
      python3 -m venv torch-env && torch-env/bin/pip install transformers torch \
          --extra-index-url=https://download.pytorch.org/whl/cpu
  Its masked language model head scores all positions, because that model does.

"core s" are the seconds of all cores that a step takes, which depend less on what else the machine
does. "of the matrix rate" is the share that the model's own floating point operations (those of the
package's `model_flops`: matrix products of the forward pass times three) have in what the machine
does in a product of two square matrices, measured in the same rounds. "peak memory" is that of the
whole process, TensorFlow included, after all rounds. The times from
the start of the process are those of the fastest of --starts starts, at each of which no other one
works: until all is imported, until the model and the optimizer are built, and until the first step
is done, which includes tracing.

`keras_hub` is no dependency of this package: pip install keras-hub
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

WORKERS = Path(__file__).parent / "train_step_workers"
sys.path.insert(0, str(WORKERS))

import protocol  # noqa: E402
from sizes import encoder_of  # noqa: E402

from keras_bert_tpu.training.flops import model_flops  # noqa: E402

MATRIX_SIZE = 2048


class Way(NamedTuple):
    """One of the train steps that are compared.

    Attributes:
        name: str. What the table calls it.
        command: Of its process.
        dtype: str. "float32" or "bfloat16".
    """

    name: str
    command: list[str]
    dtype: str


class Worker:
    """A process that makes steps when it is told to; it has made one once this is constructed."""

    def __init__(self, way: Way):
        self.way = way
        self._process = subprocess.Popen(
            way.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.stages = self._read()

    def ask(self, command: str) -> dict[str, float]:
        """Sends a line and returns the answer."""
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, float]:
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        sys.exit(f"{self.way.name} ended with status {self._process.wait()}, see above.")


def step_flops(arguments: argparse.Namespace) -> float:
    """Returns the operations of the matrix products of a step, see `model_flops`.

    The masked language model head counts at the masked positions only, wherever a program computes
    more of it.
    """
    encoder = encoder_of(arguments)
    return arguments.batch * model_flops(encoder, arguments.length, arguments.predictions)


def ways_to_train(arguments: argparse.Namespace) -> list[Way]:
    """Returns what is compared; the first of each dtype is the one of this package."""
    shapes = [
        f"--{name}={getattr(arguments, name)}"
        for name in ("layers", "hidden", "heads", "vocabulary", "batch", "length", "predictions")
    ]

    def way(name: str, program: str, python: str, dtype: str, *flags: str) -> Way:
        command = [python, str(WORKERS / program), f"--dtype={dtype}", *flags, *shapes]
        return Way(f"{name}, {dtype}", command, dtype)

    own = sys.executable
    ways = []
    for dtype in arguments.only:
        jit = ["--jit_compile"] if arguments.jit_compile else []
        ways.append(way("keras_bert_tpu", "ours.py", own, dtype, *jit))
        ways.append(way("KerasHub (XLA)", "keras_hub_bert.py", own, dtype, "--jit_compile"))
        ways.append(way("KerasHub (no XLA)", "keras_hub_bert.py", own, dtype))
        if arguments.peer_python and dtype in arguments.peer_only:
            ways.append(way("PyTorch", "hugging_face.py", arguments.peer_python, dtype))
    return ways


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    protocol.add_shapes(parser)
    parser.add_argument("--steps", type=int, default=3, help="of a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="that count (%(default)s)")
    parser.add_argument("--starts", type=int, default=1, help="of each process (%(default)s)")
    parser.add_argument(
        "--only",
        nargs="+",
        default=["float32", "bfloat16"],
        choices=["float32", "bfloat16"],
        help="numbers to compute in (%(default)s)",
    )
    parser.add_argument("--jit_compile", action="store_true", help="compile our step with XLA, too")
    parser.add_argument("--peer_python", help="python that has torch and transformers")
    parser.add_argument(
        "--peer_only",
        nargs="+",
        default=["float32"],
        choices=["float32", "bfloat16"],
        help="what PyTorch computes in (%(default)s); bfloat16 is its automatic mixed precision",
    )
    return parser.parse_args()


def measure_start(way: Way, starts: int) -> tuple[Worker, dict[str, float]]:
    """Starts a way several times and returns the last worker and the stages of the fastest."""
    stages = []
    for number in range(starts):
        worker = Worker(way)
        stages.append(worker.stages)
        if number + 1 < starts:
            worker.close()
    return worker, min(stages, key=lambda values: values["step"])


def main() -> None:
    arguments = parse_arguments()
    began = time.perf_counter()
    ways = ways_to_train(arguments)
    started = [measure_start(way, arguments.starts) for way in ways]
    workers = [worker for worker, _ in started]
    matrices = {
        dtype: Worker(
            Way(
                f"matrix product, {dtype}",
                [
                    sys.executable,
                    str(WORKERS / "matrix_product.py"),
                    f"--dtype={dtype}",
                    f"--size={MATRIX_SIZE}",
                ],
                dtype,
            )
        )
        for dtype in arguments.only
    }
    speeds: dict[str, list[float]] = {way.name: [] for way in ways}
    core_seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    rates: dict[str, list[float]] = {dtype: [] for dtype in matrices}
    for _ in range(arguments.rounds):
        for worker in workers:
            worker.ask("run 1")
            times = worker.ask(f"run {arguments.steps}")
            speeds[worker.way.name].append(arguments.steps * arguments.batch / times["seconds"])
            core_seconds[worker.way.name].append(times["core_seconds"] / arguments.steps)
        for dtype, worker in matrices.items():
            worker.ask("run 3")
            count = 10
            seconds = worker.ask(f"run {count}")["seconds"]
            rates[dtype].append(count * 2.0 * MATRIX_SIZE**3 / seconds)
    memory = {worker.way.name: worker.ask("memory")["megabytes"] for worker in workers}
    for worker in [*workers, *matrices.values()]:
        worker.close()
    stages = [stages for _, stages in started]
    print_tables(arguments, ways, speeds, core_seconds, rates, memory, stages)
    print(f"\n{time.perf_counter() - began:.0f} s in all")


def print_tables(
    arguments: argparse.Namespace,
    ways: list[Way],
    speeds: dict[str, list[float]],
    core_seconds: dict[str, list[float]],
    rates: dict[str, list[float]],
    memory: dict[str, float],
    stages: list[dict[str, float]],
) -> None:
    """Prints one table of the rounds and one of the starts."""
    flops = step_flops(arguments) / arguments.batch
    print(
        f"{arguments.layers} layers of width {arguments.hidden}, {arguments.vocabulary} pieces, "
        f"steps of {arguments.batch} x {arguments.length} tokens with {arguments.predictions} "
        f"predictions: {flops * arguments.batch / 1e9:.1f} GFLOP"
    )
    print(
        f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.1f}; medians of "
        f"{arguments.rounds} rounds of {arguments.steps} steps"
    )
    for dtype, values in rates.items():
        print(
            f"product of two {dtype} matrices of {MATRIX_SIZE} x {MATRIX_SIZE}: "
            f"{statistics.median(values) / 1e9:.0f} GFLOP/s ({min(values) / 1e9:.0f} to "
            f"{max(values) / 1e9:.0f})"
        )
    width = max(len(way.name) for way in ways)
    print(
        f"\n{'':{width}}{'seq/s':>9}{'least':>9}{'most':>9}{'ours/it':>9}{'least':>7}{'most':>7}"
        f"{'core s':>8}{'of the matrix rate':>20}{'peak memory':>13}"
    )
    for way in ways:
        values = speeds[way.name]
        ours = speeds[next(other.name for other in ways if other.dtype == way.dtype)]
        ratios = [own / other for own, other in zip(ours, values, strict=True)]
        shares = [
            speed * flops / rate for speed, rate in zip(values, rates[way.dtype], strict=True)
        ]
        print(
            f"{way.name:{width}}{statistics.median(values):9.2f}{min(values):9.2f}"
            f"{max(values):9.2f}{statistics.median(ratios):9.2f}{min(ratios):7.2f}"
            f"{max(ratios):7.2f}{statistics.median(core_seconds[way.name]):8.2f}"
            f"{statistics.median(shares):20.1%}{memory[way.name]:10.0f} MB"
        )
    print(f"\n{'seconds from the start to':{width}}{'imports':>9}{'built':>9}{'first step':>12}")
    for way, stage in zip(ways, stages, strict=True):
        print(f"{way.name:{width}}{stage['import']:9.1f}{stage['build']:9.1f}{stage['step']:12.1f}")


if __name__ == "__main__":
    main()
