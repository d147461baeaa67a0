"""Files of results are there whole or not at all."""

import json

import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks.output_files import write_json, write_lines, write_table


def failing():
    """Lines of which the last cannot be had, so many that some were written before."""
    for number in range(5000):
        yield str(number)
    raise InputError("Line 5001 is wrong.")


@pytest.mark.parametrize("scheme", ["", "ram://output_files"])
def test_an_error_on_the_way_leaves_what_was_there_and_nothing_else(tmp_path, scheme):
    folder = f"{scheme}{tmp_path}/new"
    with pytest.raises(InputError, match="Line 5001 is wrong"):
        write_lines(f"{folder}/a.txt", failing())
    assert tf.io.gfile.listdir(folder) == []
    write_lines(f"{folder}/a.txt", ["one", "two"])
    with pytest.raises(InputError, match="Line 5001 is wrong"):
        write_lines(f"{folder}/a.txt", failing())
    assert tf.io.gfile.listdir(folder) == ["a.txt"]
    with tf.io.gfile.GFile(f"{folder}/a.txt") as file:
        assert file.read() == "one\ntwo\n"


def test_json_without_a_form_in_json_is_no_file(tmp_path):
    with pytest.raises(ValueError):
        write_json(str(tmp_path / "a.json"), {"loss": float("nan")})
    write_json(str(tmp_path / "b.json"), {"loss": 0.5})
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]
    assert json.loads((tmp_path / "b.json").read_text()) == {"loss": 0.5}


def test_a_place_that_cannot_be_written_to_and_a_name_of_no_format_are_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/a.csv' cannot be written: "):
        write_table(f"{tmp_path}/file/a.csv", ["id"], [[1]])
    for name, message in (("a.txt", "not known from its name"), ("a.csv.gz", "uncompressed")):
        with pytest.raises(InputError, match=message):
            write_table(str(tmp_path / name), ["id"], [[1]])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
