"""CoNLL columns in and out."""

import gzip
import logging
import pathlib

import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import ner
from keras_bert_tpu.tasks.ner import Sentence

DATA = pathlib.Path(__file__).parents[4] / "shared" / "data" / "ner"


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return str(path)


def test_sentences_end_with_blank_lines_documents_and_the_file(tmp_path):
    text = "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nsays VBZ I-VP O\n \n\nYes UH O O\r\n"
    text += "-DOCSTART- -X- O O\nNo UH O O"
    expected = [
        Sentence("0", ("EU", "says"), ("B-ORG", "O"), 3),
        Sentence("1", ("Yes",), ("O",), 7),
        Sentence("2", ("No",), ("O",), 9),
    ]
    for name in ("a.conll", "a.txt.gz"):
        assert ner.read(write(tmp_path / name, text)) == expected


def test_columns_are_chosen_by_number_and_tabs_keep_spaces(tmp_path):
    path = write(tmp_path / "a.conll", "1\tNew York\tB-LOC\tx\n2\tis\tO\ty\n")
    assert ner.read(path, token_column=1, label_column=2) == [
        Sentence("0", ("New York", "is"), ("B-LOC", "O"), 1)
    ]
    assert ner.read(path, token_column=1, label_column=None)[0].labels == ()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a O\nb O O\n", {}, "Line 2 of .* has 3 columns, and the lines before have 2"),
        ("a\tO\n\tO\n", {}, "The word in column 0 of line 2 of .* is empty"),
        ("a O\nb PER\n", {}, "The label of line 2 of .* is none. A label must be O.*'PER'"),
        ("a O\nb B-X\n", {"labels": ["O"]}, "label of line 2 of .* one of 'O'. Received: 'B-X'"),
        ("a O\n\nb I-X\n", {"scheme": "BIO"}, "'I-X' of line 3 of .* breaks the scheme BIO"),
        ("a O\n", {"label_column": 3}, "no column 3 for the label in line 1 of .*, which has 2"),
        ("a O\n", {"token_column": -3}, "no column -3 for the word in line 1"),
        (b"a O\n\xff O\n", {}, "Line 2 of .* is not UTF-8"),
        ("\n-DOCSTART- O\n", {}, "has no words"),
    ],
)
def test_lines_that_are_wrong_are_named(tmp_path, text, options, message):
    with pytest.raises(InputError, match=message):
        ner.read(write(tmp_path / "a.conll", text), **options)


def test_labels_have_the_order_of_their_names_behind_o(tmp_path):
    path = write(tmp_path / "a.conll", "a I-X\nb B-X\nc B-A\n")
    assert ner.label_names(ner.read(path)) == ("O", "B-A", "B-X", "I-X")


def test_sentences_that_break_their_scheme_are_told(caplog):
    sentences = [
        Sentence("0", ("a", "b"), ("B-X", "I-X"), 1),
        Sentence("1", ("a", "b"), ("O", "I-X"), 4),
    ]
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert ner.find_scheme(sentences[:1]) == "BIO" and not caplog.text
        assert ner.find_scheme(sentences) == "BIO"
    assert "which 1 of 2 sentences break, the first on line 5" in caplog.text


def test_predictions_are_written_as_columns_and_read_again(tmp_path):
    sentences = [
        Sentence("0", ("a", "b"), ("B-X", "O"), 1),
        Sentence("1", ("c",), ("O",), 4),
    ]
    path = str(tmp_path / "out" / "p.conll")
    ner.write_predictions(path, [["B-Y", "I-Y"], ["O"]], sentences)
    assert pathlib.Path(path).read_text() == "a\tB-X\tB-Y\nb\tO\tI-Y\n\nc\tO\tO\n\n"
    assert ner.read(path, label_column=1) == sentences
    ner.write_predictions(path, [["O"]], [Sentence("0", ("a",), (), 1)])
    assert pathlib.Path(path).read_text() == "a\tO\n\n"
    with pytest.raises(InputError, match="Received: 1 for the 2 words of sentence 0"):
        ner.write_predictions(path, [["O"], ["O"]], sentences)


def test_files_of_any_size_are_read_sentence_by_sentence(tmp_path):
    path = write(tmp_path / "a.conll", b"a O\n\n" * 300_000 + b"\xff O\n")
    found = ner.read_sentences(path)
    assert [next(found) for _ in range(2)] == [
        Sentence("0", ("a",), (), 1),
        Sentence("1", ("a",), (), 3),
    ]
    with pytest.raises(InputError, match="Line 600001 of"):
        list(found)


@pytest.mark.skipif(not DATA.exists(), reason="needs the data sets beside the checkout")
@pytest.mark.parametrize(
    ("name", "sentences", "words"),
    [
        ("wnut17/train", 3394, 62730),
        ("wnut17/dev", 1009, 15733),
        ("wikigold/train", 1200, 28192),
        ("btc/train", 5338, 85480),
    ],
)
def test_real_files_are_read_whole(name, sentences, words):
    found = ner.read(str(DATA / f"{name}.conll"))
    assert len(found) == sentences
    assert sum(len(sentence.words) for sentence in found) == words
    assert ner.find_scheme(found) == "BIO"
