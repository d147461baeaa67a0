"""Steps of fine-tuning have the losses that PyTorch has, from the same weights and batches."""

import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.models.token_classifier import BertTokenClassifier
from keras_bert_tpu.training.finetuning_step import ClassificationStep, SpanStep
from keras_bert_tpu.training.optimizers import BertAdamW
from keras_bert_tpu.training.schedules import WarmupDecay

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "hugging_face"
STEPS, WARMUP, PEAK = 12, 3, 2e-3


class Losses(keras.callbacks.Callback):
    """The loss of each step."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_train_batch_end(self, batch, logs=None):
        self.found.append(logs["loss"])
        self.model.reset_metrics()


@pytest.mark.parametrize(
    ("kind", "name", "model_class", "step_class"),
    [
        ("classes", "texts", BertTextClassifier, ClassificationStep),
        ("pieces", "tokens", BertTokenClassifier, ClassificationStep),
        ("spans", "questions", BertQuestionAnswerer, SpanStep),
    ],
)
def test_losses_of_a_training_equal_those_of_pytorch(tmp_path, kind, name, model_class, step_class):
    folder = shutil.copytree(GOLDEN / name, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config["classifier_dropout"] = 0.0
    (folder / "config.json").write_text(json.dumps(config))
    with np.load(GOLDEN / "training.npz") as file:
        expected, rates = file[f"{kind}/losses"], file["rates"]
        names = {key.split("/")[-1] for key in file.files if key.startswith(f"{kind}/batches/")}
        batches = {
            key: np.stack([file[f"{kind}/batches/{number}/{key}"] for number in range(STEPS)])
            for key in names
        }
    model = model_class.from_pretrained(str(folder), sequence_length=20)
    schedule = WarmupDecay(PEAK, WARMUP, STEPS)
    np.testing.assert_allclose([schedule(tf.constant(i)) for i in range(STEPS)], rates, rtol=1e-5)
    step = step_class(model, 1.0, 1)
    optimizer = BertAdamW(schedule, decay_rate=0.01, bias_correction=True)
    optimizer.build(step.trainable_variables)
    step.compile(optimizer=optimizer, jit_compile=False)
    losses = Losses()
    dataset = tf.data.Dataset.from_tensor_slices(batches)
    step.fit(dataset, verbose=0, callbacks=[losses], shuffle=False)
    np.testing.assert_allclose(losses.found, expected, rtol=2e-5)
    assert expected[-1] < expected[0]
