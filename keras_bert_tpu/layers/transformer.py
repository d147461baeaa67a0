"""One layer of the BERT encoder: attention and feed-forward, normalization after each sum."""

import math
from typing import Any

import keras
from keras import ops

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.layers.attention import SelfAttention
from keras_bert_tpu.layers.configured import Configured, layer_norm, truncated_normal
from keras_bert_tpu.layers.dropout import Dropout

SITES_PER_LAYER = 3


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class TransformerLayer(Configured, keras.layers.Layer):
    """Post-norm transformer layer (arXiv 1706.03762, section 3.1; GELU as in BERT).

    Args:
        config: EncoderConfig.
        index: int. Number of the layer, from 0; its dropout sites follow from it.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(self, config: EncoderConfig, index: int, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.index = index
        site = 1 + SITES_PER_LAYER * index  # Site 0 is that of the embeddings.
        policy = self.dtype_policy
        self.attention = SelfAttention(config, site=site, dtype=policy, name="attention")
        self.attention_dropout = Dropout(config.hidden_dropout, site=site + 1, dtype=policy)
        self.attention_layer_norm = layer_norm(config, policy, "attention_layer_norm")
        self.intermediate = keras.layers.Dense(
            config.intermediate_size,
            kernel_initializer=truncated_normal(config),
            dtype=policy,
            name="intermediate",
        )
        self.output_projection = keras.layers.Dense(
            config.hidden_size,
            kernel_initializer=truncated_normal(config),
            dtype=policy,
            name="output_projection",
        )
        self.output_dropout = Dropout(config.hidden_dropout, site=site + 2, dtype=policy)
        self.output_layer_norm = layer_norm(config, policy, "output_layer_norm")

    def build(self, input_shape: Any = None) -> None:
        """Creates all variables; their shapes depend on the config alone."""
        hidden_shape = (None, None, self.config.hidden_size)
        self.attention.build()
        self.attention_layer_norm.build(hidden_shape)
        self.intermediate.build(hidden_shape)
        self.output_projection.build((None, None, self.config.intermediate_size))
        self.output_layer_norm.build(hidden_shape)

    def call(
        self, hidden: Any, score_bias: Any, training: bool | None = None, seed: Any = None
    ) -> Any:
        """Transforms [batch, length, hidden]; the arguments are those of `SelfAttention`."""
        gathered = self.attention(hidden, score_bias, training=training, seed=seed)
        gathered = self.attention_dropout(gathered, training=training, seed=seed)
        hidden = self.attention_layer_norm(hidden + gathered)
        expanded = activate(self.intermediate(hidden), self.config.hidden_activation)
        projected = self.output_projection(expanded)
        projected = self.output_dropout(projected, training=training, seed=seed)
        return self.output_layer_norm(hidden + projected)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "index": self.index}


def activate(inputs: Any, name: str) -> Any:
    """Applies an activation of `config.HIDDEN_ACTIVATIONS`; "gelu" is the exact one, with erf."""
    if name == "relu":
        return keras.activations.relu(inputs)
    return gelu_tanh(inputs) if name == "gelu_tanh" else gelu(inputs)


@ops.custom_gradient
def gelu(inputs: Any) -> Any:
    """GELU, x P(X <= x) for a normal X (arXiv 1606.08415), computed in float32.

    For the gradient it keeps its input alone. TensorFlow's own computes in bfloat16 with erfc,
    which on a CPU takes twice the time of this one, and is less exact.
    """

    def probability(x: Any) -> Any:
        return (ops.erf(x * math.sqrt(0.5)) + 1.0) * 0.5

    def gradient(upstream: Any) -> Any:
        x = ops.cast(inputs, "float32")
        density = ops.exp(ops.square(x) * -0.5) * (1.0 / math.sqrt(2.0 * math.pi))
        slope = probability(x) + x * density
        return ops.cast(ops.cast(upstream, "float32") * slope, inputs.dtype)

    x = ops.cast(inputs, "float32")
    return ops.cast(x * probability(x), inputs.dtype), gradient


@ops.custom_gradient
def gelu_tanh(inputs: Any) -> Any:
    """The approximation x (1 + tanh(a (x + b x^3))) / 2 of GELU, computed in float32."""
    scale, cubic = math.sqrt(2.0 / math.pi), 0.044715

    def tanh(x: Any) -> Any:
        return ops.tanh(x * (ops.square(x) * (scale * cubic) + scale))

    def gradient(upstream: Any) -> Any:
        x = ops.cast(inputs, "float32")
        t = tanh(x)
        inner = ops.square(x) * (3.0 * scale * cubic) + scale
        slope = ((1.0 - ops.square(t)) * (x * inner) + (1.0 + t)) * 0.5
        return ops.cast(ops.cast(upstream, "float32") * slope, inputs.dtype)

    x = ops.cast(inputs, "float32")
    return ops.cast(x * (tanh(x) + 1.0) * 0.5, inputs.dtype), gradient
