"""Rows of files: formats, and what is wrong with a file, said with its line."""

import gzip
import itertools
import json

import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks.row_files import read_rows


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return str(path)


def values(path, **options):
    return [row.values for row in read_rows(path, **options)]


def test_csv_has_quotes_commas_and_line_breaks_in_values(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\r\n"one, ""two""\nthree",1\nplain \'x,0\n\n')
    assert values(path) == [
        {"text": 'one, "two"\nthree', "label": "1"},
        {"text": "plain 'x", "label": "0"},
    ]
    assert [row.place for row in read_rows(path)] == [f"line 2 of {path!r}", f"line 4 of {path!r}"]


def test_in_tsv_a_quotation_mark_is_a_character(tmp_path):
    path = write(tmp_path / "a.TSV.gz", '\ufefftext\tlabel\n"he said\t1\r\na "b" c"\t0\n')
    assert values(path) == [{"text": '"he said', "label": "1"}, {"text": 'a "b" c"', "label": "0"}]


def test_columns_of_a_file_without_header_are_given(tmp_path):
    path = write(tmp_path / "a.tsv", "gj04\t1\t\tIt rode.\n")
    assert values(path, columns=["source", "label", "mark", "sentence"]) == [
        {"source": "gj04", "label": "1", "mark": "", "sentence": "It rode."}
    ]


def test_jsonl_numbers_are_written_as_in_json(tmp_path):
    lines = [{"a": "x", "n": 1, "f": 2.5, "t": True, "z": None, "l": [1, "é"]}]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert values(path) == [{"a": "x", "n": "1", "f": "2.5", "t": "true", "z": "", "l": '[1, "é"]'}]


def test_files_on_other_file_systems_are_read():
    with tf.io.gfile.GFile("ram://row_files/a.tsv", "wb") as file:
        file.write(b"text\nhello\n")
    assert values("ram://row_files/a.tsv") == [{"text": "hello"}]


def test_only_the_rows_asked_for_are_read(tmp_path):
    path = write(tmp_path / "a.csv", b"text\n" + b"a line\n" * 500_000 + b"\xff\n")
    assert len(list(itertools.islice(read_rows(path), 3))) == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "a\tb\n1\t2\n3\n", r"Line 3 of '.*a\.tsv' has 1 columns, and 2 are expected"),
        ("a.csv", "a,b\n1,2,3\n", r"Line 2 of '.*' has 3 columns, and 2 are expected \('a', 'b'\)"),
        ("a.csv", 'a,b\n"1,2\n3,4\n', r"row that begins on line 2 of '.*' is not sound csv"),
        ("a.csv", "a,b, a\n1,2,3\n", r"column 'a' stands twice in the first line"),
        ("a.tsv", "a\tb\n1\t2\n\n3\t4\n", r"Line 3 of '.*' is blank, and rows follow"),
        ("a.tsv", b"a\tb\n1\t2\n\xe9t\xe9\t4\n", r"Line 3 of '.*' is not UTF-8 text .*0xe9"),
        ("a.tsv", "", r"is empty; its first line must name its columns"),
        ("a.jsonl", '{"a": 1}\n{"b": 1}\n', r"Line 2 of '.*' has other keys.*'a', 'b' stand in"),
        ("a.jsonl", '{"a": 1, "a": 2}\n', r"key 'a' stands twice in line 1"),
        ("a.jsonl", '{"a": 1}\n[1]\n', r"Line 2 of '.*' must be a JSON object"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', r"Line 2 of '.*' is not JSON"),
        ("a.jsonl", '{"a": "\\ud800"}\n', r"'a' in line 1 of '.*' holds half a surrogate pair"),
        ("a.jsonl", "[" * 100_000 + "\n", r"Line 1 of '.*' is not JSON"),
        ("a.txt", "a\n", r"format of '.*a\.txt' is not known from its name"),
        ("a.csv", "a\n" + "x" * 200_000 + "\n", r"line 2 of '.*' is not sound csv \(field larger"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, name, text, message):
    with pytest.raises(InputError, match=message):
        values(write(tmp_path / name, text))
