"""Exports in the TensorFlow that old images of TF Serving have.

OLD_TENSORFLOW names the Python of an environment with it:

    python3 -m venv old && old/bin/pip install 'tensorflow-cpu==2.12.*' 'tensorflow-text==2.12.*'
"""

import os
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.serving.export import export
from keras_bert_tpu.serving.warmup import warmup_inputs

from exported import MODELS, SETTINGS

OLD_TENSORFLOW = os.environ.get("OLD_TENSORFLOW")
pytestmark = pytest.mark.skipif(
    not OLD_TENSORFLOW, reason="OLD_TENSORFLOW does not name the Python of an old TensorFlow"
)
# Answers requests: arrays NUMBER/SIGNATURE/INPUT to arrays NUMBER/OUTPUT.
PROGRAM = """
import sys
import numpy as np
import tensorflow as tf
import tensorflow_text

assert tf.__version__.startswith("2.12."), tf.__version__
signatures = tf.saved_model.load(sys.argv[1]).signatures
requests, answers = {}, {}
for key, value in np.load(sys.argv[2]).items():
    number, signature, name = key.split("/")
    value = tf.constant(value.astype(object) if value.dtype.kind == "S" else value)
    requests.setdefault((number, signature), {})[name] = value
for (number, signature), inputs in requests.items():
    for name, value in signatures[signature](**inputs).items():
        value = value.numpy()
        answers[f"{number}/{name}"] = value.astype("S") if value.dtype == object else value
np.savez(sys.argv[3], **answers)
"""


def plain(value):
    value = value.numpy()
    return value.astype("S") if value.dtype == object else value


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_the_same(tmp_path, name):
    folder, served = export(
        MODELS[name](), str(tmp_path / "out"), buckets=[16], warmup=False, **SETTINGS.get(name, {})
    )
    signatures = tf.saved_model.load(folder).signatures
    inputs, expected = {}, {}
    for number, (signature, request) in enumerate(warmup_inputs(served)):
        inputs |= {f"{number}/{signature}/{key}": plain(v) for key, v in request.items()}
        found = signatures[signature](**request)
        expected |= {f"{number}/{key}": plain(value) for key, value in found.items()}
    np.savez(tmp_path / "inputs.npz", **inputs)
    paths = [folder, *(str(tmp_path / name) for name in ("inputs.npz", "answers.npz"))]
    subprocess.run([OLD_TENSORFLOW, "-c", PROGRAM, *paths], check=True)
    with np.load(tmp_path / "answers.npz") as answers:
        assert set(answers) == set(expected)
        for key, value in expected.items():
            if value.dtype.kind == "S":
                assert answers[key].tolist() == value.tolist()
            else:
                np.testing.assert_allclose(answers[key], value, atol=1e-5)
