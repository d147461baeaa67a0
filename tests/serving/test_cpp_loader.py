"""Exports run in C++, without Python, as TF Serving loads them."""

import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from google.protobuf import descriptor_pb2
from tensorflow.core.protobuf import named_tensor_pb2
from tensorflow_serving.apis import prediction_log_pb2

from keras_bert_tpu.serving.export import export
from keras_bert_tpu.serving.warmup import FILE

from exported import MODELS, SETTINGS

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")

TENSORFLOW = pathlib.Path(tf.__file__).parent
LIBRARIES = [
    pathlib.Path(tensorflow_text.__file__).parent / "python" / "ops" / name
    for name in ("_normalize_ops.so", "_fast_wordpiece_tokenizer.so")
]


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    """The program, built against the libraries that TensorFlow's wheel brings."""
    program = tmp_path_factory.mktemp("replay") / "replay"
    source = pathlib.Path(__file__).with_name("replay.cc")
    command = ["g++", "-std=c++17", "-O0", "-w", str(source), "-o", str(program)]
    command += ["-D_GLIBCXX_USE_CXX11_ABI=1", "-DEIGEN_MAX_ALIGN_BYTES=64"]
    command += [f"-I{TENSORFLOW / 'include'}", f"-L{TENSORFLOW}", f"-Wl,-rpath,{TENSORFLOW}"]
    command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    subprocess.run(command, check=True)
    return program


def descriptors(file):
    """The files of a message with all that they need, in an order in which they can be built."""
    found = {}

    def add(file):
        for other in file.dependencies:
            add(other)
        if file.name not in found:
            found[file.name] = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(found[file.name])

    add(file)
    return descriptor_pb2.FileDescriptorSet(file=found.values()).SerializeToString()


@pytest.mark.parametrize("name", MODELS)
def test_warmup_gets_in_cpp_what_it_gets_in_python(replay, tmp_path, name):
    settings = SETTINGS.get(name, {})
    folder, served = export(MODELS[name](), str(tmp_path / "base"), buckets=[16], **settings)
    (tmp_path / "descriptors").write_bytes(descriptors(prediction_log_pb2.DESCRIPTOR))
    arguments = [folder, tmp_path / "descriptors", tmp_path / "answers", *LIBRARIES]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    subprocess.run([replay, *map(str, arguments)], check=True, env=environment)

    signatures = tf.saved_model.load(folder).signatures
    answers = {}
    for record in tf.data.TFRecordDataset(str(tmp_path / "answers")).as_numpy_iterator():
        answer = named_tensor_pb2.NamedTensorProto.FromString(record)
        answers[answer.name] = tf.make_ndarray(answer.tensor)
    number = 0
    requests = tf.data.TFRecordDataset(os.path.join(folder, FILE)).as_numpy_iterator()
    for number, record in enumerate(requests, 1):
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {key: tf.constant(tf.make_ndarray(v)) for key, v in request.inputs.items()}
        expected = signatures[request.model_spec.signature_name](**inputs)
        for name, value in expected.items():
            found = answers.pop(f"{number - 1}/{name}")
            if value.dtype == tf.string:
                assert found.tolist() == value.numpy().tolist()
            else:
                np.testing.assert_allclose(found, value, atol=1e-5)
    assert number == 2 * len(served.buckets) + len(served.shapes()) and not answers
