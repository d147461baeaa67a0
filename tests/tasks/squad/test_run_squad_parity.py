"""Rows, positions and answers against Google's run_squad.py, from tests/golden/squad."""

import gzip
import hashlib
import json
import pathlib
import sys

import numpy as np
import pytest

from keras_bert_tpu.tasks import squad
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import Vocabulary

TESTS = pathlib.Path(__file__).parents[2]
GOLDEN = TESTS / "golden" / "squad"
DATA = TESTS.parents[1] / "shared" / "data"
sys.path.insert(0, str(GOLDEN))
from made_logits import make_logits  # noqa: E402

ARTICLES = 6
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="needs the data sets beside the checkout")


@pytest.fixture(scope="module")
def golden():
    return json.loads((GOLDEN / "run_squad.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def tokenizer():
    path = DATA / "vocab" / "bert-base-uncased-vocab.txt"
    return BertTokenizer(Vocabulary.load(str(path)))


def read(name):
    """Reads the questions of the first articles, which have consecutive passages."""
    questions = squad.read(str(DATA / "squad" / f"{name}.json.gz"))
    with gzip.open(DATA / "squad" / f"{name}.json.gz") as file:
        articles = json.load(file)["data"][:ARTICLES]
    count = sum(len(passage["qas"]) for article in articles for passage in article["paragraphs"])
    return questions[:count]


def sha256(value):
    data = value.tobytes() if isinstance(value, np.ndarray) else json.dumps(value).encode()
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["dev-v1.1", "dev-v2.0"])
def test_rows_and_answers_are_those_of_google(golden, tokenizer, name):
    questions = read(name)
    features = squad.make_features(questions, tokenizer)
    expected = golden[name]
    for key in ("token_ids", "segment_ids", "padding_mask", "has_max_context"):
        assert sha256(getattr(features, key)) == expected[key], key
    start, end = make_logits(features.segment_ids)
    found = squad.find_answers(start, end, features, questions, version_2=name == "dev-v2.0")
    answers = {key: " ".join(text.split()) for key, text in found.answers().items()}
    assert sha256(answers) == expected["answers"]
    assert sum(text == "" for text in answers.values()) > 50 or name == "dev-v1.1"
    nbest = {
        key: [[entry["start_logit"], entry["end_logit"]] for entry in entries]
        for key, entries in found.nbest.items()
    }
    assert sha256(nbest) == expected["nbest"]
    if name == "dev-v2.0":
        assert sha256(found.null_odds) == expected["null_odds"]


@pytest.mark.parametrize(("name", "within_words"), [("train-v1.1-part", 1), ("train-v2.0-part", 8)])
def test_positions_are_those_of_google_but_for_answers_within_words(
    golden, tokenizer, name, within_words
):
    features = squad.make_features(read(name), tokenizer)
    starts, ends = (np.array(golden[name][key]) for key in ("start_position", "end_position"))
    differs = (features.start_position != starts) | (features.end_position != ends)
    assert differs.sum() == within_words
    # There, Google's answer is the whole word around ours, but for one row, where it is an earlier
    # occurrence of the same piece in a word.
    is_inside = (features.start_position >= starts) & (features.end_position <= ends)
    assert (~is_inside).sum() <= 1
