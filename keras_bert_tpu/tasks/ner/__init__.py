"""Named entities in CoNLL columns.

The way is `read`, `make_features`, a model's predictions, `labels_of_words`, and from those `score`
and `write_predictions`.
"""

from keras_bert_tpu.tasks.ner.features import NerFeatures, labels_of_words, make_features
from keras_bert_tpu.tasks.ner.reading import (
    Sentence,
    find_scheme,
    label_names,
    read,
    read_sentences,
    write_predictions,
)
from keras_bert_tpu.tasks.ner.schemes import Entity, find_entities, first_break, scheme_of
from keras_bert_tpu.tasks.ner.scoring import score

__all__ = [
    "Entity",
    "NerFeatures",
    "Sentence",
    "find_entities",
    "find_scheme",
    "first_break",
    "label_names",
    "labels_of_words",
    "make_features",
    "read",
    "read_sentences",
    "scheme_of",
    "score",
    "write_predictions",
]
