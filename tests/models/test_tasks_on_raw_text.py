"""Words, questions and choices in Python's own lists, in `fit`, `evaluate` and `predict`."""

import importlib.resources
import pathlib
import re

import keras
import numpy as np
import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.multiple_choice import BertMultipleChoice
from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.models.token_classifier import BertTokenClassifier

CHECKPOINT = str(pathlib.Path(__file__).parents[1] / "golden" / "mini_reference")
NAMES = ("Mary", "Dickon", "Colin", "Medlock", "Martha", "Ben")
QUESTION = "Who is it?"


def named():
    """Sentences of a novel in which one person is named once, and the match of the name."""
    text = (importlib.resources.files("keras_bert_tpu.sample") / "the_secret_garden.txt").read_text(
        "utf-8"
    )
    lines = [line for line in text.splitlines() if 40 < len(line) < 160]
    found = [(line, [m for m in re.finditer(r"\w+", line) if m[0] in NAMES]) for line in lines]
    return [(line, names[0]) for line, names in found if len(names) == 1]


def fast(model):
    """Compiles a model as it would by itself, with the larger rate that small data needs."""
    model.compile(keras.optimizers.Adam(5e-4), **model._default_losses())
    return model


@pytest.fixture(scope="module")
def words():
    keras.utils.set_random_seed(1)
    model = BertTokenClassifier.from_pretrained(CHECKPOINT, labels=["O", "PER"], sequence_length=48)
    sentences = [re.findall(r"\w+|[^\w\s]", line) for line, _ in named()[:260]]
    labels = [["PER" if word in NAMES else "O" for word in sentence] for sentence in sentences]
    fast(model).fit(sentences[:200], labels[:200], batch_size=16, epochs=2, verbose=0)
    return model, sentences[200:], labels[200:]


def test_labels_of_words_are_learned(words):
    model, sentences, labels = words
    scores = model.predict(sentences, verbose=0)
    assert [s.shape for s in scores] == [(len(sentence), 2) for sentence in sentences]
    right = [np.array(model.labels)[s.argmax(1)] == y for s, y in zip(scores, labels, strict=True)]
    # One word of some 20 is a name.
    assert np.mean(np.concatenate(right)) > 0.98
    _, accuracy = model.evaluate(sentences, labels, verbose=0)
    assert accuracy == pytest.approx(np.mean(np.concatenate(right)), abs=1e-5)


def test_numbers_of_labels_are_as_good_as_names(words):
    model, sentences, labels = words
    ids = [[model.labels.index(label) for label in row] for row in labels]
    assert model.evaluate(sentences, ids, verbose=0) == model.evaluate(sentences, labels, verbose=0)


def test_no_word_of_a_long_sentence_is_left_out(words):
    model, sentences, _ = words
    long = [word for sentence in sentences for word in sentence][:500]
    short, scores = model.predict([sentences[0], long], verbose=0)
    assert scores.shape == (500, 2)
    names = {word for word, row in zip(long, scores, strict=True) if row.argmax()}
    assert names & set(NAMES) and len(names - set(NAMES)) < 5
    np.testing.assert_allclose(short, model.predict(sentences[:1], verbose=0)[0], atol=1e-4)


def test_sentences_count_as_their_weights_say(words):
    model, sentences, labels = words
    weights = np.array([1.0] * 10 + [0.0] * 50)
    weighted = model.evaluate(sentences, labels, sample_weight=weights, batch_size=64, verbose=0)
    alone = model.evaluate(sentences[:10], labels[:10], verbose=0)
    np.testing.assert_allclose(weighted, alone, rtol=1e-3)


@pytest.mark.slow
def test_answers_are_learned_from_any_window():
    keras.utils.set_random_seed(1)
    model = BertQuestionAnswerer.from_pretrained(CHECKPOINT, sequence_length=96)
    contexts = [line for line, _ in named()[:300]]
    answers = [(match[0], match.start()) for _, match in named()[:300]]
    fast(model)
    questions = [QUESTION] * 240
    model.fit((questions, contexts[:240]), answers[:240], batch_size=16, epochs=3, verbose=0)
    # Each of these passages is of several windows.
    filler = "It was a fine day, and the rain was gone. " * 12
    longer = [filler + context for context in contexts[240:]]
    found = model.predict(([QUESTION] * 60, longer), verbose=0)
    right = [f.text == a[0] for f, a in zip(found, answers[240:], strict=True)]
    assert np.mean(right) > 0.6
    assert all(0.0 <= f.probability <= 1.0 for f in found)
    of_squad = [{"text": [text], "answer_start": [start]} for text, start in answers[240:]]
    held = ([QUESTION] * 60, contexts[240:])
    assert model.evaluate(held, of_squad, verbose=0) == model.evaluate(
        held, answers[240:], verbose=0
    )


@pytest.mark.slow
def test_that_there_is_no_answer_is_learned():
    keras.utils.set_random_seed(1)
    model = fast(BertQuestionAnswerer.from_pretrained(CHECKPOINT, sequence_length=96))
    contexts = [line for line, _ in named()[:200]]
    answers = [(m[0], m.start()) if i % 2 else () for i, (_, m) in enumerate(named()[:200])]
    questions = [QUESTION if i % 2 else "Where is the moon?" for i in range(200)]
    model.fit((questions, contexts), answers, batch_size=16, epochs=3, verbose=0)
    found = model.predict((questions, contexts), verbose=0)
    assert np.mean([(f.null_odds > 0) == (i % 2 == 0) for i, f in enumerate(found)]) > 0.9


@pytest.mark.slow
def test_right_choices_are_learned():
    keras.utils.set_random_seed(1)
    model = BertMultipleChoice.from_pretrained(CHECKPOINT, sequence_length=48)
    contexts, choices, labels = [], [], []
    for i, (line, match) in enumerate(named()[:300]):
        contexts.append(line)
        names = [name for name in NAMES if name != match[0]][:2]
        labels.append(i % 3)
        choices.append([*names[: i % 3], match[0], *names[i % 3 :]])
    fast(model).fit(
        (contexts[:240], choices[:240]), labels[:240], batch_size=16, epochs=4, verbose=0
    )
    scores = model.predict((contexts[240:], choices[240:]), verbose=0)
    assert scores.shape == (60, 3)
    accuracy = np.mean(scores.argmax(axis=1) == labels[240:])
    assert accuracy > 0.6  # One of three by chance.
    assert model.evaluate((contexts[240:], choices[240:]), labels[240:], verbose=0)[
        1
    ] == pytest.approx(accuracy)


def test_wrong_words_are_told(words):
    model, _, _ = words
    for x, y, message in [
        ([["a"], []], None, "Sentence 1 must be a list of words"),
        (["a word"], None, "Sentence 0 must be a list of words"),
        ([["a", 3]], None, "A text must be a str. Received: 3 of int"),
        ([], None, "Sentences must be a list with one at least"),
        ([["a"]], [["O", "O"]], "label of sentence 0 for each of 1. Received: 2"),
        ([["a"]], [["LOC"]], "label of sentence 0 must be one of .'O', 'PER'.*Received: 'LOC'"),
        ([["a"]], [["O"], ["O"]], "list of labels for each of 1. Received: 2"),
    ]:
        with pytest.raises(InputError, match=message):
            model.predict(x, verbose=0) if y is None else model.fit(x, y, verbose=0)


@pytest.fixture(scope="module")
def answerer():
    return BertQuestionAnswerer.from_pretrained(CHECKPOINT, sequence_length=96)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((["Who?"], [""]), None, "The passage of question 0 is empty"),
        (([" "], ["He."]), None, "Question 0 is empty"),
        ((["Who?"], ["He.", "She."]), None, "There must be a passage for each of 1. Received: 2"),
        ((["Who?"],), None, "two columns, questions and passages"),
        (("Who?", "He."), None, "Questions must be a list"),
        ((["Who?"], ["He is."]), [("is", 0)], "answer of question 0, 'is', does not begin on"),
        ((["Who?"], ["He is."]), ["He"], "answer of question 0 must be a text and the character"),
        ((["Who?"], ["He is."]), [{"text": ["He"]}], "answer of question 0 must be a text and"),
    ],
)
def test_wrong_questions_are_told(answerer, x, y, message):
    with pytest.raises(InputError, match=message):
        answerer.predict(x, verbose=0) if y is None else answerer.fit(x, y, verbose=0)


def test_wrong_choices_are_told():
    model = BertMultipleChoice.from_pretrained(CHECKPOINT, sequence_length=48)
    for x, y, message in [
        ((["It is"], [["a"]]), None, "choices of question 0 must be a list of two texts"),
        ((["It is", "He"], [["a", "b"], ["a", "b", "c"]]), None, "3 choices and example 0 2"),
        ((["It is"], [["a", "b"]]), [2], "label of question 0 must be the number of a choice"),
        ((["It is"], [["a", "b"], ["c", "d"]]), None, "list of choices for each of 1"),
    ]:
        with pytest.raises(InputError, match=message):
            model.predict(x, verbose=0) if y is None else model.fit(x, y, verbose=0)
