"""Fine-tunes on a number of logical CPU devices; run by test_text_classification.py."""

import sys

import numpy as np
import tensorflow as tf

replicas, checkpoint, path, lora_rank = int(sys.argv[1]), *sys.argv[2:4], int(sys.argv[4])
if replicas > 1:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * replicas,
    )

from keras_bert_tpu.config import FinetuningConfig  # noqa: E402
from keras_bert_tpu.tasks.run import finetune_task  # noqa: E402
from keras_bert_tpu.tasks.tables import TextExample  # noqa: E402
from keras_bert_tpu.tasks.text_classification import table_classification  # noqa: E402
from keras_bert_tpu.tpu.connect import connect  # noqa: E402
from keras_bert_tpu.training.task_prediction import Predictor  # noqa: E402

strategy = connect().strategy
assert strategy.num_replicas_in_sync == replicas
# 21 examples of uneven length leave the last batch of 8 with 3 rows, of which one replica has none.
examples = [
    TextExample(str(i), (" ".join(["garden", "house"][i % 2] for _ in range(i + 1)),), "ab"[i % 2])
    for i in range(21)
]
task = table_classification("words", examples, examples, ("a", "b"))
# The checkpoint has no dropout.
config = FinetuningConfig(
    sequence_length=32, epochs=2, batch_size=8, learning_rate=1e-4, lora_rank=lora_rank
)
model, _, done = finetune_task(task, checkpoint, config, strategy)
results = {f"loss_{i}": e.loss for i, e in enumerate(done.evaluations)}
results["scores"] = Predictor(model, 8, strategy=strategy)(task.arrays(model, examples)[0])
for weight in model.weights:
    results[weight.path] = weight.numpy()
np.savez(path, **results)
