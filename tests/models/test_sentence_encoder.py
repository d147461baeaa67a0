"""Vectors of texts: what they are by hand, and that `fit` makes cosines of them."""

import importlib.resources
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.checkpoints.storage import weights_by_name
from keras_bert_tpu.config import EncoderConfig, InputError
from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder
from keras_bert_tpu.training.optimizers import BertAdamW

CHECKPOINT = str(pathlib.Path(__file__).parents[1] / "golden" / "mini_reference")
CONFIG = EncoderConfig.from_preset("tiny", vocab_size=50, max_positions=16)
NAMES = ("Mary", "Dickon", "Colin")
TEXTS = [
    "Mary opened the door.",
    "The members of Congress rose from their seats, and the president left the chamber at noon.",
    "Why?",
    "He smiled at her.",
    "It was the sweetest, most mysterious-looking place any one could imagine.",
]


def rows(*lengths):
    random = np.random.default_rng(1)
    mask = (np.arange(16) < np.array(lengths)[:, np.newaxis]).astype("int32")
    return {
        "token_ids": random.integers(5, 50, mask.shape).astype("int32") * mask,
        "segment_ids": np.zeros_like(mask),
        "padding_mask": mask,
    }


def make_model(**settings):
    keras.utils.set_random_seed(1)
    return BertSentenceEncoder(CONFIG, **{"dtype": "float32", **settings})


@pytest.fixture(scope="module")
def loaded():
    return BertSentenceEncoder.from_pretrained(CHECKPOINT, sequence_length=32)


def test_mean_is_over_real_pieces_and_cls_is_the_first():
    batch = rows(3, 16, 9)
    model = make_model(pooling="mean", normalize=False)
    hidden = np.array(model.encoder(batch)["sequence_output"])
    means = [hidden[0, :3].mean(0), hidden[1].mean(0), hidden[2, :9].mean(0)]
    np.testing.assert_allclose(model(batch), means, atol=1e-6)
    first = make_model(pooling="cls", normalize=False)
    np.testing.assert_allclose(first(batch), hidden[:, 0], atol=1e-6)
    for plain, unit in ((model, make_model()), (first, make_model(pooling="cls"))):
        vectors = np.array(plain(batch))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        assert np.abs(lengths - 1).min() > 0.1
        np.testing.assert_allclose(unit(batch), vectors / lengths, atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_pairs_give_their_cosines(normalize):
    model = make_model(normalize=normalize)
    first, second = rows(3, 16, 9), rows(5, 4, 16)
    a, b = np.array(model(first)), np.array(model(second))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    found = np.array(model((first, second)))
    assert found.shape == (3, 1) and found.dtype == "float32"
    np.testing.assert_allclose(found[:, 0], cosines, atol=1e-6)


def test_the_two_texts_of_a_pair_have_other_dropout():
    model = make_model()
    batch, seed = rows(9, 9), np.array([1, 4096], "int32")
    assert np.array(model((batch, batch), training=True, seed=seed)).max() < 0.999
    np.testing.assert_allclose(model((batch, batch)), 1.0, atol=1e-6)


def test_config_makes_the_model_again_and_vectors_are_float32():
    model = make_model(pooling="cls", normalize=False, dtype="mixed_bfloat16")
    again = BertSentenceEncoder.from_config(model.get_config())
    assert (again.pooling, again.normalize) == ("cls", False)
    assert weights_by_name(again).keys() == weights_by_name(model).keys()
    again.set_weights(model.get_weights())
    vectors = model(rows(4, 8))
    assert vectors.dtype == "float32"
    np.testing.assert_array_equal(again(rows(4, 8)), vectors)


def test_row_without_a_piece_has_a_finite_gradient():
    model = make_model()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model((rows(0, 4), rows(5, 0))))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(np.isfinite(tf.convert_to_tensor(g)).all() for g in gradients)


def test_vector_of_a_text_is_its_own_whatever_is_beside_it(loaded):
    vectors = loaded.predict(TEXTS, batch_size=2, verbose=0)
    assert vectors.shape == (5, 256) and vectors.dtype == "float32"
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(loaded.predict([text], verbose=0)[0], vector, atol=1e-5)
    assert loaded.predict([], verbose=0).shape == (0, 256)


def test_forms_of_text_give_the_same_vectors(loaded):
    vectors = loaded.predict(TEXTS, verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices(TEXTS)
    forms = (tuple(TEXTS), np.array(TEXTS), tf.constant(TEXTS), dataset, dataset.batch(3))
    for form in forms:
        np.testing.assert_allclose(loaded.predict(form, verbose=0), vectors, atol=1e-5)
    cosines = (vectors[:-1] * vectors[1:]).sum(1, keepdims=True)
    pairs = (TEXTS[:-1], TEXTS[1:])
    np.testing.assert_allclose(loaded.predict(pairs, verbose=0), cosines, atol=1e-5)
    dataset = tf.data.Dataset.from_tensor_slices(pairs)
    np.testing.assert_allclose(loaded.predict(dataset, verbose=0), cosines, atol=1e-5)


def test_two_texts_in_a_tuple_are_no_pair(loaded):
    assert loaded.predict(("Why?", "He smiled."), verbose=0).shape == (2, 256)


def test_long_texts_are_trimmed(loaded):
    words = [f"{word} " for word in TEXTS[1].split()] * 10
    found = loaded.predict(["".join(words), "".join(words[:90])], verbose=0)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    tokens = loaded.tokenizer(["".join(words)])[0, :30].numpy()
    vocabulary = loaded.tokenizer.vocabulary
    ids = np.array([[vocabulary.cls_id, *tokens, vocabulary.sep_id]], "int32")
    batch = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids * 0 + 1}
    np.testing.assert_allclose(loaded(batch)[0], found[0], atol=1e-5)


def named(number):
    """Lines of a novel in which one person is named once, and the name."""
    text = (importlib.resources.files("keras_bert_tpu.sample") / "the_secret_garden.txt").read_text(
        "utf-8"
    )
    lines = [line for line in text.splitlines() if 30 < len(line) < 120]
    found = [(line, [w for w in re.findall(r"\w+", line) if w in NAMES]) for line in lines]
    return [(line, names[0]) for line, names in found if len(names) == 1][:number]


def pairs_of(lines, number, seed):
    """Pairs of lines, half of them of the same person, and whether they are."""
    random = np.random.default_rng(seed)
    first, second, same = [], [], []
    while len(same) < number:
        a, b = (lines[i] for i in random.integers(0, len(lines), 2))
        if (a[1] == b[1]) == (len(same) % 2 == 0):
            first.append(a[0])
            second.append(b[0])
            same.append(float(a[1] == b[1]))
    return (first, second), same


@pytest.fixture(scope="module")
def trained():
    """A model that has learned which lines name the same person, and pairs of other lines."""
    keras.utils.set_random_seed(1)
    model = BertSentenceEncoder.from_pretrained(CHECKPOINT, sequence_length=32)
    lines = named(400)
    held_out = pairs_of(lines[300:], 100, 2)
    before = model.predict(held_out[0], verbose=0)[:, 0]
    pairs, same = pairs_of(lines[:300], 200, 1)
    model.compile(keras.optimizers.Adam(5e-4), **model._default_losses())
    model.fit(pairs, same, batch_size=32, epochs=2, validation_data=held_out, verbose=0)
    return model, held_out, before


def test_cosines_are_learned(trained):
    model, (pairs, same), before = trained
    cosines, same = model.predict(pairs, verbose=0)[:, 0], np.array(same)

    def right(cosines):
        # Of a pair that is alike and one that is not, the first is to have the higher cosine.
        alike, other = cosines[same == 1], cosines[same == 0]
        return (alike[:, np.newaxis] > other).mean()

    assert right(before) < 0.75 and right(cosines) > 0.9
    assert cosines[same == 1].mean() > cosines[same == 0].mean() + 0.5


def test_loss_is_the_mean_of_squared_errors_of_the_cosines(trained):
    model, (pairs, same), _ = trained
    errors = np.square(model.predict(pairs, verbose=0)[:, 0] - np.array(same))
    loss = model.evaluate(pairs, same, batch_size=50, verbose=0)
    assert loss == pytest.approx(errors.mean(), rel=1e-4)
    weights = np.array([1.0] * 50 + [0.0] * 50)
    loss = model.evaluate(pairs, same, sample_weight=weights, batch_size=100, verbose=0)
    assert loss == pytest.approx(errors[:50].mean(), rel=1e-4)
    dataset = tf.data.Dataset.from_tensor_slices((pairs, same))
    for form in (dataset, dataset.batch(50)):
        assert model.evaluate(form, verbose=0) == pytest.approx(errors.mean(), rel=1e-3)


def test_fit_compiles_the_model_by_itself_and_a_seed_makes_it_equal(loaded):
    pairs, same = pairs_of(named(60), 16, 1)
    dataset = tf.data.Dataset.from_tensor_slices((pairs, same))

    def losses(*data, **how):
        keras.utils.set_random_seed(1)
        model = BertSentenceEncoder(
            EncoderConfig.from_preset("tiny", hidden_dropout=0.0, vocab_size=8000), dtype="float32"
        )
        model.tokenizer, model.sequence_length = loaded.tokenizer, 32
        found = model.fit(*data, batch_size=8, epochs=2, verbose=0, **how).history["loss"]
        rate = float(model.optimizer.learning_rate)
        assert isinstance(model.optimizer, BertAdamW) and rate == pytest.approx(0.0, abs=1e-8)
        return found

    shuffled = losses(pairs, same)
    assert shuffled == losses(pairs, same)
    in_order = losses(pairs, same, shuffle=False)
    assert in_order != shuffled and in_order[1] < in_order[0]
    np.testing.assert_allclose(losses(dataset.batch(8)), in_order, rtol=1e-4)


def test_mappings_of_rows_are_taken_as_keras_takes_them(loaded):
    model = make_model()
    batch = rows(3, 16, 9)
    np.testing.assert_allclose(model.predict(batch, verbose=0), model(batch), atol=1e-6)
    model.compile("sgd", "mean_squared_error")
    model.fit((batch, rows(5, 4, 16)), np.array([0.0, 1.0, 0.5]), verbose=0)
    small = {name: array % 50 for name, array in batch.items()}
    np.testing.assert_allclose(loaded.predict(small, verbose=0), loaded(small), atol=1e-5)


PAIR = (["One.", "Two."], ["Three.", "Four."])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (PAIR, [1.0], r"a similarity for each of 2 pairs. Received: \[1\]"),
        (PAIR, None, "a similarity for each of 2 pairs. Received: none"),
        (PAIR, [[0.1, 0.2]] * 2, r"a similarity for each of 2 pairs. Received: \[2, 2\]"),
        (PAIR, [1.0, 5.0], "similarity of pair 1 must be a cosine, from -1 to 1. Received: 5; sca"),
        (PAIR, [float("nan"), 0.0], "similarity of pair 0 must be a cosine"),
        (PAIR, ["same", "other"], "Each similarity must be a number. Received: .'same', 'other'."),
        ((["One.", "Two."], ["Three."]), [1.0, 0.0], "as many second texts as first ones, 2. Rec"),
        ((["One.", " "], ["Three.", "Four."]), [1.0, 0.0], "The first text of pair 1 is empty; f"),
        ((["One.", "Two."], ["Three.", 4]), [1.0, 0.0], "The second text of pair 1: A text must b"),
        ((["One.", None], ["Three.", "4"]), [1.0, 0.0], "The first text of pair 1: A text must be"),
        (([], []), [], "one pair of texts at least"),
        (["One.", "Two."], [1.0, 0.0], "learns from pairs: a tuple of two lists of texts"),
        ("One.", [1.0], "learns from pairs: a tuple of two lists of texts"),
        (tf.data.Dataset.from_tensor_slices((["One."], [1.0])), None, "learns from pairs: a data"),
    ],
)
def test_wrong_pairs_are_told(loaded, x, y, message):
    for method in (loaded.fit, loaded.evaluate):
        with pytest.raises(InputError, match=message) as error:
            method(x, y, verbose=0)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ("A text.", "Texts must come in a list. Received: 'A text.'; put it into one"),
        (["A text.", 3], "Text 1: A text must be a str. Received: 3 of int"),
        ([3, "A text."], "Text 0: A text must be a str. Received: 3 of int"),
        (["A text.", ["Words", "."]], "Text 1: A text must be a str. Received: .*of list"),
        (["A text.", ""], "Text 1 is empty; fill it in or leave it out"),
        ([b"\xff\xfe"], "Text 0: A text is not UTF-8"),
        (["half \ud83d"], "Text 0: A text has a half of a character"),
        (np.array([1.5, 2.5]), "Text 0: A text must be a str"),
        ((["One."], ["Two.", "Three."]), "as many second texts as first ones, 1. Received: 2"),
    ],
)
def test_wrong_texts_are_told(loaded, x, message):
    with pytest.raises(InputError, match=message):
        loaded.predict(x, verbose=0)


def test_weights_and_steps_that_are_missing_are_told(loaded):
    with pytest.raises(InputError, match=r"a weight for each of 2 pairs. Received: \[1\]"):
        loaded.evaluate(PAIR, [1.0, 0.0], sample_weight=np.ones(1), verbose=0)
    endless = tf.data.Dataset.from_tensor_slices((PAIR, [1.0, 0.0])).filter(lambda x, y: True)
    with pytest.raises(InputError, match="give steps_per_epoch, or compile the model"):
        loaded.fit(endless, verbose=0)


def test_another_pooling_is_told():
    with pytest.raises(InputError, match=r"one of \['mean', 'cls'\]. Received: 'max'"):
        make_model(pooling="max")
