"""The best of several endings or answers: SWAG, and what has its columns."""

import posixpath
from collections.abc import Sequence

import numpy as np

from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.models.multiple_choice import BertMultipleChoice
from keras_bert_tpu.tasks import swag, text_rows
from keras_bert_tpu.tasks.tables import TextExample
from keras_bert_tpu.tasks.task import EncodedTask, Task
from keras_bert_tpu.training.finetuning_step import ClassificationStep, TaskStep
from keras_bert_tpu.training.task_batches import TaskArrays
from keras_bert_tpu.training.task_prediction import Predictor

PREDICTIONS = "predictions.csv"


class MultipleChoice(Task):
    """Questions to one of their choices.

    Args:
        training: Examples with labels.
        development: Examples with labels, of as many choices.

    Raises:
        InputError: If there are other numbers of choices in one than in the other.
    """

    model_class = BertMultipleChoice
    settings = {"learning_rate": 2e-5, "batch_size": 16}
    name = "multiple choice"
    best_metric = "accuracy"

    def __init__(
        self, training: Sequence[swag.ChoiceExample], development: Sequence[swag.ChoiceExample]
    ):
        numbers = [len(part[0].choices) for part in (training, development)]
        if numbers[0] != numbers[1]:
            raise InputError(
                f"The examples to train on have {numbers[0]} choices and those of the development "
                f"set {numbers[1]}; give files with as many."
            )
        self.training, self.development = training, development
        self.sizes = {"train": len(training), "dev": len(development)}

    def make_step(self, model: BertMultipleChoice, config: FinetuningConfig) -> TaskStep:
        """Returns the step of classes, which here are the choices."""
        if config.class_weights != "none":
            raise InputError("class_weights is a setting of texts; choices have none.")
        return ClassificationStep(model, config.clip_norm, config.seed)

    def encode(self, model: BertMultipleChoice) -> EncodedTask:
        """Makes a row of each choice."""
        training, of_training = arrays_of(self.training, model)
        held_out, of_development = arrays_of(self.development, model)
        remarks = [
            f"{trimmed:,} choices of {split} are longer than {model.sequence_length} pieces, and "
            f"trimmed."
            for split, trimmed in (("train", of_training), ("dev", of_development))
            if trimmed
        ]

        def decide(predictor: Predictor) -> list[int]:
            return predictor(held_out).argmax(axis=1).tolist()

        def evaluate(predictor: Predictor) -> dict[str, float]:
            return swag.score(decide(predictor), self.development)

        def write_outputs(folder: str, predictor: Predictor) -> None:
            path = posixpath.join(folder, PREDICTIONS)
            swag.write_predictions(path, decide(predictor), self.development)

        return EncodedTask(training, evaluate, write_outputs, remarks)


def arrays_of(
    examples: Sequence[swag.ChoiceExample], model: BertMultipleChoice
) -> tuple[TaskArrays, int]:
    """Encodes examples of as many choices each, all with labels or all without.

    Args:
        examples: Sequence of ChoiceExample, at least one.
        model: BertMultipleChoice with a tokenizer.

    Returns:
        TaskArrays, and how many choices were trimmed.

    Raises:
        InputError: If the numbers of choices differ.
    """
    number = len(examples[0].choices)
    for example in examples:
        if len(example.choices) != number:
            raise InputError(
                f"Example {example.id} has {len(example.choices)} choices and example "
                f"{examples[0].id} {number}; all need as many."
            )
    pairs = [
        TextExample(example.id, (example.context, choice), None)
        for example in examples
        for choice in example.choices
    ]
    rows, trimmed = text_rows.encode(pairs, model.tokenizer, model.sequence_length)
    shape = (len(examples), number, model.sequence_length)
    labels = {}
    if examples[0].label is not None:
        labels["label"] = np.array([example.label for example in examples], "int32")
        labels["label_weights"] = np.ones(len(examples), "float32")
    return TaskArrays({name: row.reshape(shape) for name, row in rows.items()}, labels), trimmed
