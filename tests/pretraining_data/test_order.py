"""The order of training, for any shards, seeds, windows, batches and starts."""

import tempfile

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_bert_tpu.pretraining_data import order
from keras_bert_tpu.pretraining_data.pipeline import training_dataset, training_steps_per_epoch

from small_records import SHAPE, read_all, stream, windows, write_small_records

shard_counts = st.lists(st.integers(0, 7), min_size=1, max_size=5).filter(any)
seeds = st.integers(0, 2**31 - 1)
few = settings(derandomize=True, max_examples=5, deadline=None)
many = settings(derandomize=True, max_examples=50, deadline=None)


def everything(counts):
    return [100 * shard + place for shard, count in enumerate(counts) for place in range(count)]


class TestStream:
    """Of whole datasets, which take a second to build."""

    @few
    @given(shard_counts, st.integers(1, 6), seeds)
    @example([7, 1, 5, 3, 2], 2, 3)
    def test_every_record_comes_once_an_epoch_and_stays_in_its_window(
        self, counts, shuffle_window, seed
    ):
        with tempfile.TemporaryDirectory() as folder:
            data = write_small_records(folder, counts)
            size = sum(counts)
            numbers = stream(data, 2 * size, 3, seed=seed, shuffle_window=shuffle_window)
        # `windows` asserts that they are whole.
        full = [count for count in counts if count]
        renumber = {shard: i for i, shard in enumerate(np.flatnonzero(counts).tolist())}
        for epoch in (numbers[:size], numbers[size:]):
            assert sorted(epoch) == everything(counts)
            epoch = [100 * renumber[number // 100] + number % 100 for number in epoch]
            found = windows(epoch, full, shuffle_window)
            assert [len(window) for window in found[:-1]] == [shuffle_window] * (len(found) - 1)

    @few
    @given(shard_counts, st.integers(1, 3), seeds, st.integers(1, 9), st.integers(0, 40))
    def test_a_start_at_a_step_gives_the_tail(self, counts, shuffle_window, seed, batch_size, step):
        arguments = {"seed": seed, "shuffle_window": shuffle_window}
        start = batch_size * step
        with tempfile.TemporaryDirectory() as folder:
            data = write_small_records(folder, counts)
            whole = stream(data, start + 20, batch_size, **arguments)
            assert stream(data, 20, batch_size, start_example=start, **arguments) == whole[start:]

    @few
    @given(shard_counts, seeds, st.sampled_from([(1, 3), (2, 2), (3, 3), (2, 6)]), st.data())
    def test_slices_of_hosts_make_the_global_batch(self, counts, seed, hosts_and_replicas, draw):
        hosts, replicas = hosts_and_replicas
        batch_size = replicas * draw.draw(st.integers(1, 3))
        with tempfile.TemporaryDirectory() as folder:
            data = write_small_records(folder, counts)
            whole = stream(data, 4 * batch_size, batch_size, seed=seed)
            parts = [
                np.reshape(
                    stream(
                        data,
                        4 * batch_size // hosts,
                        batch_size,
                        seed=seed,
                        input_context=tf.distribute.InputContext(hosts, host, replicas),
                    ),
                    [4, -1],
                )
                for host in range(hosts)
            ]
        assert np.concatenate(parts, axis=1).ravel().tolist() == whole

    @few
    @given(
        st.lists(st.integers(4, 9), min_size=1, max_size=4),
        st.integers(1, 4),
        seeds,
        st.integers(1, 4),
        st.sampled_from([(8,), (4, 8), (2, 3, 6, 8)]),
        st.integers(0, 2**32 - 1),
    )
    def test_batches_by_length_leave_out_less_than_a_batch_of_a_window(
        self, counts, shuffle_window, seed, batch_size, buckets, lengths_seed
    ):
        rng = np.random.default_rng(lengths_seed)
        lengths = dict(
            zip(everything(counts), rng.integers(1, 9, sum(counts)).tolist(), strict=True)
        )
        arguments = {
            "seed": seed,
            "shuffle_window": shuffle_window,
            "length_buckets": buckets,
        }
        with tempfile.TemporaryDirectory() as folder:
            data = write_small_records(folder, counts, lengths=lengths)
            steps = training_steps_per_epoch(data, batch_size, **arguments)
            batches = read_all(training_dataset(data, batch_size, **SHAPE, **arguments).take(steps))
        numbers = [n for batch in batches for n in batch["token_ids"][:, 0].tolist()]
        assert len(set(numbers)) == len(numbers) and set(numbers) <= set(everything(counts))
        num_windows = order.num_windows(len(counts), shuffle_window)
        assert sum(counts) - len(numbers) <= num_windows * (batch_size - 1)
        for batch in batches:
            width = batch["token_ids"].shape[1]
            assert width in buckets
            assert max(lengths[n] for n in batch["token_ids"][:, 0].tolist()) <= width


class TestPlaces:
    """Of the numbers alone."""

    @many
    @given(shard_counts, st.integers(1, 6), seeds, st.integers(0, 200))
    def test_an_example_is_where_going_through_the_windows_finds_it(
        self, counts, shuffle_window, seed, example
    ):
        counts = np.array([count for count in counts if count], np.int64)
        expected, before, epoch = 0, 0, 0
        while True:
            for size in order.window_sizes(counts, seed, epoch, shuffle_window).tolist():
                if example < before + size:
                    found = order.locate_example(counts, seed, example, shuffle_window)
                    assert found == order.Start(expected, example - before)
                    return
                before += size
                expected += 1
            epoch += 1

    @many
    @given(
        st.lists(st.integers(6, 20), min_size=1, max_size=5),
        st.integers(1, 6),
        seeds,
        st.integers(1, 6),
        st.integers(0, 60),
    )
    def test_a_batch_is_where_going_through_the_windows_finds_it(
        self, counts, shuffle_window, seed, batch_size, batch
    ):
        counts = np.array(counts, np.int64)
        expected, before, epoch = 0, 0, 0
        while True:
            for size in order.window_sizes(counts, seed, epoch, shuffle_window).tolist():
                if batch < before + size // batch_size:
                    found = order.locate_batch(counts, seed, batch, batch_size, shuffle_window)
                    assert found == order.Start(expected, (batch - before) * batch_size)
                    return
                before += size // batch_size
                expected += 1
            epoch += 1

    def test_windows_of_an_epoch_have_all_shards(self):
        counts = np.array([1, 10, 100, 1000, 10000], np.int64)
        for epoch in range(5):
            sizes = order.window_sizes(counts, 3, epoch, 2)
            assert sizes.sum() == 11111
            # Each digit says how many shards of that size there are: 2, 2 and 1 of them.
            assert [sum(map(int, str(size))) for size in sizes] == [2, 2, 1]

    @pytest.mark.parametrize("epochs", [0, 10**9])
    def test_far_epochs_are_found_at_once(self, epochs):
        counts = np.array([3, 4], np.int64)
        found = order.locate_example(counts, 1, 7 * epochs, 1)
        assert found == order.Start(2 * epochs, 0)
