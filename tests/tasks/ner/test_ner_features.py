"""Rows of sentences: first pieces, windows, predictions for every word."""

import numpy as np
import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import ner
from keras_bert_tpu.tasks.ner import Sentence
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import Vocabulary

LABELS = ("O", "B-X", "I-X")


@pytest.fixture(scope="module")
def tokenizer():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "##x", "##y", "."]
    return BertTokenizer(Vocabulary(pieces))


def sentence(words, labels="", line=1):
    return Sentence("0", tuple(words.split(" ")), tuple(labels.split()), line)


def test_labels_stand_on_first_pieces(tokenizer):
    # A word may be several words to the tokenizer, or none.
    found = ner.make_features(
        [sentence("axy b. \u200b c", "B-X I-X O B-X"), sentence("d", "I-X")], tokenizer, LABELS, 10
    )
    ids = [tokenizer.vocabulary.pieces[i] for i in found.token_ids[0]]
    assert ids == "[CLS] a ##x ##y b . [UNK] c [SEP] [PAD]".split()
    assert found.label_ids[0].tolist() == [0, 1, 0, 0, 2, 0, 0, 1, 0, 0]
    assert found.label_weights[0].tolist() == [0, 1, 0, 0, 1, 0, 1, 1, 0, 0]
    assert found.label_ids[1].tolist() == [0, 2] + [0] * 8
    assert found.padding_mask[1].tolist() == [1] * 3 + [0] * 7
    assert found.sentence_index.tolist() == [0, 1]
    for name, array in found._asdict().items():
        assert array.dtype == (np.float32 if name == "label_weights" else np.int32), name


def test_long_sentences_are_cut_and_each_word_counts_once(tokenizer):
    words = "a b c d e f g h i j"
    found = ner.make_features([sentence(words, "O " * 10)], tokenizer, LABELS, 8, stride=3)
    rows = [[tokenizer.vocabulary.pieces[i] for i in row if i] for row in found.token_ids]
    assert rows == [["[CLS]", *part, "[SEP]"] for part in ("abcdef", "defghi", "ghij")]
    assert found.label_weights.tolist() == [
        [0, 1, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0],
    ]


def test_every_word_has_the_prediction_of_its_first_piece(tokenizer):
    chance = np.random.default_rng(0)
    sentences = [
        sentence(" ".join(chance.choice(["a", "bx", "cxy", "d", "\u200b"], size)))
        for size in chance.integers(1, 30, 40)
    ]
    labels = [f"B-{letter}" for letter in "abcd"] + ["O"]
    found = ner.make_features(sentences, tokenizer, labels, 9)
    # A model that labels each word by its first letter.
    ids = tokenizer.vocabulary.ids
    label_of_id = {ids[letter]: place for place, letter in enumerate("abcd")}
    predicted = np.vectorize(lambda i: label_of_id.get(i, 4))(found.token_ids)
    words = ner.labels_of_words(predicted, found, sentences, labels)
    expected = [
        [f"B-{word[0]}" if word != "\u200b" else "O" for word in s.words] for s in sentences
    ]
    assert words == expected
    assert not found.label_weights.any()  # They have no labels.


def test_a_word_longer_than_the_window_has_one_prediction(tokenizer):
    found = ner.make_features([sentence("a" + "x" * 20 + " b")], tokenizer, LABELS, 6)
    assert found.word_rows[0] == 0 and found.word_positions[0] == 1
    last = found.token_ids[found.word_rows[1], found.word_positions[1]]
    assert tokenizer.vocabulary.pieces[last] == "b"


def test_what_does_not_fit_is_refused(tokenizer):
    with pytest.raises(InputError, match="on line 8, in sentence 0, must be one of 'O', 'B-X'"):
        ner.make_features([sentence("a b", "O B-Y", line=7)], tokenizer, LABELS)
    with pytest.raises(InputError, match="Sentence 0 has 1 labels for its 2 words"):
        ner.make_features([sentence("a b", "O")], tokenizer, LABELS)
    with pytest.raises(InputError, match="sequence_length=2, stride=1"):
        ner.make_features([sentence("a")], tokenizer, LABELS, 2)
    features = ner.make_features([sentence("a")], tokenizer, LABELS, 8)
    with pytest.raises(InputError, match=r"\(1, 8\). Received: \(1, 7\)"):
        ner.labels_of_words(np.zeros((1, 7), int), features, [sentence("a")], LABELS)
