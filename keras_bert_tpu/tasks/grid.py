"""A grid of settings: each is tried on the development set, and the model of the best is kept."""

import dataclasses
import gc
import itertools
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_tpu.checkpoints.storage import list_folder, read_json_object
from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.dataclass_yaml import apply_overrides, from_dict, to_dict
from keras_bert_tpu.tasks.output_files import write_json
from keras_bert_tpu.tasks.reports import METRICS
from keras_bert_tpu.tasks.run import (
    CHECKPOINTS,
    MODEL,
    SAVING,
    make_model,
    require_unused,
    run_task,
    seed_folders,
    without_saving,
)
from keras_bert_tpu.tasks.task import Task
from keras_bert_tpu.training.finetuning import DivergedError, require_shared_batch
from keras_bert_tpu.training.finetuning_checkpoints import require_same

GRID, SETTINGS, DIVERGED = "grid.json", "grid", "diverged.json"
# arXiv 1810.04805, A.3.
PAPER = {"epochs": (2, 3, 4), "batch_size": (16, 32), "learning_rate": (5e-5, 3e-5, 2e-5)}
_EXAMPLE = "learning_rate=2e-5,3e-5"
# What a model and its step are made by; all others say how they are trained.
_MADE_BY = ("sequence_length", "class_weights", "lora_rank")


def read_grid(texts: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Reads settings and the values to try.

    Args:
        texts: Each "key=value,value" of a setting of `FinetuningConfig` that is one value, or
            "paper": epochs 2, 3, 4, batches of 16, 32, and learning rates 5e-5, 3e-5, 2e-5
            (arXiv 1810.04805, A.3).

    Returns:
        Dict of the names of settings to their values, in the order given.

    Raises:
        InputError: If there is no such setting, a value does not fit, or one is given twice.
    """
    grid: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        found = PAPER if text == "paper" else _read_axis(text)
        for name in found:
            if name in grid:
                raise InputError(f"{name} is given to the grid twice; give all its values at once.")
        grid |= found
    return grid


def run_grid(
    task: Task,
    checkpoint: str,
    output: str,
    config: FinetuningConfig,
    grid: Mapping[str, Sequence[Any]],
    seeds: int = 1,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, float]:
    """Fine-tunes with each combination of settings, and keeps the model of the best.

    The output is what `run_task` writes with the best settings, and `grid.json`, a table of all
    settings and their metrics, best by the task's `best_metric`; with several seeds the means
    decide. Each combination has a folder in `grid/` with all but the model. What was broken off
    goes on: combinations that are done are not run again, and others may be added or left out.

    One whose loss is not finite any more is out of the race.

    Args:
        task: Task.
        checkpoint: str. What the model's `from_pretrained` reads.
        output: str. Local or gs:// folder.
        config: FinetuningConfig. The settings that are not in the grid.
        grid: Mapping of the names of settings to values, as `read_grid` returns it.
        seeds: int. Runs of each combination, with the seeds from that of the config on.
        strategy: What `tpu.connect` returned as strategy.

    Returns:
        The metrics of the development set for the best settings, means over the seeds.

    Raises:
        InputError: If a combination does not fit the checkpoint and the examples (before anything
            is trained), all diverge, or the output holds a fine-tuning already or another grid.
        Terminated: After SIGTERM, see `finetuning.finetune`.
    """
    require_unused(output)
    strategy = strategy or tf.distribute.get_strategy()
    run = _Grid(task, checkpoint, output, config, seeds, strategy)
    settings = _combinations(config, grid)
    _try_to_make(task, checkpoint, settings, strategy)
    entries: list[dict[str, Any]] = []
    run.write_table(entries, None)
    for number, (name, combined) in enumerate(settings.items(), 1):
        print(f"Settings {number} of {len(settings)}: {name}", flush=True)
        values = {key: getattr(combined, key) for key in grid}
        entries.append({"folder": name, "settings": values, **run.result(name, combined)})
        best = run.best(entries)
        run.write_table(entries, best)
        run.remove_models(entry["folder"] for entry in entries if entry is not best)
    if best is None:
        raise InputError(f"All settings diverged, the last: {entries[-1]['diverged']}")
    if not run.has_model(best["folder"]):
        # It was second to settings that the grid does not have any more.
        best.update(run.again(best["folder"], settings[best["folder"]]))
        run.write_table(entries, best)
    print(f"Best of {len(settings)} by {task.best_metric}: {best['folder']}", flush=True)
    run.finish(best)
    return best["metrics"]


class _Grid:
    """The folder of a grid, which holds one task, checkpoint and choice of other settings only."""

    def __init__(
        self,
        task: Task,
        checkpoint: str,
        output: str,
        config: FinetuningConfig,
        seeds: int,
        strategy: tf.distribute.Strategy,
    ):
        self.task, self.checkpoint, self.output = task, checkpoint, output
        self.config, self.seeds, self.strategy = config, seeds, strategy
        self.folder = posixpath.join(output, SETTINGS)
        self.identity = {
            "task": task.name,
            "data": dict(task.sizes),
            "labels": list(task.labels),
            "checkpoint": checkpoint,
            "seeds": seeds,
            "settings": without_saving(to_dict(config)),
        }
        if any(self._is_done(name) for name in self._names()):
            found = read_json_object(posixpath.join(output, GRID))
            require_same(output, found.get("of", {}), self.identity)

    def result(self, name: str, config: FinetuningConfig) -> dict[str, Any]:
        """Trains with some settings, if it is not done; returns metrics, or how it diverged."""
        folder = posixpath.join(self.folder, name)
        for key, file in (("metrics", METRICS), ("diverged", DIVERGED)):
            if tf.io.gfile.exists(path := posixpath.join(folder, file)):
                print(f"{folder} is done already.", flush=True)
                found = read_json_object(path)
                return {key: found[key] if key == "diverged" else found}
        try:
            metrics = run_task(
                self.task, self.checkpoint, folder, config, self.seeds, self.strategy
            )
            return {"metrics": metrics}
        except DivergedError as error:
            print(f"{name} diverged: {error}", flush=True)
            found = {"diverged": str(error)}
        finally:
            _forget_models()
        tf.io.gfile.rmtree(folder)
        write_json(posixpath.join(folder, DIVERGED), found)
        return found

    def again(self, name: str, config: FinetuningConfig) -> dict[str, Any]:
        """Trains anew with settings that are done."""
        tf.io.gfile.rmtree(posixpath.join(self.folder, name))
        return self.result(name, config)

    def best(self, entries: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """Returns the first of the best; None if all diverged."""
        scored = [entry for entry in entries if "metrics" in entry]
        return max(scored, key=lambda e: e["metrics"][self.task.best_metric], default=None)

    def write_table(
        self, entries: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None
    ) -> None:
        """Writes grid.json; `best` is that of the settings so far."""
        table = {
            "best": best and best["folder"],
            "best_metric": self.task.best_metric,
            "table": list(entries),
            "of": self.identity,
        }
        write_json(posixpath.join(self.output, GRID), table)

    def has_model(self, name: str) -> bool:
        """Tells whether the models of some settings are there."""
        return all(tf.io.gfile.exists(path) for path in self._models(name))

    def remove_models(self, names: Iterable[str]) -> None:
        """Removes the models of settings that are not the best: they take most of the disk."""
        for path in itertools.chain.from_iterable(self._models(name) for name in names):
            if tf.io.gfile.exists(path):
                tf.io.gfile.rmtree(path)

    def finish(self, best: Mapping[str, Any]) -> None:
        """Puts what the best settings gave where it is without a grid."""
        source = posixpath.join(self.folder, best["folder"])
        _copy_folder(source, self.output)
        write_json(posixpath.join(self.output, METRICS), best["metrics"])
        # Those of settings, too, that were in the grid before it was broken off.
        self.remove_models(self._names())

    def _names(self) -> set[str]:
        return list_folder(self.folder) if tf.io.gfile.isdir(self.folder) else set()

    def _is_done(self, name: str) -> bool:
        paths = (posixpath.join(self.folder, name, file) for file in (METRICS, DIVERGED))
        return any(tf.io.gfile.exists(path) for path in paths)

    def _models(self, name: str) -> list[str]:
        folder = posixpath.join(self.folder, name)
        folders = [folder]
        if self.seeds > 1:
            folders = list(seed_folders(folder, self.config, self.seeds).values())
        return [posixpath.join(folder, MODEL) for folder in folders]


def _read_axis(text: str) -> dict[str, tuple[Any, ...]]:
    name, _, values = text.partition("=")
    if not name or not values:
        raise InputError(
            f"A grid is 'paper' or key=value,value, for example {_EXAMPLE}. Received: {text!r}."
        )
    default = to_dict(FinetuningConfig()).get(name.partition(".")[0])
    if isinstance(default, list) or name in ("seed", *SAVING):
        raise InputError(
            f"{name} is nothing that a grid can choose; it has settings of one number or word, for "
            f"example {_EXAMPLE}, and each runs with as many seeds as --seeds says."
        )
    found = []
    for value in values.split(","):
        read = apply_overrides(FinetuningConfig, {}, [f"{name}={value}"])
        found.append(getattr(from_dict(FinetuningConfig, read), name))
        if found[-1] in found[:-1]:
            raise InputError(f"The grid has {name}={found[-1]} twice; leave one out.")
    return {name: tuple(found)}


def _combinations(
    config: FinetuningConfig, grid: Mapping[str, Sequence[Any]]
) -> dict[str, FinetuningConfig]:
    """All of the grid under the names of their folders, which do not depend on the grid's order."""
    names = [field.name for field in dataclasses.fields(config) if field.name in grid]
    found = {}
    for values in itertools.product(*(grid[name] for name in names)):
        combination = dict(zip(names, values, strict=True))
        title = ",".join(f"{name}={value}" for name, value in combination.items())
        try:
            found[title] = dataclasses.replace(config, **combination)
        except InputError as error:
            raise InputError(f"{title} of the grid: {error}") from error
    return found


def _try_to_make(
    task: Task,
    checkpoint: str,
    settings: Mapping[str, FinetuningConfig],
    strategy: tf.distribute.Strategy,
) -> None:
    """Tells before the first training what only the last would tell, hours later."""
    for config in settings.values():
        require_shared_batch(config, strategy)
    different = {tuple(getattr(c, name) for name in _MADE_BY): c for c in settings.values()}
    for config in different.values():
        make_model(task, checkpoint, config, strategy)
        _forget_models()


def _forget_models() -> None:
    keras.backend.clear_session()
    gc.collect()


def _copy_folder(source: str, target: str) -> None:
    """Copies all files but what tells that all are there, and checkpoints."""
    for folder, _, files in tf.io.gfile.walk(source):
        below = posixpath.relpath(folder, source)
        if CHECKPOINTS in below.split("/"):
            continue
        made = target if below == "." else posixpath.join(target, below)
        tf.io.gfile.makedirs(made)
        for file in files:
            if below == "." and file == METRICS:
                continue
            paths = (posixpath.join(base, file) for base in (folder, made))
            tf.io.gfile.copy(*paths, overwrite=True)
