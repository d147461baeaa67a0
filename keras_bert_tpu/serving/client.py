"""A client of exported models on TF Serving, over REST or gRPC."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import numpy as np

from keras_bert_tpu.config import InputError
from keras_bert_tpu.serving.grpc_transport import Grpc
from keras_bert_tpu.serving.rest import Rest
from keras_bert_tpu.serving.transport import ServingError, Signature, TensorSpec, Transport

AVAILABLE = "AVAILABLE"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0

Result = TypeVar("Result")


class Client:
    """Asks a model on a server; may be used from several threads.

    A server that cannot be reached, or has no room, is asked again, after pauses that grow, until
    the deadline. Anything else that it refuses is told at once.

    Args:
        address: str. `http://host:8501` or `https://...` for REST, `host:8500` or
            `grpc://host:8500` for gRPC.
        model: str. What the server calls the model.
        version: int or None. None takes the newest.
        deadline: float. Seconds that a call may last, with all its tries.

    Raises:
        InputError: If the address is none, or the extra for gRPC is not installed.

    Example:
        client = Client("http://localhost:8501", "reviews")
        client.predict(text=["A fine day."])["label"]
    """

    def __init__(
        self, address: str, model: str, version: int | None = None, deadline: float = 60.0
    ):
        if not model:
            raise InputError("model must be the name of a model on the server. Received: ''.")
        if deadline <= 0:
            raise InputError(f"deadline must be greater than 0 seconds. Received: {deadline}.")
        scheme, separator, rest = address.rpartition("://")
        if scheme in ("http", "https"):
            self._transport: Transport = Rest(address, model, version)
        elif separator and scheme != "grpc":
            raise InputError(
                f"The address must begin with http://, https:// or grpc://, or be HOST:PORT for "
                f"gRPC. Received: {address!r}."
            )
        else:
            self._transport = Grpc(rest, model, version)
        self.address, self.model, self.version, self.deadline = address, model, version, deadline
        self._signatures: dict[str, Signature] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        """Closes connections."""
        self._transport.close()

    def predict(
        self,
        signature: str = "serving_default",
        /,
        *,
        deadline: float | None = None,
        **inputs: Any,
    ) -> dict[str, np.ndarray]:
        """Asks a signature.

        Args:
            signature: str. Name of it.
            deadline: float or None. Seconds that the call may last; None takes the client's.
            **inputs: What the signature takes, by names: lists or arrays; strings are str or bytes.

        Returns:
            Dict of arrays by the names of the outputs. Strings are str, in arrays of objects; bytes
            of them that are not UTF-8 are U+FFFD.

        Raises:
            InputError: If there is no such signature, or it takes other inputs.
            ServingError: If the server has no such model, refuses the request, or does not answer
                in time.
        """
        until = time.monotonic() + (self.deadline if deadline is None else deadline)
        known = self._signatures_until(until)
        if signature not in known:
            raise InputError(
                f"{self.model} has no signature {signature!r}; it has {', '.join(sorted(known))}."
            )
        arrays = _arrays(signature, known[signature], inputs)
        try:
            found = self._ask(
                lambda left: self._transport.predict(signature, known[signature], arrays, left),
                until,
            )
        except ServingError:
            # Another version may be there now, with other signatures.
            self._signatures = None
            raise
        return {name: _decoded(value) for name, value in found.items()}

    def signatures(self) -> dict[str, Signature]:
        """Returns what the signatures of the model take and give.

        Raises:
            ServingError: If the server has no such model, or does not answer in time.
        """
        return dict(self._signatures_until(time.monotonic() + self.deadline))

    def states(self) -> dict[int, str]:
        """Returns the state of each version that the server has of the model, such as AVAILABLE.

        Raises:
            ServingError: If the server has no such model, or does not answer in time.
        """
        return self._ask(self._transport.states, time.monotonic() + self.deadline)

    def wait(self, deadline: float | None = None) -> int:
        """Waits until a version of the model, or the client's, is available.

        Args:
            deadline: float or None. Seconds to wait; None takes the client's.

        Returns:
            int. The newest version that is.

        Raises:
            ServingError: If there is none in time.
        """
        until = time.monotonic() + (self.deadline if deadline is None else deadline)

        def newest(left: float) -> int:
            states = self._transport.states(left)
            ready = [version for version, state in states.items() if state == AVAILABLE]
            if ready and (self.version is None or self.version in ready):
                return self.version or max(ready)
            raise ServingError(f"its versions are {states}", is_temporary=True)

        return self._ask(newest, until)

    def _signatures_until(self, until: float) -> Mapping[str, Signature]:
        known = self._signatures
        if known is None:
            known = self._signatures = self._ask(self._transport.signatures, until)
        return known

    def _ask(self, ask: Callable[[float], Result], until: float) -> Result:
        """Calls with the seconds that are left, until it succeeds or there are none."""
        pause, last = _FIRST_PAUSE, None
        while (left := until - time.monotonic()) > 0:
            try:
                return ask(left)
            except ServingError as error:
                if not error.is_temporary:
                    raise ServingError(f"{self.model} at {self.address}: {error}") from error
                last = error
            # Clients that failed together do not come back together.
            time.sleep(max(0.0, min(pause * random.uniform(0.5, 1.5), until - time.monotonic())))
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise ServingError(
            f"{self.model} at {self.address} gave no answer in time: {last or 'no time was left'}; "
            f"see that the server runs there, or give a longer deadline.",
            is_temporary=True,
        ) from last


def _arrays(name: str, signature: Signature, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Checks inputs, and makes arrays of them; strings become bytes."""
    if set(inputs) != set(signature.inputs):
        raise InputError(
            f"{name} takes {', '.join(sorted(signature.inputs))}. Received: "
            f"{', '.join(sorted(inputs)) or 'nothing'}."
        )
    return {key: _array(key, inputs[key], spec) for key, spec in signature.inputs.items()}


def _array(key: str, value: Any, spec: TensorSpec) -> np.ndarray:
    if spec.dtype == object:
        array = np.array(_encoded(value, key), object)
    else:
        try:
            given = np.asarray(value)
            array = given.astype(spec.dtype, casting="same_kind" if given.size else "unsafe")
        except (TypeError, ValueError) as error:
            raise InputError(f"{key} must be {_described(spec)}: {error}.") from error
        if given.size and spec.dtype.kind == "i" and (array != given).any():
            raise InputError(f"{key} has numbers that are no {spec.dtype}.")
    missing = len(spec.shape) - array.ndim
    if missing > 0 and array.size == 0:
        array = array.reshape([*array.shape, *[0] * missing])
    if array.ndim != len(spec.shape):
        raise InputError(
            f"{key} must be {_described(spec)}. Received: an array of shape {list(array.shape)}."
        )
    return array


def _encoded(value: Any, key: str) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_encoded(one, key) for one in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return value
    raise InputError(f"{key} must be of str or bytes. Received: {value!r}.")


def _decoded(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array
    strings = [value.decode("utf-8", "replace") for value in array.ravel()]
    return np.array(strings, object).reshape(array.shape)


def _described(spec: TensorSpec) -> str:
    kind = "strings" if spec.dtype == object else str(spec.dtype)
    return f"{kind} {['any' if size < 0 else size for size in spec.shape]}".replace("'", "")
