"""Prints the peak memory of a process that makes train steps, in megabytes; see test_memory.py."""

import json
import re
import sys

import keras
import tensorflow as tf

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.training.optimizers import BertAdamW
from keras_bert_tpu.training.train_step import PretrainingStep

BATCH, LENGTH, PREDICTIONS, VOCABULARY = 32, 256, 20, 100


def peak_kilobytes():
    """Of this program; `getrusage` starts from what the process had that it was forked from."""
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\s*(\d+) kB", file.read()).group(1))


options = json.loads(sys.argv[1])
keras.utils.set_random_seed(3)
encoder = EncoderConfig(
    vocab_size=VOCABULARY,
    hidden_size=128,
    num_layers=8,
    num_heads=2,
    intermediate_size=512,
    max_positions=LENGTH,
)
pretrainer = BertPretrainer(encoder, dtype="float32")
pretrainer.encoder.recompute = options["recompute"]
step = PretrainingStep(pretrainer, clip_norm=1.0, seed=5)
step.accumulation_steps = options["accumulation_steps"]
optimizer = BertAdamW(1e-3)
optimizer.build(pretrainer.trainable_variables)
step.compile(optimizer=optimizer, steps_per_execution=options["steps_per_execution"])
example = {
    "token_ids": tf.ones([LENGTH], tf.int32),
    "segment_ids": tf.zeros([LENGTH], tf.int32),
    "padding_mask": tf.ones([LENGTH], tf.int32),
    "mask_positions": tf.range(PREDICTIONS),
    "mask_ids": tf.ones([PREDICTIONS], tf.int32),
    "mask_weights": tf.ones([PREDICTIONS]),
    "next_sentence_label": tf.zeros([1], tf.int32),
}
batches = tf.data.Dataset.from_tensors(example).repeat().batch(BATCH, drop_remainder=True)
started = peak_kilobytes()
step.fit(batches, steps_per_epoch=4, verbose=0)
print(json.dumps((peak_kilobytes() - started) / 1024))
