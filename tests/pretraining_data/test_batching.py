"""Batches of one length: which examples they hold, where they start, and what is left out."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.batching import Slices, group_by_length
from keras_bert_tpu.pretraining_data.pipeline import training_dataset, training_steps_per_epoch

from small_records import SHAPE, read_all, stream, write_small_records

BUCKETS = (3, 5, 8)


def group(lengths, batch_size, key=(1, 2), buckets=BUCKETS):
    batches, widths = group_by_length(
        tf.constant(lengths, tf.int32), buckets, batch_size, tf.constant(key, tf.int64)
    )
    return batches.numpy(), widths.numpy().tolist()


def by_the_rule(lengths, batch_size, buckets=BUCKETS):
    """What `group_by_length` says of itself, one example at a time: {(width, places)}."""
    waiting, batches = [], []
    for low, width in zip((0, *buckets), buckets, strict=False):
        members = [place for place, length in enumerate(lengths) if low < length <= width]
        members = sorted(waiting + members)
        while len(members) >= batch_size:
            batches.append((width, tuple(members[:batch_size])))
            members = members[batch_size:]
        waiting = members
    return set(batches), waiting


class TestGroups:
    def test_examples_are_with_their_like_and_the_rest_moves_up(self):
        #          0  1  2  3  4  5  6  7  8
        lengths = [3, 8, 1, 4, 2, 7, 5, 6, 8]
        batches, widths = group(lengths, batch_size=2)
        # Of 0, 2 and 4 the last is too many for width 3; with 3 and 6 again for width 5.
        assert set(zip(widths, map(tuple, batches.tolist()), strict=True)) == {
            (3, (0, 2)),
            (5, (3, 4)),
            (8, (1, 5)),
            (8, (6, 7)),
        }

    @settings(derandomize=True, max_examples=60, deadline=None)
    @given(st.lists(st.integers(1, 8), max_size=60), st.integers(1, 9), st.integers(0, 9))
    def test_the_rule_holds_for_any_lengths(self, lengths, batch_size, key):
        batches, widths = group(lengths, batch_size, (key, 0))
        expected, left = by_the_rule(lengths, batch_size)
        found = [(w, tuple(row)) for w, row in zip(widths, batches.tolist(), strict=True)]
        assert len(found) == len(lengths) // batch_size and set(found) == expected
        assert len(left) < batch_size
        for width, places in found:
            assert max(lengths[place] for place in places) <= width

    def test_batches_are_permuted_by_the_key(self):
        lengths = [2] * 20 + [7] * 20
        orders = [group(lengths, 2, key=(key, 0))[1] for key in range(3)]
        assert orders[0] == group(lengths, 2, key=(0, 0))[1]
        assert orders[0] != orders[1] != orders[2] != orders[0]
        changes = sum(a != b for a, b in zip(orders[0], orders[0][1:], strict=False))
        assert changes >= 4  # 10 of 19 on the average.


class TestSlices:
    def test_each_place_is_one_hosts(self):
        places = tf.range(-3, 24, dtype=tf.int64)
        hosts = [
            Slices.of(12, tf.distribute.InputContext(3, host, 6)).own(places).numpy()
            for host in range(3)
        ]
        # 6 replicas of 2: the first host has places 0 to 3 of each batch.
        assert places.numpy()[hosts[0]].tolist() == [0, 1, 2, 3, 12, 13, 14, 15]
        total = np.sum(hosts, axis=0)
        assert total[:3].tolist() == [0, 0, 0] and (total[3:] == 1).all()


@pytest.fixture(scope="module")
def lengths():
    rng = np.random.default_rng(0)
    return dict(enumerate(rng.integers(1, 9, 1000).tolist()))


@pytest.fixture(scope="module")
def data(tmp_path_factory, lengths):
    """Five shards; windows of two: 2, 2 and 1 of them."""
    folder = tmp_path_factory.mktemp("buckets")
    return write_small_records(folder, [13, 9, 17, 11, 10], lengths=lengths)


def batches_of(data, count, start_example=0, batch_size=4, **arguments):
    dataset = training_dataset(
        data,
        batch_size,
        **SHAPE,
        seed=7,
        start_example=start_example,
        length_buckets=BUCKETS,
        **{"shuffle_window": 2, **arguments},
    )
    return read_all(dataset.take(count))


@pytest.fixture(scope="module")
def steps(data):
    """Steps of three epochs."""
    arguments = {"seed": 7, "shuffle_window": 2, "length_buckets": BUCKETS}
    return [training_steps_per_epoch(data, 4, epoch=epoch, **arguments) for epoch in range(3)]


@pytest.fixture(scope="module")
def batches(data, steps):
    """The batches of three epochs."""
    return batches_of(data, sum(steps))


class TestTraining:
    def test_batches_are_cut_to_the_length_of_a_bucket(self, batches, lengths):
        assert {batch["token_ids"].shape for batch in batches} == {(4, width) for width in BUCKETS}
        for batch in batches:
            width = batch["token_ids"].shape[1]
            for name in ("segment_ids", "padding_mask"):
                assert batch[name].shape == (4, width)
            assert batch["mask_positions"].shape == (4, 3)
            real = [lengths[number] for number in batch["token_ids"][:, 0].tolist()]
            assert batch["padding_mask"].sum(axis=1).tolist() == real  # Nothing is cut off.

    def test_an_epoch_has_every_example_at_most_once(self, batches, steps):
        for epoch in range(3):
            begin = sum(steps[:epoch])
            part = batches[begin : begin + steps[epoch]]
            numbers = [n for batch in part for n in batch["token_ids"][:, 0].tolist()]
            assert max(collections.Counter(numbers).values()) == 1
            # At most 3 of each of the 3 windows are left out.
            assert 60 - 9 <= len(numbers) <= 60

    def test_windows_hold_and_are_located_without_reading(self, data, batches, steps):
        # Epochs have different windows, and so different numbers of batches.
        assert len(set(steps)) > 1
        for start in (1, steps[0] - 1, steps[0], steps[0] + steps[1] + 2):
            part = batches_of(data, 5, start_example=4 * start)
            for batch, expected in zip(part, batches[start:], strict=False):
                for name in expected:
                    np.testing.assert_array_equal(batch[name], expected[name])

    def test_there_is_less_padding(self, data, batches):
        def padding(some):
            masks = [batch["padding_mask"] for batch in some]
            return 1 - sum(m.sum() for m in masks) / sum(m.size for m in masks)

        plain = training_dataset(data, 4, **SHAPE, seed=7, shuffle_window=2).take(45)
        assert padding(batches) < 0.6 * padding(read_all(plain))

    @pytest.mark.parametrize(("hosts", "replicas"), [(1, 2), (2, 2), (2, 4)])
    def test_all_replicas_of_a_step_have_one_bucket(self, data, batches, hosts, replicas):
        own = replicas // hosts
        parts = [
            batches_of(
                data,
                10 * own,
                start_example=8,
                input_context=tf.distribute.InputContext(hosts, host, replicas),
            )
            for host in range(hosts)
        ]
        for step, expected in enumerate(batches[2:12]):
            pieces = [piece for host in parts for piece in host[own * step : own * (step + 1)]]
            assert len({piece["token_ids"].shape for piece in pieces}) == 1
            for name in expected:
                joined = np.concatenate([piece[name] for piece in pieces])
                np.testing.assert_array_equal(joined, expected[name])

    def test_only_the_length_is_unknown_beforehand(self, data):
        dataset = training_dataset(data, 4, **SHAPE, seed=7, length_buckets=BUCKETS)
        shapes = {name: spec.shape.as_list() for name, spec in dataset.element_spec.items()}
        assert shapes["token_ids"] == shapes["segment_ids"] == shapes["padding_mask"] == [4, None]
        assert shapes["mask_positions"] == [4, 3]

    def test_the_dataset_can_be_sent_to_another_host(self, data):
        dataset = training_dataset(data, 4, **SHAPE, seed=7, length_buckets=BUCKETS)
        graph = tf.raw_ops.DatasetToGraphV2(
            input_dataset=dataset._variant_tensor, external_state_policy=2
        )
        assert b"PyFunc" not in graph.numpy()

    def test_a_window_smaller_than_a_batch_gives_none(self, tmp_path):
        lengths = dict.fromkeys(range(1000), 4)
        data = write_small_records(tmp_path, [1, 20, 2], lengths=lengths)
        arguments = {"shuffle_window": 1, "batch_size": 6}
        first = batches_of(data, 6, **arguments)
        for batch in first:
            assert {number // 100 for number in batch["token_ids"][:, 0].tolist()} == {1}
        later = batches_of(data, 3, start_example=18, **arguments)
        for batch, expected in zip(later, first[3:], strict=True):
            np.testing.assert_array_equal(batch["token_ids"], expected["token_ids"])


class TestStepsPerEpoch:
    def test_without_buckets_batches_are_counted_where_they_begin(self, data):
        # 60 examples in batches of 8: 7.5.
        steps = [training_steps_per_epoch(data, 8, seed=7, epoch=epoch) for epoch in range(4)]
        assert steps == [8, 7, 8, 7]

    def test_a_window_gives_whole_batches(self, data):
        # One window of all 60.
        arguments = {"seed": 7, "length_buckets": BUCKETS}
        assert training_steps_per_epoch(data, 8, **arguments) == 7
        assert training_steps_per_epoch(data, 60, **arguments) == 1

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"length_buckets": (3, 5)}, r"last is sequence_length=8. Received: \(3, 5\)"),
            ({"length_buckets": (5, 3, 8)}, "must be ascending"),
            ({"length_buckets": (3, 3, 8)}, "must be ascending"),
            ({"length_buckets": (0, 8)}, "must be ascending"),
            ({"length_buckets": (8,), "batch_size": 61}, "at least a batch: 60 examples in 1"),
            (
                {"length_buckets": (8,), "batch_size": 16, "shuffle_window": 1},
                "60 examples in 5 windows of 1 shards are 12 in each, and batch_size is 16",
            ),
        ],
    )
    def test_buckets_and_windows_are_checked(self, data, changed, message):
        arguments = {"batch_size": 4, "seed": 7, **changed}
        with pytest.raises(InputError, match=message):
            training_steps_per_epoch(data, **arguments)
        with pytest.raises(InputError, match=message):
            training_dataset(data, **SHAPE, **arguments)

    def test_a_start_is_a_step(self, data):
        with pytest.raises(InputError, match="multiple of batch_size=4 .*Received: 6"):
            stream(data, 1, batch_size=4, length_buckets=BUCKETS, start_example=6)
