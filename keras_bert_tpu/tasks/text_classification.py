"""Texts and pairs of texts to classes or numbers: GLUE, and tables of one's own."""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.tasks import glue, tables, text_rows
from keras_bert_tpu.tasks.reports import write_confusion
from keras_bert_tpu.tasks.tables import TextExample, label_ids
from keras_bert_tpu.tasks.task import EncodedTask, Task
from keras_bert_tpu.training.finetuning_step import (
    ClassificationStep,
    MultiLabelStep,
    RegressionStep,
    TaskStep,
)
from keras_bert_tpu.training.task_batches import TaskArrays
from keras_bert_tpu.training.task_prediction import Predictor

SUBMISSION = "submission"


class TextClassification(Task):
    """Texts to classes, to several classes each, or to numbers.

    Args:
        name: str. Of the task, for people.
        labels: Names of the classes; none for a regression.
        training: Examples with labels.
        development: Name of each split to examples with labels.
        judge: Callable from a split, its predictions (see `decide`) and its examples to metrics.
        best_metric: str.
    """

    model_class = BertTextClassifier

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        training: Sequence[TextExample],
        development: Mapping[str, Sequence[TextExample]],
        judge: Callable[[str, list[Any], Sequence[TextExample]], Mapping[str, float]],
        best_metric: str,
    ):
        self.name, self.labels, self.best_metric = name, tuple(labels), best_metric
        self.training, self.development, self.judge = training, development, judge
        self.has_several = isinstance(training[0].label, tuple)
        self.sizes = {"train": len(training)}
        self.sizes |= {split: len(examples) for split, examples in development.items()}

    def head(self) -> dict[str, Any]:
        """Returns the number of classes; 1 is a regression."""
        return {"num_classes": len(self.labels) or 1}

    def make_step(self, model: BertTextClassifier, config: FinetuningConfig) -> TaskStep:
        """Returns the step of classes, several classes or numbers."""
        is_balanced = config.class_weights == "balanced"
        if is_balanced and (self.has_several or not self.labels):
            raise InputError("class_weights=balanced needs one class for each text.")
        model.multi_label = self.has_several
        model.pairs = len(self.training[0].texts) == 2
        if not self.labels:
            return RegressionStep(model, config.clip_norm, config.seed)
        if self.has_several:
            return MultiLabelStep(model, config.clip_norm, config.seed)
        weights = _balanced(self.training, self.labels) if is_balanced else ()
        return ClassificationStep(model, config.clip_norm, config.seed, weights)

    def encode(self, model: BertTextClassifier) -> EncodedTask:
        """Makes the rows of all examples."""
        encoded = {
            split: self.arrays(model, examples)
            for split, examples in {"train": self.training, **self.development}.items()
        }
        remarks = [
            f"{trimmed:,} of {len(arrays):,} examples of {split} are longer than "
            f"{model.sequence_length} pieces, and trimmed."
            for split, (arrays, trimmed) in encoded.items()
            if trimmed
        ]
        training, _ = encoded.pop("train")
        development = {split: arrays for split, (arrays, _) in encoded.items()}

        def evaluate(predictor: Predictor) -> dict[str, float]:
            metrics: dict[str, float] = {}
            for split, arrays in development.items():
                predictions = decide(model, predictor(arrays)).tolist()
                metrics |= self.judge(split, predictions, self.development[split])
            return metrics

        def write_outputs(folder: str, predictor: Predictor) -> None:
            self.write_outputs(folder, model, predictor, next(iter(development.values())))

        return EncodedTask(training, evaluate, write_outputs, remarks)

    def write_outputs(
        self, folder: str, model: BertTextClassifier, predictor: Predictor, held_out: TaskArrays
    ) -> None:
        """Writes how often which class of the first split was taken for which.

        Args:
            folder: str. Local or gs:// folder.
            model: BertTextClassifier, fine-tuned.
            predictor: Predictor of the model.
            held_out: TaskArrays of the first split of the development set.
        """
        if self.labels and not self.has_several:
            examples = next(iter(self.development.values()))
            predictions = decide(model, predictor(held_out))
            write_confusion(folder, predictions, label_ids(examples, self.labels), self.labels)

    def arrays(
        self, model: BertTextClassifier, examples: Sequence[TextExample]
    ) -> tuple[TaskArrays, int]:
        """Encodes examples for a model.

        Args:
            model: BertTextClassifier with a tokenizer.
            examples: Sequence of TextExample, at least one, all with labels or all without.

        Returns:
            TaskArrays, and how many examples were trimmed.

        Raises:
            InputError: If the label of an example is none of the task's.
        """
        tokens, trimmed = text_rows.encode(examples, model.tokenizer, model.sequence_length)
        if examples[0].label is None:
            return TaskArrays(tokens, {}), trimmed
        if self.labels:
            label = label_ids(examples, self.labels)
            label = label.astype("float32") if self.has_several else label
        else:
            label = np.array([example.label for example in examples], "float32")
        weights = np.ones(len(examples), "float32")
        return TaskArrays(tokens, {"label": label, "label_weights": weights}), trimmed


class GlueClassification(TextClassification):
    """A task of GLUE, whose test splits are predicted for submission.

    Args:
        name: str. One of the nine, see `glue.TASKS`.
        folder: str. Local or gs:// folder with its files; those of test may be absent.

    Raises:
        InputError: If there is no such task, or its files are not as they should be.
    """

    def __init__(self, name: str, folder: str):
        self.glue_task = task = glue.task_named(name)

        def judge(
            split: str, predictions: list[Any], examples: Sequence[TextExample]
        ) -> dict[str, float]:
            return glue.score(predictions, examples, task, split)

        super().__init__(
            task.name,
            task.labels,
            glue.read(folder, task, "train"),
            {split: glue.read(folder, task, split) for split in task.dev_splits},
            judge,
            task.best_metric,
        )
        self.tests = {
            split: glue.read(folder, task, split)
            for split in task.test_splits
            if glue.has_split(folder, task, split)
        }

    def write_outputs(
        self, folder: str, model: BertTextClassifier, predictor: Predictor, held_out: TaskArrays
    ) -> None:
        """Writes the submission files, too."""
        super().write_outputs(folder, model, predictor, held_out)
        for split, examples in self.tests.items():
            unlabelled = [example._replace(label=None) for example in examples]
            predictions = decide(model, predictor(self.arrays(model, unlabelled)[0])).tolist()
            path = glue.write_predictions(
                posixpath.join(folder, SUBMISSION), predictions, examples, self.glue_task, split
            )
            print(f"The predictions for {split} are in {path}.")


def decide(model: BertTextClassifier, scores: np.ndarray) -> np.ndarray:
    """Turns scores [examples, classes] into ids, 0 or 1 for each class, or numbers."""
    if model.num_classes == 1:
        return scores[:, 0]
    return (scores > 0).astype("int32") if model.multi_label else scores.argmax(axis=1)


def table_classification(
    name: str,
    training: Sequence[TextExample],
    development: Sequence[TextExample],
    labels: Sequence[str],
) -> TextClassification:
    """Returns the task of the examples of tables.

    Args:
        name: str. For people.
        training: Examples with labels.
        development: Examples with labels.
        labels: Names of the classes; none for a regression.

    Raises:
        InputError: If labels are names and there are less than two.
    """
    if len(labels) < 2 and not isinstance(training[0].label, float):
        raise InputError(
            f"A classification needs two labels or more to learn. Received: {list(labels)}; see "
            f"that the examples have all of them, or train a regression if they are numbers."
        )

    def judge(
        split: str, predictions: list[Any], examples: Sequence[TextExample]
    ) -> dict[str, float]:
        return tables.score(predictions, examples, labels)

    best_metric = "accuracy" if labels else "pearson"
    return TextClassification(name, labels, training, {"dev": development}, judge, best_metric)


def _balanced(examples: Sequence[TextExample], labels: Sequence[str]) -> list[float]:
    """The weights of classes: the reciprocals of their frequencies, 1 in the mean of examples."""
    counts = np.bincount(label_ids(examples, labels), minlength=len(labels))
    if not counts.all():
        missing = labels[int(counts.argmin())]
        raise InputError(
            f"class_weights=balanced: no example to train on has the label {missing!r}; leave it "
            f"out of the labels, or give such examples."
        )
    return (len(examples) / (len(labels) * counts)).tolist()
