"""The train steps of tasks: one loss each, over the targets of the global batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_tpu.training.global_step import GlobalStep
from keras_bert_tpu.training.losses import Sums, losses_and_hits


class TaskStep(GlobalStep):
    """What `fit` trains: a task model with its one loss, see `GlobalStep`.

    A batch has `label_weights`, float32 of the labels' shape without the classes: 0 for what does
    not count, such as rows that fill up a last batch, and pieces that do not begin a word.

    Args:
        model: keras.Model of `models`.
        clip_norm: float. Largest global norm of the reduced gradient; 0 turns clipping off.
        seed: int. Of dropout.
    """

    def __init__(self, model: keras.Model, clip_norm: float, seed: int):
        super().__init__(model, ("",), clip_norm, seed, name="task_step")

    def totals(self, data: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """Returns the weight of this replica's targets."""
        return [tf.reduce_sum(self.target_weights(data))]

    def sums(self, data: Mapping[str, tf.Tensor], outputs: Any) -> list[Sums]:
        """Returns the sums of the loss."""
        losses, hits = self.judge(data, outputs)
        weights = self.target_weights(data)
        return [
            Sums(
                loss=tf.reduce_sum(losses * weights),
                correct=tf.reduce_sum(hits * weights),
                weight=tf.reduce_sum(weights),
            )
        ]

    def target_weights(self, data: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the float32 weight of each target."""
        return data["label_weights"]

    def judge(self, data: Mapping[str, tf.Tensor], outputs: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the loss and the hits of each target, float32 of the shape of its weights."""
        raise NotImplementedError


class ClassificationStep(TaskStep):
    """Cross-entropy of one class: of texts, pieces or choices.

    Args:
        model: keras.Model whose scores are [..., classes].
        clip_norm: float.
        seed: int.
        class_weights: Weight of the targets of each class; empty weighs them alike.
    """

    def __init__(
        self,
        model: keras.Model,
        clip_norm: float,
        seed: int,
        class_weights: Sequence[float] = (),
    ):
        super().__init__(model, clip_norm, seed)
        self.class_weights = tuple(class_weights)

    def target_weights(self, data: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the weights of the labels, times those of their classes."""
        weights = data["label_weights"]
        if self.class_weights:
            weights *= tf.gather(tf.constant(self.class_weights, tf.float32), data["label"])
        return weights

    def judge(self, data: Mapping[str, tf.Tensor], outputs: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the cross-entropy of each label, int32, and whether it has the best score."""
        losses, hits = losses_and_hits(outputs, data["label"])
        return losses, tf.cast(hits, tf.float32)


class MultiLabelStep(TaskStep):
    """Sigmoid cross-entropy of several classes a text; labels are float32 [batch, classes]."""

    def judge(self, data: Mapping[str, tf.Tensor], outputs: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mean over the classes, and the share of them that are told right."""
        labels = data["label"]
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=outputs)
        hits = tf.cast((outputs > 0) == (labels > 0.5), tf.float32)
        return tf.reduce_mean(losses, axis=-1), tf.reduce_mean(hits, axis=-1)


class RegressionStep(TaskStep):
    """Squared error of a number a text; labels are float32 [batch]. Nothing is a hit."""

    def judge(self, data: Mapping[str, tf.Tensor], outputs: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the squared errors."""
        errors = tf.math.squared_difference(outputs[:, 0], data["label"])
        return errors, tf.zeros_like(errors)


class SpanStep(TaskStep):
    """Mean cross-entropy of where an answer starts and ends.

    A batch has `start_position` and `end_position`, int32 [batch]. What is not in the passage is
    not left out of the softmax: so BERT's own rule.
    """

    def judge(self, data: Mapping[str, tf.Tensor], outputs: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the losses, and whether both positions have the best scores."""
        labels = tf.stack([data["start_position"], data["end_position"]], axis=1)
        losses, hits = losses_and_hits(outputs, labels)
        return tf.reduce_mean(losses, axis=1), tf.reduce_min(tf.cast(hits, tf.float32), axis=1)
