"""What the client says to a server, whatever the protocol."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np


class ServingError(Exception):
    """A server did not answer, or refused what was asked.

    Attributes:
        is_temporary: bool. Whether it may be otherwise if asked again.
    """

    def __init__(self, message: str, is_temporary: bool = False):
        super().__init__(message)
        self.is_temporary = is_temporary


class TensorSpec(NamedTuple):
    """An input or output of a signature.

    Attributes:
        dtype: np.dtype; object for strings.
        shape: tuple of int, -1 where it is open.
    """

    dtype: np.dtype
    shape: tuple[int, ...]


class Signature(NamedTuple):
    """What a signature takes and gives, by names."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


class Transport(Protocol):
    """A protocol of TF Serving, on one address.

    Each method takes the seconds that it may last, and raises ServingError.
    """

    def signatures(self, timeout: float) -> dict[str, Signature]:
        """Returns the signatures of the model."""

    def predict(
        self, name: str, signature: Signature, inputs: Mapping[str, np.ndarray], timeout: float
    ) -> dict[str, np.ndarray]:
        """Asks a signature; strings are bytes, in arrays of objects."""

    def states(self, timeout: float) -> dict[int, str]:
        """Returns the state of each version of the model, such as AVAILABLE."""

    def close(self) -> None:
        """Closes connections."""
