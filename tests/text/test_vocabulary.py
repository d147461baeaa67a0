import gzip
import hashlib

import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.coverage import measure_coverage
from keras_bert_tpu.text.normalizer import WordSplitter
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import (
    SPECIAL_TOKENS,
    Vocabulary,
    WordCounts,
    count_words,
    learn_from_counts,
    learn_vocabulary,
)

PIECES = ("[PAD]", "the", "[UNK]", "[CLS]", "##s", "[SEP]", "[MASK]", "日")


def write(path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_ids_are_line_numbers(tmp_path):
    path = write(tmp_path / "vocab.txt", "\n".join(PIECES).encode() + b"\n")
    vocabulary = Vocabulary.load(path)
    assert vocabulary.pieces == PIECES
    assert len(vocabulary) == 8
    assert dict(vocabulary.ids) == {piece: index for index, piece in enumerate(PIECES)}
    assert (vocabulary.pad_id, vocabulary.unk_id, vocabulary.cls_id) == (0, 2, 3)
    assert (vocabulary.sep_id, vocabulary.mask_id) == (5, 6)
    assert vocabulary.special_ids == (0, 2, 3, 5, 6)


def test_the_hash_does_not_depend_on_line_ends(tmp_path):
    expected = hashlib.sha256("\n".join(PIECES).encode()).hexdigest()
    for end in ("\n", "\r\n", " \r\n"):
        data = end.join(PIECES).encode()
        for suffix in (b"", end.encode()):
            vocabulary = Vocabulary.load(write(tmp_path / "vocab.txt", data + suffix))
            assert vocabulary.sha256 == expected
            assert vocabulary == Vocabulary(PIECES)
    assert Vocabulary((*PIECES, "x")).sha256 != expected
    assert Vocabulary((*PIECES, "x")) != Vocabulary(PIECES)


def test_saved_is_loaded_again_byte_for_byte(tmp_path):
    path = str(tmp_path / "new" / "vocab.txt")
    Vocabulary(PIECES).save(path)
    assert Vocabulary.load(path) == Vocabulary(PIECES)
    assert (tmp_path / "new" / "vocab.txt").read_bytes() == ("\n".join(PIECES) + "\n").encode()


def test_it_cannot_be_changed():
    vocabulary = Vocabulary(list(PIECES))
    with pytest.raises(TypeError):
        vocabulary.ids["new"] = 8
    with pytest.raises(AttributeError):
        vocabulary.pieces = ()


@pytest.mark.parametrize("missing", SPECIAL_TOKENS)
def test_a_missing_special_token_is_named(tmp_path, missing):
    pieces = [piece for piece in PIECES if piece != missing]
    path = write(tmp_path / "vocab.txt", "\n".join(pieces).encode())
    with pytest.raises(InputError) as error:
        Vocabulary.load(path)
    assert f"The special token {missing} is missing in {path}" in str(error.value)


def test_a_piece_that_stands_twice_is_named_with_its_lines(tmp_path):
    path = write(tmp_path / "vocab.txt", "\n".join([*PIECES, "x", "the"]).encode())
    with pytest.raises(InputError, match="'the' stands twice in .*, on lines 2 and 10"):
        Vocabulary.load(path)


def test_an_empty_line_and_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path):
    path = write(tmp_path / "vocab.txt", b"[PAD]\n\n[UNK]\n")
    with pytest.raises(InputError, match="Line 2 of .* must hold one piece"):
        Vocabulary.load(path)
    path = write(tmp_path / "vocab.txt", b"[PAD]\nx\n\xff\n")
    with pytest.raises(InputError, match="Line 3 of .* is not UTF-8"):
        Vocabulary.load(path)
    with pytest.raises(InputError, match="Line 1 of the vocabulary must hold one piece"):
        Vocabulary(["two\nlines", *PIECES])


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        Vocabulary.load(str(tmp_path / "vocab.txt"))


def test_words_are_those_of_the_tokenizer():
    lines = ["Das Café, don't!", "", "日本 x\u00adyz\u00a0A\u0301".encode()]
    lines = [line if isinstance(line, bytes) else line.encode() for line in lines]
    words = [word.decode() for word in WordSplitter(True).words(lines)]
    assert words == ["das", "cafe", ",", "don", "'", "t", "!", "日", "本", "xyz", "a"]
    words = [word.decode() for word in WordSplitter(False).words(lines)]
    assert words[:2] + words[-1:] == ["Das", "Café", "A\u0301"]
    assert WordSplitter(True).words([]) == []


def test_words_are_counted_over_files_and_datasets_alike(tmp_path):
    write(tmp_path / "a.txt", b"The cat. the\n\ndog\n")
    write(tmp_path / "b.txt.gz", gzip.compress(b"cat\r\nTHE end"))
    counts = {"the": 3, "cat": 2, ".": 1, "dog": 1, "end": 1}
    found = count_words(str(tmp_path / "*"), progress=False)
    assert (found.lines, dict(found.counts), found.words) == (5, counts, 8)
    lines = ["The cat. the", "", "dog", "cat", "THE end"]
    dataset = tf.data.Dataset.from_tensor_slices(lines)
    assert count_words(dataset, progress=False) == found
    assert count_words(dataset.batch(2), progress=False) == found
    accents = tf.data.Dataset.from_tensors("Été")
    for options, word in [
        ({}, "ete"),
        ({"strip_accents": False}, "été"),
        ({"lower_case": False}, "Été"),
        ({"lower_case": False, "strip_accents": True}, "Ete"),
    ]:
        assert dict(count_words(accents, progress=False, **options).counts) == {word: 1}
    cased = count_words(dataset, lower_case=False, progress=False)
    assert {"The": 1, "the": 1, "THE": 1}.items() <= cased.counts.items()


def test_no_file_and_no_word_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="No file matches"):
        learn_vocabulary(str(tmp_path / "*.txt"), 100)
    path = write(tmp_path / "a.txt", b"\n \n\n")
    with pytest.raises(InputError, match="no word in its 3 lines"):
        learn_vocabulary(path, 100, progress=False)


def test_frequent_words_become_pieces_and_rare_ones_are_spelled():
    counts = WordCounts(1, {"walk": 50, "walking": 40, "talking": 30, "zebra": 1, ".": 60})
    vocabulary = learn_from_counts(counts, 60, progress=False)
    assert vocabulary.pieces[:5] == SPECIAL_TOKENS
    assert {"walk", "walking", "talking"} <= vocabulary.ids.keys()
    assert "zebra" not in vocabulary.ids
    letters = sorted(set("walktingzebra."))
    assert sorted(piece for piece in vocabulary.pieces if len(piece) == 1) == letters
    # Punctuation is a word of its own, and w, t and z are never inside one.
    inside = {piece[2:] for piece in vocabulary.pieces if len(piece) == 3 and piece[:2] == "##"}
    assert inside == set("alkingebr")
    tokenizer = BertTokenizer(vocabulary)
    assert tokenizer.detokenize(tokenizer("zebra walking.")).numpy() == b"zebra walking."


@pytest.mark.parametrize("vocab_size", [60, 400])
def test_the_size_is_exactly_what_was_asked_for(sample_text, vocab_size):
    counts = count_words(sample_text, progress=False)
    vocabulary = learn_from_counts(counts, vocab_size, progress=False)
    assert len(vocabulary) == vocab_size
    backwards = WordCounts(counts.lines, dict(reversed(counts.counts.items())))
    assert learn_from_counts(backwards, vocab_size, progress=False) == vocabulary


def test_a_larger_vocabulary_covers_better(sample_text):
    counts = count_words(sample_text, progress=False)
    found = [
        measure_coverage(BertTokenizer(learn_from_counts(counts, size, progress=False)), counts)
        for size in (150, 1000)
    ]
    assert [coverage.unknown_words for coverage in found] == [0.0, 0.0]
    assert found[0].whole_words < found[1].whole_words < 1
    assert found[0].pieces_per_word > found[1].pieces_per_word > 1
    assert found[1].pieces_per_word < 1.6


def test_a_text_with_too_few_pieces_gives_what_it_has():
    counts = WordCounts(2, {"one": 3, "two": 2, "once": 1})
    vocabulary = learn_from_counts(counts, 8000, progress=False)
    assert {"one", "two"} <= vocabulary.ids.keys()
    assert "once" not in vocabulary.ids
    assert len(vocabulary) < 40
    only_once = learn_from_counts(WordCounts(1, {"ab": 1, "c": 1}), 8000, progress=False)
    assert {"a", "##b", "c"} <= only_once.ids.keys()


def test_words_of_scripts_without_spaces_are_learned_however_long():
    # Words that the tokenizer makes [UNK] give nothing; shorter ones give pieces from any place.
    counts = WordCounts(1, {"ab" * 90 + "wxyz": 5, "cd" * 101: 9, "ab" * 30 + "wxyz": 3})
    vocabulary = learn_from_counts(counts, 60, progress=False)
    assert set("".join(vocabulary.pieces[5:])) == set("#abwxyz")
    assert any(len(piece) > 5 and piece.endswith("wxyz") for piece in vocabulary.pieces)
    pieces = BertTokenizer(vocabulary)("ab" * 90 + "wxyz")
    assert vocabulary.unk_id not in pieces.numpy().tolist()
    with pytest.raises(InputError, match="No word of the text has at most 200 characters"):
        learn_from_counts(WordCounts(1, {"cd" * 101: 9}), 60, progress=False)


def test_the_rarest_characters_are_left_out_of_a_small_vocabulary():
    counts = WordCounts(1, {"aa": 9, "bb": 8, "cc": 7, "dd": 1})
    vocabulary = learn_from_counts(counts, 5 + 6, progress=False)
    assert sorted(vocabulary.pieces[5:]) == ["##a", "##b", "##c", "a", "b", "c"]


@pytest.mark.parametrize("vocab_size", [-1, 0, 6])
def test_a_vocabulary_too_small_for_a_character_is_an_input_error(vocab_size):
    with pytest.raises(InputError, match=f"vocab_size must be at least 7.* {vocab_size}"):
        learn_from_counts(WordCounts(1, {"a": 2}), vocab_size, progress=False)


def test_coverage_weighs_words_by_their_counts():
    vocabulary = Vocabulary([*SPECIAL_TOKENS, "a", "b", "##b", "."])
    counts = WordCounts(1, {"a": 5, "abb": 2, "x": 1, ".": 2})
    coverage = measure_coverage(BertTokenizer(vocabulary), counts)
    assert coverage.whole_words == pytest.approx(0.7)  # a and the stop: 7 of 10 words.
    assert coverage.pieces_per_word == pytest.approx((5 + 2 * 3 + 1 + 2) / 10)
    assert coverage.unknown_words == pytest.approx(0.1)
