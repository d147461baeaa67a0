"""Sentence encoders on two logical devices learn and say what they do on one."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import Vocabulary

VOCABULARY = str(pathlib.Path(__file__).parents[1] / "golden" / "mini_reference" / "vocab.txt")
PROGRAM = str(pathlib.Path(__file__).parent / "sentence_program.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What the program wrote on one and on two replicas."""
    keras.utils.set_random_seed(1)
    config = EncoderConfig.from_preset(
        "tiny", vocab_size=8000, hidden_dropout=0.0, attention_dropout=0.0
    )
    model = BertSentenceEncoder(config, dtype="float32")
    model.tokenizer = BertTokenizer(Vocabulary.load(VOCABULARY))
    model.sequence_length = 16
    model.save_pretrained(folder := str(tmp_path_factory.mktemp("model")))
    paths = [str(tmp_path_factory.mktemp("runs") / "results.npz") for _ in range(2)]
    commands = [[sys.executable, PROGRAM, str(i + 1), folder, path] for i, path in enumerate(paths)]
    programs = [subprocess.Popen(c, stderr=subprocess.PIPE, text=True) for c in commands]
    found = []
    for program, path in zip(programs, paths, strict=True):
        _, errors = program.communicate()
        assert program.returncode == 0, errors
        with np.load(path) as file:
            found.append({name: file[name] for name in file.files})
    return found


def test_two_replicas_learn_what_one_does(runs):
    one, two = runs
    assert one["evaluate"] < one["fit"][1] < one["fit"][0]
    for name in ("fit", "evaluate"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, err_msg=name)
    assert np.abs(one["vectors"][:5] - one["before"]).max() > 1e-3


def test_vectors_of_two_replicas_are_those_of_one_in_their_order(runs):
    one, two = runs
    assert one["vectors"].shape == (7, 128)
    for name in ("before", "vectors", "vectors_dataset"):
        np.testing.assert_allclose(two[name], one[name], atol=1e-4, err_msg=name)
    for run in runs:
        np.testing.assert_allclose(run["vectors_dataset"], run["vectors"], atol=1e-5)


def test_replica_without_a_pair_leaves_the_weights_finite(runs):
    assert all(run["finite"] for run in runs)
