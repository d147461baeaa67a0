"""Folders of records made by hand of pieces, for the tests of what inspects them."""

import os

import numpy as np

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.pretraining_data.manifest import Counts, Manifest
from keras_bert_tpu.pretraining_data.records import ShardContent, serialize_examples, write_shard
from keras_bert_tpu.text.vocabulary import Vocabulary

LENGTH, PREDICTIONS = 16, 4
PIECES = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] she opened the door and went in , garden gate play ##ing ##s $"
).split()
VOCABULARY = Vocabulary(PIECES)

# Of files that others wrote.
NOT_COUNTED = (Counts(), Counts())

# Words as the model is given them; the originals of what is predicted follow, by position.
DOOR = (
    "[CLS] she opened the [MASK] [SEP] and went in , gate [SEP]",
    {4: "door", 8: "in", 10: "garden"},
)
PLAY = (
    "[CLS] play [MASK] , door gate [SEP] she play ##ing , the [UNK] the ##s [SEP]",
    {
        2: "##ing",
        5: "##s",
    },
)
SHORT = "[CLS] the [MASK] [SEP] in [SEP]", {2: "door"}


def to_arrays(rows, labels):
    """Arrays of rows as DOOR, for `serialize_examples`."""
    arrays = {
        name: np.zeros([len(rows), width], np.int64)
        for name, width in [
            ("token_ids", LENGTH),
            ("segment_ids", LENGTH),
            ("padding_mask", LENGTH),
            ("mask_positions", PREDICTIONS),
            ("mask_ids", PREDICTIONS),
        ]
    }
    arrays["mask_weights"] = np.zeros([len(rows), PREDICTIONS], np.float32)
    for row, (text, originals) in enumerate(rows):
        pieces = text.split()
        separator = pieces.index("[SEP]")
        arrays["token_ids"][row, : len(pieces)] = [VOCABULARY.ids[piece] for piece in pieces]
        arrays["segment_ids"][row, separator + 1 : len(pieces)] = 1
        arrays["padding_mask"][row, : len(pieces)] = 1
        for slot, (position, piece) in enumerate(originals.items()):
            arrays["mask_positions"][row, slot] = position
            arrays["mask_ids"][row, slot] = VOCABULARY.ids[piece]
            arrays["mask_weights"][row, slot] = 1.0
    arrays["next_sentence_label"] = np.array(labels, np.int64)[:, None]
    return arrays


def write_records(
    directory,
    train,
    validation=(),
    *,
    documents=3,
    counts=NOT_COUNTED,
    corpora=(),
    **config,
):
    """Writes shards of rows with alternating labels 0 and 1, and returns the manifest."""
    config = DataConfig(
        **{"sequence_length": LENGTH, "max_predictions": PREDICTIONS, "seed": 5, **config}
    )
    os.makedirs(directory, exist_ok=True)
    written = {}
    for split, shards in (("train", train), ("validation", validation)):
        written[split] = []
        for index, rows in enumerate(shards):
            arrays = to_arrays(rows, [number % 2 for number in range(len(rows))])
            lengths = arrays["padding_mask"].sum(axis=1)
            if config.masks == "dynamic":
                arrays = {name: a for name, a in arrays.items() if not name.startswith("mask_")}
            if config.objective == "mlm":
                arrays["segment_ids"][:] = 0
                del arrays["next_sentence_label"]
            content = ShardContent(serialize_examples(arrays), documents, lengths)
            name = f"{split}-{index}.tfrecord"
            written[split].append(write_shard(str(directory), name, content, LENGTH))
    VOCABULARY.save(f"{directory}/vocab.txt")
    manifest = Manifest(
        directory=str(directory),
        config=config,
        corpora=corpora,
        vocabulary_size=len(VOCABULARY),
        vocabulary_sha256=VOCABULARY.sha256,
        train=tuple(written["train"]),
        validation=tuple(written["validation"]),
        train_counts=counts[0],
        validation_counts=counts[1],
    )
    manifest.save()
    return manifest


def flip_byte(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
