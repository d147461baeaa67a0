"""Named entities of raw text, found within a graph.

Words are what BERT's tokenizer takes for words: it splits at white space and at punctuation. Each
has the label of its first piece, in the window of a long text where that has most context, and
entities are put together by the rules of conlleval.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.token_classifier import BertTokenClassifier
from keras_bert_tpu.serving import windows
from keras_bert_tpu.serving.offsets import chars_of_bytes, texts_between
from keras_bert_tpu.serving.signatures import ServableTaskModel, Tensors
from keras_bert_tpu.tasks import ner
from keras_bert_tpu.text.rows import join_rows

_SPECIALS = 2  # [CLS] window [SEP]


class _Words(NamedTuple):
    """Words of all texts, one text after another.

    Attributes:
        owner: int32 [words]. In which text each is.
        labels: int32 [words].
        probabilities: float32 [words]. Of their labels.
        starts, ends: int32 [words]. Bytes.
    """

    owner: tf.Tensor
    labels: tf.Tensor
    probabilities: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor


class ServableTokenClassifier(ServableTaskModel):
    """Texts to entities.

    Outputs for texts, where behind the last entity of a text there are empty strings and 0:
        entities              int32 [batch], how many each text has
        entity                string [batch, entities], as it stands in the text
        label                 string [batch, entities], its type
        probability           float32 [batch, entities], the mean of its words
        byte_start, byte_end  int32 [batch, entities], where it stands
        char_start, char_end  int32 [batch, entities], the same in characters
    and for rows of ids `logits` and `probabilities`, float32 [batch, length, classes], and `label`,
    string [batch, length], of each piece.

    Where labels are not those of entities (O, B-PER, I-PER and so on), each word is one by itself.

    Args:
        model: BertTokenClassifier.
        **settings: Those of `Servable`.
    """

    def __init__(self, model: BertTokenClassifier, **settings: Any):
        super().__init__(model, ("text",), model.num_classes, of_pieces=True, **settings)
        self.labels = model.labels or tuple(map(str, range(model.num_classes)))
        self._types, self._goes_on = _entity_rules(self.labels)

    def answer(self, found: Tensors, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Returns the outputs for rows of ids."""
        scores = found["scores"]
        return {
            "logits": scores,
            "probabilities": tf.nn.softmax(scores),
            "label": tf.gather(tf.constant(self.labels), tf.argmax(scores, axis=-1)),
        }

    def rows(self, *columns: tf.Tensor) -> Tensors:
        """Returns the rows of all windows, int32 [windows, longest rows]."""
        return self._rows(self._cut(self.tokenizer(columns[0]))[1])

    def of_texts(self, *columns: tf.Tensor) -> Tensors:
        """Returns the outputs of texts."""
        (text,) = columns
        pieces, starts, ends = self.tokenizer.tokenize_with_offsets(text)
        cut, ids = self._cut(pieces)
        scores = self.found(self._rows(ids))["scores"]
        number = tf.size(pieces.values)
        places = windows.place(cut, tf.ones_like(cut.owner), self.sequence_length, number)
        # Pieces come in their order, except that windows overlap.
        where = tf.where(places.has_max_context)
        order = tf.argsort(tf.gather_nd(places.piece, where), stable=True)
        of_pieces = tf.gather(tf.gather_nd(scores, where), order)
        words = self._words(pieces, starts.values, ends.values, of_pieces)
        return self._entities(text, words)

    def sample_request(self) -> dict[str, list[Any]]:
        """Returns a text with names in."""
        return self.one_request(["Ada Lovelace was born in London."])

    def _cut(self, pieces: tf.RaggedTensor) -> tuple[windows.Windows, tf.RaggedTensor]:
        """Returns the windows of texts, and their ids [windows, (pieces)]."""
        numbers = tf.cast(pieces.row_lengths(), tf.int32)
        room = self.sequence_length - _SPECIALS
        cut = windows.cut(numbers, tf.fill(tf.shape(numbers), room), max(1, room // 2))
        return cut, cut.take(pieces.values)

    def _rows(self, ids: tf.RaggedTensor) -> Tensors:
        return join_rows([ids], self.tokenizer.vocabulary, self.sequence_length)

    def _words(
        self, pieces: tf.RaggedTensor, starts: tf.Tensor, ends: tf.Tensor, scores: tf.Tensor
    ) -> _Words:
        owner = tf.cast(pieces.value_rowids(), tf.int32)
        begins = self.tokenizer.begins_word(pieces.values) | _is_first(owner)
        word = tf.cumsum(tf.cast(begins, tf.int32)) - 1
        probabilities = tf.nn.softmax(tf.boolean_mask(scores, begins))
        return _Words(
            tf.boolean_mask(owner, begins),
            tf.argmax(probabilities, axis=-1, output_type=tf.int32),
            tf.reduce_max(probabilities, axis=-1),
            tf.boolean_mask(starts, begins),
            tf.math.segment_max(ends, word),
        )

    def _entities(self, text: tf.Tensor, words: _Words) -> Tensors:
        # Whether an entity goes on from a word to the next one.
        before = tf.concat([[0], words.labels[:-1]], axis=0)[: tf.size(words.labels)]
        goes_on = tf.gather_nd(tf.constant(self._goes_on), tf.stack([before, words.labels], axis=1))
        begins = tf.logical_not(goes_on) | _is_first(words.owner)
        is_entity = tf.gather(tf.constant(self._types), words.labels) != ""
        inside = _Words(*(tf.boolean_mask(values, is_entity) for values in words))
        begins = tf.boolean_mask(begins, is_entity)
        entity = tf.cumsum(tf.cast(begins, tf.int32)) - 1
        owner, labels, _, starts, _ = (tf.boolean_mask(values, begins) for values in inside)
        ends = tf.math.segment_max(inside.ends, entity)
        char_starts, char_ends = chars_of_bytes(text, owner, starts, ends)
        values = {
            "entity": texts_between(text, owner, starts, ends),
            "label": tf.gather(tf.constant(self._types), labels),
            "probability": tf.math.segment_mean(inside.probabilities, entity),
            "byte_start": starts,
            "byte_end": ends,
            "char_start": char_starts,
            "char_end": char_ends,
        }
        number = tf.size(text, tf.int64)
        rows = tf.RaggedTensor.from_value_rowids(starts, tf.cast(owner, tf.int64), number)
        found = {name: rows.with_values(value).to_tensor() for name, value in values.items()}
        return {"entities": tf.cast(rows.row_lengths(), tf.int32), **found}


def _entity_rules(labels: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Returns the type of each label, empty for none, and whether one goes on in another."""
    try:
        types = [ner.split_label(label)[1] for label in labels]
        rules = [ner.goes_on(*pair) for pair in itertools.product(labels, repeat=2)]
    except InputError:
        types = ["" if label == ner.OUTSIDE else label for label in labels]
        rules = [False] * len(labels) ** 2
    return types, np.array(rules).reshape(len(labels), len(labels))


def _is_first(owner: tf.Tensor) -> tf.Tensor:
    """Tells which of ascending numbers are the first of their kind."""
    return tf.concat([[True], owner[1:] != owner[:-1]], axis=0)[: tf.size(owner)]
