"""Exported models: their signatures, what they make of bad input, and how they are written."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.encoder import BertEncoder
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.serving import export as export_module
from keras_bert_tpu.serving.deployment import curl_command
from keras_bert_tpu.serving.export import export, load_model
from keras_bert_tpu.serving.length_batches import length_buckets
from keras_bert_tpu.serving.warmup import FILE, inputs_of_length

from exported import (
    CHECKPOINT,
    KNOWN_OPERATIONS,
    LENGTH,
    TEXTS,
    classifier,
    examples_of,
    operations_of,
    sentence_encoder,
)

# Runs a signature where this package cannot be imported.
ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "keras_bert_tpu":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
import numpy as np
import tensorflow as tf
import tensorflow_text

texts = np.load(sys.argv[2])["texts"]
answer = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
found = answer(text=tf.constant(texts))
np.savez(sys.argv[3], **{name: value.numpy() for name, value in found.items()})
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A classifier, its scores of TEXTS and its export, which has more texts than fit at once."""
    model = classifier()
    folder, _ = export(
        model, str(tmp_path_factory.mktemp("served") / "weather"), tokens_at_once=100
    )
    return model, model.predict(TEXTS, verbose=0), folder


@pytest.fixture(scope="module")
def signatures(served):
    loaded = tf.saved_model.load(served[2])
    yield loaded.signatures


def assert_classes(found, scores, labels):
    np.testing.assert_allclose(found["logits"], scores, atol=1e-5)
    np.testing.assert_allclose(found["probabilities"], tf.nn.softmax(scores), atol=1e-5)
    assert [label.decode() for label in found["label"].numpy()] == [
        labels[index] for index in scores.argmax(axis=1)
    ]


def test_strings_get_what_the_model_gives(served, signatures):
    model, scores, _ = served
    assert len(set(scores.argmax(axis=1))) == 2
    assert_classes(signatures["serving_default"](text=tf.constant(TEXTS)), scores, model.labels)


def test_examples_get_what_the_model_gives(served, signatures):
    model, scores, _ = served
    examples = tf.constant(examples_of(text=TEXTS))
    assert_classes(signatures["serving_examples"](examples=examples), scores, model.labels)


@pytest.mark.parametrize("length", [LENGTH, 128])
def test_ids_of_any_length_get_what_the_model_gives(served, signatures, length):
    model, scores, _ = served
    rows = model.tokenizer(TEXTS)[:, : LENGTH - 2]
    cls, sep = model.tokenizer.vocabulary.cls_id, model.tokenizer.vocabulary.sep_id
    rows = tf.ragged.map_flat_values(tf.identity, rows)
    rows = tf.ragged.constant([[cls, *row, sep] for row in rows.to_list()])
    mask = tf.ones_like(rows).to_tensor(shape=[None, length])
    found = signatures["serving_ids"](
        token_ids=rows.to_tensor(shape=[None, length]),
        segment_ids=tf.zeros_like(mask),
        padding_mask=mask,
    )
    assert_classes(found, scores, model.labels)


def test_pairs_get_what_the_model_gives(tmp_path):
    model = classifier(pairs=True)
    folder, _ = export(model, str(tmp_path / "pairs"), warmup=False)
    second = TEXTS[::-1]
    scores = model.predict((TEXTS, second), verbose=0)
    signatures = tf.saved_model.load(folder).signatures
    answer = signatures["serving_default"]
    found = answer(text=tf.constant(TEXTS), text_pair=tf.constant(second))
    assert_classes(found, scores, model.labels)
    examples = tf.constant(examples_of(text=TEXTS, text_pair=second))
    found = signatures["serving_examples"](examples=examples)
    assert_classes(found, scores, model.labels)
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many text_pair as text"):
        answer(text=tf.constant(["a", "b"]), text_pair=tf.constant(["a"]))
    with pytest.raises(TypeError, match="text_pair"):
        answer(text=tf.constant(["a"]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="text_pair"):
        signatures["serving_examples"](examples=tf.constant(examples_of(text=["a"])))


def test_several_classes_have_probabilities_of_their_own(tmp_path):
    model = classifier(labels=["sunny", "windy", "wet"])
    model.multi_label = True
    folder, _ = export(model, str(tmp_path / "several"), warmup=False)
    found = tf.saved_model.load(folder).signatures["serving_default"](text=tf.constant(TEXTS))
    scores = model.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(found["probabilities"], 1 / (1 + np.exp(-scores)), atol=1e-5)
    np.testing.assert_allclose(found["logits"], scores, atol=1e-5)
    assert found["classes"].numpy().tolist() == [[b"sunny", b"windy", b"wet"]] * len(TEXTS)


def test_regression_gives_a_number(tmp_path):
    model = BertTextClassifier.from_pretrained(CHECKPOINT, num_classes=1, sequence_length=LENGTH)
    folder, _ = export(model, str(tmp_path / "number"), warmup=False)
    found = tf.saved_model.load(folder).signatures["serving_default"](text=tf.constant(TEXTS))
    assert list(found) == ["value"]
    np.testing.assert_allclose(found["value"], model.predict(TEXTS, verbose=0)[:, 0], atol=1e-5)


def test_sentences_get_vectors(tmp_path):
    model = sentence_encoder()
    model.save_pretrained(str(tmp_path / "model"))
    folder, _ = export(load_model(str(tmp_path / "model")), str(tmp_path / "out"), warmup=False)
    signatures = tf.saved_model.load(folder).signatures
    texts = TEXTS[1:]  # The model itself takes none that is empty.
    vectors = model.predict(texts, verbose=0)
    found = signatures["serving_default"](text=tf.constant(texts))
    np.testing.assert_allclose(found["embedding"], vectors, atol=1e-5)
    assert vectors.std(axis=0).max() > 0.01


def test_that_a_classifier_is_one_of_pairs_stays_with_it(tmp_path):
    classifier(pairs=True).save_pretrained(str(tmp_path / "model"))
    assert load_model(str(tmp_path / "model")).pairs
    _, served = export(load_model(str(tmp_path / "model")), str(tmp_path / "out"), warmup=False)
    assert served.texts == ("text", "text_pair")
    again = BertTextClassifier.from_pretrained(str(tmp_path / "model"))
    again.fit(["a b", "c d"], [0, 1], epochs=1, verbose=0)
    assert not again.pairs
    again.fit((["a b", "c d"], ["e", "f"]), [0, 1], epochs=1, verbose=0)
    assert again.pairs


@pytest.mark.parametrize(
    "text",
    ["", " \t\n", "word " * 200_000, "x" * 1_000_000, b"\xff\xfe\x80 a", "a\0b", "\0"],
    ids=["empty", "spaces", "megabyte", "long word", "no utf-8", "null", "null alone"],
)
def test_strange_text_is_answered_and_others_as_before(served, signatures, text):
    answer = signatures["serving_default"]
    found = answer(text=tf.constant([TEXTS[9], text, TEXTS[20]]))
    assert np.isfinite(found["logits"]).all()
    np.testing.assert_allclose(found["logits"][::2], served[1][[9, 20]], atol=1e-5)


def test_no_text_gets_no_answer(signatures):
    found = signatures["serving_default"](text=tf.constant([], tf.string))
    assert {name: value.shape.as_list() for name, value in found.items()} == {
        "logits": [0, 2],
        "probabilities": [0, 2],
        "label": [0],
    }
    found = signatures["serving_examples"](examples=tf.constant([], tf.string))
    assert found["logits"].shape == (0, 2)


def test_ten_thousand_texts_at_once_are_answered(served, signatures):
    texts = [TEXTS[i % 3] for i in range(10_000)]
    found = signatures["serving_default"](text=tf.constant(texts))
    expected = served[1][np.arange(10_000) % 3]
    np.testing.assert_allclose(found["logits"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"token_ids": [2, 600]}, "at most 512 tokens"),
        ({"token_ids": [2, 0]}, "one token at least"),
        ({"segment_ids": [2, 7]}, "segment_ids must have the shape of token_ids"),
        ({"padding_mask": [1, 8]}, "padding_mask must have the shape of token_ids"),
    ],
)
def test_ids_that_no_model_takes_are_told_and_others_answered(signatures, inputs, message):
    answer = signatures["serving_ids"]
    good = dict.fromkeys(("token_ids", "segment_ids", "padding_mask"), [2, 8])
    shapes = {**(dict.fromkeys(good, inputs["token_ids"]) if "token_ids" in inputs else good)}
    shapes |= inputs
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        answer(**{name: tf.zeros(shape, tf.int32) for name, shape in shapes.items()})
    found = answer(**{name: tf.ones(shape, tf.int32) for name, shape in good.items()})
    assert np.isfinite(found["logits"]).all()


def test_token_that_the_vocabulary_has_not_is_told(signatures):
    ones = tf.ones([1, 8], tf.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="1000000"):
        signatures["serving_ids"](token_ids=ones * 1_000_000, segment_ids=ones, padding_mask=ones)


def test_inputs_of_another_kind_are_refused(signatures):
    with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError)):
        signatures["serving_default"](text=tf.constant([1, 2]))


def test_operations_are_those_that_released_servers_know(served):
    found = operations_of(served[2])
    assert found <= KNOWN_OPERATIONS
    assert "FastWordpieceTokenizeWithOffsets" in found


def test_export_answers_where_this_package_is_not(served, tmp_path):
    np.savez(tmp_path / "texts.npz", texts=np.array([text.encode() for text in TEXTS]))
    arguments = [served[2], str(tmp_path / "texts.npz"), str(tmp_path / "found.npz")]
    subprocess.run([sys.executable, "-c", ALONE, *arguments], cwd=tmp_path, check=True)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_allclose(found["logits"], served[1], atol=1e-5)


def test_warmup_has_a_request_of_each_signature_and_length(served, signatures):
    from tensorflow_serving.apis import prediction_log_pb2

    model, _, folder = served
    buckets = length_buckets(LENGTH)
    assert buckets == [16, 32, 48]
    seen = set()
    for record in tf.data.TFRecordDataset(os.path.join(folder, FILE)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "weather"
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        name = request.model_spec.signature_name
        found = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        assert found["logits"].shape == (1, 2)
        if name == "serving_default":
            length = model.tokenizer(inputs["text"]).row_lengths().numpy()[0] + 2
        elif name == "serving_ids":
            length = inputs["token_ids"].shape[1]
            assert inputs["padding_mask"].all()
        else:
            example = tf.train.Example.FromString(inputs["examples"][0])
            (text,) = example.features.feature["text"].bytes_list.value
            length = model.tokenizer([text]).row_lengths().numpy()[0] + 2
        seen.add((name, length))
    assert seen == {
        (name, length)
        for name in ("serving_default", "serving_ids", "serving_examples")
        for length in buckets
    }


def test_texts_of_pairs_share_a_length(tmp_path):
    model = classifier(pairs=True)
    _, served = export(model, str(tmp_path / "pairs"), warmup=False)
    inputs = inputs_of_length(served, 16)
    counts = [len(model.tokenizer(text)) for (text,) in inputs.values()]
    assert sum(counts) + 3 == 16 and min(counts) > 5


def test_versions_follow_each_other_and_are_not_written_over(tmp_path):
    model, path = classifier(), str(tmp_path / "base")
    assert export(model, path, warmup=False)[0].endswith("base/1")
    assert export(model, path, version=7, warmup=False)[0].endswith("base/7")
    assert export(model, path, warmup=False)[0].endswith("base/8")
    with pytest.raises(InputError, match="base/7 is there already"):
        export(model, path, version=7, warmup=False)
    assert sorted(os.listdir(path)) == ["1", "7", "8"]


def test_exports_at_the_same_time_get_versions_of_their_own(tmp_path):
    path = str(tmp_path / "base")
    models = [classifier() for _ in range(2)]
    folders = []
    threads = [
        threading.Thread(target=lambda m=m: folders.append(export(m, path, warmup=False)[0]))
        for m in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(os.path.basename(folder) for folder in folders) == ["1", "2"]
    assert sorted(os.listdir(path)) == ["1", "2"]


def test_export_that_fails_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "base"

    def fail(*arguments):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(export_module, "write_warmup", fail)
    with pytest.raises(RuntimeError, match="disk is full"):
        export(classifier(), str(path))
    assert os.listdir(path) == []


def test_model_is_copied_to_where_folders_cannot_be_renamed(served):
    folder, _ = export(classifier(), "ram://models/weather", tokens_at_once=100)
    assert folder == "ram://models/weather/1"
    names = {name.rstrip("/") for name in tf.io.gfile.listdir("ram://models/weather")}
    assert names == {"1"}
    found = tf.saved_model.load(folder).signatures["serving_default"](text=tf.constant(TEXTS))
    np.testing.assert_allclose(found["logits"], served[1], atol=1e-5)
    assert tf.io.gfile.exists(f"{folder}/{FILE}")


def with_another_tokenizer(golden, folder):
    """A folder of Hugging Face's whose tokenizer is byte-level BPE."""
    shutil.copytree(golden, folder)
    if (folder / "vocab.txt").exists():
        (folder / "vocab.txt").unlink()
    tokenizer = {"model": {"type": "BPE", "vocab": {}, "merges": []}, "normalizer": None}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return str(folder)


@pytest.mark.parametrize("name", ["texts", "tokens", "questions", "choices"])
def test_a_model_with_another_tokenizer_takes_ids_alone(tmp_path, name):
    golden = pathlib.Path(CHECKPOINT).parent / "hugging_face" / name
    model = load_model(with_another_tokenizer(golden, tmp_path / "model"))
    folder, served = export(model, str(tmp_path / "out"), buckets=[8])
    loaded = tf.saved_model.load(folder)
    assert set(loaded.signatures) == {"serving_ids"}
    shape = [2, 3, 8] if name == "choices" else [2, 8]
    ids = np.random.default_rng(0).integers(5, 20, shape).astype("int32")
    rows = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": np.ones_like(ids)}
    found = loaded.signatures["serving_ids"](**{k: tf.constant(v) for k, v in rows.items()})
    if name == "questions":
        found = tf.stack([found["start_logits"], found["end_logits"]], axis=1)
    else:
        found = found["logits"]
    np.testing.assert_allclose(found, model(rows), atol=1e-5)
    assert "serving_ids" in curl_command(str(tmp_path / "out"), served)
    requests = tf.data.TFRecordDataset(os.path.join(folder, FILE)).as_numpy_iterator()
    assert len(list(requests)) == len(served.buckets)


def test_masks_are_not_filled_with_another_tokenizer(tmp_path):
    golden = pathlib.Path(CHECKPOINT).parent / "hugging_face" / "pretraining"
    with pytest.raises(InputError, match="model of type 'BPE', and only WordPiece"):
        load_model(with_another_tokenizer(golden, tmp_path / "model"))


def test_what_cannot_be_exported_is_told(tmp_path):
    path = str(tmp_path / "base")
    for model, settings, message in [
        (BertEncoder.from_pretrained(CHECKPOINT), {}, "BertEncoder cannot be exported"),
        (sentence_encoder(), {"pairs": True}, "takes no pairs"),
        (classifier(), {"buckets": [16, 64]}, r"from 1 to 48.*\[16, 64\]"),
        (classifier(), {"tokens_at_once": 0}, "tokens_at_once must be greater than 0"),
        (classifier(), {"version": 0}, "version must be greater than 0"),
    ]:
        with pytest.raises(InputError, match=message):
            export(model, path, warmup=False, **settings)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to"):
        export(classifier(), str(tmp_path / "file"), warmup=False)
    assert not os.path.exists(path)


def test_warmup_without_its_package_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(InputError, match=r"keras_bert_tpu\[serving\]"):
        export(classifier(), str(tmp_path / "base"))
