"""Small corpora, and what is read back of the records made of them, for tests of `prepare`."""

import os
import pathlib

import numpy as np
import tensorflow as tf

import keras_bert_tpu
from keras_bert_tpu.pretraining_data.records import parse_examples

SAMPLE = sorted(
    str(path) for path in (pathlib.Path(keras_bert_tpu.__file__).parent / "sample").glob("*.txt")
)


def write_corpus(directory, num_documents, sentences=4, name="text.txt"):
    text = "\n\n".join(
        "\n".join(
            f"The {n} of {s} garden was green ."[: 12 + (7 * n + 3 * s) % 20]
            for s in range(sentences)
        )
        for n in range(num_documents)
    )
    (directory / name).write_text(text + "\n")
    return str(directory / name)


def read(manifest, split):
    """All examples of a split, parsed."""
    files = [manifest.path_of(shard) for shard in getattr(manifest, split)]
    records = [record.numpy() for record in tf.data.TFRecordDataset(files)]
    config = manifest.config
    parsed = parse_examples(tf.constant(records), config.sequence_length, config.max_predictions)
    return {name: value.numpy() for name, value in parsed.items()}


def originals(examples):
    """The token ids without masks."""
    token_ids = examples["token_ids"].copy()
    rows, places = np.nonzero(examples["mask_weights"])
    positions = examples["mask_positions"][rows, places]
    token_ids[rows, positions] = examples["mask_ids"][rows, places]
    return token_ids


def contents(directory):
    return {name: (directory / name).read_bytes() for name in sorted(os.listdir(directory))}
