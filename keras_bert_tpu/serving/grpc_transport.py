"""TF Serving's gRPC interface, through the messages of tensorflow-serving-api."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_bert_tpu.config import InputError
from keras_bert_tpu.serving.transport import ServingError, Signature, TensorSpec

_ANY_SIZE = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class Grpc:
    """Talks to a model over gRPC; one connection serves all threads.

    Args:
        address: str. Such as localhost:8500.
        model: str. Name of the model.
        version: int or None. None takes the newest.

    Raises:
        InputError: If tensorflow-serving-api is not installed.
    """

    def __init__(self, address: str, model: str, version: int | None):
        try:
            import grpc
            from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
        except ImportError as error:
            raise InputError(
                "gRPC needs the messages of tensorflow-serving-api; install it with: pip install "
                "'keras_bert_tpu[serving]', or give an address that begins with http://."
            ) from error
        self._grpc = grpc
        self._model, self._version = model, version
        self._channel = grpc.insecure_channel(address, options=_ANY_SIZE)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def signatures(self, timeout: float) -> dict[str, Signature]:
        """Returns the signatures of the model."""
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(request.model_spec)
        answer = self._call(self._predictions.GetModelMetadata, request, timeout)
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        return {
            name: Signature(_specs(signature.inputs), _specs(signature.outputs))
            for name, signature in found.signature_def.items()
            # What TensorFlow writes of its own into each SavedModel.
            if signature.inputs and signature.outputs
        }

    def predict(
        self, name: str, signature: Signature, inputs: Mapping[str, np.ndarray], timeout: float
    ) -> dict[str, np.ndarray]:
        """Asks a signature; strings are bytes, in arrays of objects."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        self._fill(request.model_spec)
        request.model_spec.signature_name = name
        for key, value in inputs.items():
            dtype = tf.as_dtype(signature.inputs[key].dtype)
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value, dtype, value.shape))
        answer = self._call(self._predictions.Predict, request, timeout)
        return {key: tf.make_ndarray(value) for key, value in answer.outputs.items()}

    def states(self, timeout: float) -> dict[int, str]:
        """Returns the state of each version of the model, such as AVAILABLE."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._model
        answer = self._call(self._models.GetModelStatus, request, timeout)
        states = get_model_status_pb2.ModelVersionStatus.State
        return {s.version: states.Name(s.state) for s in answer.model_version_status}

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _fill(self, spec: Any) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version

    def _call(self, method: Any, request: Any, timeout: float) -> Any:
        codes = self._grpc.StatusCode
        try:
            return method(request, timeout=timeout)
        except self._grpc.RpcError as error:
            if error.code() == codes.DEADLINE_EXCEEDED:
                raise ServingError("the server took too long") from error
            temporary = error.code() in (codes.UNAVAILABLE, codes.RESOURCE_EXHAUSTED)
            told = f"{error.details()} ({error.code().name})"
            raise ServingError(told, temporary) from error


def _specs(told: Mapping[str, Any]) -> dict[str, TensorSpec]:
    import tensorflow as tf

    return {
        name: TensorSpec(
            np.dtype(tf.as_dtype(tensor.dtype).as_numpy_dtype),
            tuple(dim.size for dim in tensor.tensor_shape.dim),
        )
        for name, tensor in told.items()
    }
