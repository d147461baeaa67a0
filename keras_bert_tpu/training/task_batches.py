"""Encoded examples of a task to batches, of like length where that saves padding."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

# Batches are made of so many batches' examples, sorted by length: enough to pad little, and few
# enough to keep the batches of an epoch random.
_BATCHES_SORTED_TOGETHER = 50
_LENGTH_MULTIPLE, _STATIC_LENGTHS = 8, 4


@dataclasses.dataclass(frozen=True)
class TaskArrays:
    """The encoded examples of a task.

    Attributes:
        tokens: Arrays [examples, ..., length] with a value for each piece; a batch is cut to the
            length of its longest example. `padding_mask` is among them.
        labels: Arrays [examples, ...] of what else a batch has.
    """

    tokens: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.tokens["padding_mask"])

    @property
    def lengths(self) -> np.ndarray:
        """int64 [examples]: pieces of each example, the longest of its rows."""
        pieces = self.tokens["padding_mask"].sum(axis=-1)
        return pieces.reshape(len(pieces), -1).max(axis=1)

    @property
    def max_length(self) -> int:
        """Length of the rows."""
        return self.tokens["padding_mask"].shape[-1]


def epoch_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int, by_length: bool
) -> list[np.ndarray]:
    """Cuts an epoch into batches: a function of seed and epoch.

    Args:
        lengths: int array [examples].
        batch_size: int.
        seed: int.
        epoch: int. From 0.
        by_length: bool. Whether examples of like length go together; each stands in one batch, and
            the batches come in random order.

    Returns:
        List of int64 arrays of example numbers, all of `batch_size` but one, which is the last.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    if by_length:
        size = batch_size * _BATCHES_SORTED_TOGETHER
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    whole = [batch for batch in batches if len(batch) == batch_size]
    if by_length:
        whole = [whole[i] for i in random.permutation(len(whole))]
    return [*whole, *(batch for batch in batches if len(batch) < batch_size)]


class TrainingBatches:
    """The batches of all epochs, each of `batch_size` rows; a function of the seed.

    The last batch of an epoch is filled up with rows of `label_weights` 0. The examples are copied
    into TensorFlow once.

    Args:
        arrays: TaskArrays with `label_weights` among tokens or labels.
        batch_size: int. Over all replicas.
        seed: int.
        by_length: bool. See `epoch_batches`.
        lengths: Ascending lengths that batches are cut to, see `allowed_lengths`.
    """

    def __init__(
        self,
        arrays: TaskArrays,
        batch_size: int,
        seed: int,
        by_length: bool,
        lengths: Sequence[int],
    ):
        self._arrays, self._batch_size, self._seed = arrays, batch_size, seed
        self._by_length, self._lengths = by_length, lengths
        self._held = {
            name: tf.constant(array) for name, array in {**arrays.tokens, **arrays.labels}.items()
        }

    def part(self, epoch: int, start: int = 0, end: int | None = None) -> tf.data.Dataset:
        """Returns batches of an epoch.

        Args:
            epoch: int. From 0.
            start: int. The first batch.
            end: int. The one behind the last; None takes all.
        """
        size, arrays = self._batch_size, self._arrays
        batches = epoch_batches(arrays.lengths, size, self._seed, epoch, self._by_length)
        rows = np.stack([np.resize(batch, size) for batch in batches])
        is_real = np.ones(rows.shape, "float32")
        is_real[-1, len(batches[-1]) :] = 0.0
        cut = _cut_lengths(arrays.lengths[rows].max(axis=1), self._lengths)
        is_cut = len(self._lengths) > 1

        def gather(rows: tf.Tensor, is_real: tf.Tensor, length: tf.Tensor) -> dict[str, tf.Tensor]:
            batch = {name: tf.gather(array, rows) for name, array in self._held.items()}
            for name in arrays.tokens:
                batch[name] = batch[name][..., : length if is_cut else None]
            weights = batch["label_weights"]
            shape = [-1] + [1] * (weights.shape.rank - 1)
            batch["label_weights"] = weights * tf.reshape(is_real, shape)
            return batch

        dataset = tf.data.Dataset.from_tensor_slices((rows, is_real, cut))
        dataset = dataset.skip(start).take(-1 if end is None else end - start)
        return dataset.map(gather, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def allowed_lengths(max_length: int, by_length: bool, is_static: bool) -> tuple[int, ...]:
    """Returns the lengths that batches may be cut to, ascending.

    Args:
        max_length: int. Length of the rows.
        by_length: bool. Without, all batches have that length.
        is_static: bool. Whether each length costs a compilation, as on a TPU: then there are four.
            Otherwise there are all multiples of 8.
    """
    if not by_length:
        return (max_length,)
    step = _LENGTH_MULTIPLE
    if is_static:
        step = -(-max_length // (_STATIC_LENGTHS * step)) * step
    return (*range(step, max_length, step), max_length)


def prediction_batches(
    arrays: TaskArrays, batch_size: int, lengths: Sequence[int]
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yields batches of like length for a prediction, with the numbers of their examples.

    Args:
        arrays: TaskArrays.
        batch_size: int. Rows of a batch; the last one may have fewer.
        lengths: Ascending lengths that batches are cut to, see `allowed_lengths`.
    """
    pieces = arrays.lengths
    order = np.argsort(-pieces, kind="stable")  # The longest first: what does not fit fails early.
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        (length,) = _cut_lengths(pieces[rows[:1]], lengths)
        yield rows, {name: array[rows][..., :length] for name, array in arrays.tokens.items()}


def _cut_lengths(longest: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """The least of the lengths that the longest rows fit in."""
    return np.array(lengths)[np.searchsorted(lengths, longest)]
