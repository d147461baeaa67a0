"""The weights of an exported model as they are kept: as they are, or in fewer bytes.

Matrices are kept in bfloat16, or in int8 with a scale for each column of a dense layer and for each
row of a table. A request makes float32 of them once, for all of its rows: less to store, to load
and to hold, for some time in each request. All else stays float32, and so do the computations.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import keras
import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError

Kind = Literal["float32", "bfloat16", "int8"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_LARGEST = 127


class StoredWeights:
    """The variables of a model, and what is kept for them.

    Args:
        model: keras.Model.
        kind: "float32", "bfloat16" or "int8".

    Raises:
        InputError: If it is another kind.
    """

    def __init__(self, model: keras.Model, kind: Kind = "float32"):
        if kind not in KINDS:
            raise InputError(f"weights must be one of {', '.join(KINDS)}. Received: {kind!r}.")
        self._kept: list[tuple[keras.Variable, tuple[tf.Variable, ...]]] = []
        self.variables: list[tf.Variable] = []
        for variable in model.variables:
            if kind == "float32" or len(variable.shape) < 2:
                self.variables.append(variable.value)
                continue
            parts = _parts(variable, kind)
            self._kept.append((variable, parts))
            self.variables.extend(parts)

    def restored(self) -> list[tuple[keras.Variable, tf.Tensor]]:
        """Returns the float32 values of those variables that are kept in another form."""
        return [(variable, _restore(parts)) for variable, parts in self._kept]


@contextmanager
def using(values: list[tuple[keras.Variable, tf.Tensor]]) -> Iterator[None]:
    """Lets a model compute with values in the place of those of its variables."""
    if not values:
        yield
        return
    with keras.StatelessScope(state_mapping=values):
        yield


def _parts(variable: keras.Variable, kind: Kind) -> tuple[tf.Variable, ...]:
    values = keras.ops.convert_to_numpy(variable).astype("float32")
    if kind == "bfloat16":
        return (tf.Variable(tf.cast(values, tf.bfloat16), trainable=False),)
    # The last axis of a dense layer is its output; each row of a table is by itself.
    axis = -1 if variable.name == "embeddings" else 0
    scale = np.maximum(np.abs(values).max(axis=axis, keepdims=True), 1e-12) / _LARGEST
    whole = np.rint(values / scale).astype("int8")
    return tf.Variable(whole, trainable=False), tf.Variable(scale, trainable=False)


def _restore(parts: tuple[tf.Variable, ...]) -> tf.Tensor:
    whole = tf.cast(parts[0], tf.float32)
    return whole if len(parts) == 1 else whole * parts[1]
