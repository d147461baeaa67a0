import bz2
import gzip
import json
import lzma
import os
import tracemalloc

import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text import files


def write(path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_globs_are_sorted_and_each_file_comes_once(tmp_path):
    for name in ("b.txt", "a.txt", "c.txt.gz"):
        write(tmp_path / name, b"")
    folder = str(tmp_path)
    expected = [f"{folder}/a.txt", f"{folder}/b.txt", f"{folder}/c.txt.gz"]
    assert files.expand_globs(f"{folder}/*.gz, {folder}/*.txt,{folder}/b*") == expected
    assert files.expand_globs([f"{folder}/*.txt", f"{folder}/c.txt.gz"]) == expected


def test_a_file_name_with_pattern_characters_is_found(tmp_path):
    path = write(tmp_path / "notes[1].txt", b"x")
    assert files.expand_globs(path) == [path]


@pytest.mark.parametrize("patterns", ["", " , ", []])
def test_no_pattern_is_an_input_error(patterns):
    with pytest.raises(InputError, match="No input files are named"):
        files.expand_globs(patterns)


def test_a_pattern_without_a_match_is_named(tmp_path):
    path = write(tmp_path / "a.txt", b"x")
    with pytest.raises(InputError, match=r"No file matches '.*/\*\.csv'"):
        files.expand_globs(f"{path},{tmp_path}/*.csv")


@pytest.mark.parametrize(
    "data, lines",
    [
        (b"", []),
        (b"\n", [b""]),
        (b"one", [b"one"]),
        (b"one\n", [b"one"]),
        (b"one\r\ntwo\r\n\r\nthree", [b"one", b"two", b"", b"three"]),
        (b"a\rb\n", [b"a\rb"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", [b"one", b"\xef\xbb\xbftwo"]),
        (b"line\xe2\x80\xa8separator\x0c\x85\n", [b"line\xe2\x80\xa8separator\x0c\x85"]),
    ],
)
def test_lines_end_at_newlines_only(tmp_path, data, lines):
    assert list(files.read_lines(write(tmp_path / "a.txt", data))) == lines
    assert list(files.read_lines(write(tmp_path / "a.txt.gz", gzip.compress(data)))) == lines


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7])
def test_lines_do_not_depend_on_where_pieces_end(tmp_path, monkeypatch, piece_bytes):
    monkeypatch.setattr(files, "_PIECE_BYTES", piece_bytes)
    data = "ein\r\nzwei öäü\n\n日本\r\n\nlast".encode()
    lines = [b"ein", "zwei öäü".encode(), b"", "日本".encode(), b"", b"last"]
    assert list(files.read_lines(write(tmp_path / "a.txt", data))) == lines
    members = b"".join(gzip.compress(data[i : i + 5]) for i in range(0, len(data), 5))
    assert list(files.read_lines(write(tmp_path / "a.txt.gz", members))) == lines
    padded = members + b"\0" * 11
    assert list(files.read_lines(write(tmp_path / "b.txt.gz", padded))) == lines


@pytest.mark.parametrize(
    ("compress", "kind"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")]
)
def test_compressed_data_does_not_pass_for_text(tmp_path, compress, kind):
    path = write(tmp_path / "a.txt", compress(b"one\ntwo\n"))
    with pytest.raises(InputError, match=f"a.txt' is not text but {kind} data"):
        list(files.read_lines(path))


def test_one_file_by_two_names_is_read_once(tmp_path, monkeypatch):
    write(tmp_path / "a.txt", b"one")
    monkeypatch.chdir(tmp_path)
    assert files.expand_globs("a.txt,./a.txt,./*.txt") == ["a.txt"]


def test_a_cut_off_gzip_file_is_named(tmp_path):
    data = gzip.compress(b"line of text\n" * 1000)
    for length in (0, 5, len(data) // 2, len(data) - 1):
        path = write(tmp_path / "cut.txt.gz", data[:length])
        with pytest.raises(InputError, match=r"cut\.txt\.gz' is cut off"):
            list(files.read_lines(path))
    path = write(tmp_path / "cut.txt.gz", data + data[:20])
    with pytest.raises(InputError, match=r"cut\.txt\.gz' is cut off"):
        list(files.read_lines(path))


def test_damaged_or_wrongly_named_gzip_is_named(tmp_path):
    path = write(tmp_path / "plain.txt.gz", b"just text\n")
    with pytest.raises(InputError, match=r"plain\.txt\.gz' ends with \.gz but is not sound gzip"):
        list(files.read_lines(path))
    data = bytearray(gzip.compress(b"line of text\n" * 1000))
    data[-6] ^= 1  # A bit of the checksum.
    path = write(tmp_path / "damaged.txt.gz", bytes(data))
    with pytest.raises(InputError, match="not sound gzip"):
        list(files.read_lines(path))


def test_a_missing_file_and_a_folder_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        list(files.read_lines(str(tmp_path / "none.txt")))
    with pytest.raises(InputError, match="cannot be read as a file"):
        list(files.read_lines(str(tmp_path)))


def test_memory_is_bounded_by_the_line_not_the_file(tmp_path):
    # 70 MB of equal lines compress 1000-fold: a reader that expands a whole piece would show here.
    path = write(tmp_path / "a.txt.gz", gzip.compress((b"a line of text " * 20 + b"\n") * 240_000))
    tracemalloc.start()
    count = sum(1 for _ in files.read_lines(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 240_000
    assert peak < 16 << 20


def test_a_suffix_in_upper_case_is_gzip_too(tmp_path):
    path = write(tmp_path / "A.TXT.GZ", gzip.compress(b"one\ntwo\n"))
    assert list(files.read_lines(path)) == [b"one", b"two"]


def test_files_are_found_and_read_through_other_file_systems(monkeypatch):
    # TensorFlow's own file system in memory, reached as gs:// is, by its scheme.
    monkeypatch.setattr(files, "_PIECE_BYTES", 7)
    folder = "ram://test_files/corpus"
    for name, data in [
        ("b.txt", b"one\r\n\ntwo"),
        ("a.txt.gz", gzip.compress(b"three\n") + gzip.compress(b"four\n")),
    ]:
        with tf.io.gfile.GFile(f"{folder}/{name}", "wb") as file:
            file.write(data)
    paths = files.expand_globs(f"{folder}/*.txt,{folder}/*.gz")
    assert paths == [f"{folder}/a.txt.gz", f"{folder}/b.txt"]
    lines = [list(files.read_lines(path)) for path in paths]
    assert lines == [[b"three", b"four"], [b"one", b"", b"two"]]
    # This file system keeps no times.
    assert files.describe_file(paths[1]) == {"path": paths[1], "bytes": 9}
    with pytest.raises(InputError, match="No file matches"):
        files.expand_globs(f"{folder}/*.csv")
    with pytest.raises(InputError, match="There is no file"):
        list(files.read_lines(f"{folder}/c.txt"))


def test_a_read_error_half_way_is_an_error_and_no_end_of_file(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PIECE_BYTES", 8)
    path = write(tmp_path / "a.txt", b"one\ntwo\nthree\nfour\n")

    class FailingFile(tf.io.gfile.GFile):
        reads = 0

        def read(self, size):
            FailingFile.reads += 1
            if FailingFile.reads == 2:
                raise tf.errors.UnavailableError(None, None, "the bucket is away")
            return super().read(size)

    monkeypatch.setattr(tf.io.gfile, "GFile", FailingFile)
    lines = files.read_lines(path)
    assert [next(lines), next(lines)] == [b"one", b"two"]
    with pytest.raises(InputError, match=r"a\.txt' cannot be read to its end: the bucket is away"):
        next(lines)


def test_a_file_is_described_by_its_length_and_time(tmp_path):
    path = write(tmp_path / "a.txt", b"one\n")
    os.utime(path, ns=(0, 1_234_567_890_000_000_000))
    facts = files.describe_file(path)
    assert facts == {"path": path, "bytes": 4, "modified_ns": 1_234_567_890_000_000_000}
    assert json.loads(json.dumps(facts)) == facts


def test_a_missing_file_and_a_folder_are_not_described(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        files.describe_file(str(tmp_path / "none.txt"))
    with pytest.raises(InputError, match=r"if it is a folder, name its files, for example /.*/\*"):
        files.describe_file(str(tmp_path))


def test_a_line_without_an_end_is_told_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MAX_LINE_BYTES", 1 << 20)
    monkeypatch.setattr(files, "_PIECE_BYTES", 1 << 14)
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(b"x\n" + b" " * (1 << 25)))
    lines = files.read_lines(path)
    assert next(lines) == b"x"
    tracemalloc.start()
    with pytest.raises(InputError, match="a.jsonl.gz' has a line of more than 1 MiB"):
        next(lines)
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()
    write(tmp_path / "b.txt", (b" " * 1000 + b"\n") * 3000)
    assert len(list(files.read_lines(str(tmp_path / "b.txt")))) == 3000
