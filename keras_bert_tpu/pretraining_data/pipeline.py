"""Record shards -> batches of static shape, in an order that is a function and not a state.

The order of training depends on (seed, epoch) and on nothing else:

    epoch e     the shards are permuted
    window w    `shuffle_window` consecutive shards of that permutation; the records in them are
                permuted together, and no record leaves its window

Epochs follow each other without a gap, so example p of the stream is example p % N of epoch
p // N, and a run that goes on at step s starts at p = s * batch_size: it reads the one window that
holds p and nothing before it. Only stateless random operations inside the dataset's graph are
used, so that the dataset can be sent to other hosts and is the same on each of them. Two or three
windows are in memory: the one that is consumed, the next, and its copy while it is permuted.
"""

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.records import parse_examples

# Shards of a window that are read at the same time: hides the latency of gs://, and is kept low
# because reading competes with the parsing of the current window for the host's cores.
PARALLEL_READS = 4

# Philox gives the same numbers on every device, "auto_select" another generator on some.
_GENERATOR = "philox"


class _Shards(NamedTuple):
    """Files of one split that have records, in the order of the manifest."""

    files: list[str]
    counts: np.ndarray  # int64 [shards]

    @property
    def num_examples(self) -> int:
        return int(self.counts.sum())


class _Slices(NamedTuple):
    """How a global batch is cut: by pipelines (hosts), then by the replicas of each."""

    replica_batch: int
    replicas: int
    pipelines: int
    pipeline: int


def training_dataset(
    data: str | os.PathLike | Manifest,
    batch_size: int,
    sequence_length: int,
    max_predictions: int,
    seed: int,
    start_example: int = 0,
    shuffle_window: int = 8,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Returns the endless stream of training batches, from any place in it.

    Args:
        data: Local or gs:// folder that `kbt-prepare` wrote, or its Manifest.
        batch_size: int. Examples of a step over all replicas.
        sequence_length: int. Must be that of the records.
        max_predictions: int. Must be that of the records.
        seed: int. With the epoch's number it decides the order. Not negative.
        start_example: int. Examples of the stream to leave out, which is the step to start at
            times `batch_size`.
        shuffle_window: int. Shards whose records are permuted together; more than there are is
            the same as all of them.
        input_context: What `strategy.distribute_datasets_from_function` passes. Each element is
            then the batch of one replica: the n-th of a step is the n-th slice of the global
            batch, and a host gets the slices of its own replicas. None means one replica.

    Returns:
        Dataset of dicts, shapes static, with batch = batch_size / replicas: int32 `token_ids`,
        `segment_ids` and `padding_mask` [batch, sequence_length]; int32 `mask_positions` and
        `mask_ids` and float32 `mask_weights` [batch, max_predictions]; int32
        `next_sentence_label` [batch, 1].

    Raises:
        InputError: If the records have another shape or there are none, or a number does not fit.
        tf.errors.InvalidArgumentError: While iterating, if a shard has not the records that the
            manifest counts; the message names the file.
        tf.errors.NotFoundError: While iterating, if a shard is missing.
    """
    manifest = _load(data, sequence_length, max_predictions)
    slices = _slices(batch_size, input_context)
    shards = _shards(manifest, "train")
    if shuffle_window <= 0:
        raise InputError(f"shuffle_window must be greater than 0. Received: {shuffle_window}.")
    if start_example < 0:
        raise InputError(f"start_example must not be negative. Received: {start_example}.")
    if not 0 <= seed < 2**31:
        raise InputError(f"seed must be from 0 to 2**31 - 1. Received: {seed}.")

    window, skipped = _locate(shards, seed, start_example, shuffle_window)
    examples = _windows(shards, seed, window, shuffle_window).prefetch(1).unbatch().skip(skipped)
    batches = _own_batches(examples, slices)
    batches = batches.map(
        lambda serialized: parse_examples(serialized, sequence_length, max_predictions),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return batches.prefetch(tf.data.AUTOTUNE).with_options(_options())


def validation_dataset(
    data: str | os.PathLike | Manifest,
    batch_size: int,
    sequence_length: int,
    max_predictions: int,
    num_examples: int = 0,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Returns the held-out examples once, in the order of the files.

    Every batch is full: the last one ends in padding rows, which are copies of the first example
    (a row without any token has no attention) whose `mask_weights` and `next_sentence_weights`
    are zero. Sums over weights therefore have the right denominators.

    Args:
        data: Local or gs:// folder that `kbt-prepare` wrote, or its Manifest.
        batch_size: int. Examples of a step over all replicas.
        sequence_length: int. Must be that of the records.
        max_predictions: int. Must be that of the records.
        num_examples: int. How many of the first examples are taken; 0 takes all, and so does
            a number beyond all.
        input_context: As in `training_dataset`.

    Returns:
        Dataset of dicts as in `training_dataset`, and float32 `next_sentence_weights` [batch, 1].
        It has `validation_steps` batches for each replica.

    Raises:
        InputError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError: As `training_dataset`.
    """
    manifest = _load(data, sequence_length, max_predictions)
    slices = _slices(batch_size, input_context)
    steps = validation_steps(manifest, batch_size, num_examples)
    shards = _shards(manifest, "validation")
    real = min(num_examples or shards.num_examples, shards.num_examples)

    examples = tf.data.Dataset.from_tensor_slices((shards.files, shards.counts))
    examples = examples.flat_map(_read_shard).prefetch(1).unbatch().take(real)
    padding = examples.take(1).repeat(steps * batch_size - real)
    numbers = tf.data.Dataset.range(steps * batch_size)
    batches = _own_batches(tf.data.Dataset.zip((examples.concatenate(padding), numbers)), slices)

    def parse(serialized: tf.Tensor, number: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = parse_examples(serialized, sequence_length, max_predictions)
        weights = tf.cast(number < real, tf.float32)[:, tf.newaxis]
        mask_weights = batch["mask_weights"] * weights
        return {**batch, "mask_weights": mask_weights, "next_sentence_weights": weights}

    batches = batches.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(_options())


def validation_steps(
    data: str | os.PathLike | Manifest, batch_size: int, num_examples: int = 0
) -> int:
    """Returns the number of steps that `validation_dataset` gives each replica.

    Args:
        data: Local or gs:// folder that `kbt-prepare` wrote, or its Manifest.
        batch_size: int. Examples of a step over all replicas.
        num_examples: int. As in `validation_dataset`.

    Raises:
        InputError: If there are no held-out records, or a number does not fit.
    """
    if batch_size <= 0:
        raise InputError(f"batch_size must be greater than 0. Received: {batch_size}.")
    if num_examples < 0:
        raise InputError(f"num_examples must not be negative. Received: {num_examples}.")
    manifest = _manifest(data)
    available = _shards(manifest, "validation").num_examples
    return -(-min(num_examples or available, available) // batch_size)


def _manifest(data: str | os.PathLike | Manifest) -> Manifest:
    return data if isinstance(data, Manifest) else Manifest.load(os.fspath(data))


def _load(
    data: str | os.PathLike | Manifest, sequence_length: int, max_predictions: int
) -> Manifest:
    """The manifest, after a check that its records have the shape that the model is given."""
    manifest = _manifest(data)
    for name, wanted in (
        ("sequence_length", sequence_length),
        ("max_predictions", max_predictions),
    ):
        written = getattr(manifest.config, name)
        if written != wanted:
            raise InputError(
                f"The records in {manifest.directory} were prepared with {name}={written}, and "
                f"{name}={wanted} is asked for: set {name} to {written}, or prepare the records "
                f"again with {wanted}."
            )
    return manifest


def _slices(batch_size: int, context: tf.distribute.InputContext | None) -> _Slices:
    context = context or tf.distribute.InputContext()
    replicas, pipelines = context.num_replicas_in_sync, context.num_input_pipelines
    if batch_size <= 0:
        raise InputError(f"batch_size must be greater than 0. Received: {batch_size}.")
    if batch_size % replicas:
        raise InputError(
            f"batch_size must be a multiple of the number of replicas. Received: "
            f"batch_size={batch_size} for {replicas} replicas; the nearest that fits is "
            f"{max(1, round(batch_size / replicas)) * replicas}."
        )
    if replicas % pipelines:
        raise InputError(
            f"Every host must have the same number of replicas. Received: {replicas} replicas on "
            f"{pipelines} hosts."
        )
    return _Slices(batch_size // replicas, replicas, pipelines, context.input_pipeline_id)


def _shards(manifest: Manifest, split: str) -> _Shards:
    entries = [entry for entry in getattr(manifest, split) if entry.num_examples]
    if not entries:
        what = "training" if split == "train" else split
        raise InputError(
            f"There are no {what} records in {manifest.directory}: its manifest counts 0; prepare "
            f"the records again, from more documents or with another validation_rate."
        )
    return _Shards(
        files=[tf.io.gfile.join(manifest.directory, entry.file) for entry in entries],
        counts=np.array([entry.num_examples for entry in entries], np.int64),
    )


def _epoch_key(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """Key of the order of an epoch's shards; the windows' keys are folded from it."""
    return tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch, alg=_GENERATOR)


def _shard_order(seed: int, epoch: tf.Tensor, num_shards: int) -> tf.Tensor:
    """The permutation of the shards in an epoch, int64 [num_shards]."""
    return tf.random.experimental.stateless_shuffle(
        tf.range(num_shards, dtype=tf.int64), _epoch_key(seed, epoch), alg=_GENERATOR
    )


def _locate(shards: _Shards, seed: int, example: int, shuffle_window: int) -> tuple[int, int]:
    """Where an example of the stream is: its window, counted over all epochs, and place in it."""
    epoch, place = divmod(example, shards.num_examples)
    # Eagerly and on the host, also where a strategy or a function is being built around this.
    with tf.init_scope(), tf.device("CPU:0"):
        order = _shard_order(seed, tf.constant(epoch, tf.int64), len(shards.files)).numpy()
    firsts = np.arange(0, len(order), shuffle_window)
    ends = np.cumsum(np.add.reduceat(shards.counts[order], firsts))
    window = int(np.searchsorted(ends, place, side="right"))
    start = int(ends[window - 1]) if window else 0
    return epoch * len(firsts) + window, place - start


def _windows(shards: _Shards, seed: int, first_window: int, shuffle_window: int) -> tf.data.Dataset:
    """The windows from `first_window` on without end, each a permuted string tensor of records."""
    windows_per_epoch = -(-len(shards.files) // shuffle_window)

    def load(number: tf.Tensor) -> tf.data.Dataset:
        epoch, window = number // windows_per_epoch, number % windows_per_epoch
        order = _shard_order(seed, epoch, len(shards.files))
        first = window * shuffle_window
        chosen = order[first : tf.minimum(first + shuffle_window, len(shards.files))]
        files, counts = tf.gather(shards.files, chosen), tf.gather(shards.counts, chosen)
        total = tf.reduce_sum(counts)
        # Not the epoch's key itself, with which its shards are permuted.
        key = tf.random.fold_in(_epoch_key(seed, epoch), window, alg=_GENERATOR)
        records = tf.data.Dataset.from_tensor_slices((files, counts)).interleave(
            _read_shard,
            cycle_length=PARALLEL_READS,
            num_parallel_calls=PARALLEL_READS,
            deterministic=True,
        )
        return (
            records.unbatch()
            .batch(total)
            .map(
                lambda window_records: tf.gather(
                    window_records,
                    tf.random.experimental.stateless_shuffle(tf.range(total), key, alg=_GENERATOR),
                )
            )
        )

    return tf.data.Dataset.range(first_window, np.iinfo(np.int64).max).flat_map(load)


def _read_shard(file: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    """One string tensor [count] of the serialized records of a file, or an error naming it."""

    def check(records: tf.Tensor) -> tf.Tensor:
        found = tf.size(records, tf.int64)
        return tf.cond(found == count, lambda: records, lambda: _refuse(file, count, records))

    # One record more than expected is asked for, to notice a longer file.
    records = tf.data.TFRecordDataset(file).batch(count + 1)
    # TensorFlow's message on a damaged record has no file name, so the error becomes a lack of
    # records, which `check` reports. Only one attempt is made, because a file that cannot be
    # opened would otherwise be opened again without end.
    attempt = tf.data.Dataset.zip((tf.data.Dataset.range(1), records)).ignore_errors()
    nothing = tf.data.Dataset.from_tensors(tf.zeros([0], tf.string))
    return attempt.map(lambda _, records: records).concatenate(nothing).take(1).map(check)


def _refuse(file: tf.Tensor, count: tf.Tensor, records: tf.Tensor) -> tf.Tensor:
    # Fails with the cause and the name where the file cannot be opened or read at all.
    num_bytes = tf.strings.as_string(tf.strings.length(tf.io.read_file(file)))
    found = tf.size(records, tf.int64)
    fault = tf.case(
        [
            (found > count, lambda: tf.constant("has more than that")),
            (found > 0, lambda: "has " + tf.strings.as_string(found)),
        ],
        default=lambda: tf.constant("cannot be read to its end, it is empty, cut short or damaged"),
    )
    text = tf.strings.join(
        [
            "The manifest counts ",
            tf.strings.as_string(count),
            " records in ",
            file,
            ", but the file (",
            num_bytes,
            " bytes) ",
            fault,
            ": copy it again from where it was prepared, or prepare the records again.",
        ]
    )
    with tf.control_dependencies([tf.debugging.Assert(False, [text])]):
        return tf.identity(records)


def _own_batches(examples: tf.data.Dataset, slices: _Slices) -> tf.data.Dataset:
    """Batches of single replicas, replica by replica and step by step, those of this host only."""
    batches = examples.batch(slices.replica_batch, drop_remainder=True)
    if slices.pipelines == 1:
        return batches
    # Every host goes over the whole stream and keeps its part, so the global batch is the same
    # for any number of hosts; what is left out is only read, not parsed.
    own = slices.replicas // slices.pipelines
    first = slices.pipeline * own
    steps = batches.batch(slices.replicas, drop_remainder=True)
    return steps.map(
        lambda *parts: tf.nest.map_structure(lambda part: part[first : first + own], parts)
    ).unbatch()


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # The slices are cut above; a second sharding by TensorFlow would drop examples.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
