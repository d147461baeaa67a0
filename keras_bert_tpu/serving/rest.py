"""TF Serving's REST interface: JSON over HTTP."""

import base64
import http.client
import json
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_bert_tpu.config import InputError
from keras_bert_tpu.serving.transport import ServingError, Signature, TensorSpec

# TensorFlow's names of types, and NumPy's.
_DTYPES = {
    "DT_STRING": "object",
    "DT_FLOAT": "float32",
    "DT_DOUBLE": "float64",
    "DT_INT32": "int32",
    "DT_INT64": "int64",
    "DT_BOOL": "bool",
}
_TEMPORARY = (429, 502, 503, 504)


class Rest:
    """Talks to a model over HTTP; each thread has a connection, which is kept.

    Args:
        address: str. Such as http://localhost:8501; a path in it goes before /v1/models.
        model: str. Name of the model.
        version: int or None. None takes the newest.

    Raises:
        InputError: If the address is none.
    """

    def __init__(self, address: str, model: str, version: int | None):
        parts = urllib.parse.urlsplit(address)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if not parts.hostname or port == 0:
            raise InputError(
                f"The address must be one such as http://localhost:8501. Received: {address!r}."
            )
        self._kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._host, self._port = parts.hostname, port
        which = "" if version is None else f"/versions/{version}"
        name = urllib.parse.quote(model, safe="")
        self._model = f"{parts.path.rstrip('/')}/v1/models/{name}"
        self._path = f"{self._model}{which}"
        self._connections = threading.local()

    def signatures(self, timeout: float) -> dict[str, Signature]:
        """Returns the signatures of the model."""
        answer = self._ask("GET", f"{self._path}/metadata", None, timeout)
        try:
            found = answer["metadata"]["signature_def"]["signature_def"]
            return {
                name: Signature(_specs(signature["inputs"]), _specs(signature["outputs"]))
                for name, signature in found.items()
                # What TensorFlow writes of its own into each SavedModel.
                if signature.get("outputs") and signature.get("inputs")
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise ServingError(f"The server told no signatures: {answer!r:.300}.") from error

    def predict(
        self, name: str, signature: Signature, inputs: Mapping[str, np.ndarray], timeout: float
    ) -> dict[str, np.ndarray]:
        """Asks a signature; strings are bytes, in arrays of objects."""
        body = {
            "signature_name": name,
            "inputs": {key: _to_json(value.tolist()) for key, value in inputs.items()},
        }
        answer = self._ask("POST", f"{self._path}:predict", body, timeout)
        outputs = answer.get("outputs")
        if len(signature.outputs) == 1 and not isinstance(outputs, dict):
            # A single output has no name.
            outputs = dict.fromkeys(signature.outputs, outputs)
        if not isinstance(outputs, dict) or set(outputs) != set(signature.outputs):
            raise ServingError(f"The server gave other outputs than it told: {answer!r:.300}.")
        return {key: _array(outputs[key], spec) for key, spec in signature.outputs.items()}

    def states(self, timeout: float) -> dict[int, str]:
        """Returns the state of each version of the model, such as AVAILABLE."""
        answer = self._ask("GET", self._model, None, timeout)
        versions = answer.get("model_version_status", [])
        return {int(status["version"]): status["state"] for status in versions}

    def close(self) -> None:
        """Closes the connection of this thread; those of others close with them."""
        connection = self._connections.__dict__.pop("it", None)
        if connection is not None:
            connection.close()

    def _ask(self, method: str, path: str, body: Any, timeout: float) -> dict[str, Any]:
        content = None if body is None else json.dumps(body).encode()
        status, text = self._exchange(method, path, content, timeout)
        try:
            # Strings of a model may be bytes that are not UTF-8.
            answer = json.loads(text.decode("utf-8", "surrogateescape"))
        except ValueError:
            answer = None
        if status == 200 and isinstance(answer, dict):
            return answer
        told = answer.get("error") if isinstance(answer, dict) else None
        told = told or text[:300].decode("utf-8", "replace").strip() or "no message"
        if status == 200:
            raise ServingError(f"What answers is no TF Serving: {told}")
        raise ServingError(f"{told} (HTTP {status})", status in _TEMPORARY)

    def _exchange(
        self, method: str, path: str, content: bytes | None, timeout: float
    ) -> tuple[int, bytes]:
        connection = getattr(self._connections, "it", None)
        if connection is None:
            connection = self._connections.it = self._kind(self._host, self._port)
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        try:
            headers = {"Content-Type": "application/json"} if content else {}
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except TimeoutError as error:
            self.close()
            raise ServingError("the server took too long") from error
        except (OSError, http.client.HTTPException) as error:
            # A server that closed a connection that was idle, too.
            self.close()
            raise ServingError(str(error) or type(error).__name__, is_temporary=True) from error


def _specs(told: Mapping[str, Any]) -> dict[str, TensorSpec]:
    found = {}
    for name, tensor in told.items():
        sizes = tuple(int(dim["size"]) for dim in tensor["tensor_shape"].get("dim", ()))
        found[name] = TensorSpec(np.dtype(_DTYPES.get(tensor["dtype"], "float32")), sizes)
    return found


def _to_json(value: Any) -> Any:
    """Writes strings as base64, in which all bytes can be sent."""
    if isinstance(value, list):
        return [_to_json(one) for one in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return value


def _array(value: Any, spec: TensorSpec) -> np.ndarray:
    if spec.dtype == object:
        value = _strings(value)
    array = np.array(value, spec.dtype)
    if array.ndim < len(spec.shape):
        # Of no entries JSON does not tell the other sizes.
        sizes = [max(size, 0) for size in spec.shape[array.ndim :]]
        array = array.reshape(*array.shape, *sizes)
    return array


def _strings(value: Any) -> Any:
    if isinstance(value, list):
        return [_strings(one) for one in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value.encode("utf-8", "surrogateescape")
