"""Runs the run file given on two logical CPU devices; run by test_loop.py."""

import sys

import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from keras_bert_tpu.config import PretrainingConfig  # noqa: E402
from keras_bert_tpu.tpu.connect import connect  # noqa: E402
from keras_bert_tpu.training.loop import pretrain  # noqa: E402

config, data, output = sys.argv[1:]
strategy = connect().strategy
assert strategy.num_replicas_in_sync == 2
pretrain(PretrainingConfig.from_yaml(config), data, output, strategy)
