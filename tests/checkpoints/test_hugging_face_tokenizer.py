"""Tokenizers of Hugging Face's folders: BERT's are followed, and any other is refused."""

import json

import pytest

from keras_bert_tpu.checkpoints.hugging_face_tokenizer import read_tokenizer, write_tokenizer
from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.vocabulary import SPECIAL_TOKENS, Vocabulary

PIECES = [*SPECIAL_TOKENS, "a", "b", "##b", "[E1]"]


@pytest.fixture
def folder(tmp_path):
    """The files of a tokenizer with an added token, to be changed."""
    write_tokenizer(str(tmp_path), Vocabulary(PIECES), True, None, ("[E1]",), 16)
    return tmp_path


def change(file, *keys, value):
    """Sets a value within a JSON file."""
    content = json.loads(file.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    file.write_text(json.dumps(content))


def refused(folder, match):
    with pytest.raises(InputError, match=match) as error:
        read_tokenizer(str(folder))
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_each_file_alone_says_the_same(folder):
    expected = read_tokenizer(str(folder))
    assert list(expected.vocabulary.pieces) == PIECES
    assert expected[1:] == (True, None, ("[E1]",), "")
    text, fast = (folder / name for name in ("vocab.txt", "tokenizer.json"))
    content = text.read_text()
    text.unlink()
    assert read_tokenizer(str(folder)) == expected
    text.write_text(content)
    fast.unlink()
    assert read_tokenizer(str(folder)) == expected


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["model"], None, "has no model that says how words are cut"),
        (["model", "continuing_subword_prefix"], "@@", "marks pieces inside words by '@@'"),
        (["model", "unk_token"], "<unk>", "unknown words by '<unk>'"),
        (["model", "vocab"], [["a", -1.5]], "each piece of its model an id from 0 on"),
        (["model", "vocab"], {}, "each piece of its model an id from 0 on"),
        (["model", "vocab", "a"], 99, "an id from 0 on, without gaps"),
        (["model", "vocab", "a"], 6, "an id from 0 on, without gaps"),
        (["model", "vocab", "a"], "five", "an id from 0 on, without gaps"),
        (["model", "vocab", "a"], [5], "an id from 0 on, without gaps"),
        (["model", "vocab", "a"], None, "an id from 0 on, without gaps"),
        (["normalizer"], None, "normalizer None, and only BertNormalizer"),
        (["normalizer"], {"type": "Sequence", "normalizers": []}, "normalizer 'Sequence'"),
        (["normalizer", "type"], "NFKC", "normalizer 'NFKC', and only BertNormalizer"),
        (["normalizer", "clean_text"], False, "sets clean_text to false"),
        (["normalizer", "lowercase"], "yes", "do_lower_case .* must be true or false.*'yes'"),
        (["normalizer", "handle_chinese_chars"], False, "tokenize_chinese_chars=False"),
        (["pre_tokenizer"], {"type": "Whitespace"}, "pre_tokenizer 'Whitespace', and only Bert"),
        (["pre_tokenizer"], None, "pre_tokenizer None, and only BertPreTokenizer"),
        (["added_tokens"], {"a": 1}, "added tokens of the tokenizer are not as they should be"),
        (["added_tokens", 5, "id"], "8", "id no whole number"),
        (["added_tokens", 5, "id"], 10**30, "the added token '.E1.' has the id 10{30}"),
        (["added_tokens", 5, "id"], -1, "the added token '.E1.' has the id -1"),
        (["added_tokens", 5, "content"], "[E2]", "the added token '.E2.' has the id 8"),
        (["added_tokens", 5, "lstrip"], True, "'.E1.' sets lstrip, which cannot be followed"),
        (["added_tokens", 5, "single_word"], True, "'.E1.' sets single_word"),
    ],
)
def test_a_tokenizer_that_is_not_berts_is_refused(folder, keys, value, message):
    # What tokenizer_config.json says goes before.
    (folder / "tokenizer_config.json").unlink()
    change(folder / "tokenizer.json", *keys, value=value)
    refused(folder, message)


@pytest.mark.parametrize("kind", ["BPE", "Unigram"])
def test_another_kind_of_tokenizer_is_told_and_the_model_goes_without(folder, kind):
    change(folder / "tokenizer.json", "model", "type", value=kind)
    change(folder / "tokenizer.json", "normalizer", value=None)
    found = read_tokenizer(str(folder))
    assert found.vocabulary is None and found.added_tokens == ()
    assert f"model of type '{kind}', and only WordPiece" in found.refusal


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["do_lower_case"], 1, "do_lower_case of the tokenizer must be true or false. Received: 1"),
        (["strip_accents"], "no", "strip_accents of the tokenizer must be true or false"),
        (["do_basic_tokenize"], False, "do_basic_tokenize=False, and only the rules of BERT's"),
        (["tokenize_chinese_chars"], False, "tokenize_chinese_chars=False, and only the rules"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(folder, keys, value, message):
    change(folder / "tokenizer_config.json", *keys, value=value)
    refused(folder, message)


@pytest.mark.parametrize("value", [[], {"x": {"content": "[E1]"}}, {"8": "[E1]"}, {"8": {}}])
def test_added_tokens_of_the_settings_that_are_damaged_are_told(folder, value):
    (folder / "tokenizer.json").unlink()
    change(folder / "tokenizer_config.json", "added_tokens_decoder", value=value or [1])
    refused(folder, "added tokens of the tokenizer are not as they should be")


def test_added_tokens_of_a_file_of_their_own_are_appended(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "added_tokens.json").write_text('{"[E2]": 9}')
    assert read_tokenizer(str(folder)).added_tokens == ("[E2]",)
    assert read_tokenizer(str(folder)).vocabulary.pieces[9] == "[E2]"
    (folder / "added_tokens.json").write_text('{"[E2]": 11}')
    refused(folder, "'.E2.' has the id 11, at which the vocabulary of 9 pieces has no such piece")


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (
            [*PIECES[:5], "b", "a", *PIECES[7:]],
            "id 5 is 'b' in vocab.txt and 'a' in tokenizer.json",
        ),
        ([*PIECES, "c"], "id 9 is 'c' in vocab.txt and None in tokenizer.json"),
    ],
)
def test_files_of_two_vocabularies_are_refused(folder, pieces, message):
    Vocabulary(pieces).save(str(folder / "vocab.txt"))
    refused(folder, message)


def test_a_vocabulary_without_the_added_tokens_of_the_other_file_is_the_same(folder):
    expected = read_tokenizer(str(folder))
    Vocabulary(PIECES[:-1]).save(str(folder / "vocab.txt"))
    assert read_tokenizer(str(folder)) == expected
