"""Whole fine-tunings of texts: one or several seeds, and what each leaves in its folder."""

import dataclasses
import gc
import posixpath
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.tasks import glue, tables
from keras_bert_tpu.tasks.output_files import write_json
from keras_bert_tpu.tasks.reports import METRICS, Report, spread, write_confusion, write_report
from keras_bert_tpu.tasks.tables import TextExample, label_ids
from keras_bert_tpu.tasks.text_classification import (
    TextClassification,
    arrays_of,
    decide,
    finetune_text_classifier,
)
from keras_bert_tpu.training.task_prediction import Predictor

MODEL, SUBMISSION = "model", "submission"


class TextRun(NamedTuple):
    """What is fine-tuned, and what is predicted afterwards.

    Attributes:
        name: str. Of the task.
        task: TextClassification.
        tests: Name of each split without labels to its examples.
        glue_task: GlueTask or None. Whose submission files are written.
    """

    name: str
    task: TextClassification
    tests: Mapping[str, Sequence[TextExample]]
    glue_task: glue.GlueTask | None = None


def glue_run(name: str, folder: str) -> TextRun:
    """Reads a task of GLUE.

    Args:
        name: str. One of the nine, see `glue.TASKS`.
        folder: str. Local or gs:// folder with its files; those of test may be absent.

    Raises:
        InputError: If there is no such task, or its files are not as they should be.
    """
    task = glue.task_named(name)
    development = {split: glue.read(folder, task, split) for split in task.dev_splits}

    def judge(
        split: str, predictions: np.ndarray, examples: Sequence[TextExample]
    ) -> dict[str, float]:
        return glue.score(predictions.tolist(), examples, task, split)

    tests = {}
    for split in task.test_splits:
        try:
            glue.find_file(folder, task, split)
        except InputError:
            continue
        tests[split] = glue.read(folder, task, split)
    training = glue.read(folder, task, "train")
    classification = TextClassification(task.labels, training, development, judge, task.best_metric)
    return TextRun(task.name, classification, tests, task)


def table_run(
    training: Sequence[TextExample],
    development: Sequence[TextExample],
    labels: Sequence[str],
    name: str,
) -> TextRun:
    """Makes a run of the examples of tables.

    Args:
        training: Examples with labels.
        development: Examples with labels.
        labels: Names of the classes; none for a regression.
        name: str.
    """
    labels = tuple(labels)

    def judge(
        split: str, predictions: np.ndarray, examples: Sequence[TextExample]
    ) -> dict[str, float]:
        return tables.score(predictions.tolist(), examples, labels)

    best_metric = "accuracy" if labels else "pearson"
    task = TextClassification(labels, training, {"dev": development}, judge, best_metric)
    return TextRun(name, task, {})


def run_text(
    run: TextRun,
    checkpoint: str,
    output: str,
    config: FinetuningConfig,
    seeds: int = 1,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, float]:
    """Fine-tunes, and writes the model, metrics, card, pictures and predictions.

    With several seeds each has a folder `seed-N` of its own; `metrics.json` of the output then has
    the means, and `seeds.json` means and standard deviations.

    Args:
        run: TextRun.
        checkpoint: str. What `BertTextClassifier.from_pretrained` reads.
        output: str. Local or gs:// folder.
        config: FinetuningConfig.
        seeds: int. Runs, with the seeds from that of the config on.
        strategy: What `tpu.connect` returned as strategy.

    Returns:
        The metrics of the development set, means over the seeds.

    Raises:
        InputError: If the checkpoint, the examples and the config do not fit together, or the
            output holds a fine-tuning already.
    """
    if tf.io.gfile.exists(posixpath.join(output, METRICS)):
        raise InputError(f"{output} holds a fine-tuning already; choose another output folder.")
    if seeds == 1:
        return _run_once(run, checkpoint, output, config, strategy)
    found = []
    for seed in range(config.seed, config.seed + seeds):
        folder = posixpath.join(output, f"seed-{seed}")
        seeded = dataclasses.replace(config, seed=seed)
        found.append(_run_once(run, checkpoint, folder, seeded, strategy))
        keras.backend.clear_session()
        gc.collect()
    figures = spread(found)
    means = {name: values["mean"] for name, values in figures.items()}
    for name, values in figures.items():
        print(f"{name}: {values['mean']:.4f} ± {values['standard_deviation']:.4f} ({seeds} seeds)")
    write_json(posixpath.join(output, "seeds.json"), figures)
    write_json(posixpath.join(output, METRICS), means)
    return means


def _run_once(
    run: TextRun,
    checkpoint: str,
    output: str,
    config: FinetuningConfig,
    strategy: tf.distribute.Strategy | None,
) -> dict[str, float]:
    task = run.task
    model, done = finetune_text_classifier(task, checkpoint, config, strategy)
    model.save_pretrained(posixpath.join(output, MODEL))
    predictor = Predictor(model, 2 * config.batch_size, 8, strategy)
    if run.glue_task is not None:
        for split, examples in run.tests.items():
            predictions = _predict(predictor, model, examples)
            folder = posixpath.join(output, SUBMISSION)
            path = glue.write_predictions(
                folder, predictions.tolist(), examples, run.glue_task, split
            )
            print(f"The predictions for {split} are in {path}.")
    metrics = dict(done.best.metrics) if done.best else {}
    if task.labels:
        examples = next(iter(task.development.values()))
        predictions = _predict(predictor, model, examples)
        write_confusion(output, predictions, label_ids(examples, task.labels), task.labels)
    sizes = {"train": len(task.training)}
    sizes |= {split: len(examples) for split, examples in task.development.items()}
    report = Report(
        run.name,
        checkpoint,
        sizes,
        task.labels,
        config,
        metrics,
        task.best_metric,
        done.evaluations,
    )
    write_report(output, report)
    return metrics


def _predict(
    predictor: Predictor, model: BertTextClassifier, examples: Sequence[TextExample]
) -> np.ndarray:
    return decide(predictor(arrays_of(model, examples)[0]), model.labels)
