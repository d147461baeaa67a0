"""Token, position and segment embeddings of BERT (arXiv 1810.04805, section 3)."""

from typing import Any

import keras
from keras import ops

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.layers.configured import Configured, layer_norm, truncated_normal
from keras_bert_tpu.layers.dropout import Dropout


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertEmbeddings(Configured, keras.layers.Layer):
    """Sum of three embeddings, layer normalization, dropout.

    Args:
        config: EncoderConfig.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(self, config: EncoderConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.token_embedding = keras.layers.Embedding(
            config.vocab_size,
            config.hidden_size,
            embeddings_initializer=truncated_normal(config),
            dtype=self.dtype_policy,
            name="token_embedding",
        )
        self.layer_norm = layer_norm(config, self.dtype_policy, "layer_norm")
        self.dropout = Dropout(config.hidden_dropout, site=0, dtype=self.dtype_policy)

    def build(self, input_shape: Any = None) -> None:
        """Creates all variables; their shapes depend on the config alone."""
        config = self.config
        self.token_embedding.build()
        self.position_table = self.add_weight(
            name="position_embeddings",
            shape=(config.max_positions, config.hidden_size),
            initializer=truncated_normal(config),
        )
        self.segment_table = self.add_weight(
            name="segment_embeddings",
            shape=(config.type_vocab_size, config.hidden_size),
            initializer=truncated_normal(config),
        )
        self.layer_norm.build((None, None, config.hidden_size))

    def call(
        self,
        token_ids: Any,
        segment_ids: Any,
        position_ids: Any = None,
        training: bool | None = None,
        seed: Any = None,
    ) -> Any:
        """Embeds tokens.

        Args:
            token_ids: int32 tensor [batch, length].
            segment_ids: int32 tensor [batch, length].
            position_ids: int32 tensor [batch, length], or None for 0, 1, 2 and so on in each row.
            training: bool. Whether dropout is on.
            seed: int32 tensor [2] or None, see `Dropout`.

        Returns:
            Float tensor [batch, length, hidden].
        """
        embedded = self.token_embedding(token_ids)
        # A product with one-hot rows, not a lookup: the table has two rows, and its gradient is
        # then a small dense product rather than a scatter of batch x length rows into two.
        segments = ops.one_hot(segment_ids, self.config.type_vocab_size, dtype=self.compute_dtype)
        embedded += ops.matmul(segments, ops.cast(self.segment_table, self.compute_dtype))
        if position_ids is None:
            positions = self.position_table[: ops.shape(token_ids)[1]]
        else:
            positions = ops.take(self.position_table, position_ids, axis=0)
        embedded += ops.cast(positions, self.compute_dtype)
        return self.dropout(self.layer_norm(embedded), training=training, seed=seed)
