"""The outputs of a task model for encoded examples, under any strategy."""

import keras
import numpy as np
import tensorflow as tf
import tqdm.auto as tqdm

from keras_bert_tpu.training.task_batches import TaskArrays, allowed_lengths, prediction_batches

# What a score is where there is no piece.
NO_SCORE = -1e9


def has_static_shapes(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether a program is compiled for each shape, as it is on TPUs."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


class Predictor:
    """Computes the outputs of a model; what was traced once serves all later calls.

    Args:
        model: TaskModel, made in the scope of the strategy.
        batch_size: int. Over all replicas.
        by_length: bool. Whether batches are cut to the length of their rows.
        strategy: tf.distribute.Strategy. Defaults to the current one.
    """

    def __init__(
        self,
        model: keras.Model,
        batch_size: int,
        by_length: bool = True,
        strategy: tf.distribute.Strategy | None = None,
    ):
        self._model = model
        self._strategy = strategy or tf.distribute.get_strategy()
        self._replicas = self._strategy.num_replicas_in_sync
        self._batch_size = -(-batch_size // self._replicas) * self._replicas
        self._by_length = by_length
        self._is_static = has_static_shapes(self._strategy)
        self._function = tf.function(self._outputs, reduce_retracing=not self._is_static)

    def __call__(self, arrays: TaskArrays, progress: bool = False) -> np.ndarray:
        """Computes the outputs of all examples.

        Args:
            arrays: TaskArrays.
            progress: bool. Whether a bar is shown.

        Returns:
            float32 array [examples, ...], in the order of the examples. Where there is no piece the
            scores of pieces are `NO_SCORE`.
        """
        results: np.ndarray | None = None
        axis = self._model.length_axis
        lengths = allowed_lengths(arrays.max_length, self._by_length, self._is_static)
        batches = prediction_batches(arrays, self._batch_size, lengths)
        with tqdm.tqdm(total=len(arrays), unit="ex", disable=not progress) as bar:
            for rows, batch in batches:
                outputs = self._of_batch(batch, len(rows))
                if axis is not None:
                    missing = [(0, 0)] * outputs.ndim
                    missing[axis] = (0, arrays.max_length - outputs.shape[axis])
                    outputs = np.pad(outputs, missing)
                    # Scores of padding would tell with which rows it was in a batch.
                    is_piece = arrays.tokens["padding_mask"][rows] > 0
                    is_piece = np.expand_dims(is_piece, 3 - axis)
                    outputs = np.where(is_piece, outputs, NO_SCORE)
                if results is None:
                    results = np.empty([len(arrays), *outputs.shape[1:]], "float32")
                results[rows] = outputs
                bar.update(len(rows))
        return results

    def _of_batch(self, batch: dict[str, np.ndarray], number: int) -> np.ndarray:
        # All batches of a length have one shape: rows are repeated up to it.
        places = np.resize(np.arange(number), self._batch_size)
        parts = np.split(places, self._replicas)

        def part(context: tf.distribute.experimental.ValueContext) -> dict[str, tf.Tensor]:
            rows = parts[context.replica_id_in_sync_group]
            return {name: tf.constant(array[rows]) for name, array in batch.items()}

        values = self._strategy.experimental_distribute_values_from_function(part)
        outputs = self._strategy.experimental_local_results(self._function(values))
        return np.concatenate([output.numpy() for output in outputs])[:number]

    def _outputs(self, values: dict[str, tf.Tensor]) -> tf.Tensor:
        return self._strategy.run(lambda batch: self._model(batch, training=False), args=(values,))
