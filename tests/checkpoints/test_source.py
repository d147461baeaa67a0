"""Weights are found in each folder that a run leaves, and what is not whole is never taken."""

import dataclasses
import json
import os
import shutil

import keras
import numpy as np
import pytest

from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.checkpoints.storage import weights_by_name
from keras_bert_tpu.config import InputError, PretrainingConfig
from keras_bert_tpu.dataclass_yaml import from_dict
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from keras_bert_tpu.training import run_folder
from keras_bert_tpu.training.checkpointing import Checkpointer
from keras_bert_tpu.training.optimizers import BertAdamW

VOCABULARY = Vocabulary([*SPECIAL_TOKENS, "a", "b"])
# Not what can be told from the shapes of the weights: activation and epsilon.
CONFIG = from_dict(
    PretrainingConfig,
    {
        "encoder": {
            "vocab_size": 7,
            "num_layers": 1,
            "hidden_size": 4,
            "num_heads": 2,
            "intermediate_size": 8,
            "max_positions": 16,
            "hidden_activation": "gelu_tanh",
            "layer_norm_epsilon": 1e-5,
        },
        "phases": [{"sequence_length": 16}],
    },
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two checkpoints, in which all weights are 1 and then 2, and the model of 2."""
    output = tmp_path_factory.mktemp("finished")
    manifest = tmp_path_factory.mktemp("records") / "manifest.json"
    manifest.write_text("{}")
    run_folder.claim(str(output), CONFIG, [str(manifest)])
    model = BertPretrainer(CONFIG.encoder, dtype="float32")
    optimizer = BertAdamW()
    optimizer.build(model.trainable_variables)
    checkpointer = Checkpointer(str(output / "checkpoints"), model, optimizer)
    for step in (5, 10):
        for variable in model.weights:
            variable.assign(keras.ops.full_like(variable, step // 5))
        checkpointer.save(step, {})
    model.save_pretrained(str(output / "model"), VOCABULARY)
    return output


@pytest.fixture
def run(tmp_path, finished):
    return shutil.copytree(finished, tmp_path / "run")


def assert_all(source, value):
    assert source.arrays
    for array in source.arrays.values():
        np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize(
    ("folder", "value", "taken", "description"),
    [
        ("model", 2, "model", "the model "),
        ("checkpoints/step-00000005", 1, "checkpoints/step-00000005", "step 5, "),
        ("checkpoints/step-00000010/", 2, "checkpoints/step-00000010", "step 10, "),
        ("checkpoints", 2, "checkpoints/step-00000010", "step 10, "),
        (".", 2, "checkpoints/step-00000010", "step 10, "),
    ],
)
def test_weights_config_and_vocabulary_come_from_each_folder(
    finished, folder, value, taken, description
):
    source = read_weights(f"{finished}/{folder}")
    assert_all(source, value)
    assert source.encoder == CONFIG.encoder
    assert source.vocabulary == VOCABULARY
    assert source.path == f"{finished}/{taken}"
    assert f"{description}{'' if folder == 'model' else finished}" in source.description


def test_averages_of_the_weights_are_taken_where_a_run_keeps_them(tmp_path):
    config = dataclasses.replace(
        CONFIG, optimizer=dataclasses.replace(CONFIG.optimizer, average_decay=0.5)
    )
    (tmp_path / "manifest.json").write_text("{}")
    run_folder.claim(str(tmp_path / "run"), config, [str(tmp_path / "manifest.json")])
    model = BertPretrainer(config.encoder, dtype="float32")
    optimizer = BertAdamW(average_decay=0.5)
    # As where a layer is frozen: it has no average, and stays as it is.
    trained = [variable for variable in model.weights if "next_sentence" not in variable.path]
    optimizer.build(trained)
    for variable in model.weights:
        variable.assign(keras.ops.full_like(variable, 1))
    for average in optimizer.averages:
        average.assign(keras.ops.full_like(average, 2))
    Checkpointer(str(tmp_path / "run" / "checkpoints"), model, optimizer).save(5, {})
    source = read_weights(str(tmp_path / "run"))
    assert source.arrays.keys() == weights_by_name(model).keys()
    for name, array in source.arrays.items():
        np.testing.assert_array_equal(array, 1 if "next_sentence" in name else 2, err_msg=name)
    assert source.description.startswith("the averaged weights of the checkpoint of step 5")


def test_weights_go_into_a_model(finished):
    model = BertPretrainer(CONFIG.encoder, dtype="float32")
    read_weights(str(finished / "checkpoints" / "step-00000005")).assign_to(model)
    for name, variable in weights_by_name(model).items():
        np.testing.assert_array_equal(variable.numpy(), 1, err_msg=name)


def test_a_path_from_within_the_run_is_read_alike(finished, monkeypatch):
    monkeypatch.chdir(finished / "checkpoints")
    assert_all(read_weights("step-00000005"), 1)
    monkeypatch.chdir(finished / "checkpoints" / "step-00000005")
    assert read_weights(".").encoder == CONFIG.encoder


def test_a_run_that_is_under_way_has_no_vocabulary_yet(run):
    shutil.rmtree(run / "model")
    source = read_weights(str(run))
    assert source.vocabulary is None
    assert_all(source, 2)


def test_an_unfinished_checkpoint_of_a_run_does_not_count(run):
    os.remove(run / "checkpoints" / "step-00000010" / "checkpoint.json")
    assert_all(read_weights(str(run)), 1)


def test_a_run_without_checkpoints_gives_its_model(run):
    shutil.rmtree(run / "checkpoints")
    source = read_weights(str(run))
    assert source.path == str(run / "model")
    assert_all(source, 2)


def test_a_run_without_anything_is_told(run):
    shutil.rmtree(run / "checkpoints")
    os.remove(run / "model" / "config.json")  # As where its model is being written.
    with pytest.raises(InputError, match="has no complete checkpoint yet"):
        read_weights(str(run))


@pytest.mark.parametrize("folder", [".", "model", "checkpoints/step-00000010"])
def test_damage_is_told_and_nothing_older_taken_instead(run, folder):
    for path in ("model", "checkpoints/step-00000010"):
        file = run / path / "model.safetensors"
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="model.safetensors does not have the checksum") as error:
        read_weights(str(run / folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("folder", ["model", "checkpoints/step-00000010"])
def test_a_folder_without_its_marker_is_refused(run, folder):
    for marker in ("config.json", "checkpoint.json"):
        (run / folder / marker).unlink(missing_ok=True)
    with pytest.raises(InputError, match="neither config.json nor checkpoint.json, which are"):
        read_weights(str(run / folder))


def test_a_cut_off_marker_is_told(run):
    marker = run / "checkpoints" / "step-00000010" / "checkpoint.json"
    marker.write_text(marker.read_text()[:30])
    with pytest.raises(InputError, match="checkpoint.json is not valid JSON; give another"):
        read_weights(str(run))


def test_a_missing_file_of_weights_is_told(run):
    os.remove(run / "checkpoints" / "step-00000010" / "model.safetensors")
    with pytest.raises(InputError, match="model.safetensors is missing; give another checkpoint"):
        read_weights(str(run))


@pytest.mark.parametrize("file", ["checkpoints/step-00000010/checkpoint.json", "run.json"])
def test_an_unknown_format_is_refused(run, file):
    path = run / file
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(InputError, match="format (version )?99, this version reads"):
        read_weights(str(run))


def test_a_checkpoint_away_from_its_run_is_told_what_it_lacks(run, tmp_path):
    shutil.move(run / "checkpoints" / "step-00000005", tmp_path / "alone")
    with pytest.raises(InputError, match="not in the folder of its run.*run.json"):
        read_weights(str(tmp_path / "alone"))


def test_what_is_no_folder_of_weights_is_told(run, tmp_path):
    with pytest.raises(InputError, match="There is no folder .*absent"):
        read_weights(str(tmp_path / "absent"))
    with pytest.raises(InputError, match="There is no folder ''"):
        read_weights("")
    with pytest.raises(InputError, match="There is no folder .*model.safetensors"):
        read_weights(str(run / "model" / "model.safetensors"))
    with pytest.raises(InputError, match="holds no weights.*give one of these"):
        read_weights(str(tmp_path))


def test_weights_of_another_model_are_refused(finished):
    config = from_dict(type(CONFIG.encoder), {"preset": "tiny", "vocab_size": 7})
    with pytest.raises(InputError, match="it is of another model"):
        read_weights(str(finished)).assign_to(BertPretrainer(config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "model must be what save_pretrained writes. Received: None"),
        ({"encoder": []}, "encoder must be what"),
        ({"lower_case": "yes"}, "lower_case must be what"),
        ({"added_tokens": [3]}, r"added_tokens must be what .*Received: \[3\]"),
        ({"labels": "a"}, "labels must be what"),
        ({"sequence_length": "long"}, "sequence_length must be what"),
        ({"sha256": None}, "sha256 must be what"),
        ({"encoder": {"layers": 3}}, "no config key encoder.layers"),
    ],
)
def test_model_folder_with_a_damaged_config_is_told(run, changes, message):
    file = run / "model" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(InputError, match=message):
        read_weights(str(run / "model"))
    file.write_text("[]")
    with pytest.raises(InputError, match="must hold a JSON object"):
        read_weights(str(run / "model"))
