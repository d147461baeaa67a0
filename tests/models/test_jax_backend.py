"""The encoder and heads use keras.ops alone: the same model runs with KERAS_BACKEND=jax."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("jax", reason="the extra [test] installs jax")

PROGRAM = """
import sys
import numpy as np
from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder

folder = sys.argv[1]
config = EncoderConfig.from_preset("tiny", vocab_size=101, max_positions=16)
model = BertPretrainer(config, dtype="float32")
model.load_weights(folder + "/tensorflow.weights.h5")
with np.load(folder + "/batch.npz") as file:
    batch = {name: file[name] for name in file.files}
outputs = {name: np.asarray(value) for name, value in model(batch).items()}
ids = batch["token_ids"]
seed = np.array([7, 4096], "int32")
dropped = [np.asarray(model(batch, training=True, seed=seed)["mlm_logits"]) for _ in range(2)]
assert np.array_equal(dropped[0], dropped[1])
assert not np.allclose(dropped[0], outputs["mlm_logits"])
for pooling in ("mean", "cls"):
    sentences = BertSentenceEncoder(config, pooling, dtype="float32")
    sentences.set_weights(model.encoder.get_weights())
    outputs[pooling] = np.asarray(sentences(batch))
    outputs[f"{pooling}_pairs"] = np.asarray(sentences((batch, batch | {"token_ids": 100 - ids})))
assert "tensorflow" not in sys.modules, "the model imported TensorFlow"
np.savez(folder + "/jax.npz", **outputs)
"""


def test_model_gives_the_same_outputs_on_jax_without_importing_tensorflow(tmp_path):
    from keras_bert_tpu.config import EncoderConfig
    from keras_bert_tpu.models.pretrainer import BertPretrainer
    from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder

    random = np.random.default_rng(0)
    batch = {
        "token_ids": random.integers(0, 101, (3, 16), dtype="int32"),
        "segment_ids": random.integers(0, 2, (3, 16), dtype="int32"),
        "padding_mask": (np.arange(16) < np.array([[16], [9], [4]])).astype("int32"),
        "mask_positions": np.array([[1, 2], [3, 8], [2, 0]], "int32"),
    }
    config = EncoderConfig.from_preset("tiny", vocab_size=101, max_positions=16)
    model = BertPretrainer(config, dtype="float32")
    model.save_weights(tmp_path / "tensorflow.weights.h5")
    np.savez(tmp_path / "batch.npz", **batch)
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    outputs = model(batch)
    other = batch | {"token_ids": 100 - batch["token_ids"]}
    for pooling in ("mean", "cls"):
        sentences = BertSentenceEncoder(config, pooling, dtype="float32")
        sentences.set_weights(model.encoder.get_weights())
        outputs |= {pooling: sentences(batch), f"{pooling}_pairs": sentences((batch, other))}
    with np.load(tmp_path / "jax.npz") as file:
        for name in file.files:
            np.testing.assert_allclose(file[name], outputs[name], atol=1e-5, err_msg=name)
