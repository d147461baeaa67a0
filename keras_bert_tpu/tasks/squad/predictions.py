"""From the logits of all rows to answers: the post-processing of run_squad.py.

Answers are exact stretches of the passage, by the offsets of their first and last piece; that
script joins words with one space, and so has other texts where a passage has two (3 of 3,976
questions of the dev sets; all else was equal).
"""

import dataclasses
import math
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks.output_files import write_json
from keras_bert_tpu.tasks.squad.features import SquadFeatures
from keras_bert_tpu.tasks.squad.reading import Question

PREDICTIONS, NBEST, NULL_ODDS = "predictions.json", "nbest_predictions.json", "null_odds.json"
# The paper's settings: answers that are kept, and pieces that one may have.
N_BEST, MAX_ANSWER_LENGTH = 20, 30


@dataclasses.dataclass(frozen=True)
class SquadPredictions:
    """What a model answers.

    Attributes:
        texts: dict of question id to str. The best answer that is not empty.
        nbest: dict of question id to a list of dicts, the best first, each with `text`,
            `probability` (among these), `start_logit` and `end_logit`.
        null_odds: dict of question id to float. By how much the score of no answer exceeds that of
            the best answer (SQuAD 2.0); empty for SQuAD 1.1.
    """

    texts: dict[str, str]
    nbest: dict[str, list[dict[str, Any]]]
    null_odds: dict[str, float]

    def answers(self, null_threshold: float = 0.0) -> dict[str, str]:
        """Returns the answers, empty where the null odds exceed a threshold.

        Args:
            null_threshold: float.

        Returns:
            Dict of question id to str.
        """
        return {
            key: "" if self.null_odds.get(key, -math.inf) > null_threshold else text
            for key, text in self.texts.items()
        }


class _Candidates(NamedTuple):
    """Stretches that may be answers: those of one question together, the best first.

    Attributes:
        start_chars, end_chars: int32 [candidates]. In the passage.
        start_logits, end_logits: float64 [candidates].
        bounds: int [questions + 1]. Those of question i are from bounds[i] to bounds[i + 1].
    """

    start_chars: np.ndarray
    end_chars: np.ndarray
    start_logits: np.ndarray
    end_logits: np.ndarray
    bounds: np.ndarray


def find_answers(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    features: SquadFeatures,
    questions: Sequence[Question],
    version_2: bool,
    n_best: int = N_BEST,
    max_answer_length: int = MAX_ANSWER_LENGTH,
) -> SquadPredictions:
    """Finds the best answers.

    Of each row the `n_best` best starts and ends are paired. A pair is an answer if both are pieces
    of the passage, the start has its most context in that row, and the end is not before it nor
    `max_answer_length` pieces or more behind it. The score is the sum of both logits; that of no
    answer is the one of [CLS], the least of all rows of a question.

    Args:
        start_logits: float [rows, length].
        end_logits: float [rows, length].
        features: SquadFeatures.
        questions: Sequence of Question that the features are made of.
        version_2: bool. Whether a question may have no answer.
        n_best: int. Answers that are kept for each question.
        max_answer_length: int. Pieces that an answer may have.

    Returns:
        SquadPredictions. A question whose passage has no pieces has an empty text.

    Raises:
        InputError: If the logits have another shape than the rows, or one is not finite.
    """
    logits = [np.asarray(values, np.float64) for values in (start_logits, end_logits)]
    for name, values in zip(("start", "end"), logits, strict=True):
        if values.shape != features.token_ids.shape:
            raise InputError(
                f"The {name} logits must have the shape of the rows, {features.token_ids.shape}. "
                f"Received: {values.shape}."
            )
        if not np.all(np.isfinite(values)):
            row = int(np.argmin(np.isfinite(values).all(axis=1)))
            raise InputError(
                f"The {name} logits of row {row} are not all finite; find where the numbers went "
                f"wrong."
            )
    found = _candidates(*logits, features, len(questions), n_best, max_answer_length)
    nulls = _null_logits(*logits, features, len(questions)) if version_2 else None
    predictions = SquadPredictions({}, {}, {})
    for index, question in enumerate(questions):
        null = None if nulls is None else (float(nulls[0][index]), float(nulls[1][index]))
        entries = _best(found, index, question.context, null, n_best)
        best = next((entry for entry in entries if entry[0]), ("", 0.0, 0.0))
        predictions.texts[question.id] = best[0]
        predictions.nbest[question.id] = _with_probabilities(entries)
        if null is not None:
            predictions.null_odds[question.id] = sum(null) - best[1] - best[2]
    return predictions


def write_predictions(
    folder: str, predictions: SquadPredictions, null_threshold: float = 0.0
) -> None:
    """Writes `predictions.json`, `nbest_predictions.json` and, for SQuAD 2.0, `null_odds.json`.

    Args:
        folder: str. Local or gs:// folder.
        predictions: SquadPredictions.
        null_threshold: float. Null odds above which a question has no answer.

    Raises:
        InputError: If a file cannot be written.
    """
    write_json(posixpath.join(folder, PREDICTIONS), predictions.answers(null_threshold))
    write_json(posixpath.join(folder, NBEST), predictions.nbest)
    if predictions.null_odds:
        write_json(posixpath.join(folder, NULL_ODDS), predictions.null_odds)


def _candidates(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    features: SquadFeatures,
    questions: int,
    n_best: int,
    max_answer_length: int,
) -> _Candidates:
    # Stable sorts, so that of equal logits the first piece comes first, as in Python's `sorted`.
    starts, ends = (
        np.argsort(-logits, axis=1, kind="stable")[:, :n_best]
        for logits in (start_logits, end_logits)
    )
    may_start = np.take_along_axis(features.has_max_context, starts, 1)
    # All pieces have characters, so those of the passage end behind its beginning.
    may_end = np.take_along_axis(features.char_ends > 0, ends, 1)
    length = ends[:, np.newaxis, :] - starts[:, :, np.newaxis] + 1
    is_answer = (length >= 1) & (length <= max_answer_length)
    is_answer &= may_start[:, :, np.newaxis] & may_end[:, np.newaxis, :]
    row, start_rank, end_rank = np.nonzero(is_answer)
    start, end = starts[row, start_rank], ends[row, end_rank]
    question = features.question_index[row]
    start_of, end_of = start_logits[row, start], end_logits[row, end]
    order = np.lexsort((-(start_of + end_of), question))
    return _Candidates(
        features.char_starts[row, start][order],
        features.char_ends[row, end][order],
        start_of[order],
        end_of[order],
        np.searchsorted(question, np.arange(questions + 1)),
    )


def _null_logits(
    start_logits: np.ndarray, end_logits: np.ndarray, features: SquadFeatures, questions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the logits of [CLS] in the row of each question where their sum is least."""
    order = np.lexsort((start_logits[:, 0] + end_logits[:, 0], features.question_index))
    least = order[np.searchsorted(features.question_index, np.arange(questions))]
    return start_logits[least, 0], end_logits[least, 0]


def _best(
    found: _Candidates, index: int, context: str, null: tuple[float, float] | None, n_best: int
) -> list[tuple[str, float, float]]:
    """Returns the n-best list of a question: texts, none twice, and their logits."""
    entries: list[tuple[str, float, float]] = []
    seen: set[str] = set()
    for text, start_logit, end_logit in _texts(found, index, context, n_best):
        if null is not None and "" not in seen and start_logit + end_logit < sum(null):
            entries.append(("", *null))
            seen.add("")
        if len(entries) >= n_best:
            break
        if text not in seen:
            entries.append((text, start_logit, end_logit))
            seen.add(text)
    if null is not None and "" not in seen:
        entries.append(("", *null))
    # A passage without pieces has no answer.
    return entries or [("", 0.0, 0.0)]


def _texts(
    found: _Candidates, index: int, context: str, n_best: int
) -> Iterator[tuple[str, float, float]]:
    first, last = found.bounds[index], found.bounds[index + 1]
    # Few candidates repeat a text, so of each question's hundreds the first ones do.
    for begin in range(first, last, 2 * n_best):
        part = slice(begin, min(begin + 2 * n_best, last))
        columns = [column[part].tolist() for column in found[:4]]
        for start, end, start_logit, end_logit in zip(*columns, strict=True):
            yield context[start:end], start_logit, end_logit


def _with_probabilities(entries: Sequence[tuple[str, float, float]]) -> list[dict[str, Any]]:
    scores = [start_logit + end_logit for _, start_logit, end_logit in entries]
    weights = [math.exp(score - max(scores)) for score in scores]
    return [
        {
            "text": text,
            "probability": weight / sum(weights),
            "start_logit": start_logit,
            "end_logit": end_logit,
        }
        for (text, start_logit, end_logit), weight in zip(entries, weights, strict=True)
    ]
