"""The train step on one and on several replicas, each in a process of its own."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from keras_bert_tpu.training import global_step

PROGRAM = pathlib.Path(__file__).parent / "replicas_program.py"


def train(folder, **options):
    options = {
        "replicas": 1,
        "steps_per_execution": 1,
        "dropout": 0.0,
        "learning_rate": 1e-3,
        "accumulation_steps": 1,
        "recompute": False,
        "average_decay": 0.9,
        "batches": [0, 1, 2, 3],
        "rows": list(range(8)),
        **options,
    }
    path = folder / "results.npz"
    done = subprocess.run(
        [sys.executable, str(PROGRAM), json.dumps(options), str(path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def on_one(tmp_path_factory):
    return train(tmp_path_factory.mktemp("one"))


def assert_close(results, expected):
    assert results.keys() == expected.keys()
    for name in expected:
        if name != "waited":
            np.testing.assert_allclose(
                results[name], expected[name], rtol=2e-5, atol=2e-5, err_msg=name
            )


@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_replicas_with_uneven_masks_train_and_report_as_one_does(tmp_path, on_one, replicas):
    # The rows of the last replicas hold no masked word at all.
    assert_close(train(tmp_path, replicas=replicas), on_one)


def test_several_steps_in_one_execution_train_as_single_ones(tmp_path, on_one):
    assert_close(train(tmp_path, steps_per_execution=2), on_one)


def test_several_steps_in_one_execution_work_on_replicas(tmp_path, on_one):
    assert_close(train(tmp_path, replicas=2, steps_per_execution=2), on_one)


@pytest.mark.parametrize(("replicas", "slices"), [(1, 2), (1, 8), (2, 2)])
def test_slices_of_a_batch_add_up_to_the_whole(tmp_path, on_one, replicas, slices):
    # The slices hold from 16 to no masked words, so a mean of their means would be another loss.
    assert_close(train(tmp_path, replicas=replicas, accumulation_steps=slices), on_one)


@pytest.mark.parametrize(
    "how",
    [{"accumulation_steps": 2}, pytest.param({"replicas": 2}, marks=pytest.mark.slow)],
)
def test_slices_and_replicas_draw_dropout_masks_of_their_own(tmp_path, how):
    # Of rows that stand there twice, the second half would repeat the loss of the first.
    half, rows = {"dropout": 0.1, "batches": [1]}, [0, 1, 2, 3]
    once = train(tmp_path, rows=rows, **half)
    twice = train(tmp_path, rows=rows * 2, **half, **how)
    assert abs(once["fit_loss"] - twice["fit_loss"]) > 1e-4


def test_seeds_of_replicas_slices_and_rounds_never_meet():
    replicas, slices, rounds = np.meshgrid(np.arange(2048), np.arange(64), np.arange(4))
    first = (
        replicas * global_step._REPLICA_STRIDE
        + slices * global_step._SLICE_STRIDE
        + rounds * global_step._ROUND_STRIDE
    )
    assert len(np.unique(first % 2**31)) == first.size


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_recomputed_layers_give_the_same_gradients_with_dropout(tmp_path, replicas):
    kept = train(tmp_path, replicas=replicas, dropout=0.1)
    assert_close(train(tmp_path, replicas=replicas, dropout=0.1, recompute=True), kept)


def test_dropout_differs_between_replicas_and_repeats_with_the_seed(tmp_path, on_one):
    first = train(tmp_path, replicas=2, dropout=0.1)
    again = train(tmp_path, replicas=2, dropout=0.1)
    np.testing.assert_array_equal(first["fit_loss"], again["fit_loss"])
    assert abs(first["fit_loss"] - on_one["fit_loss"]) > 1e-3


def test_each_step_draws_dropout_masks_of_its_own(tmp_path):
    once, twice = (
        train(tmp_path, dropout=0.1, learning_rate=0.0, batches=batches)
        for batches in ([1], [1, 1])
    )
    assert abs(once["fit_loss"] - twice["fit_loss"]) > 1e-4


def weights_of(results):
    return {name: value for name, value in results.items() if name.startswith("pretrainer/")}


@pytest.mark.parametrize(
    ("replicas", "slices"), [(1, 1), pytest.param(2, 2, marks=pytest.mark.slow)]
)
def test_step_that_is_not_finite_is_counted_and_changes_nothing_else(tmp_path, replicas, slices):
    how = {"replicas": replicas, "accumulation_steps": slices, "average_decay": 0.0}
    expected = train(tmp_path, batches=[1, 2, 3], **how)
    results = train(tmp_path, batches=[1, -1, 2, 3], **how)
    assert_close(weights_of(results), weights_of(expected))
    for name in ("fit_loss", "fit_mlm_accuracy", "fit_gradient_norm", "norm/layer_1"):
        np.testing.assert_allclose(results[name], expected[name], rtol=1e-4, err_msg=name)
    assert results["fit_skipped_steps"] == pytest.approx(1.0)
    assert results["skipped_in_row"] == 0


def test_weights_stay_as_they_were_once_too_many_steps_in_a_row_are_skipped(tmp_path):
    expected = train(tmp_path, batches=[1])
    # The limit is two; the last batch alone would be finite.
    results = train(tmp_path, batches=[1, -1, -2, 3])
    assert_close(weights_of(results), weights_of(expected))
    assert results["skipped_in_row"] == 3
    # A row that is shorter than that ends with the next step that is finite.
    assert train(tmp_path, batches=[1, -1, 2, -3])["skipped_in_row"] == 1


def test_norms_of_the_layers_make_up_the_norm_of_the_gradient(tmp_path):
    results = train(tmp_path, batches=[1])
    norms = {name: value for name, value in results.items() if name.startswith("norm/")}
    layers = ["embeddings", "layer_0", "layer_1", "pooler", "masked_language_model"]
    assert [name.removeprefix("norm/") for name in norms] == [*layers, "next_sentence"]
    assert min(norms.values()) > 0
    together = np.sqrt(sum(norm**2 for norm in norms.values()))
    np.testing.assert_allclose(together, results["fit_gradient_norm"], rtol=1e-5)


def test_average_follows_the_weights(tmp_path):
    # Decays of 0.1 and 2 / 11, from the initial weights on, by the rule in BertOptimizer.
    first, second = (train(tmp_path, batches=batches) for batches in ([1], [1, 2]))
    for name, weight in weights_of(first).items():
        middle, last = first[f"average/{name}"], second[f"average/{name}"]
        expected = middle + (1 - 2 / 11) * (second[name] - middle)
        np.testing.assert_allclose(last, expected, rtol=1e-5, atol=1e-7, err_msg=name)
        assert np.abs(middle - weight).max() > 0 or not np.any(weight)


def test_the_gradient_is_clipped_and_its_norm_reported_unclipped(tmp_path):
    results = train(tmp_path, replicas=2, batches=[1])
    assert results["fit_gradient_norm"] > 1.0
    # A tenth of a gradient of norm 0.5, the limit, is in the first moments.
    np.testing.assert_allclose(results["first_moment_norm"], 0.1 * 0.5, rtol=1e-4)
    assert 0 < results["waited"] < 60
