"""Dropout whose mask is a function of a seed passed in, not of hidden state."""

from typing import Any

import keras
from keras import ops

# The second entry of a step's seed is a multiple of this stride, and each dropout layer adds its
# own site number: a model of L layers uses 3 L + 1 sites, so no two layers or steps meet.
SITES_PER_STEP = 4096


class _DerivedSeed(keras.random.SeedGenerator):
    """Hands a seed that was computed outside to `keras.random`, which takes no bare tensors."""

    def __init__(self, value: Any):
        # The base constructor would create a state variable; there is no state here.
        self._value = value

    def next(self, ordered: bool = True) -> Any:
        """Returns the seed given at construction."""
        return self._value


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class Dropout(keras.layers.Layer):
    """Dropout with an explicit seed, so that a resumed or recomputed step draws the same mask.

    `keras.layers.Dropout` keeps its seed in a variable that neither `tf.train.Checkpoint` nor
    `.weights.h5` holds and draws equal masks on all replicas. Here the caller passes the seed of
    the step and replica, and each layer adds its own site number.

    Args:
        rate: float. Share of the elements set to zero; the others are scaled by 1 / (1 - rate).
        site: int. Number of this layer among the dropout layers of the model.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(self, rate: float, site: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = rate
        self.site = site
        self.supports_masking = True
        # Only for callers that train without passing a seed, such as a plain Keras `fit`.
        self.seed_generator = keras.random.SeedGenerator() if rate > 0 else None
        self.built = True

    def call(self, inputs: Any, training: bool | None = None, seed: Any = None) -> Any:
        """Returns `inputs` with dropout where `training` is true.

        Args:
            inputs: Float tensor of any shape.
            training: bool. Without it the layer is the identity.
            seed: int32 tensor [2], the seed of this step and replica; its second entry must be a
                multiple of `SITES_PER_STEP`. None draws from the layer's own state.
        """
        if not training or self.rate == 0:
            return inputs
        generator = self.seed_generator
        if seed is not None:
            dtype = "uint32" if keras.backend.backend() == "jax" else "int32"
            site = ops.convert_to_tensor([0, self.site], dtype="int32")
            generator = _DerivedSeed(ops.cast(ops.cast(seed, "int32") + site, dtype))
        return keras.random.dropout(inputs, self.rate, seed=generator)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "site": self.site}
