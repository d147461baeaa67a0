"""A real model learns to tell sentences of a novel from those of speeches."""

import importlib.resources
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.tasks import reports
from keras_bert_tpu.tasks.run import finetune_task, run_task
from keras_bert_tpu.tasks.tables import TextExample
from keras_bert_tpu.tasks.text_classification import (
    TextClassification,
    decide,
    table_classification,
)
from keras_bert_tpu.training.task_prediction import Predictor

CHECKPOINT = str(pathlib.Path(__file__).parents[1] / "golden" / "mini_reference")
LABELS = ("novel", "speech")
SETTINGS = {"sequence_length": 48, "learning_rate": 2e-4, "epochs": 1, "batch_size": 16}


def sentences(name):
    text = (importlib.resources.files("keras_bert_tpu.sample") / name).read_text("utf-8")
    return [line for line in text.splitlines() if len(line) > 40]


@pytest.fixture(scope="module")
def examples():
    """600 to train on and 200 to judge by, half of each class, not shuffled."""
    found = []
    for label, name in zip(LABELS, ("the_secret_garden.txt", "speeches.txt"), strict=True):
        lines = sentences(name)[:400]
        found.append([TextExample(f"{label}-{i}", (t,), label) for i, t in enumerate(lines)])
    training = [e for part in found for e in part[:300]]
    return training, [e for part in found for e in part[300:]]


def task_of(training, development, labels=LABELS):
    return table_classification("sources", training, development, labels)


@pytest.fixture(scope="module")
def trained(examples):
    task = task_of(*examples)
    model, _, done = finetune_task(task, CHECKPOINT, FinetuningConfig(**SETTINGS))
    return task, model, done


def test_classes_are_learned(trained):
    _, _, done = trained
    # Half of the examples are of either class.
    assert done.best.metrics["accuracy"] > 0.9


def test_saved_model_has_its_labels_and_predicts_the_same(tmp_path, trained, examples):
    task, model, _ = trained
    model.save_pretrained(str(tmp_path))
    again = BertTextClassifier.from_pretrained(str(tmp_path))
    assert (again.labels, again.sequence_length, again.num_classes) == (LABELS, 48, 2)
    scores, scores_again = (
        Predictor(m, 32)(task.arrays(m, examples[1])[0]) for m in (model, again)
    )
    np.testing.assert_allclose(scores, scores_again, atol=1e-5)


def test_predictions_do_not_depend_on_the_batch(trained, examples):
    task, model, _ = trained
    arrays, _ = task.arrays(model, examples[1])
    whole = Predictor(model, 64, by_length=False)(arrays)
    np.testing.assert_allclose(Predictor(model, 7)(arrays), whole, atol=1e-5)
    assert (decide(model, whole) == [0] * 100 + [1] * 100).mean() > 0.9


def test_seed_makes_runs_equal(examples):
    training, development = examples[0][::6], examples[1][::6]

    def scores(seed):
        config = FinetuningConfig(**SETTINGS, seed=seed)
        task = task_of(training, development)
        model, _, _ = finetune_task(task, CHECKPOINT, config)
        return Predictor(model, 32)(task.arrays(model, development)[0])

    np.testing.assert_array_equal(scores(1), scores(1))
    assert np.abs(scores(1) - scores(2)).max() > 1e-3


def test_numbers_are_learned(examples):
    def scored(found):
        return [e._replace(label=float(LABELS.index(e.label))) for e in found]

    task = task_of(scored(examples[0]), scored(examples[1]), labels=())
    model, _, done = finetune_task(task, CHECKPOINT, FinetuningConfig(**SETTINGS))
    assert model.num_classes == 1
    assert done.best.metrics["pearson"] > 0.7


def test_texts_of_several_classes_are_learned(examples):
    def with_length(found):
        return [
            e._replace(label=(e.label, *(["long"] if len(e.texts[0]) > 120 else []))) for e in found
        ]

    labels = (*LABELS, "long")
    task = task_of(with_length(examples[0]), with_length(examples[1]), labels)
    settings = {**SETTINGS, "epochs": 2}
    model, _, done = finetune_task(task, CHECKPOINT, FinetuningConfig(**settings))
    assert model.multi_label
    # The most frequent set of labels has some 4 of 10 texts.
    assert done.best.metrics["accuracy"] > 0.6


def test_training_ends_when_nothing_gets_better_and_keeps_the_best(examples):
    figures = iter([0.5, 0.9, 0.8, 0.7, 0.6, 0.5])
    seen = []

    def judge(split, predictions, found):
        seen.append(list(predictions))
        return {"accuracy": next(figures)}

    development = {"dev": examples[1]}
    task = TextClassification("t", LABELS, examples[0][::6], development, judge, "accuracy")
    settings = {**SETTINGS, "epochs": 3, "evaluations_per_epoch": 2, "patience": 2}
    model, _, done = finetune_task(task, CHECKPOINT, FinetuningConfig(**settings))
    assert len(done.evaluations) == 4 and done.best is done.evaluations[1]
    assert done.best.epoch == pytest.approx(1.0)
    kept = decide(model, Predictor(model, 32)(task.arrays(model, examples[1])[0]))
    assert kept.tolist() == seen[1]


def test_lower_layers_learn_slower_and_frozen_ones_not_at_all(examples):
    settings = {**SETTINGS, "layer_decay": 0.1, "frozen_layers": ("encoder/embeddings",)}
    start = BertTextClassifier.from_pretrained(CHECKPOINT, labels=LABELS)
    task = task_of(examples[0][::6], examples[1][::6])
    model, _, _ = finetune_task(task, CHECKPOINT, FinetuningConfig(**settings))

    def moved(name):
        pairs = zip(start.weights, model.weights, strict=True)
        return max(
            np.abs(a.numpy() - b.numpy()).max()
            for a, b in pairs
            if name in a.path and a.path.endswith("query/kernel") or a.path.endswith(name)
        )

    assert moved("token_embedding/embeddings") == 0
    assert 0 < moved("layer_0/") < 0.05 * moved("layer_3/")


@pytest.mark.parametrize("lora_rank", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_replicas_train_and_predict_as_one_does(tmp_path, lora_rank):
    program = pathlib.Path(__file__).parent / "finetuning_program.py"
    results = []
    for replicas in (1, 2):
        path = tmp_path / f"{replicas}.npz"
        arguments = [str(replicas), CHECKPOINT, str(path), str(lora_rank)]
        command = [sys.executable, str(program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with np.load(path) as file:
            results.append({name: file[name] for name in file.files})
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=1e-3, atol=2e-4, err_msg=name)


def test_low_rank_updates_learn_and_leave_a_plain_model(tmp_path, examples):
    task = task_of(*examples)
    config = FinetuningConfig(**{**SETTINGS, "learning_rate": 2e-3}, lora_rank=4)
    metrics = run_task(task, CHECKPOINT, str(tmp_path), config)
    assert metrics["accuracy"] > 0.9
    trained = json.loads((tmp_path / "card.json").read_text())["parameters"]
    assert trained["trained"] < 0.1 * trained["model"]
    assert f"{trained['trained']:,} were trained" in (tmp_path / "README.md").read_text()
    # The model that is read again, without any updates, is as good.
    model = BertTextClassifier.from_pretrained(str(tmp_path / "model"))
    predicted = decide(model, Predictor(model, 32)(task.arrays(model, examples[1])[0]))
    labels = [LABELS.index(example.label) for example in examples[1]]
    assert np.mean(predicted == labels) == pytest.approx(metrics["accuracy"])


def test_run_leaves_model_metrics_card_and_pictures(tmp_path, examples):
    task = task_of(examples[0][::6], examples[1][::6])
    config = FinetuningConfig(**SETTINGS)
    metrics = run_task(task, CHECKPOINT, str(tmp_path), config, seeds=2)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    spread = json.loads((tmp_path / "seeds.json").read_text())
    assert spread["accuracy"]["mean"] == metrics["accuracy"]
    for seed in (12345, 12346):
        folder = tmp_path / f"seed-{seed}"
        assert BertTextClassifier.from_pretrained(str(folder / "model")).labels == LABELS
        assert json.loads((folder / "card.json").read_text())["settings"]["seed"] == seed
        assert "| accuracy | " in (folder / "README.md").read_text()
        for picture in ("curves.png", "confusion.png"):
            assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="holds a fine-tuning already"):
        run_task(task, CHECKPOINT, str(tmp_path), config)


def test_metrics_tell_that_all_else_is_written(tmp_path, examples, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(reports, "_curves", fail)
    task = task_of(examples[0][::60], examples[1][::20])
    with pytest.raises(RuntimeError, match="full"):
        run_task(task, CHECKPOINT, str(tmp_path), FinetuningConfig(**SETTINGS))
    assert (tmp_path / "card.json").exists()
    assert not (tmp_path / "metrics.json").exists()


def test_bad_combinations_are_told(examples):
    labels = ("novel", "speech", "poem")
    task = task_of(*examples, labels=labels)
    config = FinetuningConfig(**SETTINGS, class_weights="balanced")
    with pytest.raises(InputError, match="no example to train on has the label 'poem'"):
        finetune_task(task, CHECKPOINT, config)
    with pytest.raises(InputError, match="sequence_length=1000 is longer than the 512 positions"):
        finetune_task(task, CHECKPOINT, FinetuningConfig(sequence_length=1000))
    with pytest.raises(InputError, match="There is no folder 'absent'"):
        finetune_task(task, "absent", FinetuningConfig())


def test_head_of_a_folder_is_not_replaced_in_silence(tmp_path, trained):
    task, model, _ = trained
    model.save_pretrained(str(tmp_path))
    with pytest.raises(InputError, match="has the labels .* Received: .*'other'"):
        BertTextClassifier.from_pretrained(str(tmp_path), labels=["novel", "other"])
    with pytest.raises(InputError, match="a label for each of num_classes=3"):
        BertTextClassifier.from_pretrained(str(tmp_path), num_classes=3)


def test_table_is_fine_tuned_by_the_program(tmp_path, examples):
    for name, found in zip(("train", "dev"), examples, strict=True):
        rows = [{"text": e.texts[0], "label": e.label} for e in found[::6]]
        lines = [json.dumps(row) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    command = [
        sys.executable,
        "-m",
        "keras_bert_tpu.scripts.finetune",
        "--task=classification",
        f"--data={tmp_path}/train.jsonl",
        f"--dev={tmp_path}/dev.jsonl",
        f"--checkpoint={CHECKPOINT}",
        f"--output={tmp_path}/out",
        *(f"--set={name}={value}" for name, value in SETTINGS.items()),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Done: accuracy " in done.stdout
    labels = BertTextClassifier.from_pretrained(str(tmp_path / "out" / "model")).labels
    assert labels == LABELS
    done = subprocess.run([*command, "--labels=novel,poem"], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "must be one of 'novel', 'poem'. Received: 'speech'" in line
