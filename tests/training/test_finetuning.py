"""The loop of fine-tuning where every length costs a compilation."""

import keras
import numpy as np
import pytest

from keras_bert_tpu.checkpoints.storage import copy_arrays, weights_by_name
from keras_bert_tpu.config import EncoderConfig, FinetuningConfig
from keras_bert_tpu.models.multiple_choice import BertMultipleChoice
from keras_bert_tpu.models.token_classifier import BertTokenClassifier
from keras_bert_tpu.training import finetuning, task_prediction
from keras_bert_tpu.training.finetuning_step import ClassificationStep
from keras_bert_tpu.training.task_batches import TaskArrays, prediction_batches

LENGTH, EXAMPLES = 64, 64


def make_arrays(kind):
    """Rows of 3 to 64 pieces, those of words with a label for each piece."""
    rng = np.random.default_rng(1)
    shape = (EXAMPLES, 2, LENGTH) if kind is BertMultipleChoice else (EXAMPLES, LENGTH)
    pieces = rng.integers(3, LENGTH + 1, EXAMPLES).reshape(-1, *[1] * (len(shape) - 1))
    mask = np.broadcast_to(np.arange(LENGTH) < pieces, shape).astype("int32")
    tokens = {
        "token_ids": rng.integers(5, 30, shape).astype("int32") * mask,
        "segment_ids": np.zeros(shape, "int32"),
        "padding_mask": mask,
    }
    if kind is BertMultipleChoice:
        label = rng.integers(0, 2, EXAMPLES).astype("int32")
        return TaskArrays(tokens, {"label": label, "label_weights": np.ones(EXAMPLES, "float32")})
    tokens["label"] = (tokens["token_ids"] > 15).astype("int32")
    tokens["label_weights"] = mask.astype("float32")
    return TaskArrays(tokens, {})


@pytest.mark.parametrize("kind", [BertMultipleChoice, BertTokenClassifier])
def test_few_static_lengths_learn_the_same_as_many(monkeypatch, kind):
    found = []
    arrays = make_arrays(kind)
    encoder = EncoderConfig.from_preset(
        "tiny", vocab_size=30, hidden_dropout=0.0, attention_dropout=0.0
    )
    config = FinetuningConfig(sequence_length=LENGTH, epochs=2, batch_size=4, learning_rate=1e-3)
    for is_static in (False, True):
        for module in (finetuning, task_prediction):
            monkeypatch.setattr(module, "has_static_shapes", lambda strategy, i=is_static: i)
        keras.utils.set_random_seed(1)
        model = kind(encoder)
        step = ClassificationStep(model, 1.0, 1)
        scores = []

        def evaluate(predictor, scores=scores):
            scores.append(predictor(arrays))
            return {"number": float(len(scores))}

        done = finetuning.finetune(model, step, arrays, config, evaluate, "number")
        assert step.length_buckets == ((16, 32, 48, 64) if is_static else ())
        traces = done.predictor._function.experimental_get_tracing_count()
        batches = prediction_batches(arrays, 2 * config.batch_size, (16, 32, 48, 64))
        lengths = {batch["padding_mask"].shape[-1] for _, batch in batches}
        assert traces == (len(lengths) if is_static else 2) and len(lengths) > 2
        found.append((copy_arrays(weights_by_name(model)), scores[-1]))
    for name, array in found[0][0].items():
        np.testing.assert_allclose(found[1][0][name], array, atol=1e-4, err_msg=name)
    few, many = (scores for _, scores in found)
    if kind is BertTokenClassifier:  # Scores of what is no piece mean nothing.
        few, many = (s[arrays.tokens["padding_mask"] == 1] for s in (few, many))
    np.testing.assert_allclose(few, many, atol=1e-3)
