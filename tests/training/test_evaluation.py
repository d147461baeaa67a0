"""Held-out metrics count every real target once, whatever the batch size leaves to be padded."""

import keras
import numpy as np
import pytest

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.pretraining_data.pipeline import validation_dataset
from keras_bert_tpu.training.optimizers import BertAdamW
from keras_bert_tpu.training.train_step import PretrainingStep


@pytest.fixture(scope="module")
def step(vocabulary):
    keras.utils.set_random_seed(1)
    encoder = EncoderConfig.from_preset("tiny", vocab_size=len(vocabulary), max_positions=64)
    step = PretrainingStep(BertPretrainer(encoder, dtype="float32"), clip_norm=1.0, seed=1)
    step.compile(optimizer=BertAdamW())
    return step


def test_metrics_equal_those_computed_example_by_example(step, records):
    num_examples = 37
    folder = str(records / "short")
    losses, hits, words, right = 0.0, 0.0, 0.0, 0.0
    for example in validation_dataset(folder, 1, 32, 5, num_examples=num_examples):
        outputs = {name: np.asarray(value)[0] for name, value in step(example).items()}
        real = example["mask_weights"].numpy()[0] > 0
        ids = example["mask_ids"].numpy()[0][real]
        scores = outputs["mlm_logits"][real].astype("float64")
        log_sums = np.log(np.exp(scores).sum(axis=-1))
        losses += (log_sums - scores[np.arange(len(ids)), ids]).sum()
        hits += (scores.argmax(axis=-1) == ids).sum()
        words += len(ids)
        right += outputs["nsp_logits"].argmax() == example["next_sentence_label"].numpy()[0, 0]
    # 37 examples leave 3, 21 and 27 rows of padding.
    for batch_size in (8, 58, 64):
        data = validation_dataset(folder, batch_size, 32, 5, num_examples=num_examples)
        results = step.evaluate(data, return_dict=True, verbose=0)
        assert results["mlm_loss"] == pytest.approx(losses / words, rel=1e-5), batch_size
        assert results["mlm_accuracy"] == pytest.approx(hits / words, rel=1e-5), batch_size
        assert results["nsp_accuracy"] == pytest.approx(right / num_examples, rel=1e-5), batch_size
