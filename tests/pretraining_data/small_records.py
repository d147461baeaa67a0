"""Small folders of records whose examples can be told apart, for the tests of the pipeline."""

import os

import numpy as np

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.pretraining_data.manifest import Counts, Manifest
from keras_bert_tpu.pretraining_data.pipeline import training_dataset
from keras_bert_tpu.pretraining_data.records import ShardContent, serialize_examples, write_shard
from keras_bert_tpu.text.vocabulary import Vocabulary

LENGTH, PREDICTIONS = 8, 3
SHAPE = {"sequence_length": LENGTH, "max_predictions": PREDICTIONS}
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Ids up to 4,999: record number n of shard s has the first token 100 * s + n.
VOCABULARY = Vocabulary(SPECIALS + [f"p{number}" for number in range(5, 5000)])


def write_small_records(directory, train, validation=(), lengths=None, **config):
    """Writes shards with these numbers of records; record 203 is the fourth of the third shard.

    Args:
        directory: Path.
        train: Numbers of records of each shard.
        validation: Numbers of records of each held-out shard.
        lengths: Real length of each record by its first token; None makes all 6.
        **config: Fields of DataConfig. The records have what it asks for.

    Returns:
        `directory`.
    """
    config = DataConfig(**{**SHAPE, **config})
    shards = {}
    for split, counts in (("train", train), ("validation", validation)):
        shards[split] = tuple(
            write_shard(
                str(directory),
                f"{split}-{shard}.tfrecord",
                _content([100 * shard + place for place in range(count)], lengths, config),
                config.sequence_length,
            )
            for shard, count in enumerate(counts)
        )
    VOCABULARY.save(os.path.join(directory, "vocab.txt"))
    Manifest(
        directory=str(directory),
        config=config,
        corpora=(),
        vocabulary_size=len(VOCABULARY),
        vocabulary_sha256=VOCABULARY.sha256,
        train=shards["train"],
        validation=shards["validation"],
        train_counts=Counts(),
        validation_counts=Counts(),
    ).save()
    return directory


def _content(numbers, lengths, config):
    count = len(numbers)
    real = np.array([6 if lengths is None else lengths[number] for number in numbers], np.int64)
    mask = np.arange(config.sequence_length) < real[:, None]
    tokens = np.tile(np.arange(11, 11 + config.sequence_length), (count, 1))
    tokens[:, 0] = numbers
    arrays = {
        "token_ids": tokens * mask,
        "segment_ids": (np.arange(config.sequence_length) >= 3) * mask,
        "padding_mask": mask.astype(np.int64),
    }
    if config.masks == "static":
        rows = np.ones([count, 1])
        arrays["mask_positions"] = (rows * [1, 4, 0]).astype(np.int64)
        arrays["mask_ids"] = (rows * [22, 25, 0]).astype(np.int64)
        arrays["mask_weights"] = (rows * [1.0, 1.0, 0.0]).astype(np.float32)
    if config.segmented_words:
        # Tokens 2 and 3 belong to one word, and so do 4 and 5.
        arrays["continues_word"] = np.tile(np.arange(config.sequence_length) % 2, (count, 1))
    if config.objective != "mlm":
        arrays["next_sentence_label"] = np.array(numbers)[:, None] % 100 % 2
    return ShardContent(serialize_examples(arrays) if count else [], 0, real)


def stream(data, count, batch_size=1, **arguments):
    """Record numbers of the first `count` examples."""
    dataset = training_dataset(
        data, batch_size, **{**SHAPE, "seed": 7, "shuffle_window": 2, **arguments}
    )
    numbers, batches = [], dataset.as_numpy_iterator()
    while len(numbers) < count:
        numbers.extend(next(batches)["token_ids"][:, 0].tolist())
    return numbers[:count]


def windows(numbers, counts, shuffle_window):
    """Cuts one epoch where `shuffle_window` shards have been seen whole; shards of each window.

    Record numbers are 100 * shard + place in it. A window that is mixed with the next one is
    never whole in time, and the assertion at its end fails.
    """
    found, seen, taken = [], [], 0
    for number in numbers:
        shard = number // 100
        if shard not in seen:
            seen.append(shard)
        taken += 1
        if len(seen) == min(shuffle_window, len(counts) - sum(map(len, found))):
            if taken == sum(counts[shard] for shard in seen):
                found.append(seen)
                seen, taken = [], 0
    assert not seen
    return found


def read_all(dataset):
    """Batches as dicts of arrays."""
    return list(dataset.as_numpy_iterator())
