"""Fine-tunes a tiny model on made-up words; run by test_finetuning_checkpoints and test_grid.

    python finetuning_run.py OUTPUT [NAME=VALUE ...] [grid=NAME=VALUE,VALUE] [after=N does=WHAT]

Behind step `after` it kills itself (`kill`) or sends itself SIGTERM (`terminate`), or it crashes in
the evaluation of that number (`evaluation`).
"""

import os
import pathlib
import signal
import sys

import keras

from keras_bert_tpu.config import FinetuningConfig
from keras_bert_tpu.tasks import run
from keras_bert_tpu.tasks.grid import read_grid, run_grid
from keras_bert_tpu.tasks.tables import TextExample
from keras_bert_tpu.tasks.text_classification import table_classification
from keras_bert_tpu.training import finetuning
from keras_bert_tpu.training.termination import EXIT_CODE, Terminated

CHECKPOINT = str(pathlib.Path(__file__).parents[1] / "golden" / "mini_reference")

output, *arguments = sys.argv[1:]
options = dict(argument.split("=", 1) for argument in arguments)
after, does = int(options.pop("after", 0)), options.pop("does", "")
number = int(options.pop("examples", 64))
seeds = int(options.pop("seeds", 1))
grid = read_grid([options.pop("grid")]) if "grid" in options else {}
words = ("garden", "house", "moor", "door")
examples = [
    TextExample(str(i), (" ".join(words[(i + j) % 4] for j in range(1 + i % 9)),), "ab"[i % 2])
    for i in range(number)
]


class Trouble(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if does and int(self.model.optimizer.iterations.numpy()) == after:
            if does == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif does == "terminate":
                os.kill(os.getpid(), signal.SIGTERM)


class TroubledTask(type(table_classification("words", examples, examples, ("a", "b")))):
    def encode(self, model):
        encoded = super().encode(model)
        evaluate = encoded.evaluate
        calls = []

        def troubled(predictor):
            calls.append(1)
            if does == "evaluation" and len(calls) == after:
                raise RuntimeError("crashed as asked")
            return evaluate(predictor)

        object.__setattr__(encoded, "evaluate", troubled)
        return encoded


settings = {name: float(value) if "." in value else int(value) for name, value in options.items()}
config = FinetuningConfig(
    **{
        "sequence_length": 16,
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "save_every": 3,
        "save_seconds": 0.0,
        **settings,
    }
)
task = table_classification("words", examples, examples, ("a", "b"))
task.__class__ = TroubledTask
train = finetuning.finetune
run.finetune = lambda *args: train(*args[:7], [*args[7], Trouble()], *args[8:])
try:
    if grid:
        run_grid(task, CHECKPOINT, output, config, grid, seeds)
    else:
        run.run_task(task, CHECKPOINT, output, config, seeds)
except Terminated as error:
    print(error)
    sys.exit(EXIT_CODE)
