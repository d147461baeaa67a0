"""The weights of the reference run (gcs_configs/mini_reference.yaml), which tests/golden keeps."""

import glob
import pathlib

import numpy as np
import pytest

from keras_bert_tpu.config import DataConfig, PretrainingConfig
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.pipelines.fill_mask import FillMask
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.prepare import prepare
from keras_bert_tpu.training.evaluation import evaluate_pretraining

ROOT = pathlib.Path(__file__).parents[2]
MODEL = ROOT / "tests" / "golden" / "mini_reference"
CORPUS = ROOT.parent / "shared" / "data" / "corpus"


@pytest.fixture(scope="module")
def model():
    return BertPretrainer.from_pretrained(str(MODEL))


def evaluate(model, folder, **how):
    return evaluate_pretraining(model, Manifest.load(str(folder)), progress=False, **how)


def assert_learned(evaluation):
    """Three times the most frequent word, and five standard errors above the greater class."""
    words, pairs = evaluation.masked_words, evaluation.sentence_pairs
    assert words.accuracy > 3 * evaluation.baseline.accuracy
    error = np.sqrt(pairs.majority_accuracy * (1 - pairs.majority_accuracy) / pairs.score.count)
    assert pairs.score.accuracy > pairs.majority_accuracy + 5 * error


def test_weights_are_of_the_run_file(model):
    config = PretrainingConfig.from_yaml(str(ROOT / "gcs_configs" / "mini_reference.yaml"))
    assert model.config == config.encoder


def test_they_predict_words_and_sentences_of_the_sample_text(tmp_path, model, sample_text):
    vocabulary, config = str(MODEL / "vocab.txt"), DataConfig(dupe_factor=1, validation_rate=0.0)
    prepare(sample_text, str(tmp_path), vocabulary, config, workers=1, progress=False)
    assert_learned(evaluate(model, tmp_path, num_examples=512, split="train"))


def test_blanks_are_filled_in_by_what_stands_around_them():
    texts = {
        "She opened the [MASK] and went in.": "door",
        "He shook his [MASK] and said nothing.": "head",
        "The president of the United [MASK] of America.": "states",
        "Once upon a [MASK] there was a king.": "time",
        "Two or [MASK] times a week.": "three",
    }
    guesses = FillMask.from_pretrained(str(MODEL))(list(texts), top_k=1)
    assert [first.piece for ((first,),) in guesses] == list(texts.values())


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not part of the project")
def test_held_out_figures_are_those_of_the_readme(tmp_path, model):
    text = sorted(glob.glob(f"{CORPUS}/*.gz")) + [f"{CORPUS}/wikipedia-passages.txt"]
    for length, predictions in ((128, 20), (512, 77)):
        config = DataConfig(sequence_length=length, max_predictions=predictions, dupe_factor=3)
        folder = tmp_path / str(length)
        prepare(text, str(folder), str(MODEL / "vocab.txt"), config, progress=False)
        assert_learned(evaluate(model, folder))
