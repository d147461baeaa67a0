"""Small real records, made once for all tests that train."""

import collections
import importlib.resources
import random
import re
import string

import pytest

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.text.vocabulary import Vocabulary

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def sample_text():
    """Path of the shipped text with the most documents."""
    return str(importlib.resources.files("keras_bert_tpu.sample") / "the_secret_garden.txt")


@pytest.fixture(scope="session")
def vocabulary(sample_text):
    """The 400 most frequent words, and letters for the rest."""
    with open(sample_text, encoding="utf-8") as file:
        words = collections.Counter(re.findall(r"[a-z]+|[.,;!?'\"]", file.read().lower()))
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    pieces = dict.fromkeys([*SPECIALS, *letters, *(word for word, _ in words.most_common(400))])
    return Vocabulary(list(pieces))


@pytest.fixture(scope="session")
def short_documents(tmp_path_factory, sample_text):
    """Path of a text whose documents are two to four sentences of a few words each."""
    rng = random.Random(0)
    with open(sample_text, encoding="utf-8") as file:
        lines = [line.split() for line in file if line.strip()]
    documents = [
        "\n".join(" ".join(line[: rng.randint(1, 5)]) for line in rng.choices(lines, k=size))
        for size in rng.choices((2, 3, 4), k=400)
    ]
    path = tmp_path_factory.mktemp("text") / "short_documents.txt"
    path.write_text("\n\n".join(documents))
    return str(path)


@pytest.fixture(scope="session")
def records(tmp_path_factory, sample_text, short_documents, vocabulary):
    """Folder with records of length 32 in `short`, and of length 64 in `long` and `packed`."""
    from keras_bert_tpu.pretraining_data.prepare import prepare

    folder = tmp_path_factory.mktemp("records")
    vocabulary.save(str(folder / "vocab.txt"))
    for name, length, predictions, text in [
        ("short", 32, 5, sample_text),
        ("long", 64, 10, sample_text),
        ("packed", 64, 10, short_documents),
    ]:
        config = DataConfig(
            sequence_length=length,
            max_predictions=predictions,
            dupe_factor=1,
            validation_rate=0.1,
            block_documents=6,
            pack=name == "packed",
        )
        prepare(
            text,
            str(folder / name),
            str(folder / "vocab.txt"),
            config,
            workers=1,
            progress=False,
        )
    return folder


@pytest.fixture(scope="session")
def plan_config():
    """A run whose step the TPU compiler compiles in seconds."""
    from keras_bert_tpu.config import (
        EncoderConfig,
        OptimizerConfig,
        PhaseConfig,
        PretrainingConfig,
    )

    encoder = EncoderConfig(
        vocab_size=1000,
        num_layers=1,
        hidden_size=128,
        num_heads=2,
        intermediate_size=256,
        max_positions=64,
    )
    phase = PhaseConfig(steps=100, batch_size=64, sequence_length=64, max_predictions=10)
    return PretrainingConfig(
        encoder=encoder, optimizer=OptimizerConfig(warmup_steps=10), phases=(phase,)
    )


@pytest.fixture
def plan_cache(tmp_path_factory, monkeypatch):
    """Compilations of this session alone."""
    folder = tmp_path_factory.getbasetemp() / "plans"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
