"""Our model against Hugging Face's BertForPreTraining, from tests/golden/bert_for_pretraining."""

import json
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.checkpoints.storage import weights_by_name
from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.training.losses import masked_language_model_sums, next_sentence_sums

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
from hugging_face_names import to_ours  # noqa: E402

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "bert_for_pretraining" / "golden.npz") as file:
        arrays = {name: file[name] for name in file.files}
    return arrays


def section(golden, name):
    prefix = f"{name}/"
    return {key.removeprefix(prefix): v for key, v in golden.items() if key.startswith(prefix)}


@pytest.fixture(scope="module")
def model(golden):
    settings = json.loads(str(golden["settings"]))
    config = EncoderConfig(
        vocab_size=settings["vocab_size"],
        num_layers=settings["num_hidden_layers"],
        hidden_size=settings["hidden_size"],
        num_heads=settings["num_attention_heads"],
        intermediate_size=settings["intermediate_size"],
        max_positions=settings["max_position_embeddings"],
        type_vocab_size=settings["type_vocab_size"],
        layer_norm_epsilon=settings["layer_norm_eps"],
    )
    model = BertPretrainer(config, dtype="float32")
    weights = weights_by_name(model)
    values = to_ours(section(golden, "weights"), {name: w.shape for name, w in weights.items()})
    assert values.keys() == weights.keys()
    for name, weight in weights.items():
        weight.assign(values[name])
    return model


def losses(model, batch):
    outputs = model(batch, training=False)
    mlm = masked_language_model_sums(
        outputs["mlm_logits"], batch["mask_ids"], batch["mask_weights"]
    )
    nsp = next_sentence_sums(outputs["nsp_logits"], batch["next_sentence_label"])
    return outputs, mlm.loss / mlm.weight, nsp.loss / nsp.weight


def test_outputs_and_losses_equal_hugging_face(golden, model):
    outputs, mlm_loss, nsp_loss = losses(model, section(golden, "inputs"))
    expected = section(golden, "outputs")
    real = section(golden, "inputs")["padding_mask"].astype(bool)
    np.testing.assert_allclose(
        outputs["sequence_output"].numpy()[real],
        expected["sequence_output"][real],
        atol=TOLERANCE,
        rtol=TOLERANCE,
    )
    for name in ("pooled_output", "mlm_logits", "nsp_logits"):
        np.testing.assert_allclose(
            outputs[name], expected[name], atol=TOLERANCE, rtol=TOLERANCE, err_msg=name
        )
    np.testing.assert_allclose(mlm_loss, expected["mlm_loss"], rtol=TOLERANCE)
    np.testing.assert_allclose(nsp_loss, expected["nsp_loss"], rtol=TOLERANCE)
    np.testing.assert_allclose(mlm_loss + nsp_loss, expected["loss"], rtol=TOLERANCE)


def test_gradients_equal_hugging_face(golden, model):
    with tf.GradientTape() as tape:
        _, mlm_loss, nsp_loss = losses(model, section(golden, "inputs"))
        loss = mlm_loss + nsp_loss
    weights = weights_by_name(model)
    gradients = tape.gradient(loss, list(weights.values()))
    shapes = {name: weight.shape for name, weight in weights.items()}
    expected = to_ours(section(golden, "gradients"), shapes)
    for name, gradient in zip(weights, gradients, strict=True):
        # Relative to the largest entry: a gradient is a sum with cancelling terms.
        scale = max(1.0, np.abs(expected[name]).max())
        difference = np.abs(tf.convert_to_tensor(gradient).numpy() - expected[name]).max()
        assert difference <= TOLERANCE * scale, (name, difference, scale)
