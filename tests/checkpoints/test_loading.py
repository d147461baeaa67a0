"""What became of each weight is told, and none is at random without a word."""

import warnings

import numpy as np
import pytest

from keras_bert_tpu.checkpoints.loading import LoadReport, load_weights, table_of
from keras_bert_tpu.checkpoints.storage import weights_by_name
from keras_bert_tpu.checkpoints.weights_source import WeightsSource
from keras_bert_tpu.config import EncoderConfig, InputError
from keras_bert_tpu.models.encoder import BertEncoder
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.text.vocabulary import SPECIAL_TOKENS, Vocabulary

CONFIG = EncoderConfig(
    vocab_size=8, num_layers=2, hidden_size=4, num_heads=2, intermediate_size=8, max_positions=16
)


@pytest.fixture(scope="module")
def arrays():
    """Weights of a pretrainer, each other than any initial one."""
    random = np.random.default_rng(3)
    shapes = {n: v.shape for n, v in weights_by_name(BertPretrainer(CONFIG)).items()}
    return {n: 2 + random.random(tuple(shape)).astype("float32") for n, shape in shapes.items()}


def source_of(arrays, **changes):
    source = WeightsSource("here", arrays, CONFIG, None, "the folder here", format="hf")
    return source._replace(**changes)


def test_all_weights_are_loaded_and_nothing_is_told(arrays):
    model = BertPretrainer(CONFIG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = load_weights(model, source_of(arrays))
    assert set(report.loaded) == set(arrays) and len(report.loaded) == len(arrays)
    assert (report.missing, report.unexpected, report.other_shape) == ((), (), {})
    for name, variable in weights_by_name(model).items():
        np.testing.assert_array_equal(variable, arrays[name], err_msg=name)


def test_what_is_missing_or_of_another_shape_is_told_and_left_at_random(arrays):
    given = {n: a for n, a in arrays.items() if not n.startswith("next_sentence/")}
    given["masked_language_model/output_bias"] = np.zeros(9, "float32")
    given["regression/bias"] = np.zeros(1, "float32")
    model = BertPretrainer(CONFIG)
    before = {name: np.array(variable) for name, variable in weights_by_name(model).items()}
    with pytest.warns(UserWarning, match="the folder here has no weights for") as told:
        report = load_weights(model, source_of(given))
    random = {n for n in arrays if n.startswith("next_sentence/")}
    assert set(report.missing) == random
    random.add("masked_language_model/output_bias")
    assert report.other_shape == {"masked_language_model/output_bias": ((9,), (8,))}
    assert report.unexpected == ("regression/bias",)
    assert set(report.random) == random
    for name in random:
        assert name in str(told[0].message)
    for name, variable in weights_by_name(model).items():
        expected = before[name] if name in random else arrays[name]
        np.testing.assert_array_equal(variable, expected, err_msg=name)
        assert (name in report.loaded) == (name not in random)


def test_the_table_counts_by_layer_and_names_what_is_not_as_it_should_be():
    report = LoadReport(
        "the folder here",
        ("encoder/layer_0/a", "encoder/layer_0/b", "encoder/layer_1/a", "classifier/kernel"),
        ("encoder/pooler/kernel", "encoder/pooler/bias"),
        tuple(f"other/{index}" for index in range(10)),
        {"classifier/bias": ((3,), (2,))},
    )
    assert str(report).splitlines() == [
        "Weights of the folder here:",
        "  encoder/layer_0            2 loaded",
        "  encoder/layer_1            1 loaded",
        "  classifier                 1 loaded",
        "  missing there, begin at random (2):",
        "    encoder/pooler/kernel",
        "    encoder/pooler/bias",
        "  of another shape, begin at random (1):",
        "    classifier/bias: [3] there, [2] here",
        "  not of this model, left out (10):",
        *(f"    other/{index}" for index in range(8)),
        "    and 2 more",
    ]


def test_the_table_of_a_source_counts_its_weights_and_names_those_of_no_model(arrays):
    lines = table_of(source_of({**arrays, "regression/bias": np.zeros(1)})).splitlines()
    assert lines[0] == "Weights of the folder here:"
    assert "  encoder/layer_1           16 weights" in lines
    assert "  next_sentence              2 weights" in lines
    assert lines[-1] == "  regression/bias: of no model here"


def test_an_encoder_without_one_of_its_weights_or_of_another_shape_is_refused(arrays):
    name = "encoder/layer_1/intermediate/bias"
    for model in (BertPretrainer(CONFIG), BertEncoder(CONFIG)):
        with pytest.raises(InputError, match=f"here has no weights for {name}; build the model"):
            load_weights(model, source_of({n: a for n, a in arrays.items() if n != name}))
        with pytest.raises(InputError, match=rf"{name} has shape \[3\], the model expects \[8\]"):
            load_weights(model, source_of({**arrays, name: np.zeros(3, "float32")}))
        # Nothing was assigned before it was refused.
        assert all(np.max(variable) < 2 for variable in model.weights)


def test_an_encoder_may_lack_its_pooler_which_is_told(arrays):
    given = {n: a for n, a in arrays.items() if not n.startswith("encoder/pooler/")}
    with pytest.warns(UserWarning, match="no weights for encoder/pooler/kernel, encoder/pooler/b"):
        report = load_weights(BertEncoder(CONFIG), source_of(given))
    assert set(report.random) == {"encoder/pooler/kernel", "encoder/pooler/bias"}


def test_a_folder_of_ours_must_have_all_weights_of_its_class(arrays):
    given = {n: a for n, a in arrays.items() if n != "next_sentence/classifier/bias"}
    source = source_of(given, format="kbt", model="BertPretrainer")
    with pytest.raises(InputError, match="here lacks the array next_sentence/classifier/bias"):
        load_weights(BertPretrainer(CONFIG), source)


def test_a_vocabulary_of_more_pieces_than_rows_is_refused(arrays):
    vocabulary = Vocabulary([*SPECIAL_TOKENS, "a", "b", "c", "d"])
    with pytest.raises(InputError, match="has 9 pieces, and the table of the model only 8 rows"):
        load_weights(BertEncoder(CONFIG), source_of(arrays, vocabulary=vocabulary))


def test_a_head_that_is_asked_for_begins_at_random_and_the_rest_does_not(arrays):
    model = BertTextClassifier(CONFIG, num_classes=3)
    with pytest.warns(UserWarning, match="no weights for classifier/kernel, classifier/bias"):
        report = load_weights(model, source_of(arrays))
    assert set(report.random) == {"classifier/kernel", "classifier/bias"}
    assert not [name for name in report.unexpected if name.startswith("encoder/")]
