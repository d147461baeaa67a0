"""Where pieces stand: `BertTokenizer.tokenize_with_offsets`."""

import functools
import unicodedata

import pytest
import reference_tokenizer as reference
import tensorflow as tf
from hypothesis import given, settings, strategies

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import SPECIAL_TOKENS, Vocabulary

from adversarial_texts import (
    ADDED_TOKENS,
    fragments,
    letter_vocabulary,
    odd_texts,
    random_texts,
    texts,
)

CASES = [(True, True), (False, False), (True, False), (False, True)]
PIECES = [
    *SPECIAL_TOKENS,
    *("the", "cafe", "##s", "日", "本", "ο", "##ς", "##σ", "ᄒ", "##ᅡ", "##ᆫ", "[E1]", "##\u0301"),
]
ACCENTS = "".join(char for char in map(chr, range(0x110000)) if unicodedata.category(char) == "Mn")


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(Vocabulary(PIECES))


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


def test_marks_that_are_kept_have_a_place_of_their_own():
    tokenizer = BertTokenizer(Vocabulary(PIECES), lower_case=True, strip_accents=False)
    assert spans(tokenizer, "CAFE\u0301\u200b\u0301") == (
        [("cafe", 0, 4), ("##\u0301", 4, 6), ("##\u0301", 9, 11)]
    )


def test_an_unknown_unit_is_an_input_error(tokenizer):
    with pytest.raises(InputError, match="unit must be 'byte' or 'char'. Received: 'word'"):
        tokenizer.tokenize_with_offsets("the", "word")


def test_shapes_follow_the_text(tokenizer):
    ids, starts, ends = tokenizer.tokenize_with_offsets([["the", ""], ["cafe", " the the"]])
    assert ids.to_list() == [[[5], []], [[6], [5, 5]]]
    assert starts.to_list() == [[[0], []], [[0], [1, 5]]]
    assert ends.to_list() == [[[3], []], [[4], [4, 8]]]
    assert {ids.dtype, starts.dtype, ends.dtype} == {tf.int32}


@functools.cache
def tokenizer_of_fragments(lower_case: bool, strip_accents: bool, with_tokens: bool):
    tokens = ADDED_TOKENS if with_tokens else ()
    # Of every fifth text the letters are left out, so that some words are unknown.
    known = [text for number, text in enumerate(fragments()) if number % 5]
    vocabulary = letter_vocabulary(known, lower_case, strip_accents, tokens)
    return BertTokenizer(vocabulary, lower_case, strip_accents, tokens)


@pytest.mark.parametrize("lower_case, strip_accents", CASES)
def test_every_fragment_and_odd_text_keeps_the_property(lower_case, strip_accents):
    tokenizer = tokenizer_of_fragments(lower_case, strip_accents, with_tokens=True)
    assert check_offsets(tokenizer, [*fragments(), *odd_texts()[:90]]) > 3000


@pytest.mark.parametrize(
    "lower_case, strip_accents, with_tokens",
    [
        (*case, with_tokens)
        for case, with_tokens in zip(CASES, [True, False, False, True], strict=True)
    ],
)
@settings(derandomize=True, max_examples=25, deadline=None)
@given(texts=strategies.lists(texts(), min_size=1, max_size=12))
def test_fragments_beside_one_another_keep_the_property(
    lower_case, strip_accents, with_tokens, texts
):
    check_offsets(tokenizer_of_fragments(lower_case, strip_accents, with_tokens), texts)


@pytest.mark.parametrize("lower_case, strip_accents", CASES)
def test_random_texts_keep_the_property(lower_case, strip_accents):
    texts = random_texts(2000)
    vocabulary = letter_vocabulary(texts[::2], lower_case, strip_accents)
    tokenizer = BertTokenizer(vocabulary, lower_case, strip_accents)
    assert check_offsets(tokenizer, texts) > 10_000


def check_offsets(tokenizer: BertTokenizer, texts: list[bytes]) -> int:
    """Holds the offsets of all pieces to the text; returns how many there are.

    1. The ids are those that come without offsets.
    2. Offsets are in the text, where characters begin and end, and in order. Two pieces share
       characters only where one character gives the letters of both.
    3. Offsets in bytes and in characters are of the same place.
    4. The text there is the added token itself. Of other pieces it is, normalized, the piece
       without "##", for [UNK] a word. Of a piece that has only some of the letters of a character
       at its start or end it has the others, too. A sigma may have its other small form, and (4)
       is not asked of texts in which decomposition changes the order of what is kept.
    """
    plain, by_byte, by_char = compiled(tokenizer)(tf.constant(texts))
    assert by_byte[0].to_list() == plain.to_list()
    assert by_char[0].to_list() == plain.to_list()
    columns = [values.to_list() for values in (*by_byte, *by_char[1:])]
    checked = 0
    for text, *row in zip(texts, *columns, strict=True):
        chars = text.decode("utf-8", "surrogateescape")
        sizes = [len(char.encode("utf-8", "surrogateescape")) for char in chars]
        is_valid = [not 0xDC80 <= ord(char) <= 0xDCFF for char in chars]
        # For each byte that begins a valid character or is behind one, the characters before it.
        char_starts, char_ends, place, count = {}, {}, 0, 0
        for size, valid in zip(sizes, is_valid, strict=True):
            if valid:
                char_starts[place] = count
                count += 1
                char_ends[place + size] = count
            place += size
        in_order = keeps_order(text, tokenizer)
        last_start = last_end = 0
        for index, start, end, char_start, char_end in zip(*row, strict=True):
            assert 0 <= start < end <= len(text)
            assert start in char_starts and end in char_ends, text
            assert (char_starts[start], char_ends[end]) == (char_start, char_end), text
            piece = tokenizer.vocabulary.pieces[index]
            if in_order:
                assert last_start <= start and last_end <= end, text
                check_piece(tokenizer, piece, text[start:end])
                if start < last_end:
                    assert gives_letters(text[start:last_end], tokenizer), text
            last_start, last_end = start, end
            checked += 1
    return checked


@functools.cache
def compiled(tokenizer: BertTokenizer):
    return tf.function(
        lambda texts: (
            tokenizer(texts),
            tokenizer.tokenize_with_offsets(texts),
            tokenizer.tokenize_with_offsets(texts, "char"),
        ),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


def check_piece(tokenizer: BertTokenizer, piece: str, covered: bytes) -> None:
    if piece in tokenizer.added_tokens and covered == piece.encode():
        return
    options = (tokenizer.lower_case, tokenizer.strip_accents)
    folded = without_final_sigma(reference.normalize(covered, *options))
    if piece == "[UNK]":
        words = reference.split_words(covered, *options)
        assert len(words) == 1
        assert reference.cut_word(words[0], tokenizer.vocabulary.ids) == ["[UNK]"]
        return
    bare = without_final_sigma(piece.removeprefix("##"))
    if folded != bare:
        assert bare in folded
        chars = [char for char in reference.clean(covered) if char not in ACCENTS]
        assert any(gives_letters(char.encode(), tokenizer) for char in (chars[0], chars[-1]))


def gives_letters(covered: bytes, tokenizer: BertTokenizer) -> bool:
    """Whether this is one character (and its accents) that gives several letters."""
    options = (tokenizer.lower_case, tokenizer.strip_accents)
    base = reference.clean(covered)
    base = base.rstrip(ACCENTS) if tokenizer.strip_accents else base
    return len(base) == 1 and len(reference.normalize(base, *options)) > 1


def keeps_order(text: bytes, tokenizer: BertTokenizer) -> bool:
    """Whether normalizing the whole text gives what normalizing each character gives."""
    options = (tokenizer.lower_case, tokenizer.strip_accents)
    single = "".join(reference.normalize(char, *options) for char in reference.clean(text))
    return without_final_sigma(reference.normalize(text, *options)) == without_final_sigma(single)


def without_final_sigma(text: str) -> str:
    return text.replace("ς", "σ")
