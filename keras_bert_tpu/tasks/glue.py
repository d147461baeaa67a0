"""The nine tasks of GLUE: their official files, metrics and submission files.

Files are those of the official download (gluebenchmark.com), found in a folder by their names and
read by the names of their columns, so other cuts with the same columns are read as well. The
metrics are those of the GLUE paper (Wang et al. 2018, table 1).
"""

import dataclasses
import itertools
import posixpath
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import metrics
from keras_bert_tpu.tasks.columns import TableColumns
from keras_bert_tpu.tasks.labels import LabelReader
from keras_bert_tpu.tasks.output_files import write_lines
from keras_bert_tpu.tasks.row_files import Row, read_rows, read_text_lines, some
from keras_bert_tpu.tasks.tables import (
    TextExample,
    label_ids,
    labelled_examples,
    unlabelled_examples,
)

# CoLA's files, but for that of test, have no header; these are its columns.
_COLA_COLUMNS = ("source", "label", "mark", "sentence")
# STS-B's scores; predictions for a submission are clipped to them.
_LOWEST_SCORE, _HIGHEST_SCORE = 0.0, 5.0
_MISMATCHED = "_mismatched"


@dataclasses.dataclass(frozen=True)
class GlueTask:
    """What is particular to a task.

    Attributes:
        name: str. The name of the task and of its folder.
        texts: tuple of str. Columns of text.
        label: str. Column of labels.
        labels: tuple of str. Names of the classes in official order; none for a regression.
        metrics: tuple of str. Keys of `score`.
        best_metric: str. The key by which the best checkpoint is chosen, the higher the better.
        dev_splits: tuple of str. Splits to evaluate on; the first one chooses.
        test_splits: tuple of str. Splits without labels, to predict on.
        submissions: tuple of str. Names of the submission files, one for each test split.
        has_damaged_rows: bool. Whether some rows of the official files lack columns, which are left
            out as everyone does, or have an empty text, which are kept.
    """

    name: str
    texts: tuple[str, ...]
    label: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    best_metric: str = "accuracy"
    dev_splits: tuple[str, ...] = ("dev",)
    test_splits: tuple[str, ...] = ("test",)
    submissions: tuple[str, ...] = ()
    has_damaged_rows: bool = False

    @property
    def regression(self) -> bool:
        """Whether labels are numbers."""
        return not self.labels


COLA = GlueTask(
    name="CoLA",
    texts=("sentence",),
    label="label",
    labels=("0", "1"),
    metrics=("matthews", "accuracy"),
    best_metric="matthews",
    submissions=("CoLA.tsv",),
)
SST2 = GlueTask(
    name="SST-2",
    texts=("sentence",),
    label="label",
    labels=("0", "1"),
    submissions=("SST-2.tsv",),
)
MRPC = GlueTask(
    name="MRPC",
    texts=("#1 String", "#2 String"),
    label="Quality",
    labels=("0", "1"),
    metrics=("f1", "accuracy"),
    best_metric="f1",
    submissions=("MRPC.tsv",),
)
STSB = GlueTask(
    name="STS-B",
    texts=("sentence1", "sentence2"),
    label="score",
    labels=(),
    metrics=("pearson", "spearman", "pearson_spearman_mean"),
    best_metric="pearson_spearman_mean",
    submissions=("STS-B.tsv",),
)
QQP = GlueTask(
    name="QQP",
    texts=("question1", "question2"),
    label="is_duplicate",
    labels=("0", "1"),
    metrics=("f1", "accuracy"),
    best_metric="f1",
    submissions=("QQP.tsv",),
    has_damaged_rows=True,
)
MNLI = GlueTask(
    name="MNLI",
    texts=("sentence1", "sentence2"),
    label="gold_label",
    labels=("contradiction", "entailment", "neutral"),
    dev_splits=("dev_matched", "dev_mismatched"),
    test_splits=("test_matched", "test_mismatched"),
    submissions=("MNLI-m.tsv", "MNLI-mm.tsv"),
)
QNLI = GlueTask(
    name="QNLI",
    texts=("question", "sentence"),
    label="label",
    labels=("entailment", "not_entailment"),
    submissions=("QNLI.tsv",),
)
RTE = GlueTask(
    name="RTE",
    texts=("sentence1", "sentence2"),
    label="label",
    labels=("entailment", "not_entailment"),
    submissions=("RTE.tsv",),
)
WNLI = GlueTask(
    name="WNLI",
    texts=("sentence1", "sentence2"),
    label="label",
    labels=("0", "1"),
    submissions=("WNLI.tsv",),
)
TASKS = (COLA, SST2, MRPC, STSB, QQP, MNLI, QNLI, RTE, WNLI)


def task_named(name: str) -> GlueTask:
    """Returns a task by its name, written with or without hyphen, in any case.

    Args:
        name: str.

    Raises:
        InputError: If GLUE has no such task.
    """

    def plain(value: str) -> str:
        return value.lower().replace("-", "").replace("_", "")

    for task in TASKS:
        if plain(task.name) == plain(name):
            return task
    raise InputError(
        f"GLUE has no task {name!r}; its tasks are {some([task.name for task in TASKS])}."
    )


def read(folder: str, task: GlueTask, split: str) -> list[TextExample]:
    """Reads a split of a task.

    Args:
        folder: str. Local or gs:// folder with the files of the task, such as `train.tsv` (or
            `train.tsv.gz`); or one that has a folder of the task's name with them.
        task: GlueTask.
        split: str. "train", or one of the task's `dev_splits` and `test_splits`. Test files have no
            labels, but for those that have a column of them.

    Returns:
        List of TextExample. The id is that of the column `index` or `id`, or the number of the row,
        from 0.

    Raises:
        InputError: If there is no such file, it lacks a column, or a row is wrong; it is named.
    """
    path = find_file(folder, task, split)
    rows = _rows(path, task)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{path!r} has no rows; give the whole file of {task.name}.")
    names = list(first.values)
    rows = itertools.chain([first], rows)  # Not a list: MNLI has nine more columns than it needs.
    row_id = next((name for name in ("index", "id") if name in names), "")
    allow_empty = task.has_damaged_rows
    if split in task.test_splits and task.label not in names:
        columns = TableColumns(_texts_in(names, task), "", row_id)
        return list(unlabelled_examples(rows, path, columns, allow_empty))
    columns = TableColumns(_texts_in(names, task), task.label, row_id)
    reader = LabelReader(task.labels, task.regression, separator="")
    return list(labelled_examples(rows, path, columns, reader, allow_empty))


def find_file(folder: str, task: GlueTask, split: str) -> str:
    """Returns the path of a split's file.

    Args:
        folder: str. As for `read`.
        task: GlueTask.
        split: str. As for `read`.

    Raises:
        InputError: If the task has no such split, or it is not in the folder.
    """
    splits = ("train", *task.dev_splits, *task.test_splits)
    if split not in splits:
        raise InputError(f"{task.name} has the splits {some(splits)}. Received: {split!r}.")
    path = _find(folder, task, split)
    if path is not None:
        return path
    raise InputError(
        f"{folder!r} has neither {split}.tsv nor {split}.tsv.gz, nor has a folder {task.name} in "
        f"it; name the folder with the files of {task.name}."
    )


def has_split(folder: str, task: GlueTask, split: str) -> bool:
    """Tells whether the file of a split is there, see `find_file`."""
    return _find(folder, task, split) is not None


def score(
    predictions: Sequence[int] | Sequence[float],
    examples: Sequence[TextExample],
    task: GlueTask,
    split: str = "",
) -> dict[str, float]:
    """Compares predictions with labels by the official metrics.

    Args:
        predictions: Ids of classes, or numbers for STS-B [examples].
        examples: Sequence of TextExample with labels.
        task: GlueTask.
        split: str. The split of the examples; the keys of `dev_mismatched` end with `_mismatched`.

    Returns:
        Dict with the keys `task.metrics`, each -1 to 1, so that the scores of all splits can stand
        in one dict.
    """
    suffix = _MISMATCHED if split.endswith(_MISMATCHED) else ""
    if task.regression:
        targets = [float(example.label) for example in examples]
        found = {
            "pearson": metrics.pearson(predictions, targets),
            "spearman": metrics.spearman(predictions, targets),
        }
        found["pearson_spearman_mean"] = (found["pearson"] + found["spearman"]) / 2
    else:
        ids = label_ids(examples, task.labels)
        found = {"accuracy": metrics.accuracy(predictions, ids)}
        if "f1" in task.metrics:
            found["f1"] = metrics.f1(predictions, ids)
        if "matthews" in task.metrics:
            found["matthews"] = metrics.matthews(predictions, ids)
    return {f"{key}{suffix}": found[key] for key in task.metrics}


def write_predictions(
    folder: str,
    predictions: Sequence[int] | Sequence[float],
    examples: Sequence[TextExample],
    task: GlueTask,
    split: str,
) -> str:
    """Writes a file as GLUE takes it for submission: `index<TAB>prediction`, with a header.

    Args:
        folder: str. Local or gs:// folder.
        predictions: Ids of classes, or numbers for STS-B [examples].
        examples: Sequence of TextExample, all of the split.
        task: GlueTask.
        split: str. One of the task's test splits.

    Returns:
        The path of the file, which has the name that GLUE wants.

    Raises:
        InputError: If the split is no test split, the predictions are not one for each example, or
            the file cannot be written.
    """
    if split not in task.test_splits:
        raise InputError(
            f"GLUE takes predictions on {some(task.test_splits)} of {task.name}. Received: "
            f"{split!r}."
        )
    if len(predictions) != len(examples):
        raise InputError(
            f"A submission needs one prediction for each example. Received: {len(predictions)} for "
            f"{len(examples)}."
        )
    if task.regression:
        clipped = np.clip(np.asarray(predictions, np.float64), _LOWEST_SCORE, _HIGHEST_SCORE)
        values = [f"{value:.3f}" for value in clipped]
    else:
        values = [task.labels[int(prediction)] for prediction in predictions]
    path = posixpath.join(folder, task.submissions[task.test_splits.index(split)])
    lines = (f"{example.id}\t{value}" for example, value in zip(examples, values, strict=True))
    write_lines(path, ["index\tprediction", *lines])
    return path


def _rows(path: str, task: GlueTask) -> Iterator[Row]:
    return read_rows(
        path,
        columns=_COLA_COLUMNS if task is COLA and not _has_header(path) else (),
        skip_short=task.has_damaged_rows,
    )


def _find(folder: str, task: GlueTask, split: str) -> str | None:
    for place in (folder, posixpath.join(folder, task.name)):
        for name in (f"{split}.tsv", f"{split}.tsv.gz"):
            path = posixpath.join(place, name)
            if tf.io.gfile.exists(path):
                return path
    return None


def _has_header(path: str) -> bool:
    first = next(read_text_lines(path), "")
    return COLA.texts[0] in first.split("\t")


def _texts_in(names: Sequence[str], task: GlueTask) -> tuple[str, ...]:
    """Returns the columns of text, by the usual names of pairs if a cut has those."""
    usual = ("sentence1", "sentence2")
    is_renamed = len(task.texts) == 2 and task.texts[0] not in names
    return usual if is_renamed and all(name in names for name in usual) else task.texts
