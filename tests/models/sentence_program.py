"""Trains a sentence encoder on logical CPU devices; run by test_sentence_replicas.py."""

import sys

import numpy as np
import tensorflow as tf

replicas, folder, path = int(sys.argv[1]), *sys.argv[2:4]
if replicas > 1:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * replicas,
    )

import keras  # noqa: E402

from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder  # noqa: E402
from keras_bert_tpu.tpu.connect import connect  # noqa: E402

strategy = connect().strategy
assert strategy.num_replicas_in_sync == replicas
keras.utils.set_random_seed(1)
with strategy.scope():
    model = BertSentenceEncoder.from_pretrained(folder)
first = [" ".join(["garden", "house"][i % 2] for _ in range(i + 1)) for i in range(8)]
pairs, similarities = (first, first[::-1]), np.linspace(0.0, 1.0, 8)
results = {"before": model.predict(first[:5], batch_size=2, verbose=0)}
history = model.fit(pairs, similarities, batch_size=4, epochs=2, shuffle=False, verbose=0).history
results["fit"] = history["loss"]
dataset = tf.data.Dataset.from_tensor_slices((pairs, similarities)).batch(4)
results["evaluate"] = model.evaluate(dataset, verbose=0)
# Seven texts leave a last batch in which a replica has none.
results["vectors"] = model.predict(first[:7], batch_size=2, verbose=0)
texts = tf.data.Dataset.from_tensor_slices(first[:7])
results["vectors_dataset"] = model.predict(texts, batch_size=2, verbose=0)
# So do five pairs.
model.fit(dataset.unbatch().take(5).batch(4), steps_per_epoch=2, verbose=0)
results["finite"] = all(np.isfinite(weight.numpy()).all() for weight in model.weights)
np.savez(path, **results)
