"""Exact match and F1 of answers, by the rules of the official evaluate-v1.1.py and -v2.0.py.

All scores are percentages, as SQuAD has them.
"""

import collections
import re
import string
from collections.abc import Mapping, Sequence

import numpy as np

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks.squad.reading import Question

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Returns an answer as it is compared: lower-cased, without punctuation and articles.

    Args:
        text: str.

    Returns:
        Words with one space between them. "The U.S.A., an  hour" gives "usa hour".
    """
    without_punctuation = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", without_punctuation).split())


def score(
    predictions: Mapping[str, str],
    questions: Sequence[Question],
    version_2: bool,
    null_odds: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Compares answers with those that people gave.

    A question counts the best match among its answers. One that has no answer matches only the
    empty string (SQuAD 2.0). One that is not in `predictions` counts 0.

    Args:
        predictions: Mapping of question id to answer.
        questions: Sequence of Question, at least one.
        version_2: bool. Whether the rules are those of SQuAD 2.0.
        null_odds: Mapping of question id to float. If given, the thresholds are searched that are
            best for these predictions; see `best_threshold`.

    Returns:
        Dict with `exact_match` and `f1`, 0 to 100. For SQuAD 2.0 also `has_answer_exact_match`,
        `has_answer_f1`, `no_answer_exact_match` and `no_answer_f1`, as far as there are such
        questions; with `null_odds` also `best_exact_match`, `best_exact_match_threshold`, `best_f1`
        and `best_f1_threshold`.

    Raises:
        InputError: If there is no question, or one has no answer and the rules are those of 1.1.
    """
    exact, f1 = _scores_of_questions(predictions, questions, version_2)
    found = {"exact_match": _percent(exact), "f1": _percent(f1)}
    if not version_2:
        return found
    has_answer = np.array([bool(question.answers) for question in questions])
    for prefix, chosen in (("has_answer", has_answer), ("no_answer", ~has_answer)):
        if chosen.any():
            found[f"{prefix}_exact_match"] = _percent(exact[chosen])
            found[f"{prefix}_f1"] = _percent(f1[chosen])
    if null_odds is not None:
        for name, scores in (("exact_match", exact), ("f1", f1)):
            best, threshold = _best_threshold(predictions, questions, scores, null_odds)
            found[f"best_{name}"] = best
            found[f"best_{name}_threshold"] = threshold
    return found


def best_threshold(
    predictions: Mapping[str, str], questions: Sequence[Question], null_odds: Mapping[str, float]
) -> float:
    """Returns the null threshold that gives the best F1, as `find_best_thresh` of the official.

    Args:
        predictions: Mapping of question id to answer: the best ones that are not empty, so that
            all thresholds can be judged (`SquadPredictions.texts`).
        questions: Sequence of Question, at least one.
        null_odds: Mapping of question id to float.

    Raises:
        InputError: If there is no question, or one has no null odds.
    """
    _, f1 = _scores_of_questions(predictions, questions, version_2=True)
    return _best_threshold(predictions, questions, f1, null_odds)[1]


def _scores_of_questions(
    predictions: Mapping[str, str], questions: Sequence[Question], version_2: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns exact match and F1 of each question, each float64 [questions]."""
    if not questions:
        raise InputError("There are no questions to score; give at least one.")
    exact, f1 = np.zeros((2, len(questions)))
    for index, question in enumerate(questions):
        if question.id not in predictions:
            continue
        golds = [normalize_answer(answer.text) for answer in question.answers]
        if version_2:
            golds = [gold for gold in golds if gold] or [""]
        elif not golds:
            raise InputError(
                f"Question {question.id!r} has no answer, which SQuAD 1.1 does not know; score it "
                f"by the rules of SQuAD 2.0."
            )
        prediction = normalize_answer(predictions[question.id])
        exact[index] = prediction in golds
        f1[index] = max(_f1(prediction, gold, version_2) for gold in set(golds))
    return exact, f1


def _f1(prediction: str, gold: str, version_2: bool) -> float:
    words, gold_words = prediction.split(), gold.split()
    if version_2 and not (words and gold_words):
        return float(words == gold_words)
    same = sum((collections.Counter(words) & collections.Counter(gold_words)).values())
    if not same:
        return 0.0
    precision, recall = same / len(words), same / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def _best_threshold(
    predictions: Mapping[str, str],
    questions: Sequence[Question],
    scores: np.ndarray,
    null_odds: Mapping[str, float],
) -> tuple[float, float]:
    """Returns the best mean score, in percent, and the threshold that gives it.

    The threshold is raised from below all null odds, where no question is answered, over one
    question after another, each of which is answered from then on.
    """
    for question in questions:
        if question.id not in null_odds:
            raise InputError(
                f"Question {question.id!r} has no null odds; give them for all questions."
            )
    odds = np.array([null_odds[question.id] for question in questions])
    has_answer = np.array([bool(question.answers) for question in questions])
    is_answered = np.array([bool(predictions.get(question.id)) for question in questions])
    gain = np.where(has_answer, scores, np.where(is_answered, -1.0, 0.0))
    order = np.argsort(odds, kind="stable")
    totals = np.cumsum([np.sum(~has_answer), *gain[order]])
    best = int(np.argmax(totals))
    # 0 is the threshold of the official script if none is better than no answers at all.
    threshold = float(odds[order[best - 1]]) if best else 0.0
    return 100.0 * float(totals[best]) / len(questions), threshold


def _percent(scores: np.ndarray) -> float:
    return 100.0 * float(scores.sum()) / len(scores)
