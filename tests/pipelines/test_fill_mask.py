import keras
import numpy as np
import pytest

from keras_bert_tpu.config import EncoderConfig, InputError
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.pipelines.fill_mask import FillMask
from keras_bert_tpu.text.tokenizer import BertTokenizer


@pytest.fixture(scope="module")
def fill(vocabulary):
    keras.utils.set_random_seed(0)
    config = EncoderConfig.from_preset("tiny", vocab_size=len(vocabulary), max_positions=32)
    return FillMask(BertPretrainer(config), BertTokenizer(vocabulary), sequence_length=32)


def test_guesses_are_the_model_s_likeliest_pieces_and_never_special(fill, vocabulary):
    (guesses,) = fill(["the [MASK] of the garden"], top_k=len(vocabulary))[0]
    ids = [vocabulary.cls_id, vocabulary.ids["the"], vocabulary.mask_id]
    ids += [vocabulary.ids[word] for word in ("of", "the", "garden")] + [vocabulary.sep_id]
    row = np.array([ids], "int32")
    scores = fill.model(
        {
            "token_ids": row,
            "segment_ids": np.zeros_like(row),
            "padding_mask": np.ones_like(row),
            "mask_positions": np.array([[2]], "int32"),
        }
    )["mlm_logits"].numpy()[0, 0]
    expected = np.exp(scores) / np.exp(scores).sum()
    for guess in guesses[:-5]:
        assert guess.probability == pytest.approx(expected[vocabulary.ids[guess.piece]], rel=1e-4)
        assert guess.piece not in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    probabilities = [guess.probability for guess in guesses]
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities[-5:] == [0.0] * 5


def test_each_mask_of_each_text_has_its_own_guesses(fill):
    results = fill(["a [MASK] and a [MASK]", "the [MASK]"], top_k=3)
    assert [len(text) for text in results] == [2, 1]
    assert all(len(guesses) == 3 for text in results for guesses in text)
    alone = fill(["the [MASK]"], top_k=3)[0][0]
    assert [g.piece for g in alone] == [g.piece for g in results[1][0]]


def test_saved_model_gives_the_same_guesses(fill, vocabulary, tmp_path):
    fill.model.save_pretrained(str(tmp_path), vocabulary)
    loaded = FillMask.from_pretrained(str(tmp_path), sequence_length=32)
    assert loaded(["the [MASK] of it"]) == fill(["the [MASK] of it"])


def test_text_without_a_mask_is_told(fill):
    with pytest.raises(InputError, match=r"no \[MASK\] in the first 32 tokens of 'nothing here'"):
        fill(["the [MASK]", "nothing here"])


def test_rows_longer_than_the_model_are_refused(fill):
    with pytest.raises(InputError, match="longer than the 32 positions"):
        FillMask(fill.model, fill.tokenizer, sequence_length=33)


def test_a_model_folder_keeps_how_text_is_tokenized(fill, vocabulary, tmp_path):
    settings = {"lower_case": True, "strip_accents": False, "added_tokens": ("garden",)}
    fill.model.save_pretrained(str(tmp_path), vocabulary, **settings)
    tokenizer = FillMask.from_pretrained(str(tmp_path), sequence_length=32).tokenizer
    assert {name: getattr(tokenizer, name) for name in settings} == settings
