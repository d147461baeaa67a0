"""Answers from logits: the rule written out, ties, no answer, files."""

import json
import math
import pathlib
import time

import numpy as np
import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import squad
from keras_bert_tpu.tasks.squad import Answer, Question
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import Vocabulary

DATA = pathlib.Path(__file__).parents[4] / "shared" / "data"
LETTERS = "abcdefghij"


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]))


def ask(key, context, *answers):
    return Question(key, "a b", context, tuple(Answer(text, 0) for text in answers), not answers)


def written_out(start_logits, end_logits, features, index, context, version_2, n_best, longest):
    """`write_predictions` of run_squad.py for one question, one pair after another."""
    rows = np.flatnonzero(features.question_index == index)
    found, null = [], (math.inf, 0, 0)
    for row in rows:
        if start_logits[row, 0] + end_logits[row, 0] < null[0]:
            null = (
                start_logits[row, 0] + end_logits[row, 0],
                start_logits[row, 0],
                end_logits[row, 0],
            )
        length = range(features.token_ids.shape[1])
        starts = sorted(length, key=lambda i, row=row: start_logits[row, i], reverse=True)[:n_best]
        ends = sorted(length, key=lambda i, row=row: end_logits[row, i], reverse=True)[:n_best]
        for start in starts:
            for end in ends:
                if not features.has_max_context[row, start] or not features.char_ends[row, end]:
                    continue
                if start <= end < start + longest:
                    found.append((start_logits[row, start], end_logits[row, end], row, start, end))
    if version_2:
        found.append((null[1], null[2], -1, 0, 0))
    found.sort(key=lambda pair: pair[0] + pair[1], reverse=True)
    nbest = []
    for start_logit, end_logit, row, start, end in found:
        if len(nbest) >= n_best:
            break
        text = ""
        if row >= 0:
            text = context[features.char_starts[row, start] : features.char_ends[row, end]]
        if text not in [entry[0] for entry in nbest]:
            nbest.append((text, start_logit, end_logit))
    if version_2 and "" not in [entry[0] for entry in nbest]:
        nbest.append(("", null[1], null[2]))
    return nbest


@pytest.mark.parametrize("version_2", [False, True])
def test_answers_are_those_of_the_rule_written_out(tokenizer, version_2):
    chance = np.random.default_rng(3)
    questions = [
        ask(f"q{i}", " ".join(chance.choice(list(LETTERS), chance.integers(1, 40))))
        for i in range(60)
    ]
    features = squad.make_features(questions, tokenizer, 20, doc_stride=5, max_query_length=2)
    assert len(features.token_ids) > 2 * len(questions)
    # Whole numbers, so that there are many ties.
    start, end = chance.integers(-4, 4, (2, *features.token_ids.shape)).astype(np.float32)
    found = squad.find_answers(start, end, features, questions, version_2, 7, 4)
    for index, question in enumerate(questions):
        expected = written_out(start, end, features, index, question.context, version_2, 7, 4)
        entries = found.nbest[question.id]
        if not expected:  # No pair was allowed.
            assert found.texts[question.id] == ""
            continue
        assert [(e["text"], e["start_logit"], e["end_logit"]) for e in entries] == expected
        weights = np.exp([e["start_logit"] + e["end_logit"] for e in entries])
        probabilities = [e["probability"] for e in entries]
        np.testing.assert_allclose(probabilities, weights / weights.sum(), rtol=1e-12)
        best = next((entry for entry in expected if entry[0]), ("", 0, 0))
        assert found.texts[question.id] == best[0]
        if version_2:
            null = next(entry for entry in expected if not entry[0])
            odds = null[1] + null[2] - best[1] - best[2]
            assert found.null_odds[question.id] == pytest.approx(odds)
    assert bool(found.null_odds) == version_2


def test_a_model_that_points_to_the_answer_gives_its_exact_text(tokenizer):
    context = "A  b, C d e"
    question = Question("q", "a", context, (Answer("b, C", 3),), False)
    features = squad.make_features([question], tokenizer, 16, max_query_length=2)
    start, end = np.zeros((2, *features.token_ids.shape))
    start[0, features.start_position[0]] = end[0, features.end_position[0]] = 5
    found = squad.find_answers(start, end, features, [question], version_2=True)
    assert found.texts == {"q": "b, C"} and found.null_odds == {"q": -10}
    assert squad.score(found.answers(), [question], version_2=True)["exact_match"] == 100
    assert found.answers(-11) == {"q": ""}


def test_a_passage_without_pieces_has_an_empty_answer(tokenizer):
    questions = [ask("none", "\u200b"), ask("some", "a b")]
    features = squad.make_features(questions, tokenizer, 16, max_query_length=2)
    logits = np.ones(features.token_ids.shape)
    for version_2 in (False, True):
        found = squad.find_answers(logits, logits, features, questions, version_2)
        assert found.texts == {"none": "", "some": "a"}
        assert found.nbest["none"][0]["text"] == ""


def test_files_have_the_official_form(tokenizer, tmp_path):
    questions = [ask("q1", "a b", "b"), ask("q2", "a \u0109")]
    features = squad.make_features(questions, tokenizer, 16, max_query_length=2)
    start, end = np.zeros((2, *features.token_ids.shape))
    start[:, 5] = end[:, 5] = 2
    start[1, 0] = 6
    found = squad.find_answers(start, end, features, questions, version_2=True)
    squad.write_predictions(str(tmp_path / "out"), found)

    def load(name):
        return json.loads((tmp_path / "out" / name).read_text("utf-8"))

    assert load("predictions.json") == {"q1": "b", "q2": ""}
    assert load("null_odds.json") == {"q1": -4.0, "q2": 2.0}
    nbest = load("nbest_predictions.json")["q2"]
    assert [entry["text"] for entry in nbest[:2]] == ["", "\u0109"]
    assert set(nbest[0]) == {"text", "probability", "start_logit", "end_logit"}
    squad.write_predictions(str(tmp_path / "out"), found, null_threshold=3)
    assert load("predictions.json")["q2"] == "\u0109"
    found = squad.find_answers(start, end, features, questions, version_2=False)
    squad.write_predictions(str(tmp_path / "v1"), found)
    assert not (tmp_path / "v1" / "null_odds.json").exists()


def test_logits_that_are_wrong_are_refused(tokenizer):
    questions = [ask("q1", "a b"), ask("q2", "a b")]
    features = squad.make_features(questions, tokenizer, 16, max_query_length=2)
    logits = np.zeros((2, 16))
    with pytest.raises(InputError, match=r"shape of the rows, \(2, 16\). Received: \(1, 16\)"):
        squad.find_answers(logits, logits[:1], features, questions, True)
    broken = logits.copy()
    broken[1, 3] = np.nan
    with pytest.raises(InputError, match="end logits of row 1 are not all finite"):
        squad.find_answers(logits, broken, features, questions, True)


@pytest.mark.skipif(not DATA.exists(), reason="needs the data sets beside the checkout")
@pytest.mark.parametrize("version", ["v1.1", "v2.0"])
def test_a_whole_dev_set_is_answered_in_seconds(version):
    vocabulary = Vocabulary.load(str(DATA / "vocab" / "bert-base-uncased-vocab.txt"))
    questions = squad.read(str(DATA / "squad" / f"dev-{version}.json.gz"))
    features = squad.make_features(questions, BertTokenizer(vocabulary))
    # A model that is nearly sure of where the first answer stands, or that there is none.
    start, end = np.random.default_rng(0).normal(size=(2, *features.token_ids.shape))
    rows = np.arange(len(start))
    start[rows, features.start_position] += 8
    end[rows, features.end_position] += 8
    began = time.monotonic()
    found = squad.find_answers(start, end, features, questions, version == "v2.0")
    assert time.monotonic() - began < 20
    scores = squad.score(found.answers(), questions, version == "v2.0")
    # The rest are windows that hold no answer, and answers within words.
    assert scores["exact_match"] > 99
    assert all(found.texts[question.id] in question.context for question in questions)
