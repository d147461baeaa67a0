"""A grid tries all settings, goes on where it was broken off, and leaves the model of the best."""

import importlib.resources
import json
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.tasks import grid
from keras_bert_tpu.tasks.grid import read_grid, run_grid
from keras_bert_tpu.tasks.output_files import write_json
from keras_bert_tpu.tasks.run import run_task
from keras_bert_tpu.tasks.tables import TextExample
from keras_bert_tpu.tasks.text_classification import (
    TextClassification,
    decide,
    table_classification,
)
from keras_bert_tpu.training.task_prediction import Predictor

TESTS = pathlib.Path(__file__).parents[1]
CHECKPOINT = str(TESTS / "golden" / "mini_reference")
PROGRAM = TESTS / "training" / "finetuning_run.py"
LABELS = ("novel", "speech")
CONFIG = FinetuningConfig(sequence_length=48, epochs=1, batch_size=16)
FEW = [TextExample(str(i), (text,), text[0]) for i, text in enumerate(["a day", "b night"] * 4)]


def run(folder, *options):
    command = [sys.executable, str(PROGRAM), str(folder), "grid=epochs=1,2", *options]
    return subprocess.run(command, capture_output=True, text=True)


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def read(path):
    return json.loads(path.read_text())


def judged(figures):
    """A task of whose evaluations one after the other has the next of the figures."""
    figures = iter(figures)

    def judge(split, predictions, examples):
        return {"accuracy": next(figures)}

    return TextClassification("t", ("a", "b"), FEW, {"dev": FEW}, judge, "accuracy")


@pytest.fixture
def trained(monkeypatch):
    """Nothing is trained, but noted, and has the metrics that are set for its epochs."""
    names, metrics = [], {}

    def run_task(task, checkpoint, folder, config, seeds, strategy):
        path = pathlib.Path(folder)
        names.append(path.name)
        (path / "model").mkdir(parents=True)
        (path / "model" / "weights").write_text(f"{path.name} {len(names)}")
        write_json(str(path / "metrics.json"), metrics[path.name])
        return metrics[path.name]

    def set_accuracy(of_epochs):
        metrics.update({f"epochs={k}": {"accuracy": v} for k, v in of_epochs.items()})

    monkeypatch.setattr(grid, "run_task", run_task)
    monkeypatch.setattr(grid, "make_model", lambda *arguments: None)
    return names, set_accuracy


def test_the_grid_of_the_paper():
    assert read_grid(["paper"]) == {
        "batch_size": (16, 32),
        "learning_rate": (5e-5, 3e-5, 2e-5),
        "epochs": (2, 3, 4),
    }
    assert len(grid._combinations(CONFIG, read_grid(["paper"]))) == 18


def test_values_are_read_as_those_of_settings():
    texts = ["learning_rate=2e-5,1", "schedule=cosine,constant", "by_length=true,false"]
    assert read_grid(texts) == {
        "learning_rate": (2e-5, 1.0),
        "schedule": ("cosine", "constant"),
        "by_length": (True, False),
    }


def test_the_best_settings_leave_what_they_leave_alone(tmp_path):
    examples = ([], [])
    for label, name in zip(LABELS, ("the_secret_garden.txt", "speeches.txt"), strict=True):
        text = (importlib.resources.files("keras_bert_tpu.sample") / name).read_text("utf-8")
        lines = [line for line in text.splitlines() if len(line) > 40]
        for i, line in enumerate(lines[:180]):
            examples[i >= 120].append(TextExample(f"{label}-{i}", (line,), label))
    task = table_classification("sources", *examples, LABELS)
    tried = {"learning_rate": (1e-7, 3e-4, 1e-6)}
    metrics = run_grid(task, CHECKPOINT, str(tmp_path / "grid"), CONFIG, tried)
    output = tmp_path / "grid"

    # Half of the examples are of either class.
    assert metrics["accuracy"] > 0.85
    assert read(output / "metrics.json") == metrics
    model = BertTextClassifier.from_pretrained(str(output / "model"))
    predicted = decide(model, Predictor(model, 32)(task.arrays(model, examples[1])[0]))
    labels = [LABELS.index(example.label) for example in examples[1]]
    assert np.mean(predicted == labels) == pytest.approx(metrics["accuracy"])

    table = read(output / "grid.json")
    assert (table["best"], table["best_metric"]) == ("learning_rate=0.0003", "accuracy")
    rates = [entry["settings"]["learning_rate"] for entry in table["table"]]
    assert rates == [1e-7, 3e-4, 1e-6]
    assert table["table"][1]["metrics"] == metrics
    assert all(table["table"][i]["metrics"]["accuracy"] < 0.75 for i in (0, 2))
    for entry in table["table"]:
        folder = output / "grid" / entry["folder"]
        assert read(folder / "card.json")["settings"]["learning_rate"] in rates
        assert read(folder / "metrics.json") == entry["metrics"]
        assert not (folder / "model").exists()

    best = FinetuningConfig(**{**vars(CONFIG), "learning_rate": 3e-4})
    run_task(task, CHECKPOINT, str(tmp_path / "alone"), best)
    alone = files(tmp_path / "alone")
    shared = {name: content for name, content in files(output).items() if name in alone}
    assert shared == alone
    with pytest.raises(InputError, match="holds a fine-tuning already"):
        run_grid(task, CHECKPOINT, str(output), CONFIG, tried)


def test_killed_it_ends_as_unbroken(tmp_path):
    done = run(tmp_path / "unbroken")
    assert done.returncode == 0, done.stderr
    # Only the settings with two epochs have 12 steps.
    folder = tmp_path / "run"
    assert run(folder, "after=12", "does=kill").returncode == -9
    assert [entry["folder"] for entry in read(folder / "grid.json")["table"]] == ["epochs=1"]
    assert not (folder / "metrics.json").exists()
    other = run(shutil.copytree(folder, tmp_path / "other"), "weight_decay=0.5")
    assert other.returncode == 1
    assert "settings.weight_decay is 0.01, and here it is 0.5" in other.stderr

    again = run(folder)
    assert again.returncode == 0, again.stderr
    assert "epochs=1 is done already" in again.stdout
    assert "9/16" in again.stderr and "/8 " not in again.stderr  # The bar of one epoch.
    assert files(folder) == files(tmp_path / "unbroken")


def test_means_over_the_seeds_decide(tmp_path):
    task = judged([0.9, 0.1, 0.6, 0.6])
    tried = {"learning_rate": (1e-5, 2e-5)}
    metrics = run_grid(task, CHECKPOINT, str(tmp_path), CONFIG, tried, seeds=2)
    assert metrics == {"accuracy": 0.6}
    table = read(tmp_path / "grid.json")
    means = [entry["metrics"]["accuracy"] for entry in table["table"]]
    assert table["best"] == "learning_rate=2e-05" and means == [0.5, 0.6]
    assert read(tmp_path / "seeds.json")["accuracy"]["mean"] == 0.6
    for seed in (12345, 12346):
        folder = tmp_path / f"seed-{seed}"
        settings = read(folder / "card.json")["settings"]
        assert (settings["seed"], settings["learning_rate"]) == (seed, 2e-5)
        assert BertTextClassifier.from_pretrained(str(folder / "model")).labels == ("a", "b")
    assert not list((tmp_path / "grid").rglob("model"))


def test_settings_that_diverge_are_out_of_the_race(tmp_path):
    task = table_classification("t", FEW, FEW, ("a", "b"))
    tried = {"learning_rate": (1e30, 1e-4), "epochs": (2,)}
    config = FinetuningConfig(sequence_length=16, batch_size=4, warmup_rate=0.0)
    run_grid(task, CHECKPOINT, str(tmp_path), config, tried)
    table = read(tmp_path / "grid.json")
    diverged, trained = table["table"]
    assert "The loss is not finite in epoch" in diverged["diverged"]
    assert table["best"] == trained["folder"] == "epochs=2,learning_rate=0.0001"
    (left,) = files(tmp_path / "grid" / diverged["folder"])
    assert left == "diverged.json"


def test_those_that_diverged_are_not_run_again(tmp_path, trained, monkeypatch):
    def diverge(*arguments):
        seen.append(arguments)
        pathlib.Path(arguments[2]).mkdir(parents=True)
        raise grid.DivergedError("The loss is not finite.")

    seen = []
    monkeypatch.setattr(grid, "run_task", diverge)
    for _ in range(2):
        with pytest.raises(InputError, match="All settings diverged, the last: The loss is not"):
            run_grid(judged([]), CHECKPOINT, str(tmp_path), CONFIG, {"epochs": (1, 2)})
    assert len(seen) == 2
    assert not (tmp_path / "metrics.json").exists()


def test_batches_that_replicas_cannot_share_are_told_first(tmp_path, trained):
    names, _ = trained
    strategy = types.SimpleNamespace(num_replicas_in_sync=3)
    tried = {"batch_size": (3, 4)}
    with pytest.raises(InputError, match="batch_size=4 cannot be divided among 3 replicas"):
        run_grid(judged([]), CHECKPOINT, str(tmp_path), CONFIG, tried, strategy=strategy)
    assert not names and not list(tmp_path.iterdir())


def test_models_that_are_not_the_best_do_not_fill_the_disk(tmp_path, trained, monkeypatch):
    names, set_accuracy = trained
    set_accuracy({1: 0.5, 2: 0.8, 3: 0.6, 4: 0.8})
    most = []

    def look(self, entries, best):
        most.append(sorted(path.parent.name for path in tmp_path.rglob("model")))
        write_table(self, entries, best)

    write_table = grid._Grid.write_table
    monkeypatch.setattr(grid._Grid, "write_table", look)
    run_grid(judged([]), CHECKPOINT, str(tmp_path), CONFIG, {"epochs": (1, 2, 3, 4)})
    # Of those as good the first is kept.
    expected = [[], [1], [1, 2], [2, 3], [2, 4]]
    assert most == [[f"epochs={number}" for number in found] for found in expected]
    assert (tmp_path / "model" / "weights").read_text() == "epochs=2 2"


def test_settings_are_added_and_left_out_where_it_goes_on(tmp_path, trained):
    names, set_accuracy = trained
    set_accuracy({1: 0.5, 2: 0.8})
    with pytest.raises(KeyError):  # Broken off.
        run_grid(judged([]), CHECKPOINT, str(tmp_path), CONFIG, {"epochs": (1, 2, 3)})
    shutil.rmtree(tmp_path / "grid" / "epochs=3")
    set_accuracy({4: 0.4})
    run_grid(judged([]), CHECKPOINT, str(tmp_path), CONFIG, {"epochs": (4, 1)})
    # The model of one epoch was removed for the one of two, which is not asked for any more.
    assert names == ["epochs=1", "epochs=2", "epochs=3", "epochs=4", "epochs=1"]
    assert (tmp_path / "model" / "weights").read_text() == "epochs=1 5"
    table = read(tmp_path / "grid.json")
    assert table["best"] == "epochs=1"
    assert [entry["folder"] for entry in table["table"]] == ["epochs=4", "epochs=1"]
    assert not list((tmp_path / "grid").rglob("model"))
