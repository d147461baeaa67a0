"""Predictions on files, with the models that a fine-tuning saved."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.multiple_choice import BertMultipleChoice
from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.models.token_classifier import BertTokenClassifier
from keras_bert_tpu.tasks import prediction, tables
from keras_bert_tpu.tasks.prediction import load_task_model, predict_file

CHECKPOINT = str(pathlib.Path(__file__).parents[1] / "golden" / "mini_reference")
TEXTS = ["She opened the door.", "The members of Congress rose.", "Why?", "He smiled at her."] * 5


def untrained(model_class, folder, **how):
    keras.utils.set_random_seed(4)
    model = model_class.from_pretrained(CHECKPOINT, sequence_length=32, **how)
    model.save_pretrained(str(folder))
    return model


def test_table_of_any_size_is_predicted_row_by_row(tmp_path, monkeypatch):
    model = untrained(BertTextClassifier, tmp_path / "model", labels=["a", "b", "c"])
    lines = [json.dumps({"id": f"x{i}", "text": text}) for i, text in enumerate(TEXTS)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(prediction, "_CHUNK", 7)  # The last part has 6 rows.
    loaded = load_task_model(str(tmp_path / "model"))
    output = tmp_path / "out.jsonl"
    number = predict_file(loaded, str(tmp_path / "in.jsonl"), str(output), progress=False)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert number == len(rows) == len(TEXTS)
    assert [row["id"] for row in rows] == [f"x{i}" for i in range(len(TEXTS))]
    scores = model.predict(TEXTS, verbose=0)
    expected = np.array(keras.ops.softmax(scores))
    found = np.array([[row[f"probability_{label}"] for label in "abc"] for row in rows])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert [row["prediction"] for row in rows] == ["abc"[i] for i in scores.argmax(1)]


def test_numbers_and_several_labels_are_written(tmp_path):
    (tmp_path / "in.csv").write_text("text\n" + "\n".join(TEXTS[:4]) + "\n")
    for name, how in [("one", {"num_classes": 1}), ("several", {"labels": ["a", "b"]})]:
        model = untrained(BertTextClassifier, tmp_path / name, **how)
        model.multi_label = name == "several"
        model.save_pretrained(str(tmp_path / name))
        output = tmp_path / f"{name}.csv"
        loaded = load_task_model(str(tmp_path / name))
        predict_file(loaded, str(tmp_path / "in.csv"), str(output), progress=False)
        rows = [row.values for row in tables.read_rows(str(output))]
        scores = model.predict(TEXTS[:4], verbose=0)
        if name == "one":
            found = [float(row["prediction"]) for row in rows]
            np.testing.assert_allclose(found, scores[:, 0], atol=1e-4)
        else:
            expected = [",".join(np.array(["a", "b"])[row > 0]) for row in scores]
            assert [row["prediction"] for row in rows] == expected


def test_words_questions_and_choices_are_predicted(tmp_path):
    (tmp_path / "in.conll").write_text("Mary\nsmiled\n.\n\nWhy\n?\n")
    untrained(BertTokenClassifier, tmp_path / "words", labels=["O", "B-PER"])
    output = tmp_path / "out.conll"
    model = load_task_model(str(tmp_path / "words"))
    assert predict_file(model, str(tmp_path / "in.conll"), str(output), progress=False) == 2
    words = [line.split("\t")[0] for line in output.read_text().splitlines()]
    assert words == ["Mary", "smiled", ".", "", "Why", "?", ""]

    context = "Mary opened the door. Colin was in the garden."
    questions = [{"id": str(i), "question": "Who?", "answers": []} for i in range(3)]
    paragraphs = [{"context": context, "qas": questions}]
    squad_file = {"version": "1.1", "data": [{"title": "", "paragraphs": paragraphs}]}
    (tmp_path / "in.json").write_text(json.dumps(squad_file))
    untrained(BertQuestionAnswerer, tmp_path / "answers")
    model = load_task_model(str(tmp_path / "answers"))
    model.sequence_length = 96
    predict_file(model, str(tmp_path / "in.json"), str(tmp_path / "out"), progress=False)
    answers = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(answers) == 3 and all(text and text in context for text in answers.values())

    (tmp_path / "in.csv").write_text("sent1,sent2,ending0,ending1\nA.,It,is.,was.\nB.,He,a.,b.\n")
    untrained(BertMultipleChoice, tmp_path / "choices")
    model = load_task_model(str(tmp_path / "choices"))
    output = tmp_path / "out.csv"
    assert predict_file(model, str(tmp_path / "in.csv"), str(output), progress=False) == 2
    assert all(line.split(",")[1] in "01" for line in output.read_text().splitlines()[1:])


def test_program_predicts_and_tells_what_has_no_head(tmp_path):
    untrained(BertTextClassifier, tmp_path / "model", labels=["a", "b"])
    (tmp_path / "in.csv").write_text("text\nA fine day.\n")
    command = [sys.executable, "-m", "keras_bert_tpu.scripts.predict"]
    command += [f"--input={tmp_path}/in.csv", f"--output={tmp_path}/out.csv"]
    done = subprocess.run([*command, f"--model={tmp_path}/model"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 predictions are in" in done.stdout
    with pytest.raises(InputError, match="is a BertPretrainer, which has no head of a task"):
        load_task_model(CHECKPOINT)
