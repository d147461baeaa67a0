"""The train step on one and on several replicas, each in a process of its own."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = pathlib.Path(__file__).parent / "replicas_program.py"


def train(folder, replicas=1, steps_per_execution=1, dropout=0.0):
    path = folder / f"{replicas}_{steps_per_execution}_{dropout}.npz"
    arguments = [str(replicas), str(steps_per_execution), str(dropout), str(path)]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True
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


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_with_uneven_masks_train_and_report_as_one_does(tmp_path, on_one, replicas):
    # The rows of the last replicas hold no masked word at all.
    assert_close(train(tmp_path, replicas=replicas), on_one)


def test_several_steps_in_one_execution_train_as_single_ones(tmp_path, on_one):
    assert_close(train(tmp_path, steps_per_execution=2), on_one)


def test_several_steps_in_one_execution_work_on_replicas(tmp_path, on_one):
    assert_close(train(tmp_path, replicas=2, steps_per_execution=2), on_one)


def test_dropout_differs_between_replicas_and_repeats_with_the_seed(tmp_path, on_one):
    first = train(tmp_path, replicas=2, dropout=0.1)
    again = train(tmp_path, replicas=2, dropout=0.1)
    np.testing.assert_array_equal(first["fit_loss"], again["fit_loss"])
    assert abs(first["fit_loss"] - on_one["fit_loss"]) > 1e-3


def test_clipping_and_weights_really_moved(on_one):
    # The reported norm is the one before clipping to 0.5.
    assert on_one["fit_gradient_norm"] > 1.0
    assert 0 < on_one["waited"] < 60
