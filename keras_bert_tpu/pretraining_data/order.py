"""The order of training as a function of (seed, epoch): shards, windows, and where a step starts.

epoch e     the shards are permuted
window w    `shuffle_window` consecutive shards of that permutation; the records in them are
            permuted together, and no record leaves its window

Without length buckets the epochs follow each other without a gap: example p of the stream is
example p % N of epoch p // N. With length buckets every window gives whole batches only, as many
as its number of examples divided by the batch size, and the rest of it, fewer examples than a
batch, is left out in that epoch (see `batching`). Both need nothing but the numbers of records, so
that any place of the stream is found without reading.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError

# Philox gives the same numbers on every device, "auto_select" another generator on some.
GENERATOR = "philox"


class Start(NamedTuple):
    """A place in the stream.

    Attributes:
        window: int. The window that holds it, counted over all epochs.
        skipped: int. Examples that the stream has before it in that window.
    """

    window: int
    skipped: int


def epoch_key(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """Key of the order of an epoch's shards, int64 [2]; the windows' keys are folded from it."""
    return tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch, alg=GENERATOR)


def window_key(seed: int, epoch: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Key of the order of a window's records; `window` is its number within the epoch."""
    # Not the epoch's key itself, with which its shards are permuted.
    return tf.random.fold_in(epoch_key(seed, epoch), window, alg=GENERATOR)


def shuffle(values: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Returns the values, permuted along the first axis as the key says."""
    return tf.random.experimental.stateless_shuffle(values, key, alg=GENERATOR)


def shard_order(seed: int, epoch: tf.Tensor, num_shards: int) -> tf.Tensor:
    """Returns the permutation of the shards in an epoch, int64 [num_shards]."""
    return shuffle(tf.range(num_shards, dtype=tf.int64), epoch_key(seed, epoch))


def num_windows(num_shards: int, shuffle_window: int) -> int:
    """Returns the number of windows in an epoch; the last one may have fewer shards."""
    return -(-num_shards // shuffle_window)


def window_sizes(counts: np.ndarray, seed: int, epoch: int, shuffle_window: int) -> np.ndarray:
    """Returns the number of records of each window of an epoch.

    Args:
        counts: int64 array [shards]. Records of each shard.
        seed: int.
        epoch: int.
        shuffle_window: int. Shards in a window.

    Returns:
        int64 array [windows].
    """
    # Eagerly and on the host, also where a strategy or a function is being built around this.
    with tf.init_scope(), tf.device("CPU:0"):
        order = shard_order(seed, tf.constant(epoch, tf.int64), len(counts)).numpy()
    return np.add.reduceat(counts[order], np.arange(0, len(order), shuffle_window))


def locate_example(counts: np.ndarray, seed: int, example: int, shuffle_window: int) -> Start:
    """Finds an example of the stream without length buckets.

    Args:
        counts: int64 array [shards]. Records of each shard.
        seed: int.
        example: int. Its place in the stream, from 0.
        shuffle_window: int. Shards in a window.

    Returns:
        Start.
    """
    epoch, place = divmod(example, int(counts.sum()))
    ends = np.cumsum(window_sizes(counts, seed, epoch, shuffle_window))
    window = int(np.searchsorted(ends, place, side="right"))
    before = int(ends[window - 1]) if window else 0
    return Start(epoch * len(ends) + window, place - before)


def locate_batch(
    counts: np.ndarray, seed: int, batch: int, batch_size: int, shuffle_window: int
) -> Start:
    """Finds a batch of the stream with length buckets.

    Epochs differ in their number of batches, because the windows of each have other shards, so
    the epochs before it are gone through; that takes some milliseconds for each.

    Args:
        counts: int64 array [shards]. Records of each shard; `check_windows` must hold for them.
        seed: int.
        batch: int. Its number in the stream, from 0.
        batch_size: int.
        shuffle_window: int. Shards in a window.

    Returns:
        Start. `skipped` is a multiple of `batch_size`.
    """
    epoch = 0
    while True:
        ends = np.cumsum(window_sizes(counts, seed, epoch, shuffle_window) // batch_size)
        if batch < ends[-1]:
            break
        batch -= int(ends[-1])
        epoch += 1
    window = int(np.searchsorted(ends, batch, side="right"))
    before = int(ends[window - 1]) if window else 0
    return Start(epoch * len(ends) + window, (batch - before) * batch_size)


def check_windows(counts: np.ndarray, batch_size: int, shuffle_window: int) -> None:
    """Checks that every epoch has a batch when windows give whole batches only.

    Raises:
        InputError: If the windows hold fewer examples than a batch on the average, so that an
            epoch might give none.
    """
    windows = num_windows(len(counts), shuffle_window)
    total = int(counts.sum())
    if total < batch_size * windows:
        raise InputError(
            f"length_buckets needs windows of at least a batch: {total} examples in {windows} "
            f"windows of {shuffle_window} shards are {total // windows} in each, and batch_size is "
            f"{batch_size}; raise shuffle_window, lower batch_size, or do without length_buckets."
        )


def check_buckets(length_buckets: Sequence[int], sequence_length: int) -> None:
    """Checks that the buckets ascend to the sequence length.

    Raises:
        InputError: If they do not.
    """
    buckets = list(length_buckets)
    ascending = buckets == sorted(set(buckets)) and all(
        isinstance(bucket, int) and bucket > 0 for bucket in buckets
    )
    if buckets and not (ascending and buckets[-1] == sequence_length):
        raise InputError(
            f"length_buckets must be ascending lengths of which the last is "
            f"sequence_length={sequence_length}. Received: {tuple(buckets)}."
        )
