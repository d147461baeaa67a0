"""SQuAD 1.1 and 2.0: questions about passages.

The way is `read`, `make_features`, a model's logits, `find_answers`, and from its answers `score`
and `write_predictions`.
"""

from keras_bert_tpu.tasks.squad.features import (
    DOC_STRIDE,
    MAX_QUERY_LENGTH,
    SPECIALS,
    SquadFeatures,
    make_features,
)
from keras_bert_tpu.tasks.squad.predictions import (
    MAX_ANSWER_LENGTH,
    N_BEST,
    SquadPredictions,
    find_answers,
    write_predictions,
)
from keras_bert_tpu.tasks.squad.reading import Answer, Question, misplaced_answers, read
from keras_bert_tpu.tasks.squad.scoring import best_threshold, normalize_answer, score

__all__ = [
    "DOC_STRIDE",
    "MAX_ANSWER_LENGTH",
    "MAX_QUERY_LENGTH",
    "N_BEST",
    "SPECIALS",
    "Answer",
    "Question",
    "SquadFeatures",
    "SquadPredictions",
    "best_threshold",
    "find_answers",
    "make_features",
    "misplaced_answers",
    "normalize_answer",
    "read",
    "score",
    "write_predictions",
]
