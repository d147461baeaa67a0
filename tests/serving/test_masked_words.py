"""Masked words, filled in by an export."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pipelines.fill_mask import FillMask
from keras_bert_tpu.serving.export import export, load_model

from exported import (
    CHECKPOINT,
    KNOWN_OPERATIONS,
    LENGTH,
    answers_of,
    classifier,
    examples_of,
    operations_of,
)

MASKED = [
    "She opened the [MASK] and went in.",
    "[MASK] [MASK] was a fine [MASK], and the wind blew " + "over the garden " * 5,
    "The robin sat on the [MASK].",
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """What fills masks and its export, which has more texts than fit at once."""
    fill = FillMask.from_pretrained(CHECKPOINT, sequence_length=LENGTH)
    path = str(tmp_path_factory.mktemp("served") / "words")
    return fill, export(fill, path, tokens_at_once=60, top_k=4)[0]


def assert_guesses(found, guesses):
    assert found["masks"].tolist() == [len(of_text) for of_text in guesses]
    for row, of_text in enumerate(guesses):
        for place, of_mask in enumerate(of_text):
            tokens = [token.decode() for token in found["tokens"][row, place]]
            assert tokens == [guess.piece for guess in of_mask]
            np.testing.assert_allclose(
                found["probabilities"][row, place], [g.probability for g in of_mask], atol=1e-5
            )
        assert not any(found["tokens"][row, len(of_text) :].ravel())


def test_words_are_those_of_the_pipeline(served):
    fill, folder = served
    guesses = fill(MASKED, top_k=4)
    assert [len(of_text) for of_text in guesses] == [1, 3, 1]
    assert_guesses(answers_of(folder)(text=MASKED), guesses)
    found = answers_of(folder, "serving_examples")(examples=examples_of(text=MASKED))
    assert_guesses(found, guesses)


def test_rows_of_ids_get_the_same(served):
    fill, folder = served
    rows = [fill.tokenizer.vocabulary.cls_id, *fill.tokenizer.encode_with_masks(MASKED[0]).numpy()]
    ids = np.array([[*rows, fill.tokenizer.vocabulary.sep_id]], "int32")
    ask = answers_of(folder, "serving_ids")
    found = ask(token_ids=ids, segment_ids=0 * ids, padding_mask=0 * ids + 1)
    assert_guesses(found, fill(MASKED[:1], top_k=4))


def test_texts_without_a_mask_are_answered_with_the_others(served):
    fill, folder = served
    ask = answers_of(folder)
    found = ask(text=["", MASKED[0], b"\xff\0", "word " * 50_000])
    assert found["masks"].tolist() == [0, 1, 0, 0]
    assert found["tokens"][1, 0, 0].decode() == fill(MASKED[:1])[0][0][0].piece
    assert ask(text=["Nothing is masked."])["tokens"].shape == (1, 0, 4)
    assert ask(text=tf.constant([], tf.string))["tokens"].shape == (0, 0, 4)


def test_operations_are_those_that_released_servers_know(served):
    assert operations_of(served[1]) <= KNOWN_OPERATIONS


def test_a_pre_trained_folder_is_loaded_to_fill_masks():
    assert isinstance(load_model(CHECKPOINT), FillMask)


def test_settings_that_no_such_model_has_are_told(served, tmp_path):
    with pytest.raises(InputError, match="top_k must be from 1 to"):
        export(served[0], str(tmp_path / "out"), top_k=0, warmup=False)
    with pytest.raises(InputError, match="leave top_k out"):
        export(classifier(), str(tmp_path / "out"), top_k=3, warmup=False)
    with pytest.raises(InputError, match="leave pairs out"):
        export(served[0], str(tmp_path / "out"), pairs=True, warmup=False)
