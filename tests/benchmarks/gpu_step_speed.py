"""Speed of the train step on a GPU: Keras' JAX backend beside Hugging Face's in PyTorch.

    python tests/benchmarks/gpu_step_speed.py --peer_python=torch-env/bin/python

Both make the same step of a BERT-base with both heads on the same random batch: dropout, AdamW,
clipping by the global norm, mixed bfloat16. PyTorch's is compiled by torch.compile, with the
attention that it has fused (SDPA); its masked language model head scores all positions, because
that model does. Each runs in a process of its own (the programs in train_step_workers/); in each
round each makes --steps steps, after one that does not count, while the other waits. The ratio is
the median of the ratios of the rounds.

This side needs keras and jax with its CUDA plugin, and no TensorFlow; the other one torch and
transformers. Both may be in one environment.
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from train_step_speed import WORKERS, Way, Worker  # noqa: E402

BASE = {"layers": 12, "hidden": 768, "heads": 12, "vocabulary": 30522}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer_python", required=True, help="python with torch and transformers")
    parser.add_argument(
        "--shapes",
        nargs="+",
        default=["64x128x20", "256x128x20", "64x512x76"],
        help="rows x tokens x predictions (%(default)s)",
    )
    for name, default in BASE.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    parser.add_argument("--device", default="cuda", help="of PyTorch (%(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="of a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="that count (%(default)s)")
    return parser.parse_args()


def ways_to_train(arguments: argparse.Namespace, shape: str) -> list[Way]:
    """Returns our program and the peer's for a shape."""
    sizes = dict(zip(("batch", "length", "predictions"), shape.split("x"), strict=True))
    sizes |= {name: getattr(arguments, name) for name in BASE}
    flags = ["--dtype=bfloat16", *(f"--{name}={size}" for name, size in sizes.items())]
    peer = [arguments.peer_python, str(WORKERS / "hugging_face.py"), *flags]
    return [
        Way("JAX", [sys.executable, str(WORKERS / "ours_on_jax.py"), *flags], "bfloat16"),
        Way("PyTorch", [*peer, f"--device={arguments.device}", "--compile"], "bfloat16"),
    ]


def main() -> None:
    arguments = parse_arguments()
    print("| rows x tokens x predictions | keras_bert_tpu on JAX | PyTorch | ratio | least, most |")
    print("| --- | --- | --- | --- | --- |")
    for shape in arguments.shapes:
        workers = [Worker(way) for way in ways_to_train(arguments, shape)]
        speeds: list[list[float]] = [[], []]
        for _ in range(arguments.rounds):
            for worker, values in zip(workers, speeds, strict=True):
                worker.ask("run 1")
                seconds = worker.ask(f"run {arguments.steps}")["seconds"]
                values.append(arguments.steps * int(shape.split("x")[0]) / seconds)
        for worker in workers:
            worker.close()
        ratios = [own / other for own, other in zip(*speeds, strict=True)]
        own, other = (f"{statistics.median(values):,.1f} sequences/s" for values in speeds)
        print(
            f"| {shape.replace('x', ' x ')} | {own} | {other} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f}, {max(ratios):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
