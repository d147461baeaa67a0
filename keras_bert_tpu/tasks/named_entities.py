"""A label for each word: named entities, and whatever else stands in CoNLL columns."""

import posixpath
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.models.token_classifier import BertTokenClassifier
from keras_bert_tpu.tasks import ner
from keras_bert_tpu.tasks.task import EncodedTask, Task
from keras_bert_tpu.training.finetuning_step import ClassificationStep, TaskStep
from keras_bert_tpu.training.task_batches import TaskArrays
from keras_bert_tpu.training.task_prediction import Predictor

PREDICTIONS = "predictions.conll"


class NamedEntities(Task):
    """Words to labels, scored by whole entities.

    Args:
        training: Sentences with labels.
        development: Sentences with labels.
        labels: All labels; none takes those of the training.

    Raises:
        InputError: If the development set has a label that the training has not, or that has only
            one.
    """

    model_class = BertTokenClassifier
    name = "named entities"
    best_metric = "f1"

    def __init__(
        self,
        training: Sequence[ner.Sentence],
        development: Sequence[ner.Sentence],
        labels: Sequence[str] = (),
    ):
        self.training, self.development = training, development
        self.labels = tuple(labels) or ner.label_names(training)
        if len(self.labels) < 2:
            raise InputError(
                f"There must be labels beside O to learn. Received: {list(self.labels)}; see that "
                f"the last column of the file has them."
            )
        unknown = set(ner.label_names(development)) - set(self.labels)
        if unknown - {"O"}:
            raise InputError(
                f"The development set has the label {min(unknown)!r}, which is not among "
                f"{list(self.labels)}; give --labels with all of them, or mend it."
            )
        self.sizes = {"train": len(training), "dev": len(development)}

    def head(self) -> dict[str, Any]:
        """Returns the number of labels."""
        return {"num_classes": len(self.labels)}

    def make_step(self, model: BertTokenClassifier, config: FinetuningConfig) -> TaskStep:
        """Returns the step of classes of pieces."""
        if config.class_weights != "none":
            raise InputError("class_weights is a setting of texts; named entities have none.")
        return ClassificationStep(model, config.clip_norm, config.seed)

    def encode(self, model: BertTokenClassifier) -> EncodedTask:
        """Makes the rows of all sentences."""

        def features_of(sentences: Sequence[ner.Sentence]) -> ner.NerFeatures:
            return ner.make_features(sentences, model.tokenizer, self.labels, model.sequence_length)

        training, development = features_of(self.training), features_of(self.development)
        held_out = arrays_of(development)

        def predict(predictor: Predictor) -> list[list[str]]:
            ids = predictor(held_out).argmax(axis=-1)
            return ner.labels_of_words(ids, development, self.development, self.labels)

        def evaluate(predictor: Predictor) -> dict[str, float]:
            return ner.score(predict(predictor), self.development)

        def write_outputs(folder: str, predictor: Predictor) -> None:
            path = posixpath.join(folder, PREDICTIONS)
            ner.write_predictions(path, predict(predictor), self.development)

        windowed = len(training.token_ids) - len(self.training)
        remarks = [f"{windowed:,} rows are further windows of sentences that are too long."]
        return EncodedTask(
            arrays_of(training), evaluate, write_outputs, remarks if windowed else ()
        )


def arrays_of(features: ner.NerFeatures) -> TaskArrays:
    """Returns the rows of sentences; without labels, those have no weight."""
    tokens: dict[str, np.ndarray] = {
        "token_ids": features.token_ids,
        "segment_ids": features.segment_ids,
        "padding_mask": features.padding_mask,
        "label": features.label_ids,
        "label_weights": features.label_weights,
    }
    return TaskArrays(tokens, {})
