"""Fine-tuning with every combination of some settings, to find the best."""

import itertools
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.dataclass_yaml import apply_overrides, from_dict, to_dict
from keras_bert_tpu.tasks.output_files import write_json
from keras_bert_tpu.tasks.reports import METRICS
from keras_bert_tpu.tasks.run import finished_metrics, run_task
from keras_bert_tpu.tasks.task import Task

GRID = "grid.json"
# What worked well on all tasks of BERT (arXiv 1810.04805, A.3).
PAPER = ("batch_size=16,32", "learning_rate=5e-5,3e-5,2e-5", "epochs=2,3,4")


def parse_grid(entries: Sequence[str], config: FinetuningConfig) -> dict[str, FinetuningConfig]:
    """Returns the settings of each combination, by a name for its folder.

    Args:
        entries: Such as "learning_rate=2e-5,3e-5"; "paper" stands for `PAPER`.
        config: FinetuningConfig. All other settings.

    Raises:
        InputError: If an entry is no such thing, a setting is unknown or stands twice, or a value
            is not one that it may have.
    """
    values: dict[str, list[str]] = {}
    for entry in itertools.chain.from_iterable(PAPER if e == "paper" else (e,) for e in entries):
        key, _, listed = entry.partition("=")
        found = [value.strip() for value in listed.split(",")]
        if key in values or not all(found):
            raise InputError(
                f"A grid must name each setting once, with its values, for example "
                f"learning_rate=2e-5,3e-5, or be 'paper'. Received: {entry!r}."
            )
        values[key] = found
    combinations = {}
    for combination in itertools.product(*values.values()):
        settings = [f"{key}={value}" for key, value in zip(values, combination, strict=True)]
        overridden = apply_overrides(FinetuningConfig, to_dict(config), settings)
        combinations["_".join(settings)] = from_dict(FinetuningConfig, overridden)
    return combinations


def run_grid(
    task: Task,
    checkpoint: str,
    output: str,
    combinations: Mapping[str, FinetuningConfig],
    seeds: int = 1,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, float]:
    """Fine-tunes with each combination in a folder of its own, and tells which is the best.

    `grid.json` of the output lists all, the best first, by the task's best metric; `metrics.json`
    has the metrics of the best. A grid that was broken off goes on.

    Args:
        task: Task.
        checkpoint: str. What the model's `from_pretrained` reads.
        output: str. Local or gs:// folder.
        combinations: What `parse_grid` returned.
        seeds: int. Runs with each, of which the means count.
        strategy: What `tpu.connect` returned as strategy.

    Returns:
        The metrics of the best.

    Raises:
        InputError: As `run_task`.
        Terminated: After SIGTERM, see `finetuning.finetune`.
    """
    if tf.io.gfile.exists(posixpath.join(output, METRICS)):
        raise InputError(f"{output} holds a fine-tuning already; choose another output folder.")
    found: list[dict[str, Any]] = []
    for number, (name, config) in enumerate(combinations.items(), start=1):
        folder = posixpath.join(output, name)
        print(f"{number} of {len(combinations)}: {name}", flush=True)
        metrics = finished_metrics(folder, checkpoint, config, seeds)
        if metrics is None:
            metrics = run_task(task, checkpoint, folder, config, seeds, strategy)
        found.append({"folder": name, "metrics": metrics})
    found.sort(key=lambda entry: entry["metrics"][task.best_metric], reverse=True)
    best = found[0]
    for entry in found:
        print(f"{task.best_metric} {entry['metrics'][task.best_metric]:.4f}  {entry['folder']}")
    print(f"The best is in {posixpath.join(output, best['folder'])}.", flush=True)
    write_json(
        posixpath.join(output, GRID), {"best_metric": task.best_metric, "combinations": found}
    )
    write_json(posixpath.join(output, METRICS), best["metrics"])
    return best["metrics"]
