"""Names of operations, by which profiles tell the layers apart."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def name_scope(path: str) -> Iterator[None]:
    """Names operations after a layer, in gradients by hand: those run when its call has ended.

    Args:
        path: str. `keras.Layer.path`.
    """
    with contextlib.ExitStack() as stack:
        for part in path.split("/"):
            stack.enter_context(keras.name_scope(part))
        yield
