"""A server with TF Serving's own service definitions, which runs SavedModels in TensorFlow.

    python loopback.py BASE...

serves the newest versions of base paths, prints its two ports, and ends with its input.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import os
import pathlib
import re
import sys
import threading
import time

import grpc
import tensorflow as tf
import tensorflow_text  # noqa: F401
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

_HTTP = {
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 412,
    grpc.StatusCode.UNAVAILABLE: 503,
}


class Refused(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Models:
    """Base paths by the names of their last parts; versions are loaded when first asked for.

    Attributes:
        refusals: int. How many of the next requests are answered with UNAVAILABLE.
        pause: float. Seconds that each request waits.
        requests: int. How many there were.
    """

    def __init__(self, bases):
        self._bases = {pathlib.Path(base).name: base for base in bases}
        self._loaded, self._lock = {}, threading.Lock()
        self.refusals, self.pause, self.requests = 0, 0.0, 0

    def arrive(self):
        with self._lock:
            self.requests += 1
            self.refusals -= 1
            refuse = self.refusals >= 0
        time.sleep(self.pause)
        if refuse:
            raise Refused(grpc.StatusCode.UNAVAILABLE, "busy")

    def versions(self, name):
        if name not in self._bases:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {name}")
        return sorted(int(v) for v in os.listdir(self._bases[name]) if v.isdecimal())

    def find(self, name, version):
        """Returns the version, its definitions of signatures, and the loaded model."""
        version = version or self.versions(name)[-1]
        if version not in self.versions(name):
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Servable not found: {name} {version}")
        with self._lock:
            if (name, version) not in self._loaded:
                folder = os.path.join(self._bases[name], str(version))
                with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
                    saved = saved_model_pb2.SavedModel.FromString(file.read())
                definitions = saved.meta_graphs[0].signature_def
                self._loaded[name, version] = definitions, tf.saved_model.load(folder)
            return version, *self._loaded[name, version]

    def predict(self, name, version, signature, inputs):
        _, definitions, loaded = self.find(name, version)
        signature = signature or "serving_default"
        if signature not in definitions:
            message = f'Serving signature key "{signature}" not found.'
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, message)
        specs = definitions[signature].inputs
        if set(inputs) != set(specs):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"inputs are {list(specs)}")
        try:
            found = loaded.signatures[signature](
                **{k: tf.constant(v, tf.as_dtype(specs[k].dtype)) for k, v in inputs.items()}
            )
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        return {key: value.numpy() for key, value in found.items()}


class _Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models):
        self._models = models

    def Predict(self, request, context):
        with _refusing(context):
            self._models.arrive()
            spec = request.model_spec
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            found = self._models.predict(spec.name, spec.version.value, spec.signature_name, inputs)
            answer = predict_pb2.PredictResponse()
            for key, value in found.items():
                answer.outputs[key].CopyFrom(tf.make_tensor_proto(value))
            return answer

    def GetModelMetadata(self, request, context):
        with _refusing(context):
            self._models.arrive()
            spec = request.model_spec
            version, definitions, _ = self._models.find(spec.name, spec.version.value)
            return _metadata(spec.name, version, definitions)


class _States(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models):
        self._models = models

    def GetModelStatus(self, request, context):
        with _refusing(context):
            self._models.arrive()
            return _states(self._models.versions(request.model_spec.name))


@contextlib.contextmanager
def _refusing(context):
    try:
        yield
    except Refused as refused:
        context.abort(refused.code, str(refused))


def _metadata(name, version, definitions):
    found = get_model_metadata_pb2.SignatureDefMap()
    for key, definition in definitions.items():
        found.signature_def[key].CopyFrom(definition)
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    answer.model_spec.name, answer.model_spec.version.value = name, version
    answer.metadata["signature_def"].Pack(found)
    return answer


def _states(versions):
    answer = get_model_status_pb2.GetModelStatusResponse()
    for version in versions:
        answer.model_version_status.add(
            version=version, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
        )
    return answer


class _Rest(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    _PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata|:predict)?$")

    def do_GET(self):
        self._answer(None)

    def do_POST(self):
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body):
        models = self.server.models
        try:
            models.arrive()
            name, version, what = self._PATH.match(self.path).groups()
            version = int(version or 0)
            if what == ":predict":
                request = json.loads(body)
                found = models.predict(
                    name, version, request.get("signature_name"), _from_json(request["inputs"])
                )
                outputs = {key: _to_json(value.tolist()) for key, value in found.items()}
                # A single output has no name.
                answer = {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))}
            elif what == "/metadata":
                version, definitions, _ = models.find(name, version)
                answer = _metadata_json(name, version, definitions)
            else:
                answer = json_format.MessageToDict(
                    _states(models.versions(name)), preserving_proto_field_name=True
                )
            status = 200
        except Refused as refused:
            status, answer = _HTTP[refused.code], {"error": str(refused)}
        text = json.dumps(answer, ensure_ascii=False).encode("utf-8", "surrogateescape")
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def log_message(self, *arguments):
        pass


def _metadata_json(name, version, definitions):
    found = {
        key: json_format.MessageToDict(definition, preserving_proto_field_name=True)
        for key, definition in definitions.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": found}},
    }


def _from_json(value):
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"])
    if isinstance(value, dict):
        return {key: _from_json(one) for key, one in value.items()}
    return [_from_json(one) for one in value] if isinstance(value, list) else value


def _to_json(value):
    if isinstance(value, list):
        return [_to_json(one) for one in value]
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


@contextlib.contextmanager
def serving(*bases, grpc_port=0, rest_port=0):
    """Serves base paths; yields Models, with the addresses of both protocols in its attributes."""
    models = Models(bases)
    pool = concurrent.futures.ThreadPoolExecutor(8)
    server = grpc.server(
        pool,
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _Predictions(models), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_States(models), server)
    models.grpc = f"localhost:{server.add_insecure_port(f'localhost:{grpc_port}')}"
    rest = http.server.ThreadingHTTPServer(("localhost", rest_port), _Rest)
    rest.daemon_threads = True
    rest.models = models
    models.rest = f"http://localhost:{rest.server_address[1]}"
    server.start()
    thread = threading.Thread(target=rest.serve_forever)
    thread.start()
    try:
        yield models
    finally:
        rest.shutdown()
        rest.server_close()
        server.stop(None).wait()
        thread.join()


if __name__ == "__main__":
    with serving(*sys.argv[1:]) as started:
        print(json.dumps({"rest": started.rest, "grpc": started.grpc}), flush=True)
        sys.stdin.read()
