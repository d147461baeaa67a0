"""Texts to classes, to numbers and to vectors."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.serving.signatures import ServableTaskModel, Tensors


class ServableTextClassifier(ServableTaskModel):
    """Texts or pairs to classes, to several of them each, or to a number.

    Outputs, with the scores of the model in `logits`, float32 [batch, classes]:
        one class      `label`, string [batch], and `probabilities`, float32 [batch, classes]
        several        `probabilities` of each class by itself, and `classes`, their names, string
                       [batch, classes]
        a number       `value`, float32 [batch], and no logits

    A model without names of labels has their numbers for names.

    Args:
        model: BertTextClassifier.
        pairs: bool or None. Whether texts come in pairs, `text` and `text_pair`; None does as the
            model was trained.
        **settings: Those of `Servable`.
    """

    def __init__(self, model: BertTextClassifier, pairs: bool | None = None, **settings: Any):
        pairs = model.pairs if pairs is None else pairs
        super().__init__(
            model, ("text", "text_pair") if pairs else ("text",), model.num_classes, **settings
        )
        self.labels = model.labels or tuple(map(str, range(model.num_classes)))

    def answer(self, found: Tensors, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Returns the outputs of the class."""
        scores = found["scores"]
        if self.model.num_classes == 1:
            return {"value": scores[:, 0]}
        labels = tf.constant(self.labels)
        if self.model.multi_label:
            names = tf.repeat(labels[tf.newaxis], tf.shape(scores)[0], axis=0)
            return {"logits": scores, "probabilities": tf.sigmoid(scores), "classes": names}
        return {
            "logits": scores,
            "probabilities": tf.nn.softmax(scores),
            "label": tf.gather(labels, tf.argmax(scores, axis=1)),
        }


class ServableSentenceEncoder(ServableTaskModel):
    """Texts to vectors: `embedding`, float32 [batch, hidden].

    Args:
        model: BertSentenceEncoder.
        **settings: Those of `Servable`.
    """

    def __init__(self, model: BertSentenceEncoder, **settings: Any):
        super().__init__(model, ("text",), model.config.hidden_size, **settings)

    def answer(self, found: Tensors, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Returns the outputs of the class."""
        return {"embedding": found["scores"]}
