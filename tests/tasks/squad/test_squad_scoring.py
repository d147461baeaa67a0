"""Exact match and F1 against the official evaluators, from tests/golden/squad."""

import json
import pathlib
import sys

import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import squad
from keras_bert_tpu.tasks.squad import Answer, Question

TESTS = pathlib.Path(__file__).parents[2]
GOLDEN = TESTS / "golden" / "squad"
DATA = TESTS.parents[1] / "shared" / "data" / "squad"
sys.path.insert(0, str(GOLDEN))
from perturbed_answers import perturb  # noqa: E402


@pytest.fixture(scope="module")
def golden():
    return json.loads((GOLDEN / "golden.json").read_text("utf-8"))


def question(key, *answers):
    return Question(key, "?", "", tuple(Answer(text, 0) for text in answers), not answers)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The U.S.A., an  hour", "usa hour"),
        ("theatre ana thé", "theatre ana thé"),
        ("a-the the\u00a0an", "athe"),
        ("“A” well-known\tÉCOLE", "“ ” wellknown école"),
    ],
)
def test_answers_are_compared_without_case_punctuation_and_articles(text, normal):
    assert squad.normalize_answer(text) == normal


def test_scores_are_those_of_the_official_evaluators(golden):
    made = golden["made"]
    questions = [question(key, *golds) for key, golds, _, _ in made["questions"]]
    predictions = {key: text for key, _, text, _ in made["questions"]}
    odds = {key: odds for key, _, _, odds in made["questions"]}
    answered = [question for question in questions if question.answers]
    assert squad.score(predictions, answered, version_2=False) == pytest.approx(made["v1"])
    assert squad.score(predictions, questions, True, odds) == pytest.approx(made["v2"])


@pytest.mark.skipif(not DATA.exists(), reason="needs the data sets beside the checkout")
@pytest.mark.parametrize("version", ["v1.1", "v2.0"])
def test_scores_of_whole_dev_sets_are_those_of_the_official_evaluators(golden, version):
    questions = squad.read(str(DATA / f"dev-{version}.json.gz"))
    given = {
        q.id: perturb(q.id, [answer.text for answer in q.answers], q.context) for q in questions
    }
    predictions = {key: text for key, (text, _) in given.items()}
    odds = {key: odds for key, (_, odds) in given.items()}
    is_2 = version == "v2.0"
    scores = squad.score(predictions, questions, is_2, odds if is_2 else None)
    assert scores == pytest.approx(golden["dev"][version[:2]], rel=1e-12)


def test_an_answer_of_articles_counts_as_none_in_2_0_only():
    questions = [question("a", "the"), question("b", "x")]
    predictions = {"a": "an", "b": "x"}
    assert squad.score(predictions, questions, version_2=False) == {"exact_match": 100, "f1": 50}
    assert squad.score(predictions, questions, version_2=True)["f1"] == 100


def test_a_question_that_is_not_answered_counts_0():
    questions = [question("a", "x"), question("b", "y")]
    assert squad.score({"a": "x"}, questions, version_2=False)["exact_match"] == 50


def test_the_best_threshold_is_the_odds_of_the_last_question_to_answer():
    questions = [question("a", "x"), question("b"), question("c", "z"), question("d")]
    texts = {"a": "x", "b": "y", "c": "z", "d": "w"}
    odds = {"a": -3.0, "b": -1.0, "c": 2.5, "d": 4.0}
    # None answered: 2 right. Then a: 3, and b: 2, and c: 3, and d: 2. The first best is a's.
    assert squad.best_threshold(texts, questions, odds) == -3.0
    odds["b"] = 3.0
    assert squad.best_threshold(texts, questions, odds) == 2.5
    assert squad.best_threshold({**texts, "a": "no", "c": "no"}, questions, odds) == 0.0
    with pytest.raises(InputError, match="Question 'd' has no null odds"):
        squad.best_threshold(texts, questions, {"a": 0, "b": 0, "c": 0})


def test_questions_without_answers_have_no_score_in_1_1():
    with pytest.raises(InputError, match="Question 'a' has no answer, which SQuAD 1.1"):
        squad.score({"a": ""}, [question("a")], version_2=False)
    with pytest.raises(InputError, match="at least one"):
        squad.score({}, [], version_2=True)
