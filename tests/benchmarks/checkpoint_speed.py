"""Seconds and bytes of a checkpoint, saved and restored, beside `tf.train.Checkpoint`.

    python tests/benchmarks/checkpoint_speed.py
    python tests/benchmarks/checkpoint_speed.py --presets small --folder=/mnt/disk --rounds=5

The weights and both moments of each of --presets go to a folder below --folder and come back,
--rounds times, both ways in turn; the medians are printed. Ours writes safetensors with a sha256 of
each file, and checks it when it reads. "background" is how long a save keeps training waiting with
`background_saves`: the copy in memory. Ours is on the disk when `save` returns; what the disk has
not yet taken of the other is flushed between two rounds, and is not counted. The files come back
from the system's cache.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from keras_bert_tpu.config import PRESETS, EncoderConfig
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.training.checkpointing import Checkpointer
from keras_bert_tpu.training.optimizers import BertAdamW


def timed(function: Callable[[], object]) -> float:
    """Returns the seconds that a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def bytes_below(folder: str) -> int:
    """Returns the bytes of all files of a folder."""
    return sum(
        os.path.getsize(os.path.join(path, name))
        for path, _, names in os.walk(folder)
        for name in names
    )


def measure(preset: str, parent: str, rounds: int) -> None:
    """Measures one size and prints its lines."""
    pretrainer = BertPretrainer(EncoderConfig.from_preset(preset), dtype="mixed_bfloat16")
    optimizer = BertAdamW()
    optimizer.build(pretrainer.trainable_variables)
    values = [variable.value for variable in (*pretrainer.weights, *optimizer.variables)]
    for variable in values:
        if variable.dtype == tf.float32:
            variable.assign(tf.random.stateless_normal(variable.shape, [0, 1]))
    peer = tf.train.Checkpoint(values=values)
    columns = ("save", "background", "restore")
    times: dict[str, dict[str, list[float]]] = {
        name: {column: [] for column in columns} for name in ("ours", "tf.train.Checkpoint")
    }
    sizes = {}
    for _ in range(rounds):
        folder = tempfile.mkdtemp(dir=parent)
        try:
            own = Checkpointer(os.path.join(folder, "ours"), pretrainer, optimizer)
            times["ours"]["save"].append(timed(lambda own=own: own.save(1, {})))
            sizes["ours"] = bytes_below(os.path.join(folder, "ours"))
            os.sync()
            times["ours"]["restore"].append(timed(own.restore_latest))
            beside = Checkpointer(
                os.path.join(folder, "background"), pretrainer, optimizer, in_background=True
            )
            times["ours"]["background"].append(timed(lambda beside=beside: beside.save(1, {})))
            beside.wait()
            os.sync()
            prefix = os.path.join(folder, "theirs", "checkpoint")
            times["tf.train.Checkpoint"]["save"].append(
                timed(lambda prefix=prefix: peer.write(prefix))
            )
            sizes["tf.train.Checkpoint"] = bytes_below(os.path.join(folder, "theirs"))
            os.sync()
            times["tf.train.Checkpoint"]["restore"].append(
                timed(lambda prefix=prefix: peer.read(prefix).assert_consumed())
            )
        finally:
            shutil.rmtree(folder)
    print(f"{preset}, {pretrainer.count_params() / 1e6:.1f} million weights")
    for name, columns_of in times.items():
        texts = [
            f"{statistics.median(seconds):10.2f}" if seconds else f"{'-':>10}"
            for seconds in columns_of.values()
        ]
        print(f"  {name:21}{''.join(texts)}{sizes[name] / 1e6:12.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--presets",
        nargs="+",
        default=["small", "base"],
        choices=sorted(PRESETS),
        help="sizes of the model (%(default)s)",
    )
    parser.add_argument("--folder", help="on the disk to measure; the one for temporary files")
    parser.add_argument("--rounds", type=int, default=5, help="that are made (%(default)s)")
    arguments = parser.parse_args()
    print(
        f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.1f}; seconds, "
        f"medians of {arguments.rounds}"
    )
    print(f"{'':23}{'save':>10}{'background':>11}{'restore':>9}{'megabytes':>12}")
    for preset in arguments.presets:
        measure(preset, arguments.folder or tempfile.gettempdir(), arguments.rounds)


if __name__ == "__main__":
    main()
