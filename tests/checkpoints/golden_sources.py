"""Outputs of our models with weights of other frameworks, beside what those frameworks gave."""

import pathlib
import sys
import warnings

import numpy as np

from keras_bert_tpu.checkpoints.loading import load_weights
from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.checkpoints.weights_source import WeightsSource
from keras_bert_tpu.models.pretrainer import BertPretrainer

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import small_bert  # noqa: E402

TOLERANCE = 1e-5


def outputs_of(source: WeightsSource) -> dict[str, np.ndarray]:
    """Outputs for the shared batch, and `scores` of the head of a task where there is one."""
    model = BertPretrainer(source.encoder, dtype="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Of heads, which begin at random.
        load_weights(model, source)
    outputs = {name: np.array(value) for name, value in model(small_bert.build_inputs()).items()}
    for head in ("classifier", "span_classifier"):
        if f"{head}/kernel" in source.arrays:
            of_rows = source.model in ("BertTextClassifier", "BertMultipleChoice")
            vectors = outputs["pooled_output" if of_rows else "sequence_output"]
            outputs["scores"] = (
                vectors @ source.arrays[f"{head}/kernel"] + source.arrays[f"{head}/bias"]
            )
    return outputs


def assert_outputs(source: WeightsSource, file: str, *names: str) -> None:
    """Compares the named outputs with those in a file below tests/golden."""
    ours = outputs_of(source)
    real = small_bert.build_inputs()["padding_mask"].astype(bool)
    with np.load(GOLDEN / file) as expected:
        for name in names:
            theirs = expected[name]
            found = ours[name].reshape(theirs.shape)
            if theirs.shape[:2] == real.shape:
                theirs, found = theirs[real], found[real]
            np.testing.assert_allclose(
                found, theirs, atol=TOLERANCE, rtol=TOLERANCE, err_msg=f"{file} {name}"
            )


def assert_same(one: WeightsSource, other: WeightsSource, without: str = "-") -> None:
    """Checks that two sources hold the same bits, and the same settings."""
    expected = {name for name in one.arrays if not name.startswith(without)}
    assert expected == set(other.arrays)
    for name in expected:
        assert other.arrays[name].dtype == np.float32
        np.testing.assert_array_equal(one.arrays[name], other.arrays[name], err_msg=name)
    for field in ("encoder", "vocabulary", "lower_case", "strip_accents", "added_tokens", "labels"):
        assert getattr(one, field) == getattr(other, field), field


def golden(path: str) -> WeightsSource:
    """Reads a folder below tests/golden."""
    return read_weights(str(GOLDEN / path))
