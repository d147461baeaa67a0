import os
import random
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import reference_tokenizer as reference
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import SPECIAL_TOKENS, Vocabulary

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


def random_texts(count: int) -> list[bytes]:
    """Texts of characters from a few scripts each, some with bytes that are not UTF-8.

    All characters are in Unicode 3.2, so that every version of Python agrees about them.
    """
    generator = random.Random(20180531)
    known = unicodedata.ucd_3_2_0
    scripts = [
        [char for char in map(chr, codes) if known.category(char) not in ("Cn", "Cs")]
        for codes in [
            *(range(0x20, 0x7F), range(0x300), range(0x300, 0x370), range(0x370, 0x600)),
            *(range(0x600, 0x1100), range(0x1100, 0x2000), range(0x2000, 0x2100)),
            *(range(0x2100, 0x3100), range(0x4E00, 0x4E40), range(0xAC00, 0xAC80)),
            *(range(0xF900, 0xFFFE), range(0x10300, 0x10450), range(0x1D000, 0x1D200)),
        ]
    ]
    scripts.append(list("ΣσςAa.\u00ad\u0301\u200d' "))
    texts = []
    for _ in range(count):
        chosen = generator.sample(scripts, generator.choice([1, 2, 3]))
        chars = (
            generator.choice(generator.choice(chosen))
            for _ in range(generator.choice([1, 4, 12, 40]))
        )
        text = "".join(chars).encode()
        if generator.random() < 0.1:
            cut = generator.randrange(len(text) + 1)
            text = text[:cut] + generator.randbytes(2) + text[cut:]
        texts.append(text)
    return texts


def letter_vocabulary(texts: list[bytes], lower_case: bool) -> Vocabulary:
    """A vocabulary with which next to nothing is unknown: each letter, each second pair."""
    words = sorted({word for text in texts for word in reference.split_words(text, lower_case)})
    letters = {char for word in words for char in word}
    pairs = {word[i : i + 2] for word in words[::2] for i in range(len(word) - 1)}
    found = sorted(letters | pairs)
    return Vocabulary([*SPECIAL_TOKENS, *found, *(f"##{piece}" for piece in found)])


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


@pytest.mark.parametrize("lower_case", [True, False])
def test_ids_of_random_text_are_those_of_the_rules(lower_case):
    texts = random_texts(4000)
    vocabulary = letter_vocabulary(texts, lower_case)
    rows = BertTokenizer(vocabulary, lower_case)(texts).to_list()
    for text, ids in zip(texts, rows, strict=True):
        expected = reference.tokenize(text, vocabulary.ids, lower_case)
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
    ids, starts, ends = tokenizer.tokenize_with_offsets([["the", ""], ["cafe", " the the"]])
    assert ids.to_list() == [[[8], []], [[9], [8, 8]]]
    assert starts.to_list() == [[[0], []], [[0], [1, 5]]]
    assert ends.to_list() == [[[3], []], [[4], [4, 8]]]
    assert {ids.dtype, starts.dtype, ends.dtype} == {tf.int32}


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


def test_the_locale_of_the_process_changes_nothing():
    # Under a Turkish locale, ICU lower-cases "I" to a dotless i.
    program = (
        "from keras_bert_tpu.text.normalizer import normalize\n"
        "import tensorflow as tf\n"
        "print(ascii(normalize(tf.constant(['I\\u00c9\\u0130']), True).numpy()[0].decode()))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LC_ALL": "tr_TR.UTF-8", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output == "'iei'\n"


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


def spans(tokenizer, text: str | bytes, unit="byte") -> list[tuple[str, int, int]]:
    ids, starts, ends = tokenizer.tokenize_with_offsets(text, unit)
    pieces = [PIECES[index] for index in ids.numpy()]
    return list(zip(pieces, starts.numpy().tolist(), ends.numpy().tolist(), strict=True))


def test_offsets_are_those_of_the_text_as_given(tokenizer):
    assert spans(tokenizer, "The  CAFÉs!") == (
        [("the", 0, 3), ("cafe", 5, 10), ("##s", 10, 11), ("[UNK]", 11, 12)]
    )
    assert spans(tokenizer, "The  CAFÉs!", "char") == (
        [("the", 0, 3), ("cafe", 5, 9), ("##s", 9, 10), ("[UNK]", 10, 11)]
    )
    # Stripped marks belong to the letter before them, dropped control characters to none.
    assert spans(tokenizer, "cafe\u0301s\u200b the\x00") == (
        [("cafe", 0, 6), ("##s", 6, 7), ("the", 11, 14)]
    )
    assert spans(tokenizer, "\u0301the") == [("the", 2, 5)]
    assert spans(tokenizer, "t\u00adh\u00ade") == [("the", 0, 7)]
    assert spans(tokenizer, b"\xffthe\xe4 \xc3the") == [("the", 1, 4), ("the", 7, 10)]
    assert spans(tokenizer, b"\xffthe\xe4 the", "char") == [("the", 0, 3), ("the", 4, 7)]
    assert spans(tokenizer, "日x本") == [("日", 0, 3), ("[UNK]", 3, 4), ("本", 4, 7)]
    assert spans(tokenizer, "the " + "á" * 201 + " the") == (
        [("the", 0, 3), ("[UNK]", 4, 406), ("the", 407, 410)]
    )
    assert spans(tokenizer, "ΟΣ") == [("ο", 0, 2), ("##ς", 2, 4)]
    # One syllable of three letters, each of which is a piece.
    assert spans(tokenizer, "한") == [("ᄒ", 0, 3), ("##ᅡ", 0, 3), ("##ᆫ", 0, 3)]


def test_an_unknown_unit_is_an_input_error(tokenizer):
    with pytest.raises(InputError, match="unit must be 'byte' or 'char'. Received: 'word'"):
        tokenizer.tokenize_with_offsets("the", "word")


@pytest.mark.parametrize("lower_case", [True, False])
def test_the_text_between_offsets_is_the_piece(lower_case):
    texts = [*random_texts(4000), "e\u0301" * 201, "ΟΔΟΣ " + "Ä" * 230 + " x", ""]
    texts = [text if isinstance(text, bytes) else text.encode() for text in texts]
    vocabulary = letter_vocabulary(texts[:4000:2], lower_case)  # So that some words are unknown.
    tokenizer = BertTokenizer(vocabulary, lower_case)
    rows = tokenizer.tokenize_with_offsets(texts)
    assert rows[0].to_list() == tokenizer(texts).to_list()
    char_rows = [offsets.to_list() for offsets in tokenizer.tokenize_with_offsets(texts, "char")]
    marks = "".join(c for c in map(chr, range(0x110000)) if unicodedata.category(c) == "Mn")
    checked = 0
    for text, *row in zip(texts, *(values.to_list() for values in rows), *char_rows, strict=True):
        valid = text.decode("utf-8", "ignore")
        previous_end = 0
        for index, start, end, _, char_start, char_end in zip(*row, strict=True):
            assert 0 <= start < end <= len(text)
            # Pieces follow one another; two may share the character in which they meet.
            if start < previous_end:
                shared = reference.normalize(text[start:previous_end], lower_case)
                assert len(reference.clean(text[start:previous_end]).rstrip(marks)) == 1
                assert len(shared) > 1
            assert text[start:end].decode("utf-8", "ignore") == valid[char_start:char_end]
            covered = without_final_sigma(reference.normalize(text[start:end], lower_case))
            piece = without_final_sigma(vocabulary.pieces[index].removeprefix("##"))
            if piece == "[UNK]":
                words = reference.split_words(text[start:end], lower_case)
                assert len(words) == 1
                assert reference.cut_word(words[0], vocabulary.ids) == ["[UNK]"]
            elif covered != piece:
                # Part of a character that is decomposed into several letters.
                assert piece in covered
                letters = [
                    unicodedata.normalize("NFD", char)
                    for char in valid[char_start:char_end]
                    if unicodedata.category(char) != "Mn"
                ]
                assert max(len(letters[0]), len(letters[-1])) > 1
            checked += 1
            previous_end = end
    assert checked > 20_000


def without_final_sigma(text: str) -> str:
    return text.replace("ς", "σ")
