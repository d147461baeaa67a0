"""Sentence encoders in our folders, in those of sentence-transformers and on the way between."""

import fnmatch
import json
import pathlib
import shutil
import sys
import types
import warnings

import numpy as np
import pytest
import safetensors.numpy

from keras_bert_tpu.checkpoints.bert_config import SETTINGS
from keras_bert_tpu.checkpoints.folder import write_folder
from keras_bert_tpu.checkpoints.google import write_google
from keras_bert_tpu.checkpoints.hugging_face import write_hugging_face
from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.encoder import BertEncoder
from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.tasks.prediction import load_task_model

from golden_sources import GOLDEN, TOLERANCE, assert_same, golden

sys.path.insert(0, str(GOLDEN))
import small_bert  # noqa: E402

FOLDER = GOLDEN / "hugging_face"
TEXTS = ["The garden was full of roses.", "Why?", "a b c d e f g h i j k l m n o p q r s t u v w x"]
FLAGS = {
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": False,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
}
OLD_TYPES = "sentence_transformers.models.{}"
NEW_TYPES = "sentence_transformers.sentence_transformer.modules.x.{}"


def add_modules(folder, kinds, pooling, types_like=OLD_TYPES, length=20):
    """Puts the files of sentence-transformers into a folder of transformers'."""
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": paths.get(kind, f"{i}_{kind}"),
            "type": types_like.format(kind),
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    settings = {"max_seq_length": length, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))


@pytest.fixture
def folder(tmp_path):
    """A copy of an encoder's folder, to be made one of sentence-transformers."""
    return shutil.copytree(FOLDER / "encoder", tmp_path / "encoder")


@pytest.fixture
def sentences(folder):
    add_modules(
        folder, ["Transformer", "Pooling", "Normalize"], {**FLAGS, "pooling_mode_cls_token": True}
    )
    return folder


@pytest.mark.parametrize(
    ("kinds", "pooling", "types_like", "expected"),
    [
        (["Normalize"], {**FLAGS, "pooling_mode_mean_tokens": True}, OLD_TYPES, ("mean", True)),
        ([], {**FLAGS, "pooling_mode_cls_token": True}, OLD_TYPES, ("cls", False)),
        (["Normalize"], {"embedding_dimension": 32, "pooling_mode": "cls"}, NEW_TYPES, ("cls", 1)),
        ([], {"word_embedding_dimension": 32, "pooling_mode": ["mean"]}, NEW_TYPES, ("mean", 0)),
        ([], {"word_embedding_dimension": 32}, OLD_TYPES, ("mean", False)),
    ],
)
def test_vectors_are_made_as_the_folder_says(folder, kinds, pooling, types_like, expected):
    add_modules(folder, ["Transformer", "Pooling", *kinds], pooling, types_like)
    model = BertSentenceEncoder.from_pretrained(str(folder), dtype="float32")
    assert (model.pooling, model.normalize) == expected
    assert model.sequence_length == 20
    inputs = small_bert.build_inputs()
    with np.load(FOLDER / "encoder.npz") as file:
        hidden = file["sequence_output"]
    mask = inputs["padding_mask"][..., np.newaxis]
    means = (hidden * mask).sum(1) / mask.sum(1)
    vectors = means if expected[0] == "mean" else hidden[:, 0]
    if expected[1]:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(model(inputs), vectors, atol=TOLERANCE, rtol=TOLERANCE)


def test_what_is_asked_for_goes_before_what_the_folder_says(sentences):
    model = BertSentenceEncoder.from_pretrained(
        str(sentences), pooling="mean", normalize=False, sequence_length=12
    )
    assert (model.pooling, model.normalize, model.sequence_length) == ("mean", False, 12)


def test_without_a_length_rows_are_as_long_as_the_positions(sentences):
    for settings in ({"max_seq_length": None}, {}):
        (sentences / "sentence_bert_config.json").write_text(json.dumps(settings))
        source = read_weights(str(sentences))
        assert source.sequence_length == source.encoder.max_positions
    (sentences / "sentence_bert_config.json").unlink()
    assert read_weights(str(sentences)).sequence_length == source.encoder.max_positions


def test_texts_are_lower_cased_where_the_folder_says_so(sentences):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (sentences / name).unlink()
    cased = {"do_lower_case": False, "strip_accents": False}
    (sentences / "tokenizer_config.json").write_text(json.dumps(cased))
    assert not read_weights(str(sentences)).lower_case
    (sentences / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    source = read_weights(str(sentences))
    assert source.lower_case and source.strip_accents is False


def test_a_saved_model_gives_the_same_vectors(sentences, tmp_path):
    model = BertSentenceEncoder.from_pretrained(str(sentences), dtype="float32")
    vectors = model.predict(TEXTS, verbose=0)
    model.save_pretrained(str(tmp_path / "saved"))
    again = BertSentenceEncoder.from_pretrained(str(tmp_path / "saved"), dtype="float32")
    assert (again.pooling, again.normalize, again.sequence_length) == ("cls", True, 20)
    np.testing.assert_array_equal(again.predict(TEXTS, verbose=0), vectors)
    encoder = BertEncoder.from_pretrained(str(tmp_path / "saved"), dtype="float32")
    np.testing.assert_array_equal(encoder.pooler.kernel, model.encoder.pooler.kernel)


@pytest.mark.parametrize("name", ["hf", "kbt", "google"])
def test_vectors_are_the_same_in_every_format(sentences, tmp_path, name):
    write = {"hf": write_hugging_face, "kbt": write_folder, "google": write_google}[name]
    source = read_weights(str(sentences))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That Google's code has no exact GELU.
        write(str(tmp_path / name), source)
    written = read_weights(str(tmp_path / name))
    assert_same(source, written)
    for field in ("model", "pooling", "normalize", "sequence_length"):
        assert getattr(written, field) == getattr(source, field), field
    models = [BertSentenceEncoder.from_pretrained(str(f)) for f in (sentences, tmp_path / name)]
    one, other = (model.predict(TEXTS, verbose=0) for model in models)
    np.testing.assert_array_equal(one, other)


def test_files_for_sentence_transformers_are_those_that_it_writes(sentences, tmp_path):
    write_hugging_face(str(tmp_path / "written"), read_weights(str(sentences)))
    written = tmp_path / "written"
    assert json.loads((written / "modules.json").read_text()) == json.loads(
        (sentences / "modules.json").read_text()
    )
    pooling = json.loads((written / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 32
    assert [flag for flag, value in pooling.items() if value is True] == ["pooling_mode_cls_token"]
    settings = json.loads((written / "sentence_bert_config.json").read_text())
    assert settings == {"max_seq_length": 20, "do_lower_case": False}
    assert json.loads((written / "config.json").read_text())["architectures"] == ["BertModel"]
    theirs = safetensors.numpy.load_file(sentences / "model.safetensors")
    ours = safetensors.numpy.load_file(written / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for key, array in theirs.items():
        np.testing.assert_array_equal(ours[key], array, err_msg=key)


def test_other_models_have_no_files_of_sentence_transformers(tmp_path):
    write_hugging_face(str(tmp_path / "written"), golden("hugging_face/texts"))
    names = {path.name for path in (tmp_path / "written").iterdir()}
    assert not names & {"modules.json", "1_Pooling", "sentence_bert_config.json"}


def test_heads_beside_are_kept_and_have_no_part(tmp_path):
    folder = shutil.copytree(FOLDER / "masked_lm", tmp_path / "masked_lm")
    add_modules(folder, ["Transformer", "Pooling"], {**FLAGS, "pooling_mode_cls_token": True})
    source = read_weights(str(folder))
    assert (source.model, source.pooling) == ("BertPretrainer", "cls")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # The pooler, which is missing, has no part either.
        model = BertSentenceEncoder.from_pretrained(str(folder))
    assert (model.pooling, model.normalize) == ("cls", False)


@pytest.mark.parametrize("name", ["texts", "questions", "pretraining"])
def test_any_model_becomes_a_sentence_encoder(name):
    source = golden(f"hugging_face/{name}")
    model = BertSentenceEncoder.from_pretrained(source.path, dtype="float32")
    assert (model.pooling, model.normalize) == ("mean", True)
    assert model.sequence_length == source.encoder.max_positions < 128
    name = "encoder/layer_1/intermediate/kernel"
    kernel = model.encoder.transformer_layers[1].intermediate.kernel
    np.testing.assert_array_equal(kernel, source.arrays[name])


def test_a_task_is_put_on_a_sentence_encoder(sentences):
    model = BertTextClassifier.from_pretrained(str(sentences), labels=["a", "b"])
    table = model.encoder.token_embeddings
    expected = read_weights(str(sentences)).arrays["encoder/embeddings/token_embedding/embeddings"]
    np.testing.assert_array_equal(table, expected)
    with pytest.raises(InputError, match="is a BertSentenceEncoder, which has no head of a task"):
        load_task_model(str(sentences))


@pytest.mark.parametrize("model_class", [BertSentenceEncoder, BertQuestionAnswerer])
def test_a_folder_without_the_pooler_that_has_no_part_is_whole(tmp_path, model_class):
    source = golden("hugging_face/questions")
    assert "encoder/pooler/kernel" not in source.arrays
    if model_class is BertSentenceEncoder:
        arrays = {n: a for n, a in source.arrays.items() if n.startswith("encoder/")}
        source = source._replace(arrays=arrays, model="BertSentenceEncoder", pooling="mean")
    write_folder(str(tmp_path), source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model_class.from_pretrained(str(tmp_path))
    write_folder(str(tmp_path), source._replace(arrays=dict(list(source.arrays.items())[1:])))
    with pytest.raises(InputError, match="lacks the array encoder/.*; it is of another model"):
        model_class.from_pretrained(str(tmp_path))


@pytest.mark.parametrize(
    ("kinds", "pooling", "obstacle"),
    [
        (["Pooling", "Dense", "Normalize"], {}, "the modules Transformer, Pooling, Dense, Normal"),
        ([], {}, "the modules Transformer "),
        (["Pooling"], {"pooling_mode_max_tokens": True}, "pooling by max "),
        (["Pooling"], {"pooling_mode": "lasttoken"}, "pooling by lasttoken "),
        (["Pooling"], {"pooling_mode": ["mean", "max"]}, r"pooling by mean\+max "),
        (
            ["Pooling"],
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            r"pooling by cls\+mean ",
        ),
        (["Pooling"], {"pooling_mode": 5}, "pooling by 5 "),
    ],
)
def test_what_cannot_be_computed_is_told_and_the_encoder_is_read(folder, kinds, pooling, obstacle):
    add_modules(folder, ["Transformer", *kinds], pooling)
    with pytest.raises(InputError, match=f"makes its vectors with {obstacle}.*modules.json"):
        BertSentenceEncoder.from_pretrained(str(folder))
    assert read_weights(str(folder)).model == "BertEncoder"
    BertEncoder.from_pretrained(str(folder))
    assert BertSentenceEncoder.from_pretrained(str(folder), pooling="cls").pooling == "cls"


def test_a_prompt_before_every_text_is_told(sentences):
    file = sentences / "config_sentence_transformers.json"
    values = {"prompts": {"query": "query: "}, "default_prompt_name": None}
    file.write_text(json.dumps(values))
    BertSentenceEncoder.from_pretrained(str(sentences))
    file.write_text(json.dumps({**values, "default_prompt_name": "query"}))
    with pytest.raises(InputError, match="with the prompt 'query: ' before every text"):
        BertSentenceEncoder.from_pretrained(str(sentences))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("modules.json", "{", "modules.json is not valid JSON, copy it again"),
        ("modules.json", "\udcff", "modules.json is not valid JSON, copy it again"),
        ("modules.json", "[" * 100000, "modules.json is not valid JSON, copy it again"),
        ("modules.json", '{"type": 1}', "modules.json must list modules"),
        ("modules.json", '["Pooling"]', "modules.json must list modules"),
        ("modules.json", '[{"type": "x.Pooling"}]', "modules.json must list modules"),
        ("modules.json", '[{"type": "x.Pooling", "path": "../x"}]', "the folder '../x', which is"),
        ("1_Pooling/config.json", "[]", "config.json must hold a JSON object"),
        ("1_Pooling/config.json", '{"embedding_dimension": 64}', "of vectors of 64, and the enc"),
        ("sentence_bert_config.json", '{"max_seq_length": "x"}', "max_seq_length must be a whole"),
        ("sentence_bert_config.json", '{"max_seq_length": -5}', "max_seq_length must be a whole"),
        ("config_sentence_transformers.json", "{", "is not valid JSON"),
    ],
)
def test_damaged_files_are_told(sentences, name, content, message):
    (sentences / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=message) as error:
        read_weights(str(sentences))
    assert "\n" not in str(error.value)


def test_a_missing_file_of_the_pooling_is_told(sentences):
    (sentences / "1_Pooling" / "config.json").unlink()
    with pytest.raises(InputError, match="1_Pooling/config.json cannot be read"):
        read_weights(str(sentences))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pooling", 5, "pooling must be what save_pretrained writes. Received: 5"),
        ("pooling", "max", r"pooling must be one of \['mean', 'cls'\]. Received: 'max'"),
        ("normalize", "yes", "normalize must be what save_pretrained writes. Received: 'yes'"),
    ],
)
def test_damaged_settings_of_our_folder_are_told(sentences, tmp_path, key, value, message):
    write_folder(str(tmp_path / "kbt"), read_weights(str(sentences)))
    file = tmp_path / "kbt" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(InputError, match=message):
        BertSentenceEncoder.from_pretrained(str(tmp_path / "kbt"))


def test_settings_that_were_written_before_there_were_poolings_are_read(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That Google's code has no exact GELU.
        write_google(str(tmp_path), golden("hugging_face/encoder"))
    file = tmp_path / SETTINGS
    values = json.loads(file.read_text())
    for key in ("pooling", "normalize", "sequence_length"):
        del values[key]
    file.write_text(json.dumps(values))
    source = read_weights(str(tmp_path))
    assert (source.model, source.pooling, source.sequence_length) == ("BertEncoder", "", 0)
    file.write_text(json.dumps({**values, "sequence_length": "long"}))
    with pytest.raises(InputError, match="sequence_length must be what was written.*copy the file"):
        read_weights(str(tmp_path))


def test_a_length_beyond_the_positions_and_a_model_without_a_tokenizer_are_told(sentences):
    with pytest.raises(InputError, match="sequence_length=4000 is longer than the"):
        BertSentenceEncoder.from_pretrained(str(sentences), sequence_length=4000)
    model = BertSentenceEncoder.from_pretrained(str(sentences))
    model.tokenizer = None
    with pytest.raises(InputError, match="This BertSentenceEncoder has no tokenizer to save it"):
        model.save_pretrained(str(sentences / "saved"))


def test_a_name_on_the_hub_has_all_files_that_make_its_vectors(sentences, tmp_path, monkeypatch):
    (sentences / "README.md").write_text("A card.")

    def snapshot_download(name, allow_patterns):
        target = tmp_path / "cache" / name
        for file in (p for p in sentences.rglob("*") if p.is_file()):
            path = str(file.relative_to(sentences))
            if any(fnmatch.fnmatch(path, pattern) for pattern in allow_patterns):
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target / path)
        return str(target)

    hub = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    model = BertSentenceEncoder.from_pretrained("someone/sentences")
    assert (model.pooling, model.normalize, model.sequence_length) == ("cls", True, 20)
    assert not pathlib.Path(tmp_path / "cache" / "someone" / "sentences" / "README.md").exists()
