"""Named entities of raw text, found by an export."""

import itertools
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.serving.export import export
from keras_bert_tpu.tasks import ner

from exported import (
    ENTITY_LABELS,
    KNOWN_OPERATIONS,
    LENGTH,
    TEXTS,
    answers_of,
    examples_of,
    operations_of,
    tagger,
)

NER = pathlib.Path(__file__).parents[2].parent / "shared" / "data" / "ner"
NAMES = ["Ätna-Süd, São Paulo!", *TEXTS[1:], "A (naïve) café\tin Kraków."]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A model and its export."""
    model = tagger()
    return model, export(model, str(tmp_path_factory.mktemp("served") / "entities"))[0]


@pytest.fixture(scope="module")
def ask(served):
    return answers_of(served[1])


def words_of(model, text):
    """The words of a text and where they begin and end, by the pieces of the tokenizer."""
    ids, starts, ends = model.tokenizer.tokenize_with_offsets(text, unit="char")
    begins = model.tokenizer.begins_word(ids).numpy()
    spans = []
    for start, end, is_new in zip(starts.numpy(), ends.numpy(), begins, strict=True):
        if is_new:
            spans.append([start, end])
        spans[-1][1] = end
    return [(text[start:end], start, end) for start, end in spans]


def expected_entities(model, texts):
    """What `predict` gives for the words of texts, put together by conlleval's rules."""
    words = [words_of(model, text) for text in texts]
    scores = model.predict([[word for word, _, _ in row] for row in words], verbose=0)
    found = []
    for row, logits in zip(words, scores, strict=True):
        labels = [model.labels[index] for index in logits.argmax(axis=1)]
        probabilities = tf.nn.softmax(logits).numpy().max(axis=1)
        found.append(
            [
                (
                    entity.type,
                    row[entity.first][1],
                    row[entity.last][2],
                    probabilities[entity.first : entity.last + 1].mean(),
                )
                for entity in ner.find_entities(labels)
            ]
        )
    return found


def assert_entities(found, expected, texts):
    assert found["entities"].tolist() == [len(entities) for entities in expected]
    for row, (entities, text) in enumerate(zip(expected, texts, strict=True)):
        for column, (kind, start, end, probability) in enumerate(entities):
            assert found["label"][row, column].decode() == kind
            assert found["char_start"][row, column] == start
            assert found["char_end"][row, column] == end
            assert found["entity"][row, column].decode() == text[start:end]
            first, last = found["byte_start"][row, column], found["byte_end"][row, column]
            assert text.encode()[first:last].decode() == text[start:end]
            np.testing.assert_allclose(found["probability"][row, column], probability, atol=1e-5)
        assert not any(found["entity"][row, len(entities) :])
        assert not found["probability"][row, len(entities) :].any()


def test_entities_are_those_of_the_model(served, ask):
    expected = expected_entities(served[0], NAMES)
    kinds = {kind for entities in expected for kind, *_ in entities}
    assert kinds == {"PER", "LOC"}
    longest = max(end - start for entities in expected for _, start, end, _ in entities)
    assert longest > 10
    # Some are in texts of several windows.
    assert max(len(words_of(served[0], text)) for text in NAMES) > 2 * LENGTH
    assert_entities(ask(text=NAMES), expected, NAMES)


def test_examples_get_the_same(served, ask):
    found = answers_of(served[1], "serving_examples")(examples=examples_of(text=NAMES))
    expected = ask(text=NAMES)
    assert found["entity"].tolist() == expected["entity"].tolist()
    np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-5)


def test_rows_of_ids_get_the_scores_of_their_pieces(served):
    model, folder = served
    ids = np.random.default_rng(0).integers(10, 200, [3, 20]).astype("int32")
    rows = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": np.ones_like(ids)}
    found = answers_of(folder, "serving_ids")(**rows)
    scores = model(rows).numpy()
    np.testing.assert_allclose(found["logits"], scores, atol=1e-5)
    np.testing.assert_allclose(found["probabilities"], tf.nn.softmax(scores), atol=1e-5)
    assert found["label"][1, 5].decode() == ENTITY_LABELS[scores[1, 5].argmax()]


def test_labels_of_another_kind_are_those_of_words(tmp_path):
    model = tagger(["DT", "NN", "VB"])
    texts = ["The garden grew."]
    ask = answers_of(export(model, str(tmp_path / "tags"), warmup=False)[0])
    found = ask(text=texts)
    words = [word for word, _, _ in words_of(model, texts[0])]
    assert [word.decode() for word in found["entity"][0]] == words == ["The", "garden", "grew", "."]
    (scores,) = model.predict([words], verbose=0)
    expected = [model.labels[index] for index in scores.argmax(axis=1)]
    assert [label.decode() for label in found["label"][0]] == expected


@pytest.mark.parametrize(
    "text",
    ["", " \n", "\x00", b"\xff\xfe a", "Ada went. " * 3_000, "x" * 200_000],
    ids=["empty", "spaces", "null", "no utf-8", "long", "long word"],
)
def test_strange_texts_are_answered_and_others_as_before(ask, text):
    before = ask(text=[NAMES[0], NAMES[20]])
    found = ask(text=[NAMES[0], text, NAMES[20]])
    width = before["entity"].shape[1]
    assert found["entity"][::2, :width].tolist() == before["entity"].tolist()
    text = text if isinstance(text, bytes) else text.encode()
    for column in range(0, found["entities"][1], 17):
        start, end = found["byte_start"][1, column], found["byte_end"][1, column]
        assert text[start:end] == found["entity"][1, column]


def test_no_text_has_no_entities(ask):
    found = ask(text=tf.constant([], tf.string))
    assert found["entities"].shape == (0,)
    assert found["entity"].shape == (0, 0)


def test_operations_are_those_that_released_servers_know(served):
    assert operations_of(served[1]) <= KNOWN_OPERATIONS


@pytest.mark.skipif(not NER.is_dir(), reason="the shared sets of entities are not there")
@pytest.mark.parametrize("number", [300, pytest.param(None, marks=pytest.mark.slow)])
def test_offsets_name_the_entities_of_shared_sentences(served, ask, number):
    paths = sorted(NER.glob("*/*.conll")) if number is None else [NER / "wikigold" / "dev.conll"]
    seen = 0
    for path in paths:
        sentences = itertools.islice(ner.read_sentences(str(path)), number)
        texts = [" ".join(sentence.words) for sentence in sentences]
        seen += len(texts)
        for first in range(0, len(texts), 500):
            some = texts[first : first + 500]
            assert_entities(ask(text=some), expected_entities(served[0], some), some)
    assert seen > (5000 if number is None else 100)
