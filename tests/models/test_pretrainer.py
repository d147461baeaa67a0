import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import EncoderConfig, InputError
from keras_bert_tpu.models.encoder import BertEncoder
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.text.vocabulary import Vocabulary

CONFIG = EncoderConfig.from_preset("tiny", vocab_size=60, max_positions=32)


def make_batch(batch=3, length=12, seed=0):
    random = np.random.default_rng(seed)
    return {
        "token_ids": random.integers(0, 60, (batch, length), dtype="int32"),
        "segment_ids": random.integers(0, 2, (batch, length), dtype="int32"),
        "padding_mask": np.ones((batch, length), "int32"),
        "mask_positions": random.integers(0, length, (batch, 4), dtype="int32"),
    }


def assert_same_outputs(first, second):
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize(
    ("preset", "millions"),
    # The encoders of the paper, pooler included: arXiv 1908.08962, table 1, and 1810.04805.
    [("tiny", 4.4), ("mini", 11.2), ("small", 28.8), ("medium", 41.4), ("base", 109.5)],
)
def test_presets_have_the_published_number_of_weights(preset, millions):
    config = EncoderConfig.from_preset(preset)
    assert BertEncoder(config).count_params() / 1e6 == pytest.approx(millions, abs=0.05)


def test_large_preset_is_the_paper_s():
    config = EncoderConfig.from_preset("large")
    assert (config.num_layers, config.hidden_size, config.num_heads) == (24, 1024, 16)
    assert config.intermediate_size == 4096


def test_keras_file_round_trip_is_exact(tmp_path):
    model, batch = BertPretrainer(CONFIG), make_batch()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.config == CONFIG
    assert_same_outputs(model(batch), loaded(batch))


def test_weights_file_round_trip_is_exact(tmp_path):
    model, other, batch = BertPretrainer(CONFIG), BertPretrainer(CONFIG), make_batch()
    assert not np.allclose(model(batch)["mlm_logits"], other(batch)["mlm_logits"])
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same_outputs(model(batch), other(batch))


@pytest.fixture
def vocabulary():
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return Vocabulary([*specials, *(f"word{n}" for n in range(55))])


def test_model_folder_round_trip_is_exact(tmp_path, vocabulary):
    model, batch = BertPretrainer(CONFIG), make_batch()
    model.save_pretrained(str(tmp_path / "folder"), vocabulary)
    loaded = BertPretrainer.from_pretrained(str(tmp_path / "folder"))
    assert loaded.config == CONFIG
    assert_same_outputs(model(batch), loaded(batch))


def test_model_folder_that_was_cut_short_is_refused_in_a_sentence(tmp_path, vocabulary):
    BertPretrainer(CONFIG).save_pretrained(str(tmp_path), vocabulary)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InputError, match="does not have the checksum"):
        BertPretrainer.from_pretrained(str(tmp_path))


def test_folder_without_config_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="it is no model folder"):
        BertPretrainer.from_pretrained(str(tmp_path))


def test_bfloat16_computes_close_to_float32_with_float32_variables_and_scores():
    model, batch = BertPretrainer(CONFIG, dtype="float32"), make_batch()
    mixed = BertPretrainer(CONFIG, dtype="mixed_bfloat16")
    mixed.set_weights(model.get_weights())
    expected, outputs = model(batch), mixed(batch)
    assert {weight.dtype for weight in mixed.weights} == {"float32"}
    assert outputs["sequence_output"].dtype == tf.bfloat16
    assert outputs["mlm_logits"].dtype == tf.float32
    assert outputs["nsp_logits"].dtype == tf.float32
    # bfloat16 has 8 bits of precision; 2 layers of width 128 stay within a few of its steps.
    np.testing.assert_allclose(outputs["mlm_logits"], expected["mlm_logits"], atol=0.05)


def test_padding_does_not_change_the_real_tokens():
    model, batch = BertPretrainer(CONFIG, dtype="float32"), make_batch(length=8)
    padded = {
        name: np.pad(value, [(0, 0), (0, 5 if name != "mask_positions" else 0)])
        for name, value in batch.items()
    }
    padded["token_ids"][:, 8:] = 7  # Whatever stands there must not be seen.
    outputs, expected = model(padded), model(batch)
    np.testing.assert_allclose(
        outputs["sequence_output"][:, :8], expected["sequence_output"], atol=1e-5
    )
    np.testing.assert_allclose(outputs["mlm_logits"], expected["mlm_logits"], atol=1e-5)


def test_dropout_is_a_function_of_the_seed():
    model, batch = BertPretrainer(CONFIG), make_batch()

    def logits(first, second):
        seed = tf.constant([first, second], tf.int32)
        return model(batch, training=True, seed=seed)["mlm_logits"].numpy()

    np.testing.assert_array_equal(logits(1, 4096), logits(1, 4096))
    assert not np.allclose(logits(1, 4096), logits(1, 8192))
    assert not np.allclose(logits(1, 4096), logits(2, 4096))


def test_each_dropout_layer_draws_another_mask():
    config = dataclasses.replace(CONFIG, hidden_dropout=0.5)
    layer = BertPretrainer(config).encoder.transformer_layers[0]
    ones, seed = tf.ones((4, 64)), tf.constant([1, 0], tf.int32)
    masks = [
        dropout(ones, training=True, seed=seed).numpy()
        for dropout in (layer.attention_dropout, layer.output_dropout)
    ]
    assert 0.3 < (masks[0] == 0).mean() < 0.7
    assert not np.array_equal(masks[0], masks[1])


def test_tied_table_serves_the_embedding_and_the_scores():
    model = BertPretrainer(CONFIG)
    names = [weight.path for weight in model.weights if tuple(weight.shape) == (60, 128)]
    assert names == ["encoder/embeddings/token_embedding/embeddings"]
