"""Multi-head self-attention (arXiv 1706.03762, section 3.2)."""

import math
from typing import Any

import keras
from keras import ops

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.layers.configured import Configured, truncated_normal
from keras_bert_tpu.layers.dropout import Dropout
from keras_bert_tpu.layers.naming import name_scope

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
        batch, length, heads, _ = ops.shape(query)
        mask = self.dropout.mask((batch, heads, length, length), training, seed)
        if mask is not None:
            # A TPU draws bits with the last axis innermost, and keeps the scores of long sequences
            # with the queries innermost: drawn as [..., keys, queries] they need no copy.
            mask = ops.swapaxes(mask, -1, -2)
        gathered = attend(
            query,
            self.key(hidden),
            self.value(hidden),
            score_bias,
            mask,
            f"{self.path}/gradient",
        )
        return self.output_projection(gathered)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "site": self.site}


def attend(
    query: Any, key: Any, value: Any, score_bias: Any, mask: Any = None, name: str = "gradient"
) -> Any:
    """Lets each position gather the values of all, by the softmax of its products with their keys.

    The exponentials of the scores are not divided by their sums; what they gather is, which has
    fewer elements where a sequence is longer than a head is wide. The gradient, by hand, keeps the
    exponentials in the compute dtype, and takes the mean slope of a row, which the gradient of a
    softmax needs, from what was gathered and its slope (arXiv 2205.14135, appendix B.2).

    Args:
        query: Float tensor [batch, length, heads, width], scaled.
        key: Float tensor [batch, length, heads, width].
        value: Float tensor [batch, length, heads, width].
        score_bias: float32 tensor that broadcasts to [batch, heads, length, length]; it gets no
            gradient.
        mask: Float tensor [batch, heads, length, length], by which the probabilities are
            multiplied, or None: what `Dropout.mask` returns.
        name: str. Path that the operations of the gradient are named by.

    Returns:
        Float tensor [batch, length, heads, width].
    """

    @ops.custom_gradient
    def gather(query: Any, key: Any, value: Any) -> Any:
        dtype = query.dtype
        scores = ops.cast(ops.einsum("bqhw,bkhw->bhqk", query, key), "float32")
        scores = scores + ops.cast(score_bias, "float32")
        scores = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
        # [batch, length, heads, 1]: what a row of the probabilities still has to be multiplied by.
        factors = ops.transpose(1.0 / ops.sum(scores, axis=-1), (0, 2, 1))[..., None]
        scores = ops.cast(scores, dtype)
        weights = scores if mask is None else scores * mask
        gathered = ops.cast(ops.einsum("bhqk,bkhw->bqhw", weights, value), "float32") * factors
        gathered = ops.cast(gathered, dtype)

        def gradient(upstream: Any) -> tuple[Any, Any, Any]:
            with name_scope(name):
                return slopes_of(upstream)

        def slopes_of(upstream: Any) -> tuple[Any, Any, Any]:
            upstream = ops.cast(upstream, "float32") * factors
            means = ops.sum(upstream * ops.cast(gathered, "float32"), axis=-1)
            means = ops.transpose(means, (0, 2, 1))[..., None]
            upstream = ops.cast(upstream, dtype)
            slopes = ops.einsum("bqhw,bkhw->bhqk", upstream, value)
            slopes = slopes if mask is None else slopes * mask
            slopes = ops.cast(scores, "float32") * (ops.cast(slopes, "float32") - means)
            slopes = ops.cast(slopes, dtype)
            return (
                ops.einsum("bhqk,bkhw->bqhw", slopes, key),
                ops.einsum("bhqk,bqhw->bkhw", slopes, query),
                ops.einsum("bhqk,bqhw->bkhw", weights, upstream),
            )

        return gathered, gradient

    return gather(query, key, value)


def padding_score_bias(padding_mask: Any) -> Any:
    """Returns the float32 score bias [batch, 1, 1, length] of an int mask [batch, length]."""
    hidden_keys = 1.0 - ops.cast(padding_mask, "float32")
    return hidden_keys[:, None, None, :] * MASKED_SCORE


def packed_score_bias(sequence_ids: Any) -> Any:
    """Returns the float32 score bias [batch, 1, length, length] of rows of several sequences.

    A position sees those of its own sequence alone.

    Args:
        sequence_ids: int32 tensor [batch, length]. 1 and up; 0 is padding.
    """
    queries, keys = sequence_ids[:, None, :, None], sequence_ids[:, None, None, :]
    is_hidden = ops.logical_or(queries != keys, keys == 0)
    return ops.cast(is_hidden, "float32") * MASKED_SCORE
