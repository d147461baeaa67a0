import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_bert_tpu.training.histograms import WeightHistograms


class Steps(keras.callbacks.Callback):
    """Counts the steps of a run that goes on after `first`."""

    def __init__(self, first=0):
        super().__init__()
        self.first = self.made = first

    def on_train_batch_end(self, batch, logs=None):
        self.made = self.first + batch + 1


def fit(folder, every, first=0, steps_per_execution=1, steps=12):
    """Trains for some steps and returns what is left of the histograms, by weight and step."""
    model = keras.Sequential([keras.layers.Input([3]), keras.layers.Dense(2, name="dense")])
    model.compile("sgd", "mse", metrics=["mae"], steps_per_execution=steps_per_execution)
    counter = Steps(first)
    writer = tf.summary.create_file_writer(str(folder))
    data = tf.data.Dataset.from_tensors((tf.ones([2, 3]), tf.ones([2, 2]))).repeat(steps)
    histograms = WeightHistograms(model, writer, every, lambda: counter.made)
    model.fit(data, callbacks=[counter, histograms], shuffle=False, verbose=0)
    writer.close()
    board = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    board.Reload()
    written = {
        tag: {event.step: tf.make_ndarray(event.tensor_proto) for event in board.Tensors(tag)}
        for tag in board.Tags()["tensors"]
    }
    return model, written


def test_each_weight_is_written_at_each_multiple(tmp_path):
    _, written = fit(tmp_path, every=5)
    assert written.keys() == {"dense/kernel", "dense/bias"}
    assert [list(steps) for steps in written.values()] == [[5, 10]] * 2


def test_histogram_counts_the_values_that_the_weight_has(tmp_path):
    model, written = fit(tmp_path, every=12)
    buckets = written["dense/kernel"][12]
    kernel = keras.ops.convert_to_numpy(model.get_layer("dense").kernel)
    assert buckets[:, 2].sum() == kernel.size
    assert buckets[0, 0] == pytest.approx(kernel.min())
    assert buckets[-1, 1] == pytest.approx(kernel.max())
    assert not np.allclose(kernel, 0)


def test_steps_are_those_of_the_run_and_not_of_the_epoch(tmp_path):
    _, written = fit(tmp_path, every=10, first=15, steps=8)
    assert list(written["dense/bias"]) == [20]


def test_multiple_that_the_host_does_not_see_is_written_at_its_next_visit(tmp_path):
    _, written = fit(tmp_path, every=5, steps_per_execution=4)
    assert list(written["dense/bias"]) == [8, 12]
