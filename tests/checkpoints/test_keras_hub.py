"""Presets of KerasHub are read as it reads them, and it reads what is written for it."""

import json
import os
import shutil
import sys

import h5py
import keras
import numpy as np
import pytest

from keras_bert_tpu.checkpoints.keras_hub import write_keras_hub
from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.models.token_classifier import BertTokenClassifier

from golden_sources import (
    GOLDEN,
    TOLERANCE,
    assert_outputs,
    assert_same,
    golden,
    outputs_of,
    small_bert,
)

FOLDER = GOLDEN / "keras_hub"


@pytest.fixture
def hub():
    return pytest.importorskip("keras_hub", reason="needs keras-hub, of the extra [keras-hub]")


@pytest.fixture
def folder(hub, tmp_path):
    """A copy of a preset of a classifier, to be damaged."""
    return shutil.copytree(FOLDER / "texts", tmp_path / "texts")


def backbone_inputs():
    """The shared batch under the names of KerasHub, which are ours."""
    batch = small_bert.build_inputs()
    return {name: batch[name] for name in ("token_ids", "segment_ids", "padding_mask")}


def assert_same_outputs(ours, theirs):
    """Compares the outputs of a backbone with ours, where there is no padding."""
    real = backbone_inputs()["padding_mask"].astype(bool)
    outputs = {name: keras.ops.convert_to_numpy(value) for name, value in theirs.items()}
    for name in ("sequence_output", "pooled_output"):
        rows = real if name == "sequence_output" else slice(None)
        np.testing.assert_allclose(
            ours[name][rows], outputs[name][rows], atol=TOLERANCE, rtol=TOLERANCE, err_msg=name
        )


def build_backbone(hub, **changes):
    """A backbone whose every weight is random."""
    sizes = {
        "vocabulary_size": len(small_bert.PIECES),
        "num_layers": 1,
        "num_heads": 2,
        "hidden_dim": 8,
        "intermediate_dim": 12,
        "max_sequence_length": 20,
    }
    backbone = hub.models.BertBackbone(**{**sizes, **changes})
    random = np.random.default_rng(5)
    for weight in backbone.weights:
        weight.assign(small_bert.draw(weight.path, tuple(weight.shape), random))
    return backbone


def change(file, **values):
    """Sets keys of the config within a JSON file of a preset."""
    content = json.loads(file.read_text())
    content["config"] |= values
    file.write_text(json.dumps(content))


def refused(folder, match):
    with pytest.raises(InputError, match=match) as error:
        read_weights(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "model", "head"),
    [("masked_lm", "BertPretrainer", []), ("texts", "BertTextClassifier", ["scores"])],
)
def test_outputs_of_both_tasks_equal_those_of_keras_hub(hub, name, model, head):
    source = golden(f"keras_hub/{name}")
    assert (source.format, source.model) == ("keras_hub", model)
    assert (source.encoder.hidden_activation, source.encoder.hidden_dropout) == ("gelu_tanh", 0.2)
    assert_outputs(source, f"keras_hub/{name}.npz", "sequence_output", "pooled_output", *head)


def test_scores_of_words_differ_by_no_more_than_the_epsilon_of_their_head(hub):
    ours = outputs_of(golden("keras_hub/masked_lm"))["mlm_logits"]
    with np.load(FOLDER / "masked_lm.npz") as expected:
        np.testing.assert_allclose(ours, expected["mlm_logits"], atol=1e-3)


def test_a_preset_of_a_backbone_made_here_is_computed_as_keras_hub_does(hub, tmp_path):
    backbone = build_backbone(hub, num_segments=3)
    backbone.save_to_preset(str(tmp_path))
    source = read_weights(str(tmp_path))
    assert (source.model, source.vocabulary) == ("BertEncoder", None)
    assert (source.encoder.num_layers, source.encoder.type_vocab_size) == (1, 3)
    assert_same_outputs(outputs_of(source), backbone(backbone_inputs()))
    with pytest.raises(InputError, match="no vocabulary beside the weights"):
        source.tokenizer()


@pytest.mark.parametrize("lower_case", [True, False])
def test_vocabulary_and_case_are_those_of_their_tokenizer(hub, tmp_path, lower_case):
    build_backbone(hub).save_to_preset(str(tmp_path))
    theirs = hub.models.BertTokenizer(vocabulary=small_bert.PIECES, lowercase=lower_case)
    theirs.save_to_preset(str(tmp_path))
    source = read_weights(str(tmp_path))
    assert list(source.vocabulary.pieces) == theirs.get_vocabulary()
    assert source.lower_case == lower_case
    text = "The garden was full of roses, it opened in 1911."
    assert source.tokenizer()([text]).to_list() == [list(theirs(text))]


@pytest.mark.parametrize("name", ["masked_lm", "texts"])
def test_keras_hub_reads_what_is_written_and_so_is_it_read_again(hub, tmp_path, name):
    source = golden(f"keras_hub/{name}")
    with pytest.warns(UserWarning, match="BertBackbone has no place for (masked|classifier)"):
        write_keras_hub(str(tmp_path / "written"), source)
    backbone = hub.models.BertBackbone.from_preset(str(tmp_path / "written"))
    assert_same_outputs(outputs_of(source), backbone(backbone_inputs()))
    tokenizer = hub.models.BertTokenizer.from_preset(str(tmp_path / "written"))
    assert tokenizer.get_vocabulary() == list(source.vocabulary.pieces)
    again = read_weights(str(tmp_path / "written"))
    encoder = {n: array for n, array in source.arrays.items() if n.startswith("encoder/")}
    assert_same(source._replace(arrays=encoder), again)


def test_what_keras_hub_computes_otherwise_is_told_and_kept_for_the_way_back(hub, tmp_path):
    source = golden("hugging_face/texts")  # Exact GELU, and an epsilon of 1e-5.
    with pytest.warns(UserWarning) as told:
        write_keras_hub(str(tmp_path / "written"), source)
    messages = " ".join(str(warning.message) for warning in told)
    assert "GELU by tanh" in messages and "epsilon of 1e-12" in messages
    assert read_weights(str(tmp_path / "written")).encoder == source.encoder
    with pytest.raises(InputError, match="hidden_activation='relu', and KerasHub's BertBackbone"):
        write_keras_hub(str(tmp_path / "relu"), golden("hugging_face/next_sentence"))
    assert not (tmp_path / "relu").exists()
    with pytest.raises(InputError, match="no weights for encoder/pooler/.*KerasHub asks for"):
        write_keras_hub(str(tmp_path / "poolerless"), golden("hugging_face/masked_lm"))
    assert not (tmp_path / "poolerless").exists()


def test_a_task_model_takes_the_head_of_its_task_and_else_begins_a_new_one(hub):
    path = str(FOLDER / "texts")
    same = BertTextClassifier.from_pretrained(path)
    assert same.num_classes == 3
    batch = backbone_inputs()
    with np.load(FOLDER / "texts.npz") as expected:
        np.testing.assert_allclose(same(batch), expected["scores"], atol=TOLERANCE)
    with pytest.raises(InputError, match="a head of 3 classes, and num_classes=2 is asked for"):
        BertTextClassifier.from_pretrained(path, labels=["a", "b"])
    words = BertTokenClassifier.from_pretrained(path, labels=["O", "B-X"])
    encoded = outputs_of(golden("keras_hub/texts"))["sequence_output"]
    real = batch["padding_mask"].astype(bool)
    np.testing.assert_allclose(words.encoder(batch)["sequence_output"][real], encoded[real], 1e-5)
    assert words.tokenizer.vocabulary.pieces == tuple(small_bert.PIECES)


def test_a_preset_of_another_architecture_is_refused(hub, tmp_path, folder):
    hub.models.RobertaBackbone(
        vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
    ).save_to_preset(str(tmp_path / "other"))
    refused(tmp_path / "other", "preset of 'RobertaBackbone', and only BertBackbone can be read")
    task = json.loads((folder / "task.json").read_text())
    (folder / "task.json").write_text(json.dumps({**task, "class_name": "BertOther"}))
    refused(folder, "preset of the task 'BertOther'.* BertMaskedLM and BertTextClassifier can be")


@pytest.mark.parametrize("name", ["model.weights.h5", "task.weights.h5"])
@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_of_weights_is_told(folder, name, part):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(part * len(content))])
    refused(folder, "copy (it|them) again|too few for the model|of another model")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_layers": 1}, "numbers in its weights, and its config.json asks for"),
        ({"num_layers": 10**12}, "bytes of weights, too few for the model of its config.json"),
        ({"vocabulary_size": 10**15}, "too few for the model of its config.json"),
        ({"hidden_dim": "wide"}, "hidden_size must be of type int"),
        ({"num_heads": 5}, "must be a multiple of num_heads"),
    ],
)
def test_a_config_of_other_weights_is_told(folder, settings, message):
    change(folder / "config.json", **settings)
    refused(folder, message)


def test_a_head_that_is_not_whole_is_told_and_not_begun_at_random(folder):
    with h5py.File(folder / "task.weights.h5", "a") as file:
        del file["layers/dense/vars/1"]
    refused(folder, "cannot be read, copy them again")


def test_files_that_are_missing_or_no_json_are_told(folder):
    (folder / "task.json").write_text("{")
    refused(folder, "task.json is not valid JSON, copy it again")
    shutil.copy(FOLDER / "texts" / "task.json", folder)
    change(folder / "task.json", num_classes=10**12)
    refused(folder, "preset of the task 'BertTextClassifier' with 1000000000000 classes")
    os.remove(folder / "model.weights.h5")
    refused(folder, "has a config.json and no model.weights.h5; copy its weights, too")
    (folder / "config.json").write_text("[" * 100_000)
    refused(folder, "config.json is not valid JSON")


def test_a_vocabulary_of_more_pieces_than_rows_is_refused(folder):
    with open(folder / "assets" / "tokenizer" / "vocabulary.txt", "a") as file:
        file.write("more\n")
    refused(folder, "and the table of the model only .* rows")


def test_names_of_presets_that_cannot_be_had_are_told(hub, monkeypatch):
    def fail(preset, path):
        raise ValueError(f"{preset} cannot be reached\nat all")

    monkeypatch.setattr("keras_hub.src.utils.preset_utils.get_file", fail)
    for name in ("bert_no_such_en", "kaggle://someone/bert/keras/none"):
        refused(name, f"KerasHub has no preset '{name}' at hand .*check the name and the network")


def test_without_keras_hub_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    for path in (FOLDER / "texts", "bert_tiny_en_uncased"):
        refused(path, r"pip install 'keras_bert_tpu\[keras-hub\]'")
    with pytest.raises(InputError, match=r"keras_bert_tpu\[keras-hub\]"):
        write_keras_hub(str(tmp_path / "written"), golden("google/squad"))
    assert not (tmp_path / "written").exists()


def test_a_sentence_encoder_comes_back_from_a_preset_with_its_pooling(hub, tmp_path):
    source = golden("hugging_face/encoder")._replace(
        model="BertSentenceEncoder", pooling="cls", normalize=True, sequence_length=20
    )
    with pytest.warns(UserWarning, match="KerasHub computes GELU by tanh"):
        write_keras_hub(str(tmp_path), source)
    written = read_weights(str(tmp_path))
    assert_same(source, written)
    for field in ("model", "pooling", "normalize", "sequence_length"):
        assert getattr(written, field) == getattr(source, field), field
