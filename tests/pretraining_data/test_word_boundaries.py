import numpy as np
import pytest

from keras_bert_tpu.pretraining_data.word_boundaries import find_continuations
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "我",
        "爱",
        "北",
        "京",
        "，",
        "go",
        "##ing",
        "𠀀",
    ]
)
IS_SUFFIX = np.array([piece.startswith("##") for piece in VOCABULARY.pieces])


def continuations(*sentences, encode=False):
    """The pieces of all sentences, and whether each continues a word."""
    if encode:
        sentences = [sentence.encode() for sentence in sentences]
    ids, starts, ends = BertTokenizer(VOCABULARY).tokenize_with_offsets(list(sentences))
    result = find_continuations(
        sentences,
        ids.values.numpy(),
        starts.values.numpy(),
        ends.values.numpy(),
        ids.row_splits.numpy(),
        IS_SUFFIX,
    )
    assert result.dtype == bool
    return [VOCABULARY.pieces[i] for i in ids.values.numpy()], result.astype(int).tolist()


@pytest.mark.parametrize("encode", [False, True])
def test_ideographs_that_touch_are_one_word(encode):
    pieces, result = continuations("我 爱 北京", encode=encode)
    assert pieces == ["我", "爱", "北", "京"]
    assert result == [0, 0, 0, 1]


def test_suffixes_go_on_and_other_letters_do_not():
    pieces, result = continuations("going北京，going 爱go我")
    assert pieces == ["go", "##ing", "北", "京", "，", "go", "##ing", "爱", "go", "我"]
    assert result == [0, 1, 0, 1, 0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("space", [" ", "\u3000", "\t", "\u00a0"])
def test_any_white_space_ends_a_word(space):
    assert continuations(f"北{space}京")[1] == [0, 0]


def test_words_end_with_their_sentence():
    pieces, result = continuations("爱北京", "", "京我 爱", " ", "我爱", "")
    assert pieces == ["爱", "北", "京", "京", "我", "爱", "我", "爱"]
    assert result == [0, 1, 1, 0, 1, 0, 0, 1]


def test_offsets_of_different_sentences_are_not_compared():
    # 京 ends at byte 3 of its sentence, 我 begins at byte 3 of its own.
    assert continuations("京", "   我") == (["京", "我"], [0, 0])


def test_an_ideograph_that_is_not_in_the_vocabulary_is_one_still():
    # 龘 is [UNK], as "abc" is, which has its three bytes.
    pieces, result = continuations("龘京 京龘 abc京 京abc")
    assert pieces == ["[UNK]", "京"] + ["京", "[UNK]"] + ["[UNK]", "京"] + ["京", "[UNK]"]
    assert result == [0, 1, 0, 1, 0, 0, 0, 0]


def test_characters_of_four_bytes_at_the_end():
    pieces, result = continuations("京𠀀𠀀")
    assert pieces == ["京", "𠀀", "𠀀"]
    assert result == [0, 1, 1]


def test_no_piece_at_all():
    assert continuations("", " ") == ([], [])


# From the comments on Unicode blocks in Google's `_is_chinese_char`.
BLOCKS = [
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
]


# Of their bytes, U+104E00 has the lower bits in common with U+4E00.
CODE_POINTS = sorted({c + d for block in BLOCKS for c in block for d in (-1, 0, 1)} | {0x104E00})


@pytest.mark.parametrize("code_point", CODE_POINTS)
def test_the_blocks_of_ideographs_are_google_s(code_point):
    character = chr(code_point)
    size = len(character.encode())
    ids = np.array([VOCABULARY.unk_id] * 2)
    starts, ends = np.array([0, size]), np.array([size, 2 * size])
    result = find_continuations([2 * character], ids, starts, ends, np.array([0, 2]), IS_SUFFIX)
    assert result[1] == any(first <= code_point <= last for first, last in BLOCKS)
