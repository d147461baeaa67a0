"""Low-rank updates (LoRA) learn in the place of an encoder, and are merged into it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.checkpoints.storage import copy_arrays, weights_by_name
from keras_bert_tpu.config import EncoderConfig, FinetuningConfig, InputError
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.training.finetuning import finetune
from keras_bert_tpu.training.finetuning_step import ClassificationStep
from keras_bert_tpu.training.initialization import freeze
from keras_bert_tpu.training.low_rank import LowRankUpdates
from keras_bert_tpu.training.optimizers import BertAdamW
from keras_bert_tpu.training.task_batches import TaskArrays

TARGETS = FinetuningConfig().lora_targets
EVERYTHING = ("encoder/layer_*",)
RANK = 3


def make_model(dropout=0.0, dtype="float32"):
    keras.utils.set_random_seed(1)
    config = EncoderConfig.from_preset(
        "tiny", vocab_size=30, hidden_dropout=dropout, attention_dropout=dropout
    )
    return BertTextClassifier(config, 2, dtype=dtype)


def batch(rows=8):
    """Rows whose class is told by their second token."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(5, 30, (rows, 8)).astype("int32")
    return {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": np.ones_like(tokens),
        "label": (tokens[:, 1] > 15).astype("int32"),
        "label_weights": np.ones(rows, "float32"),
    }


def make_step(model, targets=TARGETS, rate=1e-2, alpha=6.0):
    updates = LowRankUpdates(model, RANK, alpha, targets)
    step = ClassificationStep(model, 1.0, 1)
    step.use_low_rank(updates)
    optimizer = BertAdamW(rate, decay_rate=0.0, bias_correction=True)
    optimizer.build(step.trainable_variables)
    step.compile(optimizer=optimizer, jit_compile=False)
    return step, updates


def scores(model, data):
    return keras.ops.convert_to_numpy(model(data, training=False))


def test_at_first_the_model_is_as_it_was():
    model, data = make_model(), batch()
    before = scores(model, data)
    step, updates = make_step(model, EVERYTHING)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(step(data, training=False)), before)
    with updates.merged():
        np.testing.assert_array_equal(scores(model, data), before)


@pytest.mark.parametrize(("targets", "matrices"), [(TARGETS, 2), (EVERYTHING, 6)])
def test_a_matrix_has_as_many_parameters_as_rank_times_both_its_sides(targets, matrices):
    model = make_model()
    config = model.config
    _, updates = make_step(model, targets)
    hidden, inner = config.hidden_size, config.intermediate_size
    sides = matrices * 2 * hidden if matrices == 2 else 4 * 2 * hidden + 2 * (hidden + inner)
    assert updates.count_params() == config.num_layers * RANK * sides


def test_head_pooler_and_updates_are_trained_and_nothing_else():
    model = make_model()
    step, updates = make_step(model)
    before = copy_arrays(weights_by_name(model))
    step.fit(tf.data.Dataset.from_tensors(batch()).repeat(3), verbose=0)

    def changed():
        after = copy_arrays(weights_by_name(model))
        return {name for name in before if (after[name] != before[name]).any()}

    layers, kinds = ("encoder/pooler", "classifier"), ("kernel", "bias")
    on_top = {f"{layer}/{kind}" for layer in layers for kind in kinds}
    assert changed() == on_top
    with updates.merged():
        assert changed() == on_top | set(updates.names)
    assert changed() == on_top
    assert {name.split("/")[-2] for name in updates.names} == {"query", "value"}


def test_the_merged_model_gives_what_the_step_computes():
    model, data = make_model(), batch()
    step, updates = make_step(model, EVERYTHING)
    untrained = scores(model, data)
    step.fit(tf.data.Dataset.from_tensors(data).repeat(20), verbose=0)
    computed = keras.ops.convert_to_numpy(step(data, training=False))
    assert abs(computed - untrained).max() > 0.1
    with updates.merged():
        np.testing.assert_allclose(scores(model, data), computed, atol=1e-6)


def test_the_update_of_a_kernel_is_the_scaled_product_of_its_factors():
    model = make_model()
    step, updates = make_step(model, ("encoder/layer_0/attention/output_projection",), alpha=6.0)
    before = copy_arrays(weights_by_name(model))
    step.fit(tf.data.Dataset.from_tensors(batch()).repeat(3), verbose=0)
    (name,) = updates.names
    a, b = (variable.numpy() for variable in updates.trainable_variables)
    heads, width, hidden = before[name].shape
    assert (a.shape, b.shape) == ((heads * width, RANK), (RANK, hidden))
    with updates.merged():
        found = weights_by_name(model)[name].numpy()
    expected = before[name].reshape(heads * width, hidden) + 6.0 / RANK * a @ b
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-6)
    assert abs(found - before[name]).max() > 1e-3


def test_updates_alone_learn_what_a_frozen_encoder_does_not_tell():
    data = tf.data.Dataset.from_tensors(batch(64))
    model = make_model()
    freeze(model, ["encoder/pooler", "classifier"])
    model.head.kernel.assign(model.head.kernel * 50.0)  # As a head that was trained.
    step, updates = make_step(model, EVERYTHING)
    assert len(step.trainable_variables) == 2 * len(updates.names)
    first = step.fit(data, verbose=0).history["loss"][0]
    step.fit(data.repeat(150), verbose=0)
    assert step.fit(data, verbose=0).history["loss"][0] < 0.3 * first


def test_mixed_precision_learns_too():
    model, data = make_model(dtype="mixed_bfloat16"), batch()
    step, updates = make_step(model)
    losses = step.fit(tf.data.Dataset.from_tensors(data).repeat(30), verbose=0, epochs=2).history[
        "loss"
    ]
    assert losses[1] < 0.7 * losses[0]
    assert {variable.dtype for variable in updates.trainable_variables} == {"float32"}


def test_a_fine_tuning_ends_with_the_best_weights_merged():
    model, arrays = make_model(), batch(32)
    tokens = {name: arrays[name] for name in ("token_ids", "segment_ids", "padding_mask")}
    labels = {name: arrays[name] for name in ("label", "label_weights")}
    held = TaskArrays(tokens, labels)
    config = FinetuningConfig(
        sequence_length=8, epochs=4, batch_size=8, learning_rate=1e-2, lora_rank=RANK
    )
    updates = LowRankUpdates(model, RANK, config.lora_alpha, config.lora_targets)
    step = ClassificationStep(model, 1.0, 1)
    step.use_low_rank(updates)
    seen = []

    def evaluate(predictor):
        seen.append(predictor(held))
        return {"goodness": float(len(seen) == 2)}

    done = finetune(model, step, held, config, evaluate, "goodness")
    assert done.best.epoch == 2
    np.testing.assert_allclose(scores(model, tokens), seen[1], atol=1e-6)
    assert abs(seen[3] - seen[1]).max() > 1e-3
    # What was computed for the best evaluation is not computed again; all else is.
    assert done.predictor(held) is seen[1]
    again = TaskArrays(tokens, labels)
    np.testing.assert_allclose(done.predictor(again), seen[1], atol=1e-6)
    on_top = model.encoder.pooler.count_params() + model.head.count_params()
    assert done.trained_parameters == updates.count_params() + on_top


def test_frozen_kernels_have_no_update():
    model = make_model()
    freeze(model, ["encoder/layer_0"])
    _, updates = make_step(model)
    assert updates.names
    assert not any(name.startswith("encoder/layer_0/") for name in updates.names)


@pytest.mark.parametrize("targets", [("encoder/embeddings",), ("classifier",)])
def test_targets_without_a_kernel_are_refused(targets):
    with pytest.raises(InputError, match="has no kernel of a transformer layer"):
        LowRankUpdates(make_model(), RANK, 1.0, targets)


def test_unknown_targets_are_refused():
    with pytest.raises(InputError, match="lora_targets: there is no layer or weight 'queries'"):
        LowRankUpdates(make_model(), RANK, 1.0, ("queries",))


def test_rates_by_layer_are_of_an_encoder_that_is_trained_itself():
    with pytest.raises(InputError, match="leave one of them out"):
        FinetuningConfig(lora_rank=4, layer_decay=0.9)
