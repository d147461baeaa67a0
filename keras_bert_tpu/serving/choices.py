"""Texts and their choices to the best one."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_tpu.models.multiple_choice import BertMultipleChoice
from keras_bert_tpu.serving.signatures import ROWS, ServableTaskModel, Tensors
from keras_bert_tpu.training.task_prediction import NO_SCORE


class ServableMultipleChoice(ServableTaskModel):
    """Texts with choices, each a row, to one of them.

    Inputs are `context`, string [batch], and `choices`, string [batch, choices]; an empty choice is
    none, so that those with fewer ones can be filled up. Rows of ids are [batch, choices, length],
    and one without any token is no choice.

    Outputs:
        choice         int32 [batch], the number of the best one
        probabilities  float32 [batch, choices]
        logits         float32 [batch, choices]

    Args:
        model: BertMultipleChoice.
        **settings: Those of `Servable`.
    """

    def __init__(self, model: BertMultipleChoice, **settings: Any):
        super().__init__(model, ("context", "choices"), 1, **settings)

    def compute(self, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Returns the scores of rows, as if each were the one choice of a text."""
        alone = {name: row[:, tf.newaxis] for name, row in rows.items()}
        return {"scores": self.model(alone, training=False)}

    def rows(self, *columns: tf.Tensor) -> Tensors:
        """Returns the rows of choices, int32 [texts, choices, longest rows]."""
        context, choices = columns
        context = tf.repeat(context, tf.shape(choices)[1])
        rows = super().rows(context, tf.reshape(choices, [-1]))
        shape = [*tf.unstack(tf.shape(choices)), self.sequence_length]
        is_choice = tf.cast(choices != "", tf.int32)[..., tf.newaxis]
        rows = {name: tf.reshape(row, shape) for name, row in rows.items()}
        return {**rows, "padding_mask": rows["padding_mask"] * is_choice}

    def of_texts(self, *columns: tf.Tensor) -> Tensors:
        """Returns the outputs of texts and their choices."""
        return self.answer_rows(self.rows(*columns))

    def answer_rows(self, rows: Tensors) -> Tensors:
        """Returns the outputs of rows [batch, choices, length]."""
        texts, choices, length = tf.unstack(tf.shape(rows["token_ids"]))
        some = tf.debugging.assert_positive(choices, "There must be one choice at least.")
        with tf.control_dependencies([some]):
            flat = {name: tf.reshape(rows[name], [texts * choices, length]) for name in ROWS}
        scores = tf.reshape(self.found(flat)["scores"], [texts, choices])
        return self.answer({"scores": scores}, rows)

    def answer(self, found: Tensors, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Returns the outputs of the class."""
        is_choice = tf.reduce_any(rows["padding_mask"] > 0, axis=-1)
        scores = tf.where(is_choice, found["scores"], NO_SCORE)
        return {
            "choice": tf.argmax(scores, axis=-1, output_type=tf.int32),
            "probabilities": tf.nn.softmax(scores),
            "logits": scores,
        }

    def text_specs(self) -> list[tf.TensorSpec]:
        """Returns the inputs of `serving_default`."""
        return [
            tf.TensorSpec([None], tf.string, "context"),
            tf.TensorSpec([None, None], tf.string, "choices"),
        ]

    def row_specs(self) -> list[tf.TensorSpec]:
        """Returns the inputs of `serving_ids`."""
        return [tf.TensorSpec([None, None, None], tf.int32, name) for name in ROWS]

    def features(self) -> dict[str, Any]:
        """Returns what is parsed of tf.Examples, with any number of choices."""
        return {**super().features(), "choices": tf.io.RaggedFeature(tf.string)}

    def one_request(self, texts: Sequence[str]) -> dict[str, list[Any]]:
        """Returns a request of one text, with the other text as each of two choices."""
        return {"context": [texts[0]], "choices": [[texts[1], texts[1]]]}

    def sample_request(self) -> dict[str, list[Any]]:
        """Returns a text with two choices."""
        return {"context": ["It rains."], "choices": [["She takes an umbrella.", "He swims."]]}
