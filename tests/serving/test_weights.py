"""Exports whose weights are kept in fewer bytes, and those that XLA compiles."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pipelines.fill_mask import FillMask
from keras_bert_tpu.serving.export import export
from keras_bert_tpu.serving.length_batches import static_shapes
from keras_bert_tpu.serving.signatures import IDS
from keras_bert_tpu.serving.warmup import warmup_inputs

from exported import (
    CHECKPOINT,
    KNOWN_OPERATIONS,
    LENGTH,
    TEXTS,
    answers_of,
    classifier,
    operations_of,
)


@pytest.fixture(scope="module")
def model():
    return classifier()


def size_of(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder, "variables").iterdir())


@pytest.mark.parametrize(("kind", "share", "error"), [("bfloat16", 0.5, 0.02), ("int8", 0.27, 0.1)])
def test_weights_of_fewer_bytes_give_nearly_the_same(model, tmp_path, kind, share, error):
    whole, _ = export(model, str(tmp_path / "whole"), warmup=False)
    folder, _ = export(model, str(tmp_path / kind), weights=kind, warmup=False)
    assert size_of(folder) < share * size_of(whole) + 50_000
    found = answers_of(folder)(text=TEXTS)
    scores = model.predict(TEXTS, verbose=0)
    difference = np.abs(found["logits"] - scores).max()
    assert 1e-4 < difference < error
    sure = np.abs(scores[:, 0] - scores[:, 1]) > 2 * error
    labels = np.array(model.labels)[scores.argmax(axis=1)]
    assert sure.sum() > 20
    assert [label.decode() for label in found["label"][sure]] == labels[sure].tolist()
    assert operations_of(folder) <= KNOWN_OPERATIONS


def test_int8_has_a_scale_for_each_column_and_row(tmp_path):
    model = classifier()
    # Of a large and a small column, and of rows, each is as exact as its own size allows.
    table = model.encoder.token_embeddings
    values = np.random.default_rng(0).normal(size=table.shape).astype("float32")
    values *= np.logspace(-4, 0, len(values), dtype="float32")[:, np.newaxis]
    table.assign(values)
    kernel = np.zeros(model.head.kernel.shape, "float32")
    kernel[:, 0], kernel[:, 1] = 100.0, 0.01
    model.head.kernel.assign(kernel)
    folder, served = export(model, str(tmp_path / "out"), weights="int8", warmup=False)
    restored = {id(variable): value.numpy() for variable, value in served.weights.restored()}
    rows = restored[id(table)]
    bound = np.abs(values).max(axis=1, keepdims=True) / 127 / 2
    assert (np.abs(rows - values) <= 1.001 * bound).all()
    np.testing.assert_allclose(restored[id(model.head.kernel)], kernel, rtol=1e-6)
    # Biases and what normalizes stay as they are.
    assert id(model.head.bias) not in restored
    saved = tf.train.list_variables(f"{folder}/variables/variables")
    shapes = [shape for _, shape in saved]
    assert list(table.shape) in shapes and [len(values), 1] in shapes


def test_masks_are_filled_from_weights_of_fewer_bytes(tmp_path):
    fill = FillMask.from_pretrained(CHECKPOINT, sequence_length=LENGTH)
    text = ["She opened the [MASK] and went in."]
    found = answers_of(export(fill, str(tmp_path / "w"), weights="int8", warmup=False)[0])(
        text=text
    )
    (expected,) = fill(text, top_k=5)[0]
    assert found["tokens"][0, 0, 0].decode() == expected[0].piece
    assert abs(found["probabilities"][0, 0, 0] - expected[0].probability) < 0.05


def test_xla_gives_the_same_for_all_numbers_and_lengths_of_rows(model, tmp_path):
    folder, _ = export(
        model, str(tmp_path / "xla"), buckets=[16], tokens_at_once=100, xla=True, warmup=False
    )
    ask = answers_of(folder)
    scores = model.predict(TEXTS, verbose=0)
    for number in (1, 2, 7, len(TEXTS)):
        found = ask(text=TEXTS[-number:])
        np.testing.assert_allclose(found["logits"], scores[-number:], atol=1e-5)
    assert ask(text=tf.constant([], tf.string))["logits"].shape == (0, 2)
    ids = np.random.default_rng(0).integers(10, 200, [3, 21]).astype("int32")
    rows = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": np.ones_like(ids)}
    found = answers_of(folder, IDS)(**rows)
    np.testing.assert_allclose(found["logits"], model(rows), atol=1e-5)
    assert operations_of(folder) <= KNOWN_OPERATIONS


def test_warmup_meets_all_shapes_that_xla_compiles(model, tmp_path):
    assert static_shapes([16, 48], 100) == [(1, 16), (4, 16), (6, 16), (1, 48), (2, 48)]
    _, served = export(
        model, str(tmp_path / "xla"), buckets=[16], tokens_at_once=100, xla=True, warmup=False
    )
    shapes = {
        tuple(inputs["token_ids"].shape)
        for signature, inputs in warmup_inputs(served)
        if signature == IDS
    }
    assert shapes == set(static_shapes([16, 48], 100))


def test_what_cannot_be_done_is_told(model, tmp_path):
    with pytest.raises(InputError, match="weights must be one of float32, bfloat16, int8"):
        export(model, str(tmp_path / "out"), weights="int4", warmup=False)
    fill = FillMask.from_pretrained(CHECKPOINT, sequence_length=LENGTH)
    with pytest.raises(InputError, match="Leave xla out"):
        export(fill, str(tmp_path / "out"), xla=True, warmup=False)
