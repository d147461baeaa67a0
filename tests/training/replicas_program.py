"""Trains a tiny model on a number of logical CPU devices; run by test_train_step.py."""

import json
import sys

import numpy as np
import tensorflow as tf

options, path = json.loads(sys.argv[1]), sys.argv[2]
replicas, dropout = options["replicas"], options["dropout"]
cpu = tf.config.list_physical_devices("CPU")[0]
if replicas > 1:
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * replicas
    )

import keras  # noqa: E402

from keras_bert_tpu.config import EncoderConfig  # noqa: E402
from keras_bert_tpu.models.pretrainer import BertPretrainer  # noqa: E402
from keras_bert_tpu.tpu.connect import connect  # noqa: E402
from keras_bert_tpu.training.optimizers import BertAdamW  # noqa: E402
from keras_bert_tpu.training.train_step import PretrainingStep  # noqa: E402

ROWS, LENGTH, PREDICTIONS = 8, 16, 4
BATCH = len(options["rows"])
STEPS = len(options["batches"])


def make_batch(number):
    """The batch of that number; below zero it has a weight, on one replica, that is not finite."""
    random = np.random.default_rng(abs(number))

    def integers(high, *shape):
        return random.integers(0, high, shape, dtype="int32")

    # From none to all of the predictions are real, so replicas hold very different numbers.
    real = np.array([4, 4, 3, 4, 0, 1, 0, 0])[:, np.newaxis]
    weights = (np.arange(PREDICTIONS) < real).astype("float32")
    if number < 0:
        weights[-3, 0] = np.nan
    return {
        "token_ids": integers(50, ROWS, LENGTH),
        "segment_ids": integers(2, ROWS, LENGTH),
        "padding_mask": np.ones((ROWS, LENGTH), "int32"),
        "mask_positions": integers(LENGTH, ROWS, PREDICTIONS),
        "mask_ids": integers(50, ROWS, PREDICTIONS),
        "mask_weights": weights,
        "next_sentence_label": integers(2, ROWS, 1),
    }


batches = [make_batch(number) for number in options["batches"]]
stacked = {
    name: np.concatenate([batch[name][options["rows"]] for batch in batches]) for name in batches[0]
}
examples = tf.data.Dataset.from_tensor_slices(stacked).repeat()
strategy = connect().strategy
assert strategy.num_replicas_in_sync == replicas
keras.utils.set_random_seed(3)
with strategy.scope():
    encoder = EncoderConfig.from_preset(
        "tiny",
        vocab_size=50,
        max_positions=LENGTH,
        hidden_dropout=dropout,
        attention_dropout=dropout,
    )
    # A norm far below that of the gradients, so that clipping takes part in what is compared.
    step = PretrainingStep(
        BertPretrainer(encoder, dtype="float32"), clip_norm=0.5, seed=5, max_skipped_in_row=2
    )
    optimizer = BertAdamW(options["learning_rate"], average_decay=options["average_decay"])
    optimizer.build(step.trainable_variables)
    step.compile(optimizer=optimizer, steps_per_execution=options["steps_per_execution"])
    step.accumulation_steps = options["accumulation_steps"]
    step.pretrainer.encoder.recompute = options["recompute"]


def distribute(dataset):
    """Gives each replica its slice of every batch of BATCH examples."""
    slices = dataset.batch(BATCH // replicas, drop_remainder=True)
    if replicas == 1:
        return slices
    return strategy.distribute_datasets_from_function(lambda context: slices)


history = step.fit(distribute(examples), steps_per_epoch=STEPS, verbose=0).history
# Like validation_dataset: at its end a distributed iterator fills replicas with rows of zeros.
skipped_in_row, norms = step.skipped_in_row, step.layer_gradient_norms()
held_out = examples.take(STEPS * BATCH).map(lambda row: {**row, "next_sentence_weights": [1.0]})
evaluation = step.evaluate(distribute(held_out), return_dict=True, verbose=0)
results = {f"fit_{name}": values[-1] for name, values in history.items()}
results |= {f"evaluate_{name}": value for name, value in evaluation.items()}
for weight in step.pretrainer.weights:
    results[weight.path] = keras.ops.convert_to_numpy(weight)
for average, weight in zip(optimizer.averages, step.trainable_variables, strict=False):
    results[f"average/{weight.path}"] = keras.ops.convert_to_numpy(average)
moments = [v for v in optimizer.variables if "first_moment" in v.path]
results["first_moment_norm"] = tf.linalg.global_norm([v.value for v in moments]).numpy()
results |= {f"norm/{name}": norm for name, norm in norms.items()}
results["skipped_in_row"] = skipped_in_row
results["waited"] = step.take_input_wait()
np.savez(path, **results)
