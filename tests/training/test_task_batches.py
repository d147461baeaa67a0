import numpy as np
import pytest

from keras_bert_tpu.training.task_batches import (
    TaskArrays,
    TrainingBatches,
    allowed_lengths,
    epoch_batches,
    prediction_batches,
)

EIGHTS = (8, 16, 24, 32)
LENGTHS = np.random.default_rng(1).integers(2, 33, 1003)


@pytest.fixture
def arrays():
    mask = (np.arange(32) < LENGTHS[:, np.newaxis]).astype("int32")
    numbers = np.arange(len(LENGTHS), dtype="int32")
    return TaskArrays(
        tokens={"token_ids": mask * numbers[:, np.newaxis], "padding_mask": mask},
        labels={"label": numbers, "label_weights": np.ones(len(LENGTHS), "float32")},
    )


@pytest.mark.parametrize("by_length", [False, True])
def test_each_epoch_has_every_example_once_in_an_order_of_its_own(by_length):
    first, again, second = (
        np.concatenate(epoch_batches(LENGTHS, 32, 7, epoch, by_length)) for epoch in (0, 0, 1)
    )
    assert sorted(first) == list(range(len(LENGTHS)))
    np.testing.assert_array_equal(first, again)
    assert (first != second).mean() > 0.9
    assert (first != np.concatenate(epoch_batches(LENGTHS, 32, 8, 0, by_length))).mean() > 0.9


def test_batches_of_like_length_need_a_fraction_of_the_padding():
    def padding(by_length):
        batches = epoch_batches(LENGTHS, 16, 7, 0, by_length)
        return sum(LENGTHS[b].max() * len(b) - LENGTHS[b].sum() for b in batches)

    assert padding(by_length=True) < 0.1 * padding(by_length=False)


def test_batches_of_like_length_come_in_random_order():
    longest = [LENGTHS[b].max() for b in epoch_batches(LENGTHS, 16, 7, 0, True)[:-1]]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.4


def test_last_batch_is_filled_up_with_rows_that_do_not_count(arrays):
    batches = list(TrainingBatches(arrays, 32, 7, True, EIGHTS).part(0).as_numpy_iterator())
    assert {len(batch["label"]) for batch in batches} == {32}
    counted = np.concatenate([batch["label"][batch["label_weights"] > 0] for batch in batches])
    assert sorted(counted) == list(range(len(LENGTHS)))
    assert batches[-1]["label_weights"].sum() == len(LENGTHS) % 32


def test_batch_is_cut_to_a_multiple_that_holds_its_longest_example(arrays):
    widths = set()
    for batch in TrainingBatches(arrays, 32, 7, True, EIGHTS).part(0).as_numpy_iterator():
        longest = LENGTHS[batch["label"]].max()
        width = batch["token_ids"].shape[1]
        assert width == batch["padding_mask"].shape[1] == -(-longest // 8) * 8
        widths.add(width)
    assert len(widths) > 1
    whole = TrainingBatches(arrays, 32, 7, True, (32,)).part(0).as_numpy_iterator()
    assert {batch["token_ids"].shape[1] for batch in whole} == {32}


def test_parts_of_an_epoch_are_the_batches_of_the_whole(arrays):
    batches = TrainingBatches(arrays, 32, 7, True, EIGHTS)
    whole = [batch["label"] for batch in batches.part(3).as_numpy_iterator()]
    parts = [
        batch["label"]
        for start, end in ((0, 5), (5, 6), (6, None))
        for batch in batches.part(3, start, end).as_numpy_iterator()
    ]
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize(
    ("length", "by_length", "is_static", "expected"),
    [
        (30, True, False, (8, 16, 24, 30)),
        (30, False, False, (30,)),
        (128, True, True, (32, 64, 96, 128)),
        (384, True, True, (96, 192, 288, 384)),
        (100, True, True, (32, 64, 96, 100)),
        (16, True, True, (8, 16)),
    ],
)
def test_lengths_are_few_where_each_costs_a_compilation(length, by_length, is_static, expected):
    assert allowed_lengths(length, by_length, is_static) == expected


def test_predictions_see_every_example_once_and_whole(arrays):
    seen = []
    for rows, batch in prediction_batches(arrays, 50, EIGHTS):
        np.testing.assert_array_equal(batch["padding_mask"].sum(axis=1), LENGTHS[rows])
        np.testing.assert_array_equal(batch["token_ids"].max(axis=1), rows)
        seen += list(rows)
    assert sorted(seen) == list(range(len(LENGTHS)))


def test_example_of_several_rows_is_as_long_as_its_longest():
    mask = np.zeros((2, 3, 16), "int32")
    mask[0, 1, :9], mask[1, :, :4] = 1, 1
    labels = {"label_weights": np.ones(2, "float32")}
    arrays = TaskArrays(tokens={"padding_mask": mask}, labels=labels)
    assert arrays.lengths.tolist() == [9, 4]
    (batch,) = TrainingBatches(arrays, 2, 7, True, EIGHTS).part(0)
    assert batch["padding_mask"].shape == (2, 3, 16)
