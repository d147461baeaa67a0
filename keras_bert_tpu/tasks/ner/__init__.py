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
from keras_bert_tpu.tasks.ner.schemes import (
    OUTSIDE,
    Entity,
    find_entities,
    first_break,
    goes_on,
    scheme_of,
    split_label,
)
from keras_bert_tpu.tasks.ner.scoring import score

__all__ = [
    "OUTSIDE",
    "Entity",
    "NerFeatures",
    "Sentence",
    "find_entities",
    "find_scheme",
    "first_break",
    "goes_on",
    "label_names",
    "labels_of_words",
    "make_features",
    "read",
    "read_sentences",
    "scheme_of",
    "score",
    "split_label",
    "write_predictions",
]
