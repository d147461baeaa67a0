"""Settings of the encoder, and the sizes that were published."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, ClassVar

from keras_bert_tpu.config.checks import require_choice, require_positive, require_rate
from keras_bert_tpu.dataclass_yaml import InputError, from_dict

# Layers, hidden size and heads of the checkpoints published with "Well-Read Students Learn Better"
# (arXiv 1908.08962) and, for base and large, with BERT itself (arXiv 1810.04805).
PRESETS: Mapping[str, Mapping[str, int]] = types.MappingProxyType(
    {
        name: {
            "num_layers": layers,
            "hidden_size": hidden,
            "num_heads": heads,
            "intermediate_size": 4 * hidden,
        }
        for name, layers, hidden, heads in [
            ("tiny", 2, 128, 2),
            ("mini", 4, 256, 4),
            ("small", 4, 512, 8),
            ("medium", 8, 512, 8),
            ("base", 12, 768, 12),
            ("large", 24, 1024, 16),
        ]
    }
)

HIDDEN_ACTIVATIONS = ("gelu", "gelu_tanh", "relu")


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Shape and rates of a BERT encoder.

    Attributes:
        vocab_size: int. Number of word pieces, special tokens included.
        num_layers: int. Number of transformer layers.
        hidden_size: int. Width of the residual stream.
        num_heads: int. Attention heads; must divide `hidden_size`.
        intermediate_size: int. Width between the two feed-forward products.
        hidden_activation: str. "gelu" (exact, with erf), "gelu_tanh" or "relu".
        hidden_dropout: float. Dropout rate of embeddings and of each sublayer's output.
        attention_dropout: float. Dropout rate of the attention probabilities.
        max_positions: int. Longest sequence the position table can hold.
        type_vocab_size: int. Number of segments.
        initializer_range: float. Standard deviation of the truncated normal initializer.
        layer_norm_epsilon: float. Added to the variance in layer normalization.
    """

    vocab_size: int = 30522
    num_layers: int = 12
    hidden_size: int = 768
    num_heads: int = 12
    intermediate_size: int = 3072
    hidden_activation: str = "gelu"
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    max_positions: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_epsilon: float = 1e-12

    def __post_init__(self):
        require_positive(
            self, "vocab_size", "num_layers", "hidden_size", "num_heads", "intermediate_size"
        )
        require_positive(self, "max_positions", "type_vocab_size")
        require_rate(self, "hidden_dropout", "attention_dropout")
        require_choice(self, "hidden_activation", HIDDEN_ACTIVATIONS)
        if self.hidden_size % self.num_heads:
            raise InputError(
                f"hidden_size must be a multiple of num_heads. Received: "
                f"hidden_size={self.hidden_size}, num_heads={self.num_heads}."
            )

    SHORTHANDS: ClassVar[tuple[str, ...]] = ("preset",)

    @classmethod
    def expand_shorthands(cls, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        """Replaces `preset: NAME` by the sizes of that preset; other keys come over them."""
        values = dict(values)
        name = values.pop("preset", None)
        if name is None:
            return values
        if name not in PRESETS:
            raise InputError(
                f"{prefix}preset must be one of {', '.join(PRESETS)}. Received: {name!r}."
            )
        return {**PRESETS[name], **values}

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "EncoderConfig":
        """Returns the configuration of a published size.

        Args:
            name: str. One of "tiny", "mini", "small", "medium", "base" and "large".
            **overrides: Any field, for example `vocab_size=8000`.

        Raises:
            InputError: If there is no preset or no field of that name.
        """
        return from_dict(cls, {"preset": name, **overrides})
