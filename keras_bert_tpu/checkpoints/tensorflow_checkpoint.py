"""Reading of TensorFlow's checkpoint files, which Google's BERT and the Model Garden both write."""

import posixpath
import re
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import InputError

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"

# What TensorFlow's reader raises for files that are missing, cut off or of something else.
_ERRORS = (tf.errors.OpError, ValueError, RuntimeError, IndexError)


def find_prefix(path: str, files: set[str]) -> str | None:
    """Returns the prefix of the checkpoint in a folder; None if it has none.

    Of several it is the one of the highest step, unless one is `bert_model.ckpt`.

    Args:
        path: str. Local or gs:// folder.
        files: Names of its files.
    """
    names = [name.removesuffix(".index") for name in files if name.endswith(".index")]
    if not names:
        return None
    if "bert_model.ckpt" in names:
        return posixpath.join(path, "bert_model.ckpt")

    def step(name: str) -> tuple[int, str]:
        match = re.search(r"-(\d{1,18})$", name)
        return (int(match[1]) if match else -1, name)

    return posixpath.join(path, max(names, key=step))


class CheckpointFiles:
    """The tensors of a checkpoint.

    Args:
        prefix: str. Local or gs:// path of its files, without `.index`.

    Raises:
        InputError: If a file is missing or damaged.
    """

    def __init__(self, prefix: str):
        self.prefix = prefix
        try:
            self._reader = tf.train.load_checkpoint(prefix)
            self.shapes: dict[str, list[int]] = self._reader.get_variable_to_shape_map()
        except _ERRORS as error:
            raise InputError(self._damaged(error)) from error

    def read(self, name: str) -> Any:
        """Returns a tensor as a numpy array, or as bytes.

        Raises:
            InputError: If the files are damaged.
        """
        try:
            return self._reader.get_tensor(name)
        except _ERRORS as error:
            raise InputError(self._damaged(error)) from error

    def _damaged(self, error: Exception) -> str:
        text = " ".join(str(error).split())[:300]
        return f"The checkpoint {self.prefix} cannot be read, copy its files again: {text}"
