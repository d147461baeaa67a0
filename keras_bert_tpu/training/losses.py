"""The two pre-training losses, as sums that can be added over replicas and steps.

A mean is only formed after numerators and denominators have been summed over all replicas: the
number of masked words differs from replica to replica, so a mean of means would be another loss.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf


class Sums(NamedTuple):
    """float32 scalars: weighted sums over the targets of one replica's batch."""

    loss: tf.Tensor
    correct: tf.Tensor
    weight: tf.Tensor


def masked_language_model_sums(
    logits: tf.Tensor, mask_ids: tf.Tensor, mask_weights: tf.Tensor
) -> Sums:
    """Sums cross-entropy and hits over the real masked positions (arXiv 1810.04805, A.2).

    Args:
        logits: float32 tensor [batch, predictions, vocabulary].
        mask_ids: int32 tensor [batch, predictions], the pieces that were masked.
        mask_weights: float32 tensor [batch, predictions], 1 = real, 0 = padding.
    """
    return _sums(logits, mask_ids, mask_weights)


def next_sentence_sums(
    logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None = None
) -> Sums:
    """Sums cross-entropy and hits over the real sequences.

    Args:
        logits: float32 tensor [batch, 2], or [batch, sequences, 2] for packed rows.
        labels: int32 tensor [batch, sequences]; a plain row is the case of one sequence.
        weights: float32 tensor [batch, sequences], 1 = real sequence, 0 = padding; None means
            that all are real.
    """
    labels = tf.reshape(labels, [-1])
    weights = tf.ones_like(labels, tf.float32) if weights is None else tf.reshape(weights, [-1])
    return _sums(tf.reshape(logits, [-1, 2]), labels, weights)


def total_weights(batch: Mapping[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns how many masked words and how many sequences of a replica's batch count."""
    sequences = batch.get("next_sentence_weights")
    if sequences is None:
        sequences = tf.ones_like(batch["next_sentence_label"], tf.float32)
    return tf.reduce_sum(batch["mask_weights"]), tf.reduce_sum(sequences)


def losses_and_hits(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Judges each target alone.

    Args:
        logits: float32 tensor [..., classes].
        labels: int32 tensor [...].

    Returns:
        Two tensors [...]: the float32 cross-entropy, and bool whether the label has the highest
        score (of equal scores the first one counts as such).
    """
    top, score = tf.reduce_max(logits, axis=-1), _scores_of(logits, labels)
    # Not by tf.argmax, which takes a TPU as long as the product that the scores come from.
    classes = tf.range(tf.shape(logits)[-1])
    is_before = (classes < labels[..., None]) & (logits >= top[..., None])
    # Counted as floats, so that XLA does it within the pass that adds up the exponentials.
    before = tf.reduce_sum(tf.cast(is_before, tf.float32), axis=-1)
    return _cross_entropy(logits, labels), (score >= top) & (before == 0.0)


def _cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each target.

    By hand, because the operation that TensorFlow has for it takes a CPU eight times as long. It
    keeps the scores and the logarithms of the sums of their exponentials, and no probabilities: on
    a TPU those are computed within the products that the gradient goes into.
    """

    @tf.custom_gradient
    def of(logits: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        log_sum = tf.reduce_logsumexp(logits, axis=-1)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            # Where the classes are the pieces of a row, their number may be known in a run only.
            classes = logits.shape[-1] or tf.shape(logits)[-1]
            target = tf.one_hot(labels, classes, dtype=logits.dtype)
            return (tf.exp(logits - log_sum[..., None]) - target) * upstream[..., None]

        return log_sum - _scores_of(logits, labels), gradient

    return of(logits)


def _scores_of(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.gather(logits, labels, batch_dims=logits.shape.rank - 1)


def _sums(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> Sums:
    losses, is_hit = losses_and_hits(logits, labels)
    hits = tf.cast(is_hit, tf.float32)
    return Sums(
        loss=tf.reduce_sum(losses * weights),
        correct=tf.reduce_sum(hits * weights),
        weight=tf.reduce_sum(weights),
    )
