import os
import subprocess
import sys

import numpy as np
import pytest
import reference_tokenizer as reference
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import SPECIAL_TOKENS, Vocabulary

from adversarial_texts import fragments, letter_vocabulary, random_texts

PIECES = [
    *SPECIAL_TOKENS,
    *("un", "##aff", "##able", "the", "cafe", "##s", "a", "##a", "hello", ",", ".", "'", "(", ")"),
    *("it", "s", "日", "本", "σ", "ς", "##ς", "##σ", "ο", "##ο", "[", "]", "mask", "Hello", "é"),
    *("ᄒ", "##ᅡ", "##ᆫ", "##é"),
]


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(Vocabulary(PIECES))


def pieces_of(tokenizer, text):
    return [piece.decode() for piece in tokenizer.id_to_piece(tokenizer(text)).numpy()]


def test_words_are_cut_greedily_and_unknown_words_are_one_piece(tokenizer):
    assert pieces_of(tokenizer, "unaffable") == ["un", "##aff", "##able"]
    assert pieces_of(tokenizer, "unaffablex the") == ["[UNK]", "the"]
    assert pieces_of(tokenizer, "It's the Café, (日本)") == (
        ["it", "'", "s", "the", "cafe", ",", "(", "日", "本", ")"]
    )


def test_literal_special_tokens_are_text_like_any_other(tokenizer):
    assert pieces_of(tokenizer, "[MASK]") == ["[", "mask", "]"]


def test_a_cased_vocabulary_keeps_case_and_accents():
    tokenizer = BertTokenizer(Vocabulary(PIECES), lower_case=False)
    assert pieces_of(tokenizer, "Hello hello é HELLO") == ["Hello", "hello", "é", "[UNK]"]


def test_accents_are_stripped_or_kept_whatever_becomes_of_case():
    pieces = [*SPECIAL_TOKENS, "Été", "été", "Ete", "ete", "cafe\u0301", "\u0390", "i\u0307", "i"]
    texts = ["Été été Ete ete", "CAFE\u0301", "\u0390", "\u0130"]
    expected = {
        (True, None): ["ete ete ete ete", "[UNK]", "[UNK]", "i"],
        (False, None): ["Été été Ete ete", "[UNK]", "\u0390", "[UNK]"],
        (True, False): ["été été ete ete", "cafe\u0301", "\u0390", "i\u0307"],
        (False, True): ["Ete ete Ete ete", "[UNK]", "[UNK]", "[UNK]"],
    }
    for (lower_case, strip_accents), found in expected.items():
        tokenizer = BertTokenizer(Vocabulary(pieces), lower_case, strip_accents)
        assert [" ".join(pieces_of(tokenizer, text)) for text in texts] == found
    both = BertTokenizer(Vocabulary(pieces), True, True)
    assert pieces_of(both, texts[0]) == ["ete"] * 4


def test_no_text_is_a_piece_with_white_space_in_it():
    # As in the vocabulary of bert-base-chinese, and others that a slip may bring about.
    spaces = ["\u2028", "##\u2028", "##\u2028b", "a b", "a\u2028", "##\u3000", "\u00a0"]
    tokenizer = BertTokenizer(Vocabulary([*SPECIAL_TOKENS, "a", "b", "##b", *spaces]))
    for space in ("\u2028", " ", "\u3000", "\u00a0"):
        assert pieces_of(tokenizer, f"a{space}b{space}ab{space}") == ["a", "b", "a", "##b"]
        assert pieces_of(tokenizer, space) == []


def test_no_text_is_a_piece_with_control_characters_in_it():
    # FastWordpieceTokenizer has a use of its own for U+0011, and takes U+0000 for an end.
    controls = ["\x00", "##\x00", "\x11", "a\x11", "##\x7f", "\x85b"]
    tokenizer = BertTokenizer(Vocabulary([*SPECIAL_TOKENS, "a", "b", "##b", ".", *controls]))
    for control in "\x00\x11\x7f\x85":
        assert pieces_of(tokenizer, f"a{control}b.{control}b{control}") == ["a", "##b", ".", "b"]


@pytest.mark.parametrize(
    "lower_case, strip_accents", [(True, True), (False, False), (True, False), (False, True)]
)
def test_ids_of_random_text_are_those_of_the_rules(lower_case, strip_accents):
    texts = [*random_texts(4000), *fragments()]
    vocabulary = letter_vocabulary(texts, lower_case, strip_accents)
    rows = BertTokenizer(vocabulary, lower_case, strip_accents)(texts).to_list()
    for text, ids in zip(texts, rows, strict=True):
        expected = reference.tokenize(text, vocabulary.ids, lower_case, strip_accents)
        assert [vocabulary.pieces[index] for index in ids] == expected, text


def test_words_of_more_than_200_characters_are_unknown(tokenizer):
    # 400 bytes, but 200 characters; and then one more. "e" and its mark become one letter.
    for letters, length in (("a", 1), ("ο", 1), ("á", 1), ("a\u0301", 2)):
        word = letters * 200
        assert len(word) == 200 * length
        assert len(pieces_of(tokenizer, word)) == 200
        assert pieces_of(tokenizer, word + "a") == ["[UNK]"]
    many = ["the", "a" * 201 + " the", "", "a" * 150 + "," + "a" * 150, "a" * 900, "ο" * 200]
    lengths = tokenizer(many).row_lengths().numpy()
    assert lengths.tolist() == [1, 2, 0, 301, 1, 200]


def test_shapes_follow_the_text(tokenizer):
    one = tokenizer("the cafe")
    assert isinstance(one, tf.Tensor) and one.dtype == tf.int32
    assert one.numpy().tolist() == [8, 9]
    assert tokenizer(["the", "", "the cafe"]).to_list() == [[8], [], [8, 9]]
    assert tokenizer(tf.zeros([0], tf.string)).to_list() == []
    assert tokenizer([["the", ""], ["cafe", "the the"]]).to_list() == [[[8], []], [[9], [8, 8]]]
    ragged = tf.ragged.constant([["the"], [], ["cafe", "the cafe"]])
    assert tokenizer(ragged).to_list() == [[[8]], [], [[9], [8, 9]]]


def test_unknown_rank_is_an_input_error(tokenizer):
    with pytest.raises(InputError, match="rank of the text tensor must be known"):
        tf.function(tokenizer, [tf.TensorSpec(None, tf.string)], autograph=False)("the")


def test_it_works_inside_a_dataset_and_a_saved_model(tokenizer, tmp_path):
    texts = ["the café", "", "unaffable " + "a" * 201]
    expected = tokenizer(texts).to_list()
    dataset = tf.data.Dataset.from_tensor_slices(texts)
    assert [row.tolist() for row in dataset.map(tokenizer).as_numpy_iterator()] == expected
    batch = next(iter(dataset.batch(3).map(tokenizer)))
    assert batch.to_list() == expected

    module = tf.Module()
    module.tokenize = tf.function(
        lambda text: tokenizer.tokenize_with_offsets(text),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path / "model"))
    ids, starts, _ = tf.saved_model.load(str(tmp_path / "model")).tokenize(texts)
    assert ids.to_list() == expected
    assert starts.to_list() == [[0, 4], [], [0, 2, 5, 10]]


@pytest.mark.parametrize("locale", ["tr_TR.UTF-8", "lt_LT.UTF-8"])
def test_the_locale_of_the_process_changes_nothing(locale):
    # Under a Turkish locale, ICU lower-cases "I" to a dotless i; under a Lithuanian one it puts a
    # dot below the accent of an I or J.
    capitals = "I\u00c9\u0130 \u00cc\u00cd\u0128 I\u0301J\u0301\u012e\u0301 I\u0307 \u0130\u0301"
    program = (
        "import sys, tensorflow as tf\n"
        "from keras_bert_tpu.text.normalizer import normalize\n"
        "for strip_accents in (True, False):\n"
        "    print(ascii(normalize(tf.constant(sys.argv[1:]), True, strip_accents)[0].numpy()))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program, capitals],
        env={**os.environ, "LC_ALL": locale, "PYTHONUTF8": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    expected = [reference.normalize(capitals, True, strip).encode() for strip in (True, False)]
    assert output.splitlines() == [ascii(text) for text in expected]


def test_literal_masks_become_the_mask(tokenizer):
    mask = tokenizer.vocabulary.mask_id
    texts = ["the [MASK]s [mask]", "[MASK][MASK]", "", "\x01the", "no mask"]
    assert tokenizer.encode_with_masks(texts).to_list() == [
        [8, mask, PIECES.index("s"), *map(PIECES.index, ("[", "mask", "]"))],
        [mask, mask],
        [],
        [8],
        [1, PIECES.index("mask")],
    ]
    assert tokenizer.encode_with_masks("a [MASK]").numpy().tolist() == [PIECES.index("a"), mask]
    assert tokenizer.encode_with_masks([["[MASK]"], ["the"]]).to_list() == [[[mask]], [[8]]]


def test_pieces_are_joined_for_people():
    pieces = [*SPECIAL_TOKENS, *"hello , world . it ' s un ##aff ##able ( a ) !".split()]
    tokenizer = BertTokenizer(Vocabulary(pieces))
    ids = [pieces.index(piece) for piece in "[CLS] hello , un ##aff ##able world ! [SEP]".split()]
    assert tokenizer.detokenize(ids).numpy() == b"hello, unaffable world!"
    assert tokenizer.detokenize(ids, skip_special_tokens=False).numpy() == (
        b"[CLS] hello, unaffable world! [SEP]"
    )
    rows = tokenizer(["It's (a) world.", "", "hello"])
    assert tokenizer.detokenize(rows).numpy().tolist() == [b"it's (a) world.", b"", b"hello"]
    padded = np.array([[2, 5, 3, 0], [2, 3, 0, 0]])
    assert tokenizer.detokenize(padded).numpy().tolist() == [b"hello", b""]
    assert tokenizer.detokenize(tf.ragged.stack([rows, rows])).to_list() == (
        [[b"it's (a) world.", b"", b"hello"]] * 2
    )


def test_a_vocabulary_without_pieces_of_text_is_an_input_error():
    with pytest.raises(InputError, match="cannot serve to tokenize"):
        BertTokenizer(Vocabulary(SPECIAL_TOKENS))
