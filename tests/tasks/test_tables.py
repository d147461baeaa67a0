"""Tables of texts and labels: columns found, labels checked, results written."""

import json

import numpy as np
import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import tables
from keras_bert_tpu.tasks.columns import TableColumns
from keras_bert_tpu.tasks.tables import TextExample


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_usual_columns_are_found_whatever_their_case_and_place(tmp_path):
    path = write(tmp_path / "a.tsv", "Label\tsentence2\tidx\tSentence1\n1\tb\t7\ta\n0\td\t8\tc\n")
    assert tables.read(path) == [
        TextExample("7", ("a", "b"), "1"),
        TextExample("8", ("c", "d"), "0"),
    ]


@pytest.mark.parametrize(
    ("header", "texts", "label"),
    [
        (["sentence", "label"], ("sentence",), "label"),
        (["premise", "hypothesis", "gold_label"], ("premise", "hypothesis"), "gold_label"),
        (["index", "question", "sentence", "label"], ("question", "sentence"), "label"),
        (["question", "category"], ("question",), "category"),
        (
            ["pair_ID", "sentence_A", "sentence_B", "relatedness_score", "entailment_judgment"],
            ("sentence_A", "sentence_B"),
            "entailment_judgment",
        ),
        (["Quality", "#1 ID", "#1 String", "#2 String"], ("#1 String", "#2 String"), "Quality"),
    ],
)
def test_columns_of_known_sets_are_found(tmp_path, header, texts, label):
    path = write(tmp_path / "a.tsv", "\t".join(header) + "\n" + "\t".join(["1"] * len(header)))
    assert len(tables.read(path)[0].texts) == len(texts)
    found = tables.find_columns(header, path, None, needs_label=True)
    assert (found.texts, found.label) == (texts, label)


def test_columns_that_are_named_are_taken(tmp_path):
    path = write(tmp_path / "a.csv", "text,title,stars,label\nlong,short,5,x\n")
    columns = TableColumns(texts=("title", "text"), label="stars")
    assert tables.read(path, columns) == [TextExample("0", ("short", "long"), "5")]
    with pytest.raises(InputError, match="no column 'titel'; its columns are 'text', 'title'"):
        tables.read(path, TableColumns(texts=("titel",)))
    with pytest.raises(InputError, match="one or two texts"):
        TableColumns(texts=("a", "b", "c"))


def test_columns_that_are_not_found_are_asked_for(tmp_path):
    path = write(tmp_path / "a.csv", "body,kind\nx,1\n")
    with pytest.raises(InputError, match="No column of .* text.*its columns are 'body', 'kind'"):
        tables.read(path)
    with pytest.raises(InputError, match="No column of .* label.*'body', 'kind'"):
        tables.read(path, TableColumns(texts=("body",)))


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ("a,1\n  ,0\n", {}, "text in column 'text' of line 3 of '.*' is empty"),
        ("a,1\nb,\n", {}, "label in column 'label' of line 3 of '.*' is empty"),
        ("a,1\nb,2\n", {"labels": ["0", "1"]}, "line 3 .* one of '0', '1'. Received: '2'"),
        ("a,1\nb,2\nc,yes\n", {}, "numbers and words: '1' in line 2 .*, 'yes' in line 4 of"),
        ("a,1\nb,2.5\n", {}, "line 3 of .* is the fraction '2.5'.*train a regression"),
        ("a,1\nb,x\n", {"regression": True}, "line 3 of .* must be a finite number. Received: 'x'"),
        ("a,1\nb,nan\n", {"regression": True}, "must be a finite number. Received: 'nan'"),
        ("a,1\nb," + "x" * 999 + "\n", {"labels": ["1"]}, "Received: 'x{80}'...; mend it"),
        ("", {}, "has no rows"),
    ],
)
def test_rows_that_are_wrong_are_named(tmp_path, rows, options, message):
    path = write(tmp_path / "a.csv", f"text,label\n{rows}")
    with pytest.raises(InputError, match=message):
        tables.read(path, **options)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (
            '"text": ["a", "b"], "label": "x"',
            {},
            r"'text' in line 1 .* Received: '\[\"a\", \"b\"\]'",
        ),
        (
            '"text": {"a": 1}, "label": "x"',
            {},
            "'text' in line 1 of .* must be a string or a number",
        ),
        ('"text": null, "label": "x"', {}, "text in column 'text' of line 1 of .* is empty"),
        ('"text": NaN, "label": "x"', {}, "text in column 'text' of line 1 of .* is empty"),
        ('"text": "a", "label": null', {}, "label in column 'label' of line 1 of .* is empty"),
        ('"text": "a", "label": NaN', {}, "label in column 'label' of line 1 of .* is empty"),
        ('"text": "a", "label": ["x"]', {}, "'label' in line 1 of .* must be a string or a number"),
        ('"text": "a", "label": {"x": 1}', {}, "'label' in line 1 of .* must be a string"),
        ('"text": "a", "label": "x", "id": [1]', {}, "'id' in line 1 of .* must be a string"),
        ('"text": ["\\ud800"], "label": "x"', {}, "'text' in line 1 of .* half a surrogate pair"),
        ('"text": "a", "label": Infinity', {"regression": True}, "must be a finite number"),
        (f'"text": "a", "label": {"9" * 4000}', {"regression": True}, "must be a finite number"),
        (f'"text": "a", "label": {"9" * 5000}', {}, "Line 1 of .* is not JSON"),
        ('"text": "a", "label": ["x", null]', {"separator": ","}, "line 1 .* a list of names"),
        ('"text": "a", "label": [["x"]]', {"separator": ","}, "line 1 .* a list of names"),
        ('"text": "a", "label": ["x", " "]', {"separator": ","}, "line 1 .* a list of names"),
        ('"text": "a", "label": {"x": 1}', {"separator": ","}, "line 1 .* a list of names"),
    ],
)
def test_values_of_jsonl_that_are_no_text_or_label_are_named(tmp_path, values, options, message):
    path = write(tmp_path / "a.jsonl", f"{{{values}}}\n")
    with pytest.raises(InputError, match=message) as error:
        tables.read(path, **options)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_column_of_mixed_values_is_read_as_json_writes_them_but_not_as_labels(tmp_path):
    lines = ['{"text": 5, "label": true}', '{"text": true, "label": false}']
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    assert tables.read(path) == [
        TextExample("0", ("5",), "true"),
        TextExample("1", ("true",), "false"),
    ]
    write(tmp_path / "a.jsonl", "\n".join([*lines, '{"text": "a", "label": 0}']))
    with pytest.raises(InputError, match="numbers and words: 'true' in line 1 .*, '0' in line 3"):
        tables.read(path)


def test_numbers_and_words_may_stand_together_if_they_are_listed(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na,1\nb,unknown\n")
    assert [e.label for e in tables.read(path, labels=["1", "unknown"])] == ["1", "unknown"]


def test_a_regression_has_numbers_for_labels(tmp_path):
    path = write(tmp_path / "a.tsv", "sentence1\tsentence2\tscore\na\tb\t3.60\nc\td\t0\n")
    assert [example.label for example in tables.read(path, regression=True)] == [3.6, 0.0]


def test_prediction_reads_row_by_row_and_needs_no_label(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n" + "a,\n" * 1000 + ",\n")
    rows = tables.read_unlabelled(path)
    assert next(rows) == TextExample("0", ("a",), None)
    with pytest.raises(InputError, match="line 1002 of"):
        list(rows)
    assert next(tables.read_unlabelled(write(tmp_path / "b.tsv", "text\nb\n"))).texts == ("b",)


def test_classes_have_the_order_of_their_numbers_or_names():
    def names(*labels):
        return tables.label_names([TextExample("", ("a",), label) for label in labels])

    assert names("10", "2", "1", "2") == ("1", "2", "10")
    assert names("neg", "pos", "neg") == ("neg", "pos")


def test_scores_are_of_classes_or_of_numbers():
    examples = [TextExample(str(i), ("a",), label) for i, label in enumerate("abca")]
    scores = tables.score(np.array([0, 1, 1, 0]), examples, ["a", "b", "c"])
    assert scores == {"accuracy": 0.75, "f1": pytest.approx((1 + 2 / 3 + 0) / 3)}
    assert tables.score([0, 1, 1, 0], examples[:2] + examples[1:2] + examples[3:], ["a", "b"]) == {
        "accuracy": 1.0,
        "f1": 1.0,
    }
    numbers = [TextExample("", ("a",), value) for value in (1.0, 2.0, 3.0)]
    assert tables.score([0.1, 0.2, 0.3], numbers) == pytest.approx({"pearson": 1, "spearman": 1})
    with pytest.raises(InputError, match="example '2' must be one of 'a', 'b'. Received: 'c'"):
        tables.score([0, 1, 1, 0], examples, ["a", "b"])


def test_texts_may_have_any_number_of_classes(tmp_path):
    path = write(tmp_path / "a.tsv", "text\tlabels\na\tx, y,x\nb\t\nc\ty\n")
    examples = tables.read(path, separator=",")
    assert [example.label for example in examples] == [("x", "y"), (), ("y",)]
    assert tables.label_names(examples) == ("x", "y")
    ids = tables.label_ids(examples, ["x", "y"])
    assert ids.tolist() == [[1, 1], [0, 0], [0, 1]] and ids.dtype == np.int32
    # Of x one is right of one found and one true, of y one of one and two.
    scores = tables.score([[1, 0], [0, 0], [0, 1]], examples, ["x", "y"])
    assert scores == pytest.approx({"accuracy": 2 / 3, "f1": 4 / 5, "macro_f1": (1 + 2 / 3) / 2})
    out = tmp_path / "out.csv"
    tables.write_predictions(
        str(out), np.array([[1, 1], [0, 0], [0, 1]]), examples, ["x", "y"], separator=";"
    )
    assert out.read_text() == "id,prediction\n0,x;y\n1,\n2,y\n"
    path = write(tmp_path / "a.jsonl", '{"text": "a", "label": ["p, q", "r"]}\n')
    assert tables.read(path, separator=",")[0].label == ("p, q", "r")
    path = write(tmp_path / "b.tsv", "text\tlabels\na\tx,z\n")
    with pytest.raises(InputError, match="line 2 of .* one of 'x', 'y'. Received: 'z'"):
        tables.read(path, labels=["x", "y"], separator=",")
    with pytest.raises(InputError, match="A regression has numbers for labels"):
        tables.read(path, regression=True, separator=",")


def test_predictions_are_written_with_names_of_classes(tmp_path):
    examples = [TextExample("x1", ("a",), None), TextExample("x2", ("b",), None)]
    path = tmp_path / "new" / "out.tsv"
    tables.write_predictions(
        str(path), iter([1, 0]), iter(examples), ["no", "yes"], iter([[0.25, 0.75], [1 / 3, 2 / 3]])
    )
    assert path.read_text() == (
        "id\tprediction\tprobability_no\tprobability_yes\nx1\tyes\t0.25\t0.75\n"
        "x2\tno\t0.333333\t0.666667\n"
    )
    path = tmp_path / "out.jsonl"
    tables.write_predictions(str(path), np.array([1.5, 2], np.float32), examples)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"id": "x1", "prediction": 1.5},
        {"id": "x2", "prediction": 2.0},
    ]


def test_what_a_tsv_file_cannot_hold_is_told_and_csv_holds_it(tmp_path):
    examples = [TextExample('a\t"b"', ("a",), None)]
    with pytest.raises(InputError, match=r"holds a tab or a line break.*write .csv or .jsonl"):
        tables.write_predictions(str(tmp_path / "a.tsv"), [0], examples, ["x"])
    assert not (tmp_path / "a.tsv").exists()
    tables.write_predictions(str(tmp_path / "a.csv"), [0], examples, ["x"])
    assert (tmp_path / "a.csv").read_text() == 'id,prediction\n"a\t""b""",x\n'


def test_data_sets_of_tensorflow_datasets_are_tables(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")

    class TinyReviews(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "text": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["neg", "pos"]),
                "tags": tfds.features.Sequence(tfds.features.Text()),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, download_manager):
            return {"train": self._generate_examples(2), "test": self._generate_examples(1)}

        def _generate_examples(self, count):
            for number in range(count):
                label = -1 if count == 1 else number
                yield number, {"text": f"review {number}", "label": label, "tags": ["x"]}

    TinyReviews(data_dir=str(tmp_path)).download_and_prepare()
    found = tables.read_data_set("tiny_reviews@train", data_dir=str(tmp_path))
    assert sorted(e.label for e in found) == ["neg", "pos"]
    assert {e.texts[0] for e in found} == {"review 0", "review 1"}
    with pytest.raises(InputError, match="label in column 'label' of example 0 of .* is empty"):
        tables.read_data_set("tiny_reviews@test", data_dir=str(tmp_path))
    with pytest.raises(InputError, match="has no split 'dev'"):
        tables.read_data_set("tiny_reviews@dev", data_dir=str(tmp_path))
    with pytest.raises(InputError, match="named with its split"):
        tables.read_data_set("tiny_reviews", data_dir=str(tmp_path))
