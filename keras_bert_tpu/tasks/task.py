"""What fine-tuning asks of a task, whatever its model."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from keras_bert_tpu.config import FinetuningConfig
from keras_bert_tpu.models.task_model import TaskModel
from keras_bert_tpu.training.finetuning_step import TaskStep
from keras_bert_tpu.training.task_batches import TaskArrays
from keras_bert_tpu.training.task_prediction import Predictor


@dataclasses.dataclass(frozen=True)
class EncodedTask:
    """A task as the rows of one model.

    Attributes:
        training: TaskArrays.
        evaluate: Callable from a Predictor to the metrics of the development set.
        write_outputs: Callable from a folder and a Predictor; writes predictions and pictures.
        remarks: What people should know of the rows, such as how many were trimmed.
    """

    training: TaskArrays
    evaluate: Callable[[Predictor], Mapping[str, float]]
    write_outputs: Callable[[str, Predictor], None]
    remarks: Sequence[str] = ()


class Task(abc.ABC):
    """Examples to train on and to judge by, and how a model is trained on them.

    Attributes:
        model_class: The model.
        settings: Where the paper's settings are others than those of `FinetuningConfig`.
        name: str. For people.
        labels: Names of the classes; none where there are no classes.
        best_metric: str. The metric by which the best weights are kept.
        sizes: Mapping of the names of splits to their numbers of examples.
    """

    model_class: ClassVar[type[TaskModel]]
    settings: ClassVar[Mapping[str, Any]] = {}
    name: str
    labels: tuple[str, ...] = ()
    best_metric: str
    sizes: Mapping[str, int]

    def head(self) -> dict[str, Any]:
        """Returns what the model is made with beside the encoder's config."""
        return {}

    @abc.abstractmethod
    def make_step(self, model: TaskModel, config: FinetuningConfig) -> TaskStep:
        """Returns what is trained; called in the scope of the strategy.

        Raises:
            InputError: If the config does not fit the examples.
        """

    @abc.abstractmethod
    def encode(self, model: TaskModel) -> EncodedTask:
        """Makes the rows of all examples.

        Args:
            model: Of `model_class`, with tokenizer and labels.

        Raises:
            InputError: If an example does not fit the model.
        """
