"""Low-rank updates of kernels (LoRA, arXiv 2106.09685): few parameters learn, all others stay.

The updates are no layers of the model: while a step runs, each of its kernels reads as
W + scale A B; between steps the model has its own W. Wherever the model is used or saved, the
updates are merged into it, so that what is saved is a plain model.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_bert_tpu.checkpoints.names import ENCODER, POOLER
from keras_bert_tpu.checkpoints.storage import weights_by_name
from keras_bert_tpu.config import InputError
from keras_bert_tpu.training.initialization import select


class LowRankUpdates(keras.layers.Layer):
    """Low-rank updates of some kernels of an encoder.

    All other weights of the encoder are taken out of training, but those of the pooler, which is
    the first layer of what is on top. A begins at random, B at zero: at first the model is as it
    was.

    Args:
        model: keras.Model of this package with an encoder, made in the same scope.
        rank: int. Columns of A and rows of B.
        alpha: float. The scale is alpha / rank.
        targets: Names of layers or weights, or patterns, see `initialization.select`. What of them
            is no kernel of a transformer layer, or frozen already, has no update.

    Raises:
        InputError: If a name is unknown, or no kernel is among what is named.
    """

    def __init__(self, model: keras.Model, rank: int, alpha: float, targets: Sequence[str]):
        super().__init__(name="low_rank_updates", dtype="float32")
        variables = weights_by_name(model)
        self.scale = alpha / rank
        self.names = [
            name
            for name in select(variables, targets, "lora_targets")
            if name.startswith(f"{ENCODER}layer_") and name.endswith("/kernel")
            if variables[name].trainable
        ]
        if not self.names:
            raise InputError(
                f"lora_targets={list(targets)} has no kernel of a transformer layer that is to be "
                f"trained; name some, for example encoder/layer_*/attention/query."
            )
        for name, variable in variables.items():
            if name.startswith(ENCODER) and not name.startswith(POOLER):
                variable.trainable = False
        self._matrices = [self._make_matrix(name, variables[name], rank) for name in self.names]
        self.built = True

    def _make_matrix(self, name: str, kernel: keras.Variable, rank: int) -> "_Matrix":
        shape = tuple(kernel.shape)
        # Of [heads, width, hidden] the first two are the inputs, of all others the first.
        inputs = 2 if name.endswith("attention/output_projection/kernel") else 1
        rows, columns = math.prod(shape[:inputs]), math.prod(shape[inputs:])
        # What the paper's own program takes: uniform up to 1 / sqrt(inputs).
        random = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        path = name.removesuffix("/kernel").replace("/", ".")
        return _Matrix(
            kernel,
            self.add_weight(shape=(rows, rank), initializer=random, name=f"{path}.a"),
            self.add_weight(shape=(rank, columns), initializer="zeros", name=f"{path}.b"),
        )

    def applied(self) -> keras.StatelessScope:
        """Returns a scope in which the model computes with the updates, and learns them."""
        return keras.StatelessScope([(m.kernel, m.updated(self.scale)) for m in self._matrices])

    @contextlib.contextmanager
    def merged(self) -> Iterator[None]:
        """A context in which the weights of the model have the updates in them."""
        kernels = [matrix.kernel for matrix in self._matrices]
        before = [np.array(ops.convert_to_numpy(kernel)) for kernel in kernels]
        for matrix in self._matrices:
            matrix.kernel.assign(matrix.updated(self.scale))
        try:
            yield
        finally:
            for kernel, array in zip(kernels, before, strict=True):
                kernel.assign(array)


@dataclasses.dataclass(frozen=True)
class _Matrix:
    """A kernel and the factors of its update.

    Keras takes no notice of what is in such an object, so that the kernels, which are the model's,
    are not the layer's, too.
    """

    kernel: keras.Variable
    a: keras.Variable
    b: keras.Variable

    def updated(self, scale: float) -> Any:
        """The kernel with its update: a float32 tensor."""
        update = ops.reshape(ops.matmul(self.a, self.b), self.kernel.shape)
        return self.kernel.value + update * scale
