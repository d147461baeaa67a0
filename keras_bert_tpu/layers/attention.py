"""Multi-head self-attention (arXiv 1706.03762, section 3.2)."""

import math
from typing import Any

import keras
from keras import ops

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.layers.configured import Configured, truncated_normal
from keras_bert_tpu.layers.dropout import Dropout

# Added to the scores of positions that must not be seen. Finite, so that a row without a single
# visible position gives equal weights and not NaN; far below any score float32 can hold beside it.
MASKED_SCORE = -1e9


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class SelfAttention(Configured, keras.layers.Layer):
    """Scaled dot-product attention of a sequence with itself, and the output projection.

    Query, key and value are three products to [batch, length, heads, width]: one fused product
    that is reshaped afterwards costs a TPU more in layout changes than it saves.

    Args:
        config: EncoderConfig.
        site: int. Number of the first dropout layer inside.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(self, config: EncoderConfig, site: int, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.site = site
        self.head_width = config.hidden_size // config.num_heads
        self.query, self.key, self.value = (
            keras.layers.EinsumDense(
                "btd,dhw->bthw",
                output_shape=(None, config.num_heads, self.head_width),
                bias_axes="hw",
                kernel_initializer=truncated_normal(config),
                dtype=self.dtype_policy,
                name=name,
            )
            for name in ("query", "key", "value")
        )
        self.output_projection = keras.layers.EinsumDense(
            "bthw,hwd->btd",
            output_shape=(None, config.hidden_size),
            bias_axes="d",
            kernel_initializer=truncated_normal(config),
            dtype=self.dtype_policy,
            name="output_projection",
        )
        self.dropout = Dropout(config.attention_dropout, site=site, dtype=self.dtype_policy)

    def build(self, input_shape: Any = None) -> None:
        """Creates all variables; their shapes depend on the config alone."""
        config = self.config
        for projection in (self.query, self.key, self.value):
            projection.build((None, None, config.hidden_size))
        self.output_projection.build((None, None, config.num_heads, self.head_width))

    def call(
        self, hidden: Any, score_bias: Any, training: bool | None = None, seed: Any = None
    ) -> Any:
        """Lets each position gather from all visible ones.

        Args:
            hidden: Float tensor [batch, length, hidden].
            score_bias: float32 tensor that broadcasts to [batch, heads, length, length]: 0 where
                the key may be seen, `MASKED_SCORE` where not.
            training: bool. Whether dropout is on.
            seed: int32 tensor [2] or None, see `Dropout`.

        Returns:
            Float tensor [batch, length, hidden].
        """
        query = self.query(hidden) * (1.0 / math.sqrt(self.head_width))
        scores = ops.einsum("bqhw,bkhw->bhqk", query, self.key(hidden))
        probabilities = ops.softmax(
            ops.cast(scores, "float32") + ops.cast(score_bias, "float32"), axis=-1
        )
        probabilities = ops.cast(probabilities, self.compute_dtype)
        probabilities = self.dropout(probabilities, training=training, seed=seed)
        gathered = ops.einsum("bhqk,bkhw->bqhw", probabilities, self.value(hidden))
        return self.output_projection(gathered)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "site": self.site}


def padding_score_bias(padding_mask: Any) -> Any:
    """Returns the float32 score bias [batch, 1, 1, length] of an int mask [batch, length]."""
    hidden_keys = 1.0 - ops.cast(padding_mask, "float32")
    return hidden_keys[:, None, None, :] * MASKED_SCORE
