"""Schemes of labels, told apart and checked."""

import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks.ner.schemes import Entity, find_entities, first_break, scheme_of


def tell(*sentences):
    return scheme_of([sentence.split() for sentence in sentences])


def test_schemes_are_told_apart():
    assert tell("B-PER I-PER O", "O I-LOC") == "BIO"
    assert tell("I-PER B-PER O", "I-LOC B-LOC") == "IOB1"
    assert tell("I-PER I-PER O", "I-LOC") == "IO"
    assert tell("B-PER E-PER O", "S-LOC") == "BIOES"
    assert tell("O", "O O") == "BIO"


def test_entities_of_each_scheme_are_the_same():
    expected = [Entity("X", 0, 0), Entity("X", 1, 1), Entity("X", 3, 5), Entity("Y", 6, 6)]
    for labels in (
        "B-X B-X O B-X I-X I-X B-Y",
        "I-X B-X O I-X I-X I-X I-Y",
        "S-X S-X O B-X I-X E-X S-Y",
    ):
        assert find_entities(labels.split()) == expected
    assert find_entities("I-X I-X O I-X I-X I-X I-Y".split()) == [
        Entity("X", 0, 1),
        *expected[2:],
    ]


@pytest.mark.parametrize(
    ("scheme", "labels", "place"),
    [
        ("BIO", "B-X I-X O B-Y B-Y", None),
        ("BIO", "O I-X", 1),
        ("BIO", "B-X I-Y", 1),
        ("BIO", "B-X E-X", 1),
        ("IOB1", "I-X B-X I-Y", None),
        ("IOB1", "O B-X", 1),
        ("IOB1", "I-Y B-X", 1),
        ("IO", "I-X I-Y O", None),
        ("IO", "I-X B-X", 1),
        ("BIOES", "B-X I-X E-X S-Y O", None),
        ("BIOES", "B-X O", 1),
        ("BIOES", "S-X B-X", 1),
        ("BIOES", "O E-X", 1),
        ("BIOES", "B-X E-Y", 1),
        ("BIOES", "S-X I-X", 1),
    ],
)
def test_the_first_label_that_breaks_a_scheme_is_found(scheme, labels, place):
    assert first_break(labels.split(), scheme) == place


@pytest.mark.parametrize("label", ["PER", "B-", "B", "X-PER", "-PER", "b-PER", ""])
def test_what_is_no_label_is_refused(label):
    with pytest.raises(InputError, match="A label must be O, or B-, I-, E- or S- and a type"):
        find_entities(["O", label])


def test_unknown_schemes_are_refused():
    with pytest.raises(InputError, match="one of BIO, IOB1, IO, BIOES. Received: 'BILOU'"):
        first_break(["O"], "BILOU")
