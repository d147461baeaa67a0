"""Speed of fine-tuning and of prediction, beside Hugging Face's models in PyTorch.

    python tests/benchmarks/finetuning_speed.py --checkpoint=MINILM --data=DATA \
        --peer_python=torch-env/bin/python

Three comparisons in float32, of which each round has both, one while the other waits; the ratio is
the median of the rounds'. Flags and environment are those of finetuning_quality.py.

- A step of training at equal padded shapes: the same batch, --steps times.
- From texts in memory to a model trained for an epoch, on the first --rows rows of SST-2 in batches
  of 32: tokenizing, tracing and the padding that each makes are in it, loading the weights is not.
  Ours has batches of like length; PyTorch's are in random order, each padded to its longest row, as
  in the library's examples.
- Scores of the first --texts sentences of novels: our model's `predict` on strings, and the
  library's text-classification pipeline at a batch size of 32.

And, of ours alone, the seconds that the scores of the whole development set of SQuAD 1.1 take to
become answers.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_bert_tpu import BertQuestionAnswerer, BertTextClassifier
from keras_bert_tpu.config import FinetuningConfig
from keras_bert_tpu.tasks import squad
from keras_bert_tpu.tasks.text_classification import GlueClassification
from keras_bert_tpu.text.files import read_lines
from keras_bert_tpu.training.finetuning import finetune
from keras_bert_tpu.training.finetuning_step import ClassificationStep
from keras_bert_tpu.training.optimizers import BertAdamW

sys.path.insert(0, str(Path(__file__).parent / "finetuning_workers"))
from peer import PeerWorker  # noqa: E402

BATCH_SIZE, LENGTH, RATE = 32, 128, 5e-5


def compare(name: str, unit: str, count: int, ways: list[Callable[[], float]], rounds: int) -> None:
    """Prints how fast two ways are, of which each call makes `count` and returns the seconds."""
    speeds = [[count / way() for way in ways] for _ in range(rounds)]
    ours, theirs = (statistics.median(column) for column in zip(*speeds, strict=True))
    ratios = [own / other for own, other in speeds]
    print(
        f"{name}: keras_bert_tpu {ours:.1f} {unit}/s, PyTorch {theirs:.1f}; ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )


def read_sentences(data: str, number: int) -> list[str]:
    """Returns the first sentences of novels."""
    lines = read_lines(str(Path(data) / "corpus" / "novels-00-of-08.txt.gz"))
    return [line.decode() for line in lines if line.strip()][:number]


def compare_steps(worker: PeerWorker, arguments: argparse.Namespace, length: int) -> None:
    """Trains on one full batch."""
    rng = np.random.default_rng(0)
    batch = {
        "token_ids": rng.integers(1000, 30000, (BATCH_SIZE, length), np.int32),
        "segment_ids": np.zeros((BATCH_SIZE, length), np.int32),
        "padding_mask": np.ones((BATCH_SIZE, length), np.int32),
        "label": rng.integers(0, 2, BATCH_SIZE, np.int32),
        "label_weights": np.ones(BATCH_SIZE, np.float32),
    }
    model = BertTextClassifier.from_pretrained(arguments.checkpoint, num_classes=2)
    step = ClassificationStep(model, 1.0, 0)
    optimizer = BertAdamW(RATE, bias_correction=True)
    optimizer.build(model.trainable_variables)
    step.compile(optimizer=optimizer, jit_compile=False)
    batches = tf.data.Dataset.from_tensors(batch).repeat(arguments.steps).prefetch(2)
    path = str(worker.folder / "step.npz")
    np.savez(
        path,
        **{f"{i}/{name}": array for i in range(arguments.steps) for name, array in batch.items()},
    )
    worker.ask("model", kind="classes", outputs=2, path=arguments.checkpoint, seed=0)

    def ours() -> float:
        began = time.perf_counter()
        step.fit(batches, verbose=0)
        return time.perf_counter() - began

    def theirs() -> float:
        return worker.ask("train", batches=path, rates=[RATE] * arguments.steps)["seconds"]

    ours(), theirs()
    rows = BATCH_SIZE * arguments.steps
    compare(f"step of {BATCH_SIZE} x {length}", "rows", rows, [ours, theirs], arguments.rounds)


def compare_training(worker: PeerWorker, arguments: argparse.Namespace) -> None:
    """Trains an epoch from texts."""
    task = GlueClassification("SST-2", str(Path(arguments.data) / "glue" / "SST-2"))
    task.training = task.training[: arguments.rows]
    path = worker.folder / "texts.json"
    texts = [example.texts[0] for example in task.training]
    labels = [task.labels.index(example.label) for example in task.training]
    path.write_text(json.dumps({"texts": texts, "labels": labels}))
    config = FinetuningConfig(epochs=1, seed=0)

    def ours() -> float:
        keras.backend.clear_session()
        model = BertTextClassifier.from_pretrained(
            arguments.checkpoint, labels=task.labels, sequence_length=LENGTH
        )
        began = time.perf_counter()
        training, _ = task.arrays(model, task.training)
        step = task.make_step(model, config)
        finetune(model, step, training, config, lambda predictor: {"none": 0.0}, "none")
        return time.perf_counter() - began

    def theirs() -> float:
        worker.ask("model", kind="classes", outputs=2, path=arguments.checkpoint, seed=0)
        return worker.ask(
            "train_texts", file=str(path), batch_size=BATCH_SIZE, length=LENGTH, rate=RATE
        )["seconds"]

    compare("texts to model", "rows", len(texts), [ours, theirs], arguments.training_rounds)


def compare_prediction(worker: PeerWorker, arguments: argparse.Namespace) -> None:
    """Scores sentences."""
    texts = read_sentences(arguments.data, arguments.texts)
    path = worker.folder / "sentences.json"
    path.write_text(json.dumps({"texts": texts}))
    model = BertTextClassifier.from_pretrained(
        arguments.checkpoint, num_classes=2, sequence_length=LENGTH
    )
    worker.ask("model", kind="classes", outputs=2, path=arguments.checkpoint, seed=0)

    def ours() -> float:
        began = time.perf_counter()
        scores = model.predict(texts, verbose=0)
        assert len(scores) == len(texts)
        return time.perf_counter() - began

    def theirs() -> float:
        answer = worker.ask("classify", file=str(path), batch_size=BATCH_SIZE, length=LENGTH)
        assert answer["texts"] == len(texts)
        return answer["seconds"]

    compare("texts to scores", "sentences", len(texts), [ours, theirs], arguments.rounds)


def measure_questions(arguments: argparse.Namespace) -> None:
    """Times what is done with the scores of the whole development set of SQuAD 1.1."""
    model = BertQuestionAnswerer.from_pretrained(arguments.checkpoint, sequence_length=384)
    questions = squad.read(str(Path(arguments.data) / "squad" / "dev-v1.1.json.gz"))
    began = time.perf_counter()
    features = squad.make_features(questions, model.tokenizer, 384)
    made = time.perf_counter()
    # Random scores have as many candidates as any.
    scores = np.random.default_rng(0).normal(size=(2, *features.token_ids.shape))
    answered = time.perf_counter()
    found = squad.find_answers(*scores, features, questions, version_2=False)
    ended = time.perf_counter()
    squad.score(found.texts, questions, False)
    print(
        f"SQuAD 1.1 dev, {len(questions):,} questions, {len(scores[0]):,} rows: rows made in "
        f"{made - began:.1f} s, answers found in {ended - answered:.1f} s, scored in "
        f"{time.perf_counter() - ended:.1f} s",
        flush=True,
    )


def flags(description: str) -> argparse.ArgumentParser:
    """Returns the flags of comparisons with the peer."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--peer_python", required=True)
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--texts", type=int, default=10_000, help="(%(default)s)")
    return parser


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        default=["questions", "steps", "training", "prediction"],
        help="(%(default)s)",
    )
    parser.add_argument("--steps", type=int, default=20, help="of a round (%(default)s)")
    parser.add_argument("--training_rounds", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--rows", type=int, default=10_000, help="(%(default)s)")
    arguments = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory() as folder:
        worker = PeerWorker(arguments.peer_python, folder)
        if "questions" in arguments.only:
            measure_questions(arguments)
        if "steps" in arguments.only:
            for length in (32, 64, LENGTH):
                compare_steps(worker, arguments, length)
        if "training" in arguments.only:
            compare_training(worker, arguments)
        if "prediction" in arguments.only:
            compare_prediction(worker, arguments)


if __name__ == "__main__":
    main()
