"""Scores of entities against seqeval, from tests/golden/ner."""

import json
import pathlib

import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import ner
from keras_bert_tpu.tasks.ner import Entity, Sentence

GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "ner" / "golden.json"


def sentence(labels):
    return Sentence("0", ("w",) * len(labels), tuple(labels), 1)


def test_entities_and_scores_are_those_of_seqeval():
    for corpus in json.loads(GOLDEN.read_text("utf-8")):
        true, predicted = (
            [labels.split() for labels in corpus[name]] for name in ("true", "predicted")
        )
        for labels, entities in zip(predicted, corpus["entities"], strict=True):
            assert ner.find_entities(labels) == [Entity(*entity) for entity in entities]
        scores = ner.score(predicted, [sentence(labels) for labels in true])
        assert scores == pytest.approx(corpus["scores"], rel=1e-12)


def test_scores_are_those_computed_by_hand():
    # Of three entities one is right, one has another end, one another type; one is too many.
    true = "B-X I-X O B-X I-X O B-Y O O".split()
    predicted = "B-X I-X O B-X O O B-X O B-Y".split()
    assert ner.score([predicted], [sentence(true)]) == pytest.approx(
        {
            "precision": 1 / 4,
            "recall": 1 / 3,
            "f1": 2 / 7,
            "accuracy": 6 / 9,
            "precision_X": 1 / 3,
            "recall_X": 1 / 2,
            "f1_X": 2 / 5,
            "precision_Y": 0,
            "recall_Y": 0,
            "f1_Y": 0,
        }
    )


def test_nothing_found_and_nothing_there_is_0():
    assert ner.score([["O"]], [sentence(["O"])]) == {
        "precision": 0,
        "recall": 0,
        "f1": 0,
        "accuracy": 1,
    }


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(InputError, match="at least one"):
        ner.score([], [])
    with pytest.raises(InputError, match="Received: 2 for the 1 words of sentence 0"):
        ner.score([["O", "O"]], [sentence(["O"])])
    with pytest.raises(InputError, match="Received: 1 for 2 sentences"):
        ner.score([["O"]], [sentence(["O"])] * 2)
    with pytest.raises(InputError, match="Sentence 7 has no labels"):
        ner.score([["O"]], [Sentence("7", ("a",), (), 1)])
