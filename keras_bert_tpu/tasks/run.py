"""Whole fine-tunings: from a pre-trained encoder to a folder with a model and all about it."""

import dataclasses
import gc
import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_tpu.checkpoints.storage import read_json_object
from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.dataclass_yaml import to_dict
from keras_bert_tpu.models.task_model import TaskModel
from keras_bert_tpu.tasks.output_files import write_json
from keras_bert_tpu.tasks.reports import CARD_VALUES, METRICS, Report, spread, write_report
from keras_bert_tpu.tasks.task import EncodedTask, Task
from keras_bert_tpu.training.finetuning import Finetuned, finetune
from keras_bert_tpu.training.finetuning_checkpoints import FinetuningCheckpoints
from keras_bert_tpu.training.finetuning_step import TaskStep
from keras_bert_tpu.training.initialization import freeze
from keras_bert_tpu.training.low_rank import LowRankUpdates
from keras_bert_tpu.training.task_batches import TaskArrays

MODEL, SEEDS, CHECKPOINTS = "model", "seeds.json", "checkpoints"
SAVING = ("save_every", "save_seconds")


def finetune_task(
    task: Task,
    checkpoint: str,
    config: FinetuningConfig,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    folder: str | None = None,
) -> tuple[TaskModel, EncodedTask, Finetuned]:
    """Puts a head on a pre-trained encoder and trains both.

    Args:
        task: Task.
        checkpoint: str. What the model's `from_pretrained` reads.
        config: FinetuningConfig.
        strategy: What `tpu.connect` returned as strategy. Defaults to the current one.
        callbacks: Keras callbacks, see `finetuning.finetune`.
        folder: str. Local or gs:// folder for checkpoints; one that has some of this very
            fine-tuning has it go on from there.

    Returns:
        The model with its best weights, the task's rows, and what the evaluations gave.

    Raises:
        InputError: If the checkpoint, the examples and the config do not fit together, or the
            folder has checkpoints of another fine-tuning.
        Terminated: After SIGTERM, see `finetuning.finetune`.
    """
    strategy = strategy or tf.distribute.get_strategy()
    model, step = make_model(task, checkpoint, config, strategy)
    encoded = task.encode(model)
    for remark in encoded.remarks:
        print(remark, flush=True)
    saved = None
    if folder is not None:
        identity = _identity(task, checkpoint, encoded.training, config)
        saved = FinetuningCheckpoints(folder, identity, config.save_seconds)
    done = finetune(
        model,
        step,
        encoded.training,
        config,
        encoded.evaluate,
        task.best_metric,
        strategy,
        callbacks,
        saved,
    )
    return model, encoded, done


def make_model(
    task: Task, checkpoint: str, config: FinetuningConfig, strategy: tf.distribute.Strategy
) -> tuple[TaskModel, TaskStep]:
    """Puts a head on a pre-trained encoder, as the seed says, and makes the step that trains both.

    Raises:
        InputError: If the checkpoint, the task and the config do not fit together.
    """
    keras.utils.set_random_seed(config.seed)
    policy = "mixed_bfloat16" if config.compute_dtype == "bfloat16" else "float32"
    with strategy.scope():
        model = task.model_class.from_pretrained(
            checkpoint,
            labels=task.labels,
            sequence_length=config.sequence_length,
            dtype=policy,
            **task.head(),
        )
        freeze(model, config.frozen_layers)
        updates = None
        if config.lora_rank:
            updates = LowRankUpdates(
                model, config.lora_rank, config.lora_alpha, config.lora_targets
            )
        step = task.make_step(model, config)
        if updates:
            step.use_low_rank(updates)
    return model, step


def without_saving(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings but those of when it saves, which no result depends on."""
    return {name: settings[name] for name in settings if name not in SAVING}


def seed_folders(output: str, config: FinetuningConfig, seeds: int) -> dict[int, str]:
    """Returns each seed of a fine-tuning with several, and its folder in the output."""
    found = range(config.seed, config.seed + seeds)
    return {seed: posixpath.join(output, f"seed-{seed}") for seed in found}


def require_unused(output: str) -> None:
    """Raises InputError if the output has the metrics of a fine-tuning that ended."""
    if tf.io.gfile.exists(posixpath.join(output, METRICS)):
        raise InputError(f"{output} holds a fine-tuning already; choose another output folder.")


def _identity(
    task: Task, checkpoint: str, training: TaskArrays, config: FinetuningConfig
) -> dict[str, Any]:
    """What makes a fine-tuning the one that it is; when it saves does not."""
    data = hashlib.sha256()
    for name, array in sorted({**training.tokens, **training.labels}.items()):
        data.update(name.encode())
        data.update(np.ascontiguousarray(array))
    return {
        "task": task.name,
        "checkpoint": checkpoint,
        "settings": without_saving(to_dict(config)),
        "training_data_sha256": data.hexdigest(),
    }


def run_task(
    task: Task,
    checkpoint: str,
    output: str,
    config: FinetuningConfig,
    seeds: int = 1,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, float]:
    """Fine-tunes, and writes the model, metrics, card, pictures and predictions.

    With several seeds each has a folder `seed-N` of its own; `metrics.json` of the output then has
    the means, and `seeds.json` means and standard deviations. What was broken off goes on: seeds
    that are done are not run again, and the one that was not goes on from its last checkpoint.

    Args:
        task: Task.
        checkpoint: str. What the model's `from_pretrained` reads.
        output: str. Local or gs:// folder.
        config: FinetuningConfig.
        seeds: int. Runs, with the seeds from that of the config on.
        strategy: What `tpu.connect` returned as strategy.

    Returns:
        The metrics of the development set, means over the seeds.

    Raises:
        InputError: If the checkpoint, the examples and the config do not fit together, or the
            output holds a fine-tuning already, or checkpoints of another one.
        Terminated: After SIGTERM, see `finetuning.finetune`.
    """
    require_unused(output)
    if seeds == 1:
        return _run_once(task, checkpoint, output, config, strategy)
    found = []
    for seed, folder in seed_folders(output, config, seeds).items():
        seeded = dataclasses.replace(config, seed=seed)
        if tf.io.gfile.exists(posixpath.join(folder, METRICS)):
            found.append(_finished(folder, checkpoint, seeded))
            continue
        found.append(_run_once(task, checkpoint, folder, seeded, strategy))
        keras.backend.clear_session()
        gc.collect()
    figures = spread(found)
    means = {name: values["mean"] for name, values in figures.items()}
    for name, values in figures.items():
        print(f"{name}: {values['mean']:.4f} ± {values['standard_deviation']:.4f} ({seeds} seeds)")
    write_json(posixpath.join(output, SEEDS), figures)
    write_json(posixpath.join(output, METRICS), means)
    return means


def _run_once(
    task: Task,
    checkpoint: str,
    output: str,
    config: FinetuningConfig,
    strategy: tf.distribute.Strategy | None,
) -> dict[str, float]:
    checkpoints = posixpath.join(output, CHECKPOINTS)
    model, encoded, done = finetune_task(task, checkpoint, config, strategy, folder=checkpoints)
    model.save_pretrained(posixpath.join(output, MODEL))
    encoded.write_outputs(output, done.predictor)
    metrics = dict(done.best.metrics)
    report = Report(
        task.name,
        checkpoint,
        task.sizes,
        task.labels,
        config,
        metrics,
        task.best_metric,
        done.evaluations,
        done.trained_parameters,
        model.count_params(),
    )
    write_report(output, report)  # Last: its metrics.json tells that all is there.
    tf.io.gfile.rmtree(checkpoints)
    return metrics


def _finished(folder: str, checkpoint: str, config: FinetuningConfig) -> dict[str, float]:
    """The metrics of a seed that is done already, if it is of the same settings."""
    card = read_json_object(posixpath.join(folder, CARD_VALUES))
    card["settings"] = without_saving(card.get("settings", {}))
    settings = json.loads(json.dumps(without_saving(to_dict(config))))
    for name, value in (("checkpoint", checkpoint), ("settings", settings)):
        if card.get(name) != value:
            raise InputError(
                f"{folder} holds a fine-tuning with other {name} than this one; choose another "
                f"output folder."
            )
    print(f"{folder} is done already.", flush=True)
    return read_json_object(posixpath.join(folder, METRICS))
