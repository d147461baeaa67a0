import gzip
import json
import os
import shutil
import sys
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.corpora import (
    Corpus,
    find_corpora,
    fingerprint,
    format_of,
    read_documents,
    read_texts,
)


def write(path, text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return str(path)


def read(path: str, input_format: str = "auto", text_field: str = "text") -> list[list[str]]:
    return list(read_documents(Corpus(path, (path,)), input_format, text_field))


# Finding.


@pytest.fixture
def folder(tmp_path):
    for name in ("b.txt", "a.txt", "c.txt.gz"):
        write(tmp_path / name, "A sentence.\n")
    return str(tmp_path)


def test_without_weights_all_files_are_one_corpus_sorted_and_each_once(folder):
    (corpus,) = find_corpora(f"{folder}/c*, {folder}/*.txt,{folder}/a.txt")
    assert corpus == Corpus(
        f"{folder}/c*,{folder}/*.txt,{folder}/a.txt",
        (f"{folder}/a.txt", f"{folder}/b.txt", f"{folder}/c.txt.gz"),
    )
    assert find_corpora([f"{folder}/c*", f"{folder}/*.txt,{folder}/a.txt"]) == (corpus,)


def test_with_weights_each_entry_is_a_corpus_in_the_order_given(folder):
    corpora = find_corpora(
        [f"{folder}/c*,{folder}/b.txt", f"{folder}/a.txt"], ["some/set@test"], [2, 0.5, 1, 3]
    )
    assert [(corpus.name, corpus.files, corpus.weight) for corpus in corpora] == [
        (f"{folder}/c*", (f"{folder}/c.txt.gz",), 2.0),
        (f"{folder}/b.txt", (f"{folder}/b.txt",), 0.5),
        (f"{folder}/a.txt", (f"{folder}/a.txt",), 1.0),
        ("some/set@test", (), 3.0),
    ]


def test_data_sets_come_after_the_files_with_split_and_folder(folder):
    names = ["wikipedia/20230601.en:1.0.0", "c4@train[:1%]"]
    files, wikipedia, c4 = find_corpora(f"{folder}/*.txt", names, data_dir="gs://b/tfds")
    assert len(files.files) == 2 and not files.tfds
    assert wikipedia.name == "wikipedia/20230601.en:1.0.0"
    assert wikipedia.tfds == "wikipedia/20230601.en:1.0.0@train"
    assert c4.tfds == "c4@train[:1%]"
    assert wikipedia.data_dir == c4.data_dir == "gs://b/tfds"
    assert find_corpora(None, names)[1].tfds == c4.tfds


@pytest.mark.parametrize("input", [None, "", " , ", []])
def test_naming_nothing_is_an_input_error(input):
    with pytest.raises(InputError, match="No corpus is named"):
        find_corpora(input)


@pytest.mark.parametrize("weights", [[1], [1, 2, 3]])
def test_weights_must_be_as_many_as_corpora(folder, weights):
    with pytest.raises(InputError, match=rf"{len(weights)} weights for 2 corpora \('.*a.txt', '"):
        find_corpora(f"{folder}/a.txt,{folder}/b.txt", (), weights)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_must_be_positive_numbers(folder, weight):
    with pytest.raises(InputError, match=r"greater than 0.*b\.txt'"):
        find_corpora(f"{folder}/a.txt,{folder}/b.txt", (), [1, weight])


def test_a_file_or_data_set_is_in_one_corpus_only(folder):
    with pytest.raises(InputError, match=r"b\.txt' is in two corpora, '.*/b\.txt' and '.*/\*\.txt"):
        find_corpora(f"{folder}/b.txt,{folder}/*.txt", (), [1, 2])
    with pytest.raises(InputError, match="'c4@train' is in two corpora, 'c4' and 'c4@train'"):
        find_corpora(None, ["c4", "c4@train"])
    assert len(find_corpora(None, ["c4@train", "c4@test"])) == 2


@pytest.mark.parametrize("name", ["", "@train", "c4@"])
def test_the_name_of_a_data_set_has_its_parts(name):
    with pytest.raises(InputError, match=r"NAME\[/CONFIG\]\[:VERSION\]\[@SPLIT\]"):
        find_corpora(None, [name])


def test_a_pattern_without_a_match_is_named(folder):
    with pytest.raises(InputError, match="No file matches"):
        find_corpora(f"{folder}/*.txt,{folder}/*.csv", (), [1, 1])


# Files.


def test_sentences_are_lines_and_blank_lines_end_documents(tmp_path):
    text = "\n\n One. Still one. \nTwo\r\n \t\nThree\n\n\n"
    path = write(tmp_path / "a.txt", text)
    assert read(path) == read(path, "sentences") == [["One. Still one.", "Two"], ["Three"]]


def test_a_document_never_spans_files_and_files_are_read_in_order(tmp_path):
    paths = [write(tmp_path / "a.txt", "one\ntwo"), write(tmp_path / "b.txt.gz", "three\n\nfour")]
    (corpus,) = find_corpora(f"{tmp_path}/b*,{tmp_path}/a*")
    assert corpus.files == tuple(paths)
    assert list(read_documents(corpus)) == [["one", "two"], ["three"], ["four"]]


def test_a_document_on_a_line_is_split_into_sentences(tmp_path):
    text = "Mr. Hall came. He left.\n\nOne only\n \n他来了。我走了。\u2028Two.\n"
    path = write(tmp_path / "a.txt.gz", text)
    assert read(path, "documents") == [
        ["Mr. Hall came.", "He left."],
        ["One only"],
        ["他来了。", "我走了。", "Two."],
    ]


def test_json_texts_are_split_into_paragraphs_and_sentences(tmp_path):
    values = [
        {"id": 1, "text": "A title\n\nMr. Hall came. He left.\r\nThe end"},
        {"text": " \n "},
        {"text": "Zwei: \u00e4\u65e5", "meta": {"text": "not this"}},
    ]
    lines = "\n".join(map(json.dumps, values)) + "\n\n"
    expected = [["A title", "Mr. Hall came.", "He left.", "The end"], ["Zwei: ä日"]]
    assert read(write(tmp_path / "a.txt", lines), "jsonl") == expected
    for name in ("a.jsonl", "a.jsonl.gz", "a.json", "a.ndjson.gz", "A.JSONL"):
        assert read(write(tmp_path / name, lines)) == expected


def test_the_field_of_the_text_is_named_and_may_be_nested(tmp_path):
    lines = '{"page": {"body": "In.", "n": 1}, "a/b": "Out."}\n'
    path = write(tmp_path / "a.jsonl", lines)
    assert read(path, text_field="page/body") == [["In."]]
    assert read(path, text_field="a/b") == [["Out."]]


def test_what_is_no_utf_8_is_left_out(tmp_path):
    bad = b"caf\xc3\xa9 \xff\xfeau\xc3 lait"
    assert read(write(tmp_path / "a.txt", bad)) == [["café au lait"]]
    assert read(write(tmp_path / "b.txt", bad), "documents") == [["café au lait"]]
    escaped = b'{"text": "a \\ud83d b \\ud83d\\ude00 ' + bad + b'"}'
    ((sentence,),) = read(write(tmp_path / "a.jsonl", escaped))
    assert sentence == "a  b 😀 café au lait"
    assert sentence.encode("utf-8")


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", r"Line 3 of '.*a\.jsonl' is not JSON \(.*\); each line must be one JSON object"),
        ("plain text", "Line 3 of .* is not JSON"),
        ("[" * 100_000, "Line 3 of .* is not JSON"),
        ("[1]", "Line 3 of .* is not a JSON object but a list"),
        ('"x"', "Line 3 of .* is not a JSON object but a string"),
        ("{}", "Line 3 of .* has no field 'text'; .* Its fields are: none"),
        ('{"body": "x", "id": 1}', "has no field 'text'; .* text_field. Its fields are: body, id"),
        ('{"text": null}', "Line 3 of .* has null, not a string, in its field 'text'"),
        ('{"text": 5, "b": 1}', "has a number, not a string, in its field 'text'; .*: text, b"),
        ('{"text": ["x"]}', "has a list, not a string"),
    ],
)
def test_a_bad_line_of_json_is_named(tmp_path, line, message):
    path = write(tmp_path / "a.jsonl", '{"text": "One."}\n\n' + line + "\n")
    documents = read_documents(Corpus(path, (path,)))
    assert next(documents) == ["One."]
    with pytest.raises(InputError, match=message):
        next(documents)


def test_an_error_names_some_fields_of_many(tmp_path):
    path = write(tmp_path / "a.jsonl", json.dumps({f"f{i}": i for i in range(1000)}))
    with pytest.raises(InputError, match=r"f0, f1, .*f19, \.\.\.\.$"):
        read(path)


@pytest.mark.parametrize(
    "path, expected",
    [
        ("gs://b/a.jsonl", "jsonl"),
        ("a.json.gz", "jsonl"),
        ("A.NDJSON.GZ", "jsonl"),
        ("a.json.txt", "sentences"),
        ("jsonl", "sentences"),
        ("a.txt.gz", "sentences"),
    ],
)
def test_the_format_follows_from_the_name(path, expected):
    assert format_of(path) == expected


def test_an_unknown_format_is_an_input_error(tmp_path):
    path = write(tmp_path / "a.txt", "One.")
    with pytest.raises(InputError, match="input_format must be one of auto, .* Received: 'csv'"):
        read(path, "csv")


def test_all_formats_are_read_through_other_file_systems():
    # TensorFlow's own file system in memory, reached as gs:// is, by its scheme.
    folder = "ram://test_corpora"
    for name, data in [
        ("a.txt", b"one\ntwo\n\nthree\n"),
        ("b.txt.gz", gzip.compress(b"four\n")),
        ("c.jsonl.gz", gzip.compress(b'{"text": "Five. Six."}\n')),
    ]:
        with tf.io.gfile.GFile(f"{folder}/{name}", "wb") as file:
            file.write(data)
    (corpus,) = find_corpora(f"{folder}/*.txt,{folder}/*.gz")
    documents = [["one", "two"], ["three"], ["four"], ["Five.", "Six."]]
    assert list(read_documents(corpus)) == documents
    assert [facts["path"] for facts in fingerprint(corpus)["files"]] == list(corpus.files)


@pytest.mark.parametrize("input_format", ["sentences", "documents", "jsonl"])
def test_memory_is_bounded_by_the_document(tmp_path, input_format):
    text = "a word and " * 2000
    body = json.dumps({"text": text}) if input_format == "jsonl" else text
    path = write(tmp_path / "a.gz", (body + "\n\n") * 1000)
    tracemalloc.start()
    count = sum(1 for _ in read_documents(Corpus(path, (path,)), input_format))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 1000
    assert peak < 8 << 20  # The text is 22 MB.


def test_the_fingerprint_tells_a_changed_file(tmp_path):
    path = write(tmp_path / "a.txt", "One.")
    os.utime(path, ns=(0, 10**18))
    write(tmp_path / "b.txt", "Two.")
    (corpus,) = find_corpora(f"{tmp_path}/*.txt")
    before = fingerprint(corpus)
    assert json.loads(json.dumps(before)) == before == fingerprint(corpus)
    assert before["files"][0] == {"path": path, "bytes": 4, "modified_ns": 10**18}
    os.utime(path, ns=(0, 10**18 + 10**9))
    assert fingerprint(corpus) != before
    write(tmp_path / "a.txt", "One")
    os.utime(path, ns=(0, 10**18))
    assert fingerprint(corpus)["files"][0]["bytes"] == 3
    os.remove(path)
    with pytest.raises(InputError, match="There is no file"):
        fingerprint(corpus)


def test_texts_come_as_they_stand(tmp_path):
    write(tmp_path / "a.txt", "One. Two.\n\nThree\n")
    write(tmp_path / "b.jsonl.gz", '{"body": "Four. Five.\\nSix"}\n{"body": "Seven"}\n')
    corpora = find_corpora([f"{tmp_path}/a.txt", f"{tmp_path}/b.jsonl.gz"], weights=[1, 3])
    assert list(read_texts(corpora, text_field="body")) == [
        b"One. Two.",
        b"",
        b"Three",
        b"Four. Five.\nSix",
        b"Seven",
    ]


# Data sets of tensorflow-datasets.


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Folder with a small data set, and the code of one that cannot be downloaded."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class TinyPages(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.3")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="en"), tfds.core.BuilderConfig(name="away")]

        def _info(self):
            features = {
                "text": tfds.features.Text(),
                "page": {"body": tfds.features.Text(), "number": tf.int64},
                "many": tfds.features.Sequence(tfds.features.Text()),
                "picture": tfds.features.Image(shape=(2, 2, 3)),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            if self.builder_config.name == "away":
                raise OSError("no route to host\nand more")
            return {"train": self._generate_examples(100), "test": self._generate_examples(4)}

        def _generate_examples(self, count):
            for number in range(count):
                yield (
                    number,
                    {
                        "text": f"Title {number}\n\nMr. Hall came. He left {number}.".encode()
                        + b" \xff",
                        "page": {"body": f"Body {number}.", "number": number},
                        "many": ["x"],
                        "picture": np.zeros((2, 2, 3), np.uint8),
                    },
                )

    folder = str(tmp_path_factory.mktemp("tfds"))
    config = tfds.download.DownloadConfig(num_shards=4)
    TinyPages(config="en", data_dir=folder).download_and_prepare(download_config=config)
    return folder


def test_a_data_set_is_read_in_the_order_of_its_files(data_dir):
    import tensorflow_datasets as tfds

    (corpus,) = find_corpora(None, ["tiny_pages/en"], data_dir=data_dir)
    documents = list(read_documents(corpus))
    assert sorted(documents) == sorted(
        [f"Title {number}", "Mr. Hall came.", f"He left {number}."] for number in range(100)
    )
    expected = []
    for path in sorted(tf.io.gfile.glob(f"{data_dir}/tiny_pages/en/1.2.3/*train*tfrecord*")):
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            expected.append(features["page/number"].int64_list.value[0])
    assert [int(document[0].split()[1]) for document in documents] == expected
    assert list(read_documents(corpus)) == documents
    assert len(tfds.builder("tiny_pages/en", data_dir=data_dir).info.splits["train"].filenames) == 4


def test_texts_of_a_data_set_come_as_they_stand(data_dir):
    corpora = find_corpora(None, ["tiny_pages@test"], data_dir=data_dir)
    texts = list(read_texts(corpora))
    assert len(texts) == 4 and all(b"\n\nMr. Hall came. He left" in text for text in texts)


def test_version_split_and_slice_of_a_data_set(data_dir):
    names = ["tiny_pages/en:1.2.3@test", "tiny_pages@train[:5]"]
    test, some = find_corpora(None, names, data_dir=data_dir)
    (everything,) = find_corpora(None, ["tiny_pages"], data_dir=data_dir)
    assert len(list(read_documents(test))) == 4
    assert list(read_documents(some)) == list(read_documents(everything))[:5]


def test_a_nested_text_of_a_data_set(data_dir):
    (corpus,) = find_corpora(None, ["tiny_pages/en@test"], data_dir=data_dir)
    bodies = sorted(read_documents(corpus, text_field="page/body"))
    assert bodies == [[f"Body {number}."] for number in range(4)]


@pytest.mark.parametrize("field", ["body", "page", "many", "page/number", "picture"])
def test_what_is_no_text_of_a_data_set_is_an_input_error(data_dir, field):
    (corpus,) = find_corpora(None, ["tiny_pages/en"], data_dir=data_dir)
    message = rf"tiny_pages/en/1\.2\.3' has no text '{field}'; .* texts are: page/body, text"
    with pytest.raises(InputError, match=message):
        next(read_documents(corpus, text_field=field))


def test_a_data_set_is_found_by_the_variable(data_dir, monkeypatch, tmp_path):
    (corpus,) = find_corpora(None, ["tiny_pages/en@test"])
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    assert len(list(read_documents(corpus))) == 4
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (elsewhere,) = find_corpora(None, ["tiny_pages/en@test"], data_dir=data_dir)
    assert len(list(read_documents(elsewhere))) == 4
    assert not os.listdir(tmp_path)  # Where it would have been prepared anew.


def test_the_fingerprint_of_a_data_set(data_dir):
    corpora = find_corpora(None, ["tiny_pages", "tiny_pages@train[:5]"], data_dir=data_dir)
    assert [fingerprint(corpus) for corpus in corpora] == [
        {"tfds": "tiny_pages/en/1.2.3", "split": "train", "examples": 100},
        {"tfds": "tiny_pages/en/1.2.3", "split": "train[:5]", "examples": 5},
    ]


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "none_such",
            r"cannot load 'none_such' \(.*not found\); it was looked for in {data_dir}; ",
        ),
        ("tiny_pages/en:9.9.9", r"cannot load 'tiny_pages/en:9.9.9' \(.*9.9.9"),
        ("no name", r"cannot load 'no name' \("),
        ("tiny_pages/away", r"'tiny_pages/away' is not prepared, .* failed \(no route to host\); "),
        (
            "tiny_pages/away",
            r"in {data_dir}; another .* --tfds_folder or .* TFDS_DATA_DIR\.$",
        ),
        ("tiny_pages@dev", r"has no split 'dev'; it has (train, test|test, train), and slices"),
        ("tiny_pages@train[:x]", r"has no split 'train\[:x\]'; it has"),
    ],
)
def test_a_data_set_that_cannot_be_had_is_an_input_error(data_dir, name, message):
    (corpus,) = find_corpora(None, [name], data_dir=data_dir)
    for act in (fingerprint, lambda corpus: next(read_documents(corpus))):
        with pytest.raises(InputError, match=message.format(data_dir=data_dir)) as caught:
            act(corpus)
        assert "\n" not in str(caught.value)


def test_a_damaged_data_set_is_named(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "sets")
    (path, *_) = sorted((tmp_path / "sets" / "tiny_pages" / "en" / "1.2.3").glob("*train*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (corpus,) = find_corpora(None, ["tiny_pages"], data_dir=str(tmp_path / "sets"))
    with pytest.raises(InputError, match="'tiny_pages' cannot be read to its end .*corrupted"):
        list(read_documents(corpus))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    (corpus,) = find_corpora(None, ["c4"])
    with pytest.raises(InputError, match="pip install tensorflow-datasets"):
        fingerprint(corpus)
