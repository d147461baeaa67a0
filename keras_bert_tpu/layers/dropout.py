"""Dropout whose mask is a function of a seed passed in, not of hidden state."""

from typing import Any

import keras
from keras import ops

# The second entry of a step's seed is a multiple of this stride, and each dropout layer adds its
# own site number: a model of L layers uses 3 L + 1 sites, so no two layers or steps meet.
SITES_PER_STEP = 4096
_VALUES = 2**16


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
        mask = self.mask(ops.shape(inputs), training, seed)
        return inputs if mask is None else inputs * mask

    def mask(self, shape: Any, training: bool | None, seed: Any = None) -> Any:
        """Returns what inputs of a shape are multiplied by, or None if they stay as they are.

        Args:
            shape: Sequence of int.
            training: bool. As in `call`.
            seed: int32 tensor [2] or None. As in `call`.

        Returns:
            Tensor of the shape and the compute dtype: 0 where an element is dropped, else
            1 / (1 - rate).
        """
        if not training or self.rate == 0:
            return None
        generator = self.seed_generator
        if seed is not None:
            dtype = "uint32" if keras.backend.backend() == "jax" else "int32"
            site = ops.convert_to_tensor([0, self.site], dtype="int32")
            generator = _DerivedSeed(ops.cast(ops.cast(seed, "int32") + site, dtype))
        kept = _kept(shape, self.rate, generator)
        share = 1.0 - _dropped_values(self.rate) / _VALUES
        return ops.cast(kept, self.compute_dtype) * (1.0 / share)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "site": self.site}


def _dropped_values(rate: float) -> int:
    """Of the values of 16 random bits, how many drop an element: the rate to 5 digits.

    At least one keeps it, or what is kept at a rate next to 1 would be scaled by infinity.
    """
    return min(round(rate * _VALUES), _VALUES - 1)


def _kept(shape: Any, rate: float, generator: keras.random.SeedGenerator) -> Any:
    """Returns a bool tensor, true with probability 1 - rate.

    A random number is 32 bits, the costly part of dropout; here each decides on two elements, which
    lie half of the tensor apart.
    """
    axis = next((i for i, size in enumerate(shape) if isinstance(size, int) and size % 2 == 0), -1)
    drawn = [size // 2 if i == axis else size for i, size in enumerate(shape)]
    # Without bounds TensorFlow gives the bits as they are; the other backends want bounds.
    is_tensorflow = keras.backend.backend() == "tensorflow"
    bounds = (None, None) if is_tensorflow else (-(2**31), 2**31 - 1)
    bits = keras.random.randint(drawn, *bounds, dtype="int32", seed=generator)
    # A whole number of 16 upper bits: what is below them does not change the comparison.
    threshold = -(2**31) + _dropped_values(rate) * _VALUES
    if axis < 0:
        return bits >= threshold
    return ops.concatenate([bits >= threshold, ops.left_shift(bits, 16) >= threshold], axis=axis)
