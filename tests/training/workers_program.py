"""One of the processes that train together; run by test_processes.py, which sets TF_CONFIG."""

import os
import signal
import sys

import keras

from keras_bert_tpu.config import PretrainingConfig
from keras_bert_tpu.tpu.connect import connect
from keras_bert_tpu.training.loop import pretrain
from keras_bert_tpu.training.termination import EXIT_CODE, Terminated

config, data, output, terminate_at = sys.argv[1:]


class Terminate(keras.callbacks.Callback):
    """Sends this process what a preempted machine gets."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


connection = connect()
print(f"Running on {connection.description}.")
try:
    pretrain(
        PretrainingConfig.from_yaml(config),
        data,
        output,
        connection.strategy,
        callbacks=[Terminate(int(terminate_at))],
    )
except Terminated as error:
    print(error)
    sys.exit(EXIT_CODE)
