"""Record shards -> batches of static shape, in an order that is a function and not a state.

The order of training depends on (seed, epoch) and on nothing else (see `order`), so a run that goes
on at step s reads the one window that holds its first example and nothing before it. So do masks
that are drawn when the records are read: an example's depend on (seed, epoch, record number), where
the record number counts over all shards of the split in the order of the manifest.

Only stateless random operations inside the dataset's graph are used, so that the dataset can be
sent to other hosts and is the same on each of them. Every host goes over the whole stream and keeps
its replicas' slices, so that the global batch is the same for any number of hosts, also if they are
more than the files: what is another host's is read from the file and not permuted, parsed or
masked. That costs a host 2.4 microseconds of one core for a record of length 128 (410,000 records a
second, tests/benchmarks/input_speed.py): with batches of 4,096 10 ms of one core in a step, beside
the training. Two or three windows are in memory: the one that is consumed, the next, and its own
part of it while it is permuted.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import ON_DAMAGE, InputError
from keras_bert_tpu.pretraining_data import order
from keras_bert_tpu.pretraining_data.batching import Slices, check_batch_size, group_by_length
from keras_bert_tpu.pretraining_data.damage import ShardScan, scan_shards
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.parsing import batch_parser, mask_keys
from keras_bert_tpu.pretraining_data.records import parse_lengths
from keras_bert_tpu.pretraining_data.shard_reader import ShardTable, read_stretches, shard_table

# Records whose lengths are parsed in one go; their input_mask takes 4 MB at length 128.
_LENGTHS_BATCH = 4096

# What has a value for each token.
_BY_TOKEN = {"token_ids", "segment_ids", "padding_mask", "sequence_ids", "position_ids"}

_Element = dict[str, tf.Tensor]


def training_dataset(
    data: str | os.PathLike | Manifest,
    batch_size: int,
    sequence_length: int,
    max_predictions: int,
    seed: int,
    start_example: int = 0,
    shuffle_window: int = 8,
    input_context: tf.distribute.InputContext | None = None,
    length_buckets: Sequence[int] = (),
    on_damage: str = "stop",
    max_skipped: int = 0,
    scan: ShardScan | None = None,
    max_sequences: int = 1,
) -> tf.data.Dataset:
    """Returns the endless stream of training batches, from any place in it.

    Args:
        data: Local or gs:// folder that `kbt-prepare` or `kbt-index` wrote, or its Manifest.
        batch_size: int. Examples of a step over all replicas.
        sequence_length: int. Must be that of the records.
        max_predictions: int. Must be that of the records.
        seed: int. With the epoch's number it decides the order, and masks that are drawn here. Not
            negative.
        start_example: int. Examples of the stream to leave out, which is the step to start at
            times `batch_size`; with length buckets it must be a multiple of `batch_size`.
        shuffle_window: int. Shards whose records are permuted together; more than there are is
            the same as all of them.
        input_context: What `strategy.distribute_datasets_from_function` passes. Each element is
            then the batch of one replica: the n-th of a step is the n-th slice of the global
            batch, and a host gets the slices of its own replicas. None means one replica.
        length_buckets: Ascending ints, the last one `sequence_length`, or nothing. Each step, over
            all replicas, has examples of one bucket, cut to that length. An example is in the
            shortest bucket that holds it, or moves up to fill a batch; up to batch_size - 1
            examples of a window are left out in an epoch. A host then parses the lengths of all
            records of the stream, too.
        on_damage: str. "stop" ends with an error at a damaged record; "skip" reads around those
            that a scan found, and the order is then a function of (seed, epoch, scan).
        max_skipped: int. Most training records that may be left out with "skip".
        scan: ShardScan or None. What `scan_shards` found; None scans here with "skip". Pass the one
            that the run began with to a run that goes on.
        max_sequences: int. Must be that of the records: 1 unless they are packed.

    Returns:
        Dataset of dicts, shapes static, with batch = batch_size / replicas: int32 `token_ids`,
        `segment_ids` and `padding_mask` [batch, sequence_length]; int32 `mask_positions` and
        `mask_ids` and float32 `mask_weights` [batch, max_predictions]; int32
        `next_sentence_label` [batch, 1]; for the objective "mlm" also float32
        `next_sentence_weights` [batch, 1], zeros. Packed records have the four tensors besides that
        `parse_examples` describes, and [batch, max_sequences] in place of [batch, 1]. With length
        buckets the length of the dataset's specification is None; each element has that of its
        bucket.

    Raises:
        InputError: If the records have another shape or there are none, a number does not fit, or
            there is more damage than `max_skipped`.
        tf.errors.InvalidArgumentError: While iterating, if a shard has not the records that the
            manifest counts; the message names the file, and the record and byte offset of damage.
        tf.errors.NotFoundError: While iterating, if a shard is missing.
    """
    manifest = _load(data, sequence_length, max_predictions, max_sequences)
    slices = Slices.of(batch_size, input_context)
    table = _table(manifest, "train", on_damage, max_skipped, scan)
    _check_order(seed, shuffle_window)
    if start_example < 0:
        raise InputError(f"start_example must not be negative. Received: {start_example}.")
    order.check_buckets(length_buckets, sequence_length)
    if length_buckets:
        order.check_windows(table.counts, batch_size, shuffle_window)
        if start_example % batch_size:
            raise InputError(
                f"start_example must be a multiple of batch_size={batch_size} with length_buckets. "
                f"Received: {start_example}."
            )
        start = order.locate_batch(
            table.counts, seed, start_example // batch_size, batch_size, shuffle_window
        )
    else:
        start = order.locate_example(table.counts, seed, start_example, shuffle_window)

    def select(epoch: tf.Tensor, window: tf.Tensor, first: tf.Tensor, loaded: _Element) -> _Element:
        """This host's part of a window, in the order of the stream."""
        key = order.window_key(seed, epoch, window)
        total = tf.size(loaded["serialized"], tf.int64)
        permutation = order.shuffle(tf.range(total), key)
        if length_buckets:
            batches, widths = group_by_length(
                tf.gather(loaded["lengths"], permutation), length_buckets, batch_size, key
            )
            permutation = tf.gather(permutation, tf.reshape(batches, [-1]))
            loaded = {**loaded, "width": tf.repeat(widths, batch_size)}
            is_first = epoch * windows + window == start.window
            places = tf.range(tf.size(permutation, tf.int64))
            places -= tf.where(is_first, tf.constant(start.skipped, tf.int64), 0)
        else:
            places = epoch * table.num_examples + first - start_example + tf.range(total)
        own = slices.own(places)
        permutation = tf.boolean_mask(permutation, own)
        selected = {"serialized": tf.gather(loaded["serialized"], permutation)}
        if manifest.config.masks == "dynamic":
            numbers = tf.gather(loaded["numbers"], permutation)
            selected["mask_keys"] = mask_keys("train", seed, epoch, numbers)
        if length_buckets:
            selected["width"] = tf.boolean_mask(loaded["width"], own)
        return selected

    windows = order.num_windows(len(table.counts), shuffle_window)
    lengths_of = sequence_length if length_buckets else None
    examples = _windows(table, seed, start.window, shuffle_window, lengths_of, select)
    batches = examples.prefetch(1).rebatch(slices.replica_batch, drop_remainder=True)
    parse = batch_parser(manifest)

    def cut(element: _Element) -> dict[str, tf.Tensor]:
        batch = parse(element["serialized"], element.get("mask_keys"))
        if length_buckets:
            width = element["width"][0]
            for name in _BY_TOKEN & batch.keys():
                batch[name] = batch[name][:, :width]
        return batch

    batches = batches.map(cut, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(_options())


def validation_dataset(
    data: str | os.PathLike | Manifest,
    batch_size: int,
    sequence_length: int,
    max_predictions: int,
    num_examples: int = 0,
    input_context: tf.distribute.InputContext | None = None,
    on_damage: str = "stop",
    max_skipped: int = 0,
    scan: ShardScan | None = None,
    max_sequences: int = 1,
) -> tf.data.Dataset:
    """Returns the held-out examples once, in the order of the files.

    Every batch is full: the last one ends in padding rows, which are copies of the first example
    (a row without any token has no attention) whose `mask_weights` and `next_sentence_weights`
    are zero. Sums over weights therefore have the right denominators. Masks that are drawn here
    depend on the seed of the preparation, so they are the same at every evaluation and in every
    run.

    Args:
        data: Local or gs:// folder that `kbt-prepare` or `kbt-index` wrote, or its Manifest.
        batch_size: int. Examples of a step over all replicas.
        sequence_length: int. Must be that of the records.
        max_predictions: int. Must be that of the records.
        num_examples: int. How many of the first examples are taken; 0 takes all, and so does
            a number beyond all.
        input_context: As in `training_dataset`.
        on_damage: str. As in `training_dataset`.
        max_skipped: int. Most held-out records that may be left out with "skip".
        scan: ShardScan or None. As in `training_dataset`.
        max_sequences: int. As in `training_dataset`.

    Returns:
        Dataset of dicts as in `training_dataset`, and float32 `next_sentence_weights` [batch, 1]
        also where that has none. It has `validation_steps` batches for each replica.

    Raises:
        InputError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError: As `training_dataset`.
    """
    manifest = _load(data, sequence_length, max_predictions, max_sequences)
    slices = Slices.of(batch_size, input_context)
    table = _table(manifest, "validation", on_damage, max_skipped, scan)
    real = _num_taken(table, num_examples)
    padded = -(-real // batch_size) * batch_size

    ends = np.cumsum(table.stretch_counts)
    needed = int(np.searchsorted(ends, real)) + 1

    def select(records: tf.Tensor, number: tf.Tensor, place: tf.Tensor) -> _Element:
        """This host's part of a stretch."""
        steps = tf.range(tf.size(records, tf.int64))
        own = slices.own(place + steps) & (place + steps < real)
        return {
            "serialized": tf.boolean_mask(records, own),
            "number": tf.boolean_mask(number + steps, own),
            "place": tf.boolean_mask(place + steps, own),
        }

    def pad(records: tf.Tensor) -> _Element:
        """This host's part of the padding rows."""
        places = tf.range(real, padded, dtype=tf.int64)
        places = tf.boolean_mask(places, slices.own(places))
        first = tf.zeros_like(places)
        number = tf.gather(table.first_number, first)
        return {"serialized": tf.gather(records, first), "number": number, "place": places}

    stretches = read_stretches(table, tf.range(needed, dtype=tf.int64))
    firsts = (table.first_number[:needed], ends[:needed] - table.stretch_counts[:needed])
    numbered = tf.data.Dataset.zip((stretches, tf.data.Dataset.from_tensor_slices(firsts)))
    examples = numbered.map(lambda records, first: select(records, *first))
    examples = examples.concatenate(stretches.take(1).map(pad))
    batches = examples.prefetch(1).rebatch(slices.replica_batch, drop_remainder=True)
    parse = batch_parser(manifest)

    def weigh(element: _Element) -> dict[str, tf.Tensor]:
        keys = mask_keys("validation", manifest.config.seed, 0, element["number"])
        batch = parse(element["serialized"], keys)
        weights = tf.cast(element["place"] < real, tf.float32)[:, tf.newaxis]
        batch["mask_weights"] *= weights
        batch["next_sentence_weights"] = weights * batch.get("next_sentence_weights", 1.0)
        return batch

    batches = batches.map(weigh, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(_options())


def validation_steps(
    data: str | os.PathLike | Manifest,
    batch_size: int,
    num_examples: int = 0,
    scan: ShardScan | None = None,
) -> int:
    """Returns the number of steps that `validation_dataset` gives each replica.

    Args:
        data: Local or gs:// folder that `kbt-prepare` or `kbt-index` wrote, or its Manifest.
        batch_size: int. Examples of a step over all replicas.
        num_examples: int. As in `validation_dataset`.
        scan: ShardScan or None. What is left out, if anything is.

    Raises:
        InputError: If there are no held-out records, or a number does not fit.
    """
    check_batch_size(batch_size)
    table = shard_table(_manifest(data), "validation", scan)
    return -(-_num_taken(table, num_examples) // batch_size)


def training_steps_per_epoch(
    data: str | os.PathLike | Manifest,
    batch_size: int,
    seed: int,
    epoch: int = 0,
    shuffle_window: int = 8,
    length_buckets: Sequence[int] = (),
    scan: ShardScan | None = None,
) -> int:
    """Returns how many of the batches of `training_dataset` begin in an epoch; nothing is read.

    With length buckets epochs differ by a few, because a window gives whole batches only and its
    shards are others in each epoch.

    Args:
        data: Local or gs:// folder that `kbt-prepare` or `kbt-index` wrote, or its Manifest.
        batch_size: int. Examples of a step over all replicas.
        seed: int.
        epoch: int. From 0.
        shuffle_window: int. As in `training_dataset`.
        length_buckets: As in `training_dataset`.
        scan: ShardScan or None. What is left out, if anything is.

    Raises:
        InputError: If there are no training records, or a number does not fit.
    """
    check_batch_size(batch_size)
    _check_order(seed, shuffle_window)
    manifest = _manifest(data)
    table = shard_table(manifest, "train", scan)
    if not length_buckets:
        first, end = (-(-e * table.num_examples // batch_size) for e in (epoch, epoch + 1))
        return end - first
    order.check_buckets(length_buckets, manifest.config.sequence_length)
    order.check_windows(table.counts, batch_size, shuffle_window)
    sizes = order.window_sizes(table.counts, seed, epoch, shuffle_window)
    return int((sizes // batch_size).sum())


def _manifest(data: str | os.PathLike | Manifest) -> Manifest:
    return data if isinstance(data, Manifest) else Manifest.load(os.fspath(data))


def _load(
    data: str | os.PathLike | Manifest,
    sequence_length: int,
    max_predictions: int,
    max_sequences: int,
) -> Manifest:
    """The manifest, after a check that its records have the shape that the model is given."""
    manifest = _manifest(data)
    config = manifest.config
    for name, wanted, written in (
        ("sequence_length", sequence_length, config.sequence_length),
        ("max_predictions", max_predictions, config.max_predictions),
    ):
        if written != wanted:
            raise InputError(
                f"The records in {manifest.directory} were prepared with {name}={written}, and "
                f"{name}={wanted} is asked for: set {name} to {written}, or prepare the records "
                f"again with {wanted}."
            )
    if config.sequences_per_row != max_sequences:
        are = f"packed, at most {config.max_sequences} in a row" if config.pack else "not packed"
        again = f"with --pack and max_sequences={max_sequences}"
        raise InputError(
            f"The records in {manifest.directory} are {are}, and max_sequences={max_sequences} is "
            f"asked for: set max_sequences={config.sequences_per_row} for their phase, or prepare "
            f"them again {again if max_sequences > 1 else 'without --pack'}."
        )
    return manifest


def _table(
    manifest: Manifest, split: str, on_damage: str, max_skipped: int, scan: ShardScan | None
) -> ShardTable:
    if on_damage not in ON_DAMAGE:
        raise InputError(
            f"on_damage must be one of {', '.join(ON_DAMAGE)}. Received: {on_damage!r}."
        )
    if max_skipped < 0:
        raise InputError(f"max_skipped must not be negative. Received: {max_skipped}.")
    if on_damage == "stop":
        return shard_table(manifest, split)
    scan = scan or scan_shards(manifest, [split])
    scan.check(manifest, [split], max_skipped)
    return shard_table(manifest, split, scan)


def _check_order(seed: int, shuffle_window: int) -> None:
    if shuffle_window <= 0:
        raise InputError(f"shuffle_window must be greater than 0. Received: {shuffle_window}.")
    if not 0 <= seed < 2**31:
        raise InputError(f"seed must be from 0 to 2**31 - 1. Received: {seed}.")


def _num_taken(table: ShardTable, num_examples: int) -> int:
    if num_examples < 0:
        raise InputError(f"num_examples must not be negative. Received: {num_examples}.")
    return min(num_examples or table.num_examples, table.num_examples)


def _windows(
    table: ShardTable,
    seed: int,
    first_window: int,
    shuffle_window: int,
    lengths_of: int | None,
    select: Callable[[tf.Tensor, tf.Tensor, tf.Tensor, _Element], _Element],
) -> tf.data.Dataset:
    """The windows from `first_window` on without end, each what `select` makes of its records.

    `select` is given the epoch, the window's number within it, how many records the epoch has
    before the window, and the window's records in the order of the epoch's shards: `serialized`,
    record `numbers`, and their `lengths` if the sequence length is given.
    """
    num_shards = len(table.counts)
    windows_per_epoch = order.num_windows(num_shards, shuffle_window)

    def load(number: tf.Tensor) -> tf.data.Dataset:
        epoch, window = number // windows_per_epoch, number % windows_per_epoch
        shards = order.shard_order(seed, epoch, num_shards)
        first = window * shuffle_window
        chosen = shards[first : tf.minimum(first + shuffle_window, num_shards)]
        before = tf.reduce_sum(tf.gather(table.counts, shards[:first]))
        stretches = tf.ragged.range(
            tf.gather(table.first_stretch, chosen), tf.gather(table.first_stretch, chosen + 1)
        ).values
        first_number = tf.gather(table.first_number, stretches)
        end_number = first_number + tf.gather(table.stretch_counts, stretches)
        numbers = tf.ragged.range(first_number, end_number).values
        total = tf.reduce_sum(tf.gather(table.counts, chosen))
        loaded = read_stretches(table, stretches).map(lambda records: {"serialized": records})
        if lengths_of is None:
            loaded = loaded.rebatch(total)
        else:
            loaded = loaded.rebatch(_LENGTHS_BATCH).map(
                lambda part: {**part, "lengths": parse_lengths(part["serialized"], lengths_of)},
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            # Not a second rebatch, which logs an error for each slice that the first one made.
            loaded = loaded.unbatch().batch(total)
        return loaded.map(lambda part: select(epoch, window, before, {**part, "numbers": numbers}))

    return tf.data.Dataset.range(first_window, np.iinfo(np.int64).max).flat_map(load)


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # The slices are cut above; a second sharding by TensorFlow would drop examples.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
