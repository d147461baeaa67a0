"""Texts to classes or numbers: a model is fine-tuned on examples and judged on others."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import FinetuningConfig, InputError
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.tasks import text_rows
from keras_bert_tpu.tasks.tables import TextExample, label_ids
from keras_bert_tpu.training.finetuning import Finetuned, finetune
from keras_bert_tpu.training.finetuning_step import ClassificationStep, RegressionStep, TaskStep
from keras_bert_tpu.training.initialization import freeze
from keras_bert_tpu.training.task_batches import TaskArrays
from keras_bert_tpu.training.task_prediction import Predictor

# From a split's name, its predictions (see `decide`) and its examples to metrics.
Judge = Callable[[str, np.ndarray, Sequence[TextExample]], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class TextClassification:
    """A task of texts.

    Attributes:
        labels: tuple of str. Names of the classes; none for a regression.
        training: Examples with labels.
        development: Name of each split to examples with labels; may be empty.
        judge: Callable that gives the metrics of a split.
        best_metric: str. The metric by which the best weights are kept.
    """

    labels: tuple[str, ...]
    training: Sequence[TextExample]
    development: Mapping[str, Sequence[TextExample]]
    judge: Judge
    best_metric: str


def finetune_text_classifier(
    task: TextClassification,
    checkpoint: str,
    config: FinetuningConfig,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[BertTextClassifier, Finetuned]:
    """Puts a head on a pre-trained encoder and trains both.

    Args:
        task: TextClassification.
        checkpoint: str. What `BertTextClassifier.from_pretrained` reads.
        config: FinetuningConfig.
        strategy: What `tpu.connect` returned as strategy. Defaults to the current one.
        callbacks: Keras callbacks; an epoch, to them, is what lies between two evaluations.

    Returns:
        The model with its best weights, and what the evaluations gave.

    Raises:
        InputError: If the checkpoint, the examples and the config do not fit together.
    """
    strategy = strategy or tf.distribute.get_strategy()
    if config.class_weights == "balanced" and not task.labels:
        raise InputError("class_weights=balanced needs classes, and this is a regression.")
    keras.utils.set_random_seed(config.seed)
    policy = "mixed_bfloat16" if config.compute_dtype == "bfloat16" else "float32"
    with strategy.scope():
        model = BertTextClassifier.from_pretrained(
            checkpoint,
            labels=task.labels,
            sequence_length=config.sequence_length,
            dtype=policy,
            num_classes=len(task.labels) or 1,
        )
        freeze(model, config.frozen_layers)
        step = _step(model, task, config)
    training, trimmed = arrays_of(model, task.training)
    if trimmed:
        print(
            f"{trimmed:,} of {len(task.training):,} examples are longer than "
            f"{model.sequence_length} pieces, and trimmed."
        )
    development = {
        name: arrays_of(model, examples)[0] for name, examples in task.development.items()
    }

    def evaluate(predictor: Predictor) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, arrays in development.items():
            predictions = decide(predictor(arrays), task.labels)
            metrics |= task.judge(name, predictions, task.development[name])
        return metrics

    done = finetune(
        model,
        step,
        training,
        config,
        evaluate if development else None,
        task.best_metric,
        strategy,
        callbacks,
    )
    return model, done


def arrays_of(model: BertTextClassifier, examples: Sequence[TextExample]) -> tuple[TaskArrays, int]:
    """Encodes examples for a model; those without a label have labels of no weight.

    Args:
        model: BertTextClassifier with tokenizer and labels.
        examples: Sequence of TextExample, at least one.

    Returns:
        TaskArrays, and how many examples were trimmed.

    Raises:
        InputError: If the label of an example is none of the model's.
    """
    tokens, trimmed = text_rows.encode(examples, model.tokenizer, model.sequence_length)
    if examples[0].label is None:
        return TaskArrays(tokens, {}), trimmed
    if model.labels:
        label = label_ids(examples, model.labels)
    else:
        label = np.array([example.label for example in examples], "float32")
    weights = np.ones(len(examples), "float32")
    return TaskArrays(tokens, {"label": label, "label_weights": weights}), trimmed


def decide(scores: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Turns scores [examples, classes] into ids of classes, or into the numbers of a regression."""
    return scores.argmax(axis=1) if labels else scores[:, 0]


def _step(
    model: BertTextClassifier, task: TextClassification, config: FinetuningConfig
) -> TaskStep:
    if not task.labels:
        return RegressionStep(model, config.clip_norm, config.seed)
    weights: Sequence[float] = ()
    if config.class_weights == "balanced":
        counts = np.bincount(label_ids(task.training, task.labels), minlength=len(task.labels))
        if not counts.all():
            missing = [n for n, count in zip(task.labels, counts, strict=True) if not count]
            raise InputError(f"class_weights=balanced: no example has the label {missing[0]!r}.")
        weights = (len(task.training) / (len(task.labels) * counts)).tolist()
    return ClassificationStep(model, config.clip_norm, config.seed, weights)
