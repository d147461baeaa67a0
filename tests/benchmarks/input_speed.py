"""Sequences per second of the input pipeline, beside the way of Google's and Model Garden's BERT.

  python tests/benchmarks/input_speed.py
  python tests/benchmarks/input_speed.py --data=records --batch_size=256

Without --data it writes records of random tokens to a temporary folder: as large as real ones, and
of like lengths, so that reading, parsing and masking take as long. With --data it reads what
kbt-prepare or kbt-index wrote there. All ways are measured in turn, several times over, in one
process, and the medians are printed: a figure is worth something beside the others of its table,
on a machine that does nothing else.
"""

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.pretraining_data.manifest import Counts, Manifest
from keras_bert_tpu.pretraining_data.pipeline import training_dataset
from keras_bert_tpu.pretraining_data.records import ShardContent, serialize_examples, write_shard
from keras_bert_tpu.text.vocabulary import SPECIAL_TOKENS, Vocabulary

# Of BERT's uncased vocabulary, and about the share of the pieces of English text in it that
# continue a word.
VOCAB_SIZE = 30522
CONTINUING_SHARE = 0.15
# Google's rule for lengths: a tenth of the documents is cut to a random one.
SHORT_SHARE = 0.1
NUM_HOSTS = 64


def write_records(folder: str, masks: str, length: int, predictions: int, examples: int) -> None:
    """Writes 8 shards of random examples and their manifest."""
    rng = np.random.default_rng(0)
    words = VOCAB_SIZE - int(VOCAB_SIZE * CONTINUING_SHARE)
    pieces = [f"p{number}" if number < words else f"##{number}" for number in range(VOCAB_SIZE)]
    pieces[: len(SPECIAL_TOKENS)] = SPECIAL_TOKENS
    vocabulary = Vocabulary(pieces)
    tf.io.gfile.makedirs(folder)
    vocabulary.save(os.path.join(folder, "vocab.txt"))
    config = DataConfig(sequence_length=length, max_predictions=predictions, masks=masks)
    shards = []
    for shard in range(8):
        count = examples // 8
        short = rng.integers(5, length + 1, count)
        lengths = np.where(rng.random(count) < SHORT_SHARE, short, length)
        is_real = np.arange(length) < lengths[:, None]
        segments = np.arange(length) >= lengths[:, None] // 2
        token_ids = rng.integers(len(SPECIAL_TOKENS), VOCAB_SIZE, (count, length))
        token_ids[:, 0] = vocabulary.cls_id
        token_ids[np.arange(count), lengths - 1] = vocabulary.sep_id
        arrays = {
            "token_ids": token_ids * is_real,
            "segment_ids": segments * is_real,
            "padding_mask": is_real.astype(np.int64),
            "next_sentence_label": rng.integers(0, 2, (count, 1)),
        }
        if masks == "static":
            shape = count, predictions
            arrays["mask_positions"] = np.sort(rng.integers(1, length, shape), axis=1)
            arrays["mask_ids"] = rng.integers(len(SPECIAL_TOKENS), VOCAB_SIZE, shape)
            arrays["mask_weights"] = np.ones(shape, np.float32)
        content = ShardContent(serialize_examples(arrays), 0, lengths)
        shards.append(write_shard(folder, f"train-{shard}.tfrecord", content, length))
    counts = Counts(examples=8 * (examples // 8))
    Manifest(
        directory=folder,
        config=config,
        corpora=(),
        vocabulary_size=VOCAB_SIZE,
        vocabulary_sha256=vocabulary.sha256,
        train=tuple(shards),
        validation=(),
        train_counts=counts,
        validation_counts=Counts(),
    ).save()


def googles_dataset(manifest: Manifest, batch_size: int) -> tf.data.Dataset:
    """What `input_fn_builder` in Google's run_pretraining.py makes for training.

    Files in a shuffled and endless order, four of them read at a time as they come, a shuffle
    buffer of 100 records, and records parsed one by one.
    """
    config = manifest.config
    length, predictions = [config.sequence_length], [config.max_predictions]
    ids, segments = (
        ("input_ids", "segment_ids")
        if manifest.feature_names == "v1"
        else ("input_word_ids", "input_type_ids")
    )
    features = {
        ids: tf.io.FixedLenFeature(length, tf.int64),
        "input_mask": tf.io.FixedLenFeature(length, tf.int64),
        segments: tf.io.FixedLenFeature(length, tf.int64),
        "masked_lm_positions": tf.io.FixedLenFeature(predictions, tf.int64),
        "masked_lm_ids": tf.io.FixedLenFeature(predictions, tf.int64),
        "masked_lm_weights": tf.io.FixedLenFeature(predictions, tf.float32),
        "next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64),
    }

    def decode(record: tf.Tensor) -> dict[str, tf.Tensor]:
        example = tf.io.parse_single_example(record, features)
        return {
            name: tf.cast(value, tf.int32) if value.dtype == tf.int64 else value
            for name, value in example.items()
        }

    files = [manifest.path_of(shard) for shard in manifest.train]
    dataset = tf.data.Dataset.from_tensor_slices(files).repeat().shuffle(len(files))
    dataset = dataset.interleave(
        tf.data.TFRecordDataset,
        cycle_length=min(4, len(files)),
        num_parallel_calls=min(4, len(files)),
        deterministic=False,
    )
    dataset = dataset.shuffle(100).map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    return dataset.prefetch(tf.data.AUTOTUNE)


def buckets_of(length: int) -> tuple[int, ...]:
    """A quarter, a half, three quarters and all of the length."""
    return tuple(length * part // 4 for part in (1, 2, 3, 4))


def ways_to_read(
    static: Manifest | None, dynamic: Manifest | None, batch_size: int
) -> dict[str, tf.data.Dataset]:
    """The datasets that are compared, by what the table calls them."""

    def ours(manifest: Manifest, buckets: tuple[int, ...] = (), **config) -> tf.data.Dataset:
        changed = dataclasses.replace(manifest.config, **config)
        return training_dataset(
            dataclasses.replace(manifest, config=changed),
            batch_size,
            changed.sequence_length,
            changed.max_predictions,
            seed=1,
            length_buckets=buckets,
        )

    ways = {}
    if static:
        buckets = buckets_of(static.config.sequence_length)
        ways["Google's way: shuffle buffer, parsed one by one"] = googles_dataset(
            static, batch_size
        )
        ways["static masks"] = ours(static)
        ways[f"static masks, buckets {buckets}"] = ours(static, buckets)
    if dynamic:
        buckets = buckets_of(dynamic.config.sequence_length)
        words = {"whole_word_mask": True}
        ways["dynamic masks, pieces"] = ours(dynamic, whole_word_mask=False, max_ngram=1)
        ways["dynamic masks, whole words"] = ours(dynamic, **words)
        ways["dynamic masks, runs of up to 3 words"] = ours(dynamic, **words, max_ngram=3)
        ways[f"dynamic masks, whole words, buckets {buckets}"] = ours(dynamic, buckets, **words)
    return ways


def measure(batches: Iterator, count: int) -> tuple[float, float, float]:
    """Sequences per second, per second of a core, and the share of padding, over `count` batches.

    The core seconds are those of all threads of the process.
    """
    sequences = padding = positions = 0
    start, core_start = time.perf_counter(), time.process_time()
    for _ in range(count):
        batch = next(batches)
        mask = batch["padding_mask"] if "padding_mask" in batch else batch["input_mask"]
        sequences += len(mask)
        positions += mask.size
        padding += mask.size - int(mask.sum())
    seconds, core_seconds = time.perf_counter() - start, time.process_time() - core_start
    return sequences / seconds, sequences / core_seconds, padding / positions


def measure_skipping(manifest: Manifest) -> float:
    """Records per core second that one of many hosts goes over, of which it keeps 1 in 64."""
    context = tf.distribute.InputContext(NUM_HOSTS, 0, NUM_HOSTS)
    dataset = training_dataset(
        manifest,
        32 * NUM_HOSTS,
        manifest.config.sequence_length,
        manifest.config.max_predictions,
        seed=1,
        input_context=context,
    )
    batches = dataset.as_numpy_iterator()
    next(batches)
    count = max(20, 4 * manifest.num_examples // (32 * NUM_HOSTS))
    _, own_per_core_second, _ = measure(batches, count)
    return NUM_HOSTS * own_per_core_second


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="Folder of records; random ones are written without it.")
    parser.add_argument("--batch_size", type=int, default=256, help="Default: 256.")
    parser.add_argument(
        "--examples", type=int, default=40_000, help="Random examples to write. Default: 40000."
    )
    parser.add_argument(
        "--length", type=int, default=128, help="Tokens of a random example. Default: 128."
    )
    parser.add_argument("--batches", type=int, default=100, help="Of a measurement. Default: 100.")
    parser.add_argument("--rounds", type=int, default=5, help="Measurements. Default: 5.")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        if arguments.data:
            manifest = Manifest.load(arguments.data)
            is_static = manifest.config.masks == "static"
            static, dynamic = (manifest, None) if is_static else (None, manifest)
        else:
            for masks in ("static", "dynamic"):
                predictions = -(-arguments.length * 15 // 100)
                write_records(
                    f"{folder}/{masks}", masks, arguments.length, predictions, arguments.examples
                )
            static = Manifest.load(f"{folder}/static")
            dynamic = Manifest.load(f"{folder}/dynamic")
        ways = ways_to_read(static, dynamic, arguments.batch_size)
        iterators = {name: dataset.as_numpy_iterator() for name, dataset in ways.items()}
        results = {name: [] for name in ways}
        for round_number in range(arguments.rounds + 1):
            for name in ways:
                # An iterator that waits has its buffers full, which would be counted as done.
                for _ in range(20):
                    next(iterators[name])
                result = measure(iterators[name], arguments.batches)
                if round_number:  # The first round warms up.
                    results[name].append(result)
        skipped = measure_skipping(static or dynamic)

    width = max(map(len, results))
    print(
        f"{len(os.sched_getaffinity(0))} cores, batches of {arguments.batch_size}, medians of "
        f"{arguments.rounds} times {arguments.batches} batches"
    )
    print(f"{'':{width}}  sequences/s  per core second  padding")
    for name, rounds in results.items():
        speed, core_speed, padding = (
            statistics.median(column) for column in zip(*rounds, strict=True)
        )
        print(f"{name:{width}}  {speed:11,.0f}  {core_speed:15,.0f}  {padding:7.1%}")
    print(f"{'records of other hosts, gone over and left out':{width}}  {'':11}  {skipped:15,.0f}")


if __name__ == "__main__":
    main()
