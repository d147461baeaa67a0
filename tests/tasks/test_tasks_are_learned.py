"""The models of pieces, spans and choices learn from real sentences, and leave their files."""

import importlib.resources
import json
import pathlib
import re

import pytest

from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.models.token_classifier import BertTokenClassifier
from keras_bert_tpu.tasks import ner, squad, swag
from keras_bert_tpu.tasks.choices import MultipleChoice
from keras_bert_tpu.tasks.named_entities import NamedEntities
from keras_bert_tpu.tasks.question_answering import QuestionAnswering
from keras_bert_tpu.tasks.run import run_task

CHECKPOINT = str(pathlib.Path(__file__).parents[1] / "golden" / "mini_reference")
NAMES = ("Mary", "Dickon", "Colin", "Medlock", "Martha", "Ben")
SETTINGS = {"sequence_length": 64, "learning_rate": 3e-4, "epochs": 2, "batch_size": 16}


def sentences(name):
    text = (importlib.resources.files("keras_bert_tpu.sample") / name).read_text("utf-8")
    return [line for line in text.splitlines() if 40 < len(line) < 200]


def with_names():
    """Sentences of a novel in which one person is named once."""
    return [s for s in sentences("the_secret_garden.txt") if len(found_in(s)) == 1]


def found_in(sentence):
    return [m for m in re.finditer(r"\w+", sentence) if m[0] in NAMES]


def test_persons_are_found_and_written(tmp_path):
    found = []
    for i, line in enumerate(with_names()[:400]):
        words = tuple(re.findall(r"\w+|[^\w\s]", line))
        labels = tuple("B-PER" if word in NAMES else "O" for word in words)
        found.append(ner.Sentence(str(i), words, labels, 1))
    task = NamedEntities(found[:300], found[300:])
    metrics = run_task(task, CHECKPOINT, str(tmp_path), FinetuningConfig(**SETTINGS))
    assert metrics["f1"] > 0.8
    model = BertTokenClassifier.from_pretrained(str(tmp_path / "model"))
    assert model.labels == ("O", "B-PER")
    written = ner.read(str(tmp_path / "predictions.conll"))
    assert [sentence.words for sentence in written] == [s.words for s in found[300:]]
    score = ner.score([sentence.labels for sentence in written], found[300:])
    assert score["f1"] == pytest.approx(metrics["f1"])


@pytest.mark.parametrize("version_2", [False, True])
def test_answers_are_found_and_written(tmp_path, version_2):
    found = []
    for i, line in enumerate(with_names()[:500]):
        (name,) = found_in(line)
        answers = (squad.Answer(name[0], name.start()),)
        found.append(squad.Question(str(i), "Who is there?", line, answers, False))
    if version_2:
        nobody = [s for s in sentences("the_secret_garden.txt") if not found_in(s)]
        found = [
            q._replace(context=nobody[i], answers=(), is_impossible=True) if i % 2 else q
            for i, q in enumerate(found)
        ]
    task = QuestionAnswering(found[:400], found[400:])
    config = FinetuningConfig(**{**SETTINGS, "sequence_length": 96, "epochs": 3})
    metrics = run_task(task, CHECKPOINT, str(tmp_path), config)
    assert metrics["exact_match"] > 70 and metrics["f1"] >= metrics["exact_match"]
    answers = json.loads((tmp_path / "predictions.json").read_text())
    score = squad.score(answers, found[400:], version_2)
    assert score["exact_match"] == pytest.approx(metrics["exact_match"])
    assert (tmp_path / "null_odds.json").exists() == version_2
    nbest = json.loads((tmp_path / "nbest_predictions.json").read_text())
    assert len(nbest) == 100 and sum(e["probability"] for e in nbest["400"]) == pytest.approx(1)
    assert BertQuestionAnswerer.from_pretrained(str(tmp_path / "model")).sequence_length == 96


def test_endings_are_told_apart_and_written(tmp_path):
    novel, speech = sentences("the_secret_garden.txt"), sentences("speeches.txt")
    found = []
    for i in range(400):
        choices = [speech[(i * 3 + k) % len(speech)] for k in range(3)]
        choices[i % 3] = novel[2 * i + 1]
        found.append(swag.ChoiceExample(str(i), novel[2 * i], tuple(choices), i % 3))
    config = FinetuningConfig(**{**SETTINGS, "epochs": 1})
    task = MultipleChoice(found[:300], found[300:])
    metrics = run_task(task, CHECKPOINT, str(tmp_path), config)
    assert metrics["accuracy"] > 0.6  # A third by chance.
    rows = (tmp_path / "predictions.csv").read_text().splitlines()
    right = sum(row == f"{e.id},{e.label}" for row, e in zip(rows[1:], found[300:], strict=True))
    assert right / 100 == pytest.approx(metrics["accuracy"])


def test_examples_that_do_not_fit_are_told():
    known = [ner.Sentence("0", ("a",), ("B-PER",), 1)]
    other = [ner.Sentence("0", ("a",), ("B-LOC",), 1)]
    with pytest.raises(InputError, match="development set has the label 'B-LOC'"):
        NamedEntities(known, other)
    two, three = ([swag.ChoiceExample("0", "a", tuple("bcd"[:number]), 0)] for number in (2, 3))
    with pytest.raises(InputError, match="have 2 choices and those of the development set 3"):
        MultipleChoice(two, three)
