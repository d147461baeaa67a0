"""GLUE: official layouts of files, metrics and submission files."""

import gzip
import logging
import pathlib

import numpy as np
import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import glue
from keras_bert_tpu.tasks.tables import TextExample

DATA = pathlib.Path(__file__).parents[3] / "shared" / "data" / "glue"

MNLI_TRAIN = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
    "sentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label"
)
MNLI_DEV = MNLI_TRAIN.replace("gold_label", "label2\tlabel3\tlabel4\tlabel5\tgold_label")
STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"

# Task, split, first lines of the official file, the example they give.
OFFICIAL = [
    ("CoLA", "train", "gj04\t1\t\tOur friends.", ("0", ("Our friends.",), "1")),
    ("CoLA", "test", "index\tsentence\n5\tBill knits.", ("5", ("Bill knits.",), None)),
    ("SST-2", "dev", 'sentence\tlabel\na "good film\t1', ("0", ('a "good film',), "1")),
    ("SST-2", "test", "index\tsentence\n0\tdull", ("0", ("dull",), None)),
    (
        "MRPC",
        "train",
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\ta\tb",
        ("0", ("a", "b"), "0"),
    ),
    (
        "MRPC",
        "test",
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n3\t1\t2\ta\tb",
        ("3", ("a", "b"), None),
    ),
    (
        "QQP",
        "train",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n77\t1\t2\ta?\tb?\t1",
        ("77", ("a?", "b?"), "1"),
    ),
    ("QQP", "test", "id\tquestion1\tquestion2\n0\ta?\tb?", ("0", ("a?", "b?"), None)),
    ("STS-B", "dev", f"{STSB}\n9\tg\tf\t2012\t1\tn\tn\ta\tb\t3.600", ("9", ("a", "b"), 3.6)),
    (
        "STS-B",
        "test",
        STSB.replace("\tscore", "") + "\n9\tg\tf\t2012\t1\tn\tn\ta\tb",
        ("9", ("a", "b"), None),
    ),
    (
        "MNLI",
        "train",
        f"{MNLI_TRAIN}\n0\t1\t1n\tg\tp\tp\tp\tp\ta\tb\tneutral\tneutral",
        ("0", ("a", "b"), "neutral"),
    ),
    (
        "MNLI",
        "dev_mismatched",
        f"{MNLI_DEV}\n0\t1\t1n\tg\tp\tp\tp\tp\ta\tb\tneutral\t\t\t\t\tentailment",
        ("0", ("a", "b"), "entailment"),
    ),
    (
        "MNLI",
        "test_matched",
        MNLI_TRAIN.replace("\tlabel1\tgold_label", "") + "\n4\t1\t1n\tg\tp\tp\tp\tp\ta\tb",
        ("4", ("a", "b"), None),
    ),
    (
        "QNLI",
        "train",
        "index\tquestion\tsentence\tlabel\n2\tq?\ts.\tnot_entailment",
        ("2", ("q?", "s."), "not_entailment"),
    ),
    (
        "RTE",
        "dev",
        "index\tsentence1\tsentence2\tlabel\n1\ta\tb\tentailment",
        ("1", ("a", "b"), "entailment"),
    ),
    ("WNLI", "train", "index\tsentence1\tsentence2\tlabel\n1\ta\tb\t0", ("1", ("a", "b"), "0")),
]


def write(folder, name, text):
    folder.mkdir(exist_ok=True)
    data = f"{text}\n".encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


@pytest.mark.parametrize(("name", "split", "text", "expected"), OFFICIAL)
def test_official_files_are_read(tmp_path, name, split, text, expected):
    write(tmp_path / name, f"{split}.tsv", text)
    task = glue.task_named(name)
    # The folder of the task, and the one above it.
    assert glue.read(str(tmp_path / name), task, split) == [TextExample(*expected)]
    assert glue.read(str(tmp_path), task, split) == [TextExample(*expected)]


def test_official_orders_of_labels():
    assert {task.name: task.labels for task in glue.TASKS} == {
        "CoLA": ("0", "1"),
        "SST-2": ("0", "1"),
        "MRPC": ("0", "1"),
        "STS-B": (),
        "QQP": ("0", "1"),
        "MNLI": ("contradiction", "entailment", "neutral"),
        "QNLI": ("entailment", "not_entailment"),
        "RTE": ("entailment", "not_entailment"),
        "WNLI": ("0", "1"),
    }


def test_names_are_known_however_they_are_written():
    assert glue.task_named("sst2") is glue.SST2
    assert glue.task_named("STS_B") is glue.STSB
    with pytest.raises(InputError, match="no task 'mnlii'; its tasks are 'CoLA'"):
        glue.task_named("mnlii")


def test_compressed_files_and_labelled_test_files_are_read(tmp_path):
    write(tmp_path / "a", "test.tsv.gz", "sentence\tlabel\nfine\t1")
    assert glue.read(str(tmp_path / "a"), glue.SST2, "test") == [TextExample("0", ("fine",), "1")]


def test_rows_of_qqp_that_lack_columns_are_left_out_and_told(tmp_path, caplog):
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"
    write(tmp_path / "QQP", "train.tsv", f"{header}\n1\t1\t2\ta\tb\t1\n2\t1\t2\n3\t1\t2\t\tb\t0")
    with caplog.at_level(logging.WARNING, logger="absl"):
        found = glue.read(str(tmp_path), glue.QQP, "train")
    assert found == [TextExample("1", ("a", "b"), "1"), TextExample("3", ("", "b"), "0")]
    assert "1 rows of" in caplog.text and "train.tsv lack columns" in caplog.text


def test_files_that_are_wrong_are_named(tmp_path):
    write(tmp_path / "RTE", "train.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tmaybe")
    with pytest.raises(InputError, match="line 2 of .*one of 'entailment', 'not_entailment'"):
        glue.read(str(tmp_path), glue.RTE, "train")
    with pytest.raises(InputError, match="neither dev.tsv nor dev.tsv.gz, nor has a folder RTE"):
        glue.read(str(tmp_path), glue.RTE, "dev")
    with pytest.raises(InputError, match="MNLI has the splits .*'dev_matched'.*Received: 'dev'"):
        glue.read(str(tmp_path), glue.MNLI, "dev")
    write(tmp_path / "RTE", "dev.tsv", "index\tsentence1\tsentence2\tlabel")
    with pytest.raises(InputError, match="dev.tsv' has no rows; give the whole file of RTE"):
        glue.read(str(tmp_path), glue.RTE, "dev")
    write(tmp_path / "WNLI", "dev.tsv", "index\tsentence1\tlabel\n0\ta\t1")
    with pytest.raises(InputError, match="no column 'sentence2'; its columns are 'index'"):
        glue.read(str(tmp_path), glue.WNLI, "dev")


def test_scores_have_the_official_metrics():
    examples = [TextExample("", ("a",), label) for label in "1101"]
    assert glue.score([1, 1, 0, 0], examples, glue.MRPC) == {
        "f1": pytest.approx(0.8),
        "accuracy": 0.75,
    }
    assert glue.score([1, 1, 0, 0], examples, glue.COLA)["matthews"] == pytest.approx(1 / 3**0.5)
    assert glue.score([1, 1, 0, 0], examples, glue.WNLI) == {"accuracy": 0.75}
    numbers = [TextExample("", ("a",), value) for value in (0.0, 2.0, 3.0, 10.0)]
    scores = glue.score([1, 2, 3, 4], numbers, glue.STSB)
    assert scores["spearman"] == pytest.approx(1)
    assert scores["pearson_spearman_mean"] == pytest.approx((scores["pearson"] + 1) / 2)
    for task in glue.TASKS:
        assert task.best_metric in task.metrics


def test_scores_of_mismatched_genres_have_names_of_their_own():
    examples = [TextExample("", ("a", "b"), "entailment"), TextExample("", ("a", "b"), "neutral")]
    assert glue.score([1, 1], examples, glue.MNLI, "dev_matched") == {"accuracy": 0.5}
    assert glue.score([1, 2], examples, glue.MNLI, "dev_mismatched") == {"accuracy_mismatched": 1.0}


@pytest.mark.parametrize(
    ("task", "split", "predictions", "name", "values"),
    [
        (glue.COLA, "test", [1, 0], "CoLA.tsv", ["1", "0"]),
        (glue.QNLI, "test", [1, 0], "QNLI.tsv", ["not_entailment", "entailment"]),
        (glue.MNLI, "test_matched", [0, 2], "MNLI-m.tsv", ["contradiction", "neutral"]),
        (glue.MNLI, "test_mismatched", [1, 2], "MNLI-mm.tsv", ["entailment", "neutral"]),
        (glue.STSB, "test", np.float32([5.25, 2.71828]), "STS-B.tsv", ["5.000", "2.718"]),
        (glue.STSB, "test", [-0.5, 0.0004], "STS-B.tsv", ["0.000", "0.000"]),
    ],
)
def test_submission_files_are_as_glue_takes_them(tmp_path, task, split, predictions, name, values):
    examples = [TextExample(str(index), ("a", "b"), None) for index in range(2)]
    path = glue.write_predictions(str(tmp_path), predictions, examples, task, split)
    assert path == str(tmp_path / name)
    assert pathlib.Path(path).read_text() == (
        f"index\tprediction\n0\t{values[0]}\n1\t{values[1]}\n"
    )


def test_submissions_are_of_whole_test_splits(tmp_path):
    examples = [TextExample("0", ("a",), None)]
    with pytest.raises(InputError, match="GLUE takes predictions on 'test' of CoLA"):
        glue.write_predictions(str(tmp_path), [1], examples, glue.COLA, "dev")
    with pytest.raises(InputError, match="Received: 2 for 1"):
        glue.write_predictions(str(tmp_path), [1, 0], examples, glue.COLA, "test")


@pytest.mark.skipif(not DATA.exists(), reason="needs the data sets beside the checkout")
@pytest.mark.parametrize(
    ("name", "train", "dev"),
    [
        ("CoLA", 8048, 1043),
        ("MRPC", 3668, 408),
        ("QNLI", 4000, 463),
        ("RTE", 3365, 392),
        ("SST-2", 67349, 872),
        ("STS-B", 3999, 1250),
    ],
)
def test_real_files_are_read_whole(name, train, dev):
    task = glue.task_named(name)
    assert len(glue.read(str(DATA), task, "train")) == train
    assert len(glue.read(str(DATA / name), task, "dev")) == dev
