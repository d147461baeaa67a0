"""The two pre-training heads: masked words and next sentences."""

from typing import Any

import keras
from keras import ops

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.layers.configured import Configured, layer_norm, truncated_normal
from keras_bert_tpu.layers.transformer import activate


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class MaskedLanguageModelHead(Configured, keras.layers.Layer):
    """Scores of all word pieces at the masked positions, with the tied embedding table.

    Only the masked positions are transformed and scored: at 20 of 128 positions and 30,522 pieces
    the product with the table is otherwise the largest of a small model.

    Args:
        config: EncoderConfig.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(self, config: EncoderConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.transform = keras.layers.Dense(
            config.hidden_size,
            kernel_initializer=truncated_normal(config),
            dtype=self.dtype_policy,
            name="transform",
        )
        self.layer_norm = layer_norm(config, self.dtype_policy, "layer_norm")

    def build(self, input_shape: Any = None) -> None:
        """Creates all variables; their shapes depend on the config alone."""
        hidden_shape = (None, None, self.config.hidden_size)
        self.transform.build(hidden_shape)
        self.layer_norm.build(hidden_shape)
        self.output_bias = self.add_weight(
            name="output_bias", shape=(self.config.vocab_size,), initializer="zeros"
        )

    def call(self, sequence_output: Any, mask_positions: Any, token_embeddings: Any) -> Any:
        """Scores the pieces.

        Args:
            sequence_output: Float tensor [batch, length, hidden].
            mask_positions: int32 tensor [batch, predictions].
            token_embeddings: Float tensor [vocabulary, hidden], the encoder's table.

        Returns:
            float32 tensor [batch, predictions, vocabulary].
        """
        hidden = gather_positions(sequence_output, mask_positions)
        hidden = self.layer_norm(activate(self.transform(hidden), self.config.hidden_activation))
        table = ops.cast(token_embeddings, self.compute_dtype)
        batch, predictions, width = ops.shape(hidden)
        scores = tied_product(ops.reshape(hidden, (-1, width)), table)
        scores = ops.reshape(scores, (batch, predictions, self.config.vocab_size))
        return ops.cast(scores, "float32") + ops.cast(self.output_bias, "float32")


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class NextSentenceHead(Configured, keras.layers.Layer):
    """Scores of "b follows a" (0) and "b is random" (1) from the pooled output.

    Args:
        config: EncoderConfig.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(self, config: EncoderConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.classifier = keras.layers.Dense(
            2,
            kernel_initializer=truncated_normal(config),
            dtype=self.dtype_policy,
            name="classifier",
        )

    def build(self, input_shape: Any = None) -> None:
        """Creates all variables; their shapes depend on the config alone."""
        self.classifier.build((None, self.config.hidden_size))

    def call(self, pooled_output: Any) -> Any:
        """Returns float32 scores [batch, 2] of a pooled output [batch, hidden]."""
        return ops.cast(self.classifier(pooled_output), "float32")


def gather_positions(sequence: Any, positions: Any) -> Any:
    """Gathers [batch, positions, hidden] from [batch, length, hidden] at int [batch, positions].

    One lookup in the flattened batch: its gradient is one scatter of whole rows, where
    `take_along_axis` would broadcast the indices over the hidden axis.
    """
    batch, length, hidden = ops.shape(sequence)
    rows = ops.arange(batch, dtype="int32")[:, None] * length + positions
    return ops.take(ops.reshape(sequence, (-1, hidden)), rows, axis=0)


@ops.custom_gradient
def tied_product(hidden: Any, table: Any) -> Any:
    """The product [rows, vocabulary] of [rows, hidden] with a table [vocabulary, hidden].

    The gradient of the table comes as [vocabulary, hidden] out of its product. Automatic
    differentiation of the transposed table would make [hidden, vocabulary] and transpose that.
    """

    def gradient(upstream: Any) -> tuple[Any, Any]:
        return ops.matmul(upstream, table), ops.matmul(ops.transpose(upstream), hidden)

    return ops.matmul(hidden, ops.transpose(table)), gradient
