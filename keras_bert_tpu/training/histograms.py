"""Histograms of the weights for TensorBoard."""

from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from keras_bert_tpu.checkpoints.storage import weights_by_name


class WeightHistograms(keras.callbacks.Callback):
    """Writes a histogram of each weight of a model each `every` steps.

    It belongs behind the callback that counts the steps.

    Args:
        model: keras.Model, for example the BertPretrainer of a run: not what `fit` trains, whose
            metrics are weights as well.
        writer: tf.summary.SummaryWriter. One of its own, or one whose folder nothing else writes
            to: TensorBoard reads the files of a folder one after the other.
        every: int. Steps of the run between two histograms; if the host does not see a multiple of
            it (`steps_per_execution`), the next visit writes.
        step: Callable that returns the steps of the run that are made.
    """

    def __init__(
        self,
        model: keras.Model,
        writer: tf.summary.SummaryWriter,
        every: int,
        step: Callable[[], int],
    ):
        super().__init__()
        self._weights = weights_by_name(model)
        self._writer = writer
        self._every = every
        self._step = step
        self._seen = step()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Writes if a multiple of `every` lies in the steps since the last visit."""
        before, self._seen = self._seen, self._step()
        if self._seen // self._every > before // self._every:
            self.write()

    def write(self) -> None:
        """Writes the weights as they are now."""
        # The operations behind a histogram have no TPU version.
        with self._writer.as_default(step=self._step()), tf.device("cpu:0"):
            for name, weight in self._weights.items():
                tf.summary.histogram(name, keras.ops.convert_to_numpy(weight))
        self._writer.flush()
