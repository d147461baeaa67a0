"""Grids try all combinations, keep the best first, and go on where they were broken off."""

import json

import pytest

from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.tasks import grid
from keras_bert_tpu.tasks.tables import TextExample
from keras_bert_tpu.tasks.text_classification import table_classification


def test_the_grid_of_the_paper_has_18_combinations():
    found = grid.parse_grid(["paper"], FinetuningConfig(seed=7))
    assert len(found) == len(set(found.values())) == 18
    assert {(c.batch_size, c.learning_rate, c.epochs) for c in found.values()} == {
        (batch, rate, epochs)
        for batch in (16, 32)
        for rate in (2e-5, 3e-5, 5e-5)
        for epochs in (2, 3, 4)
    }
    assert {config.seed for config in found.values()} == {7}
    assert found["batch_size=16_learning_rate=5e-5_epochs=2"].learning_rate == 5e-5


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["learning_rate"], "each setting once, with its values.*Received: 'learning_rate'"),
        (["epochs=2,"], "Received: 'epochs=2,'"),
        (["epochs=2", "epochs=3"], "Received: 'epochs=3'"),
        (["paper", "epochs=5"], "Received: 'epochs=5'"),
        (["epoch=2"], "epoch"),
        (["epochs=0"], "epochs must be greater than 0"),
        (["epochs=two"], "epochs"),
    ],
)
def test_what_is_no_grid_is_told(entries, message):
    with pytest.raises(InputError, match=message):
        grid.parse_grid(entries, FinetuningConfig())


@pytest.fixture
def runs(monkeypatch):
    """Stands in for fine-tunings: each leaves its files, and is the better, the larger its rate."""
    made = []

    def run_task(task, checkpoint, output, config, seeds, strategy):
        made.append((output, seeds))
        metrics = {"accuracy": config.learning_rate * 10, "f1": -config.learning_rate}
        grid.tf.io.gfile.makedirs(output)
        for name, values in (
            ("metrics.json", metrics),
            ("card.json", {"checkpoint": checkpoint, "settings": grid.to_dict(config)}),
        ):
            with open(f"{output}/{name}", "w") as file:
                json.dump(values, file)
        return metrics

    monkeypatch.setattr(grid, "run_task", run_task)
    return made


@pytest.fixture
def task():
    examples = [TextExample("0", ("a",), "x"), TextExample("1", ("b",), "y")]
    return table_classification("words", examples, examples, ("x", "y"))


def test_the_best_by_the_main_metric_comes_first(tmp_path, runs, task):
    combinations = grid.parse_grid(["learning_rate=0.02,0.05,0.03"], FinetuningConfig())
    best = grid.run_grid(task, "run/model", str(tmp_path), combinations)
    assert best["accuracy"] == pytest.approx(0.5)
    assert json.loads((tmp_path / "metrics.json").read_text()) == best
    table = json.loads((tmp_path / "grid.json").read_text())
    assert table["best_metric"] == "accuracy"
    folders = [entry["folder"] for entry in table["combinations"]]
    assert folders == ["learning_rate=0.05", "learning_rate=0.03", "learning_rate=0.02"]
    assert [path for path, _ in runs] == [str(tmp_path / name) for name in combinations]
    with pytest.raises(InputError, match="holds a fine-tuning already"):
        grid.run_grid(task, "run/model", str(tmp_path), combinations)


def test_what_is_done_is_not_run_again_unless_it_was_another(tmp_path, runs, task):
    first = grid.parse_grid(["learning_rate=0.02"], FinetuningConfig())
    grid.run_grid(task, "run/model", str(tmp_path), first)
    (tmp_path / "metrics.json").unlink()
    combinations = grid.parse_grid(["learning_rate=0.02,0.05"], FinetuningConfig())
    grid.run_grid(task, "run/model", str(tmp_path), combinations)
    assert [path for path, _ in runs] == [str(tmp_path / name) for name in combinations]
    (tmp_path / "metrics.json").unlink()
    others = grid.parse_grid(["learning_rate=0.02,0.05"], FinetuningConfig(epochs=5))
    with pytest.raises(InputError, match="with other settings than this one"):
        grid.run_grid(task, "run/model", str(tmp_path), others)
    with pytest.raises(InputError, match="with other checkpoint than this one"):
        grid.run_grid(task, "other/model", str(tmp_path), combinations)
