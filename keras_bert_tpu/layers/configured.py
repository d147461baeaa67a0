"""What all layers and models that are made from an EncoderConfig share."""

import dataclasses
from typing import Any

import keras

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.layers.normalization import LayerNormalization


class Configured:
    """Mixin of Keras layers and models whose first argument is an EncoderConfig.

    It comes before `keras.layers.Layer` or `keras.Model` among the bases. All variables depend on
    the config alone, so `build` takes no shape.

    Args:
        config: EncoderConfig.
        **kwargs: Those of the Keras base class.
    """

    def __init__(self, config: EncoderConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain values."""
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Builds the object from what `get_config` returned."""
        return cls(**{**config, "config": EncoderConfig(**config["config"])})


def truncated_normal(config: EncoderConfig) -> keras.initializers.Initializer:
    """Returns a fresh initializer; one instance used twice would repeat its values."""
    return keras.initializers.TruncatedNormal(stddev=config.initializer_range)


def layer_norm(config: EncoderConfig, dtype: Any, name: str) -> keras.layers.Layer:
    """Returns layer normalization over the last axis; its statistics are float32."""
    return LayerNormalization(epsilon=config.layer_norm_epsilon, dtype=dtype, name=name)
