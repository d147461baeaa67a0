"""The order of training, slices for replicas and hosts, padding of validation, damaged files."""

import errno
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.pipeline import (
    training_dataset,
    validation_dataset,
    validation_steps,
)

from small_records import LENGTH, PREDICTIONS, SHAPE, stream, windows, write_small_records


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """9 training records in 3 shards: windows of two shards and of one; 5 held-out records."""
    return write_small_records(tmp_path_factory.mktemp("small"), train=[3, 2, 4], validation=[2, 3])


class TestOrder:
    def test_the_order_is_this_one(self, small):
        # A run can go on under another version of TensorFlow only while the order is this one.
        first_epoch = [2, 202, 203, 0, 200, 201, 1] + [100, 101]  # Shards 0 and 2, then 1.
        second_epoch = [101, 2, 1, 0, 100] + [201, 202, 200, 203]  # Shards 0 and 1, then 2.
        assert stream(small, 18) == first_epoch + second_epoch

    def test_equal_seeds_give_equal_orders_and_other_seeds_and_epochs_others(self, tmp_path):
        data = write_small_records(tmp_path, train=[10, 10, 10, 10])
        first = stream(data, 120)
        assert stream(data, 120) == first
        assert stream(data, 120, batch_size=8) == first
        assert stream(data, 120, seed=8) != first
        epochs = [first[:40], first[40:80], first[80:]]
        assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
        # Not only the records are permuted, the windows differ as well.
        assert len({str(windows(epoch, [10] * 4, 2)) for epoch in epochs}) > 1

    def test_every_epoch_visits_every_record_once(self, small):
        everything = [0, 1, 2, 100, 101, 200, 201, 202, 203]
        numbers = stream(small, 45, batch_size=4)
        for epoch in range(5):
            assert sorted(numbers[9 * epoch : 9 * epoch + 9]) == everything

    @pytest.mark.parametrize(
        ("shuffle_window", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (3, [3, 2]), (8, [5])]
    )
    def test_records_do_not_leave_their_window(self, tmp_path, shuffle_window, sizes):
        counts = [6, 5, 7, 4, 8]
        data = write_small_records(tmp_path, train=counts)
        numbers = stream(data, 60, shuffle_window=shuffle_window)
        for epoch in (numbers[:30], numbers[30:]):
            assert [len(window) for window in windows(epoch, counts, shuffle_window)] == sizes

    def test_records_of_a_window_are_mixed(self, tmp_path):
        data = write_small_records(tmp_path, train=[50, 50])
        numbers = stream(data, 100)
        # 100 records in a random order change shard about 50 times (standard deviation 5).
        changes = sum(a // 100 != b // 100 for a, b in zip(numbers, numbers[1:], strict=False))
        assert 30 < changes < 70
        assert [n for n in numbers if n < 100] != sorted(n for n in numbers if n < 100)

    def test_a_shard_without_records_changes_nothing(self, small, tmp_path):
        data = write_small_records(tmp_path, train=[3, 2, 4, 0])
        assert stream(data, 18) == stream(small, 18)


class TestStart:
    def test_a_start_at_every_example_gives_the_tail_of_the_stream(self, tmp_path):
        data = write_small_records(tmp_path, train=[2, 1, 2])
        whole = stream(data, 24)
        # Over the ends of two epochs of 5, within and between windows; test_order tries others.
        for start in (1, 3, 5, 9, 10):
            assert stream(data, 12, batch_size=4, start_example=start) == whole[start : start + 12]

    def test_a_batch_may_be_larger_than_an_epoch(self, small):
        whole = stream(small, 60)
        assert stream(small, 60, batch_size=20) == whole
        assert stream(small, 40, batch_size=20, start_example=20) == whole[20:]

    def test_a_start_far_away_is_immediate(self, small):
        start = 9 * 10**9  # A thousand million epochs.
        numbers = stream(small, 9, start_example=start)
        assert sorted(numbers) == [0, 1, 2, 100, 101, 200, 201, 202, 203]
        assert stream(small, 5, start_example=start + 4) == numbers[4:]

    def test_only_the_files_of_the_window_are_needed(self, tmp_path):
        counts = [3, 2, 4, 5, 3, 2]
        data = write_small_records(tmp_path, train=counts)
        epoch = stream(data, 19)
        order = windows(epoch, counts, 2)
        first = sum(counts[shard] for shard in order[0])
        size = sum(counts[shard] for shard in order[1])
        manifest = Manifest.load(str(data))
        for shard in order[0] + order[2]:
            os.remove(data / f"train-{shard}.tfrecord")
        start = first + 1
        assert stream(manifest, size - 1, start_example=start) == epoch[start : first + size]
        with pytest.raises(tf.errors.NotFoundError, match=f"train-[{order[2][0]}{order[2][1]}]"):
            stream(manifest, size, start_example=start)

    def test_the_next_window_is_read_while_this_one_is_consumed_and_no_further_one(self, tmp_path):
        counts = [100, 100, 100]
        data = write_small_records(tmp_path, train=counts)
        epoch = stream(data, 300, batch_size=8, shuffle_window=1)
        order = [window[0] for window in windows(epoch, counts, 1)]
        # A pipe in the place of a file: a writer can open it only while somebody reads it.
        pipes = {shard: data / f"train-{shard}.tfrecord" for shard in order[1:]}
        for pipe in pipes.values():
            os.remove(pipe)
            os.mkfifo(pipe)
        opened, done = set(), threading.Event()

        def watch():
            while not done.wait(0.005):
                for shard, pipe in pipes.items():
                    try:
                        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
                        opened.add(shard)
                    except OSError as error:
                        assert error.errno == errno.ENXIO, error  # Nobody reads it.

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            dataset = training_dataset(data, 1, **SHAPE, seed=7, shuffle_window=1)
            iterator = iter(dataset)
            next(iterator)
            deadline = time.monotonic() + 30
            while not opened:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.2)
            assert opened == {order[1]}
            # Before the watcher ends, because a reader without a writer waits for ever.
            del iterator
        finally:
            done.set()
            watcher.join()


class TestSlices:
    def batches(self, directory, pipelines, replicas, count):
        """Global batches put together from what each host draws for each of its replicas."""
        hosts = [
            training_dataset(
                str(directory),
                8,
                **SHAPE,
                seed=7,
                start_example=3,
                shuffle_window=2,
                input_context=tf.distribute.InputContext(pipelines, host, replicas),
            ).as_numpy_iterator()
            for host in range(pipelines)
        ]
        rows = []
        for _ in range(count):
            parts = [next(host) for host in hosts for _ in range(replicas // pipelines)]
            assert all(part["token_ids"].shape == (8 // replicas, LENGTH) for part in parts)
            rows.append({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        return rows

    @pytest.mark.parametrize(("pipelines", "replicas"), [(1, 4), (2, 2), (2, 4)])
    def test_the_global_batch_is_the_same_for_any_hosts_and_replicas(
        self, small, pipelines, replicas
    ):
        whole = self.batches(small, 1, 1, 5)
        assert whole[0]["token_ids"][:, 0].tolist() == stream(small, 8, start_example=3)
        for batch, expected in zip(self.batches(small, pipelines, replicas, 5), whole, strict=True):
            for name in expected:
                np.testing.assert_array_equal(batch[name], expected[name])

    @pytest.mark.parametrize("counts", [[11], [5, 6]], ids=["one file", "two files"])
    def test_three_hosts_share_fewer_files(self, tmp_path, counts):
        data = write_small_records(tmp_path, train=counts, validation=counts)
        expected = stream(data, 36, batch_size=6)
        hosts = []
        for host in range(3):
            context = tf.distribute.InputContext(3, host, 3)
            own = stream(data, 12, batch_size=6, input_context=context)
            hosts.append(np.reshape(own, [-1, 2]))
            # The 11 held-out records, 2 for each host and step, and 1 row of padding.
            held_out = validation_dataset(data, 6, **SHAPE, input_context=context)
            assert [batch["token_ids"].shape[0] for batch in held_out] == [2, 2]
        assert np.concatenate(hosts, axis=1).ravel().tolist() == expected

    def test_validation_is_cut_in_the_same_way(self, small):
        expected = list(validation_dataset(small, 4, **SHAPE).as_numpy_iterator())
        hosts = [
            list(
                validation_dataset(
                    str(small),
                    4,
                    **SHAPE,
                    input_context=tf.distribute.InputContext(2, host, 4),
                ).as_numpy_iterator()
            )
            for host in range(2)
        ]
        # Four replicas of one row, two steps: each host draws two elements in each step.
        assert [len(host) for host in hosts] == [4, 4]
        for step, batch in enumerate(expected):
            parts = [part for host in hosts for part in host[2 * step : 2 * step + 2]]
            for name in batch:
                np.testing.assert_array_equal(
                    np.concatenate([part[name] for part in parts]), batch[name]
                )

    def test_a_strategy_gives_each_replica_its_slice(self, small):
        # In a process of its own, because devices can be split only before they are first used.
        program = textwrap.dedent(
            f"""
            import tensorflow as tf
            from keras_bert_tpu.pretraining_data.pipeline import training_dataset
            cpus = tf.config.list_physical_devices("CPU")
            tf.config.set_logical_device_configuration(
                cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2
            )
            strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
            dataset = strategy.distribute_datasets_from_function(
                lambda context: training_dataset(
                    {str(small)!r}, 6, {LENGTH}, {PREDICTIONS}, seed=7, shuffle_window=2,
                    input_context=context,
                )
            )
            iterator = iter(dataset)
            for _ in range(3):
                batch = strategy.experimental_local_results(next(iterator)["token_ids"])
                print(*[part[:, 0].numpy().tolist() for part in batch], sep=";")
            """
        )
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        whole = stream(small, 18)
        assert result.stdout.splitlines() == [
            f"{whole[first : first + 3]};{whole[first + 3 : first + 6]}" for first in (0, 6, 12)
        ]


class TestValidation:
    def test_files_are_gone_through_in_order_and_the_last_batch_is_padded(self, small):
        batches = list(validation_dataset(small, 4, **SHAPE).as_numpy_iterator())
        numbers = [batch["token_ids"][:, 0].tolist() for batch in batches]
        # 5 records; the 3 rows of padding are copies of the first.
        assert numbers == [[0, 1, 100, 101], [102, 0, 0, 0]]
        assert batches[0]["next_sentence_weights"].tolist() == [[1.0]] * 4
        assert batches[1]["next_sentence_weights"].tolist() == [[1.0], [0.0], [0.0], [0.0]]
        assert batches[0]["mask_weights"].tolist() == [[1.0, 1.0, 0.0]] * 4
        assert batches[1]["mask_weights"].tolist() == [[1.0, 1.0, 0.0]] + [[0.0, 0.0, 0.0]] * 3
        assert batches[1]["padding_mask"].sum(axis=1).all()

    @pytest.mark.parametrize(
        ("batch_size", "num_examples", "steps", "real"),
        [(4, 0, 2, 5), (5, 0, 1, 5), (1, 0, 5, 5), (16, 0, 1, 5), (2, 3, 2, 3), (4, 99, 2, 5)],
    )
    def test_denominators_count_the_real_examples(
        self, small, batch_size, num_examples, steps, real
    ):
        batches = list(
            validation_dataset(
                str(small), batch_size, **SHAPE, num_examples=num_examples
            ).as_numpy_iterator()
        )
        assert len(batches) == steps == validation_steps(small, batch_size, num_examples)
        assert all(batch["token_ids"].shape == (batch_size, LENGTH) for batch in batches)
        assert sum(batch["next_sentence_weights"].sum() for batch in batches) == real
        assert sum(batch["mask_weights"].sum() for batch in batches) == 2 * real

    def test_files_beyond_the_wanted_examples_are_not_needed(self, tmp_path):
        data = write_small_records(tmp_path, train=[1], validation=[2, 3])
        manifest = Manifest.load(str(data))
        os.remove(data / "validation-1.tfrecord")
        (batch,) = validation_dataset(manifest, 2, **SHAPE, num_examples=2).as_numpy_iterator()
        assert batch["token_ids"][:, 0].tolist() == [0, 1]


class TestBatches:
    def test_shapes_are_static_and_types_are_the_models(self, small):
        expected = {
            "token_ids": tf.TensorSpec([2, LENGTH], tf.int32),
            "segment_ids": tf.TensorSpec([2, LENGTH], tf.int32),
            "padding_mask": tf.TensorSpec([2, LENGTH], tf.int32),
            "mask_positions": tf.TensorSpec([2, PREDICTIONS], tf.int32),
            "mask_ids": tf.TensorSpec([2, PREDICTIONS], tf.int32),
            "mask_weights": tf.TensorSpec([2, PREDICTIONS], tf.float32),
            "next_sentence_label": tf.TensorSpec([2, 1], tf.int32),
        }
        for context in (None, tf.distribute.InputContext(2, 1, 4)):
            size = 8 if context else 2
            training = training_dataset(small, size, **SHAPE, seed=1, input_context=context)
            assert training.element_spec == expected
            validation = validation_dataset(small, size, **SHAPE, input_context=context)
            assert validation.element_spec == {
                **expected,
                "next_sentence_weights": tf.TensorSpec([2, 1], tf.float32),
            }

    def test_values_are_those_of_the_record(self, small):
        batch = next(validation_dataset(small, 1, **SHAPE).skip(3).as_numpy_iterator())
        # What write_small_records writes for record 101.
        assert batch["token_ids"].tolist() == [[101, 12, 13, 14, 15, 16, 0, 0]]
        assert batch["segment_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 0, 0]]
        assert batch["padding_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0]]
        assert batch["mask_positions"].tolist() == [[1, 4, 0]]
        assert batch["mask_ids"].tolist() == [[22, 25, 0]]
        assert batch["mask_weights"].tolist() == [[1.0, 1.0, 0.0]]
        assert batch["next_sentence_label"].tolist() == [[1]]

    def test_the_dataset_can_be_sent_to_another_host(self, small):
        dataset = training_dataset(small, 2, **SHAPE, seed=7, shuffle_window=2)
        # Policy 2 fails on anything that has a state outside of the graph.
        graph = tf.raw_ops.DatasetToGraphV2(
            input_dataset=dataset._variant_tensor, external_state_policy=2
        )
        assert b"PyFunc" not in graph.numpy()
        variant = tf.raw_ops.DatasetFromGraph(graph_def=graph)
        from tensorflow.python.data.ops.dataset_ops import _VariantDataset

        numbers = [
            number
            for batch in _VariantDataset(variant, dataset.element_spec).take(9).as_numpy_iterator()
            for number in batch["token_ids"][:, 0].tolist()
        ]
        assert numbers == stream(small, 18)

    def test_options_keep_the_order_and_leave_the_slices_alone(self, small):
        for dataset in (
            training_dataset(small, 2, **SHAPE, seed=1),
            validation_dataset(small, 2, **SHAPE),
        ):
            options = dataset.options()
            assert options.deterministic is True
            policy = options.experimental_distribute.auto_shard_policy
            assert policy == tf.data.experimental.AutoShardPolicy.OFF


class TestInputErrors:
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"sequence_length": 16}, "sequence_length=8, and sequence_length=16 is asked for"),
            ({"max_predictions": 2}, "max_predictions=3, and max_predictions=2 is asked for"),
            ({"batch_size": 0}, "batch_size must be greater than 0. Received: 0"),
        ],
    )
    def test_of_both_datasets(self, small, changed, message):
        arguments = {"batch_size": 2, **SHAPE, **changed}
        with pytest.raises(InputError, match=message):
            training_dataset(small, seed=1, **arguments)
        with pytest.raises(InputError, match=message):
            validation_dataset(small, **arguments)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"shuffle_window": 0}, "shuffle_window must be greater than 0. Received: 0"),
            ({"start_example": -1}, "start_example must not be negative. Received: -1"),
            ({"seed": -1}, r"seed must be from 0 to 2\*\*31 - 1. Received: -1"),
            ({"seed": 2**31}, r"seed must be from 0 to 2\*\*31 - 1"),
        ],
    )
    def test_of_training(self, small, changed, message):
        with pytest.raises(InputError, match=message):
            training_dataset(small, **{"batch_size": 2, **SHAPE, "seed": 1, **changed})

    @pytest.mark.parametrize(
        ("context", "message"),
        [
            ((1, 0, 4), "batch_size=10 for 4 replicas; the nearest that fits is 8"),
            ((3, 0, 5), "5 replicas on 3 hosts"),
        ],
    )
    def test_a_batch_must_divide_among_replicas(self, small, context, message):
        context = tf.distribute.InputContext(*context)
        with pytest.raises(InputError, match=message):
            training_dataset(small, 10, **SHAPE, seed=1, input_context=context)
        with pytest.raises(InputError, match=message):
            validation_dataset(small, 10, **SHAPE, input_context=context)

    def test_records_must_be_there(self, tmp_path):
        data = str(write_small_records(tmp_path, train=[0], validation=[]))
        with pytest.raises(InputError, match="no training records in .*its manifest counts 0"):
            training_dataset(data, 2, **SHAPE, seed=1)
        with pytest.raises(InputError, match="no validation records in .*its manifest counts 0"):
            validation_dataset(data, 2, **SHAPE)
        with pytest.raises(InputError, match="no validation records in .*its manifest counts 0"):
            validation_steps(data, 2)

    def test_num_examples_must_not_be_negative(self, small):
        with pytest.raises(InputError, match="num_examples must not be negative. Received: -1"):
            validation_dataset(small, 2, **SHAPE, num_examples=-1)
