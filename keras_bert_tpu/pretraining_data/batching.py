"""A window's records -> the batches of this host's replicas, with and without length buckets."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.order import GENERATOR, shuffle


class Slices(NamedTuple):
    """How a global batch is cut: by pipelines (hosts), then by the replicas of each.

    Attributes:
        replica_batch: int. Examples of one replica.
        replicas: int. Over all hosts.
        pipelines: int. Hosts.
        pipeline: int. Number of this one.
    """

    replica_batch: int
    replicas: int
    pipelines: int
    pipeline: int

    @property
    def batch_size(self) -> int:
        """Examples of a step over all replicas."""
        return self.replica_batch * self.replicas

    @classmethod
    def of(cls, batch_size: int, context: tf.distribute.InputContext | None) -> "Slices":
        """Returns the slices that a strategy asks for; no context means one replica.

        Raises:
            InputError: If the batch or the replicas cannot be divided evenly.
        """
        context = context or tf.distribute.InputContext()
        replicas, pipelines = context.num_replicas_in_sync, context.num_input_pipelines
        check_batch_size(batch_size)
        if batch_size % replicas:
            raise InputError(
                f"batch_size must be a multiple of the number of replicas. Received: "
                f"batch_size={batch_size} for {replicas} replicas; the nearest that fits is "
                f"{max(1, round(batch_size / replicas)) * replicas}."
            )
        if replicas % pipelines:
            raise InputError(
                f"Every host must have the same number of replicas. Received: {replicas} replicas "
                f"on {pipelines} hosts."
            )
        return cls(batch_size // replicas, replicas, pipelines, context.input_pipeline_id)

    def own(self, places: tf.Tensor) -> tf.Tensor:
        """Says which places of the stream are this host's.

        Args:
            places: int64 tensor [n]. Places counted from the start of a global batch; negative
                ones are before the start of the stream.

        Returns:
            bool tensor [n].
        """
        replicas = self.replicas // self.pipelines
        first = self.pipeline * replicas
        replica = places % self.batch_size // self.replica_batch
        return (places >= 0) & (replica >= first) & (replica < first + replicas)


def check_batch_size(batch_size: int) -> None:
    """Checks that a batch has an example.

    Raises:
        InputError: If it has none.
    """
    if batch_size <= 0:
        raise InputError(f"batch_size must be greater than 0. Received: {batch_size}.")


def group_by_length(
    lengths: tf.Tensor, length_buckets: Sequence[int], batch_size: int, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Makes batches of examples of like length.

    An example belongs to the shortest bucket that holds it. What does not fill a batch in its
    bucket, the last ones by their order, moves up to the next longer one and takes its place there
    by the order of all; what the longest bucket leaves, fewer than `batch_size` examples, is left
    out. So there are n // batch_size batches, whatever the lengths are.

    Args:
        lengths: int32 tensor [n]. Real tokens, in the order of the (permuted) window.
        length_buckets: Ascending ints; no length is beyond the last.
        batch_size: int.
        key: int64 tensor [2]. Of the window; the order of the batches derives from it.

    Returns:
        int64 tensor [batches, batch_size] of places in `lengths`, and int32 tensor [batches] of
        the length of each batch's bucket. The batches are permuted, too.
    """
    bucket = tf.searchsorted(tf.constant(length_buckets, tf.int32), lengths, side="left")
    waiting = tf.zeros([0], tf.int64)
    batches, widths = [], []
    for number, width in enumerate(length_buckets):
        members = tf.sort(tf.concat([waiting, tf.where(bucket == number)[:, 0]], axis=0))
        num_full = tf.size(members) // batch_size
        batches.append(tf.reshape(members[: num_full * batch_size], [-1, batch_size]))
        widths.append(tf.fill([num_full], width))
        waiting = members[num_full * batch_size :]
    batches, widths = tf.concat(batches, axis=0), tf.concat(widths, axis=0)
    # Not the window's key itself, with which its records are permuted.
    order = shuffle(tf.range(tf.size(widths)), tf.random.fold_in(key, 1, alg=GENERATOR))
    return tf.gather(batches, order), tf.gather(widths, order)
