"""Masks that are drawn when the records are read: a function of seed, epoch and record number."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.damage import scan_shards
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.pipeline import training_dataset, validation_dataset

from small_records import SHAPE, VOCABULARY, read_all, write_small_records

COUNTS = [5, 3, 4]
NAMES = ("token_ids", "mask_positions", "mask_ids", "mask_weights")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dynamic")
    # Half of the 6 tokens are predictions, so that equal masks by chance are rare.
    return write_small_records(folder, COUNTS, [4, 3], masks="dynamic", mask_rate=0.5)


def number_of(row):
    """The first token of the record; it is the original if it was masked."""
    chosen = (row["mask_positions"] == 0) & (row["mask_weights"] == 1)
    return int(row["mask_ids"][chosen][0] if chosen.any() else row["token_ids"][0])


def rows_of(batches):
    return [
        {name: batch[name][row] for name in NAMES}
        for batch in batches
        for row in range(len(batch["token_ids"]))
    ]


def masks_by_record(rows):
    """What became of each record, by its number."""
    masks = {number_of(row): tuple(row[name].tobytes() for name in NAMES) for row in rows}
    assert len(masks) == len(rows)
    return masks


def train(data, count, batch_size=4, **arguments):
    dataset = training_dataset(
        data, batch_size, **{**SHAPE, "seed": 7, "shuffle_window": 2, **arguments}
    )
    return read_all(dataset.take(count))


@pytest.fixture(scope="module")
def epochs(data):
    """Rows of four epochs of 12 records."""
    rows = rows_of(train(data, 12))
    return [rows[12 * epoch : 12 * epoch + 12] for epoch in range(4)]


class TestTraining:
    def test_masks_fit_the_tokens(self, epochs):
        for row in [row for epoch in epochs for row in epoch]:
            number = number_of(row)
            original = np.array([number, 12, 13, 14, 15, 16, 0, 0])
            assert row["mask_weights"].tolist() == [1, 1, 1]  # Half of 6.
            assert row["mask_ids"].tolist() == original[row["mask_positions"]].tolist()
            others = np.delete(np.arange(8), row["mask_positions"])
            assert row["token_ids"][others].tolist() == original[others].tolist()

    def test_each_epoch_has_every_record_with_masks_of_its_own(self, epochs):
        masks = [masks_by_record(epoch) for epoch in epochs]
        assert all(one.keys() == masks[0].keys() for one in masks)
        # Places alone differ with a probability of 19/20, the pieces there come on top.
        for other in masks[1:]:
            assert sum(masks[0][number] != other[number] for number in other) >= 8

    def test_a_start_at_any_step_draws_the_same(self, data, epochs):
        rows = rows_of(train(data, 4, start_example=20))
        expected = [row for epoch in epochs for row in epoch][20:36]
        assert masks_by_record(rows[:4]) == masks_by_record(expected[:4])
        for row, other in zip(rows, expected, strict=True):
            for name in NAMES:
                np.testing.assert_array_equal(row[name], other[name])

    def test_another_seed_draws_others(self, data, epochs):
        masks = masks_by_record(rows_of(train(data, 3, seed=8)))
        assert sum(masks[number] != one for number, one in masks_by_record(epochs[0]).items()) >= 8

    def test_windows_and_batches_make_no_difference(self, data, epochs):
        for arguments in ({"shuffle_window": 1}, {"batch_size": 6}, {"shuffle_window": 3}):
            count = 12 // arguments.get("batch_size", 4)
            rows = rows_of(train(data, count, **arguments))
            assert masks_by_record(rows) == masks_by_record(epochs[0])

    @pytest.mark.parametrize(("hosts", "replicas"), [(1, 2), (2, 4)])
    def test_hosts_and_replicas_make_no_difference(self, data, epochs, hosts, replicas):
        rows = []
        for host in range(hosts):
            context = tf.distribute.InputContext(hosts, host, replicas)
            batches = train(data, 3 * replicas // hosts, input_context=context)
            rows += rows_of(batches)
        assert masks_by_record(rows) == masks_by_record(epochs[0])

    def test_length_buckets_make_no_difference(self, data, epochs):
        # All records have 6 tokens; 3 batches of 4 in a window of all shards.
        batches = train(data, 3, length_buckets=(6, 8), shuffle_window=3)
        assert {batch["token_ids"].shape for batch in batches} == {(4, 6)}
        rows = rows_of(batches)
        for row in rows:
            row["token_ids"] = np.pad(row["token_ids"], (0, 2))
        assert masks_by_record(rows) == masks_by_record(epochs[0])

    def test_damage_makes_no_difference_to_other_records(self, tmp_path, epochs):
        data = write_small_records(tmp_path, COUNTS, masks="dynamic", mask_rate=0.5)
        path = data / "train-0.tfrecord"
        content = bytearray(path.read_bytes())
        content[20] ^= 1  # Record 0; what comes after it keeps its number.
        path.write_bytes(content)
        scan = scan_shards(Manifest.load(str(data)), progress=False)
        masks = masks_by_record(
            rows_of(train(data, 11, batch_size=1, on_damage="skip", max_skipped=1, scan=scan))
        )
        expected = masks_by_record(epochs[0])
        del expected[0]
        assert masks == expected

    def test_the_vocabulary_must_be_that_of_the_records(self, tmp_path):
        data = write_small_records(tmp_path, [3], masks="dynamic")
        pieces = list(VOCABULARY.pieces)[:-1]
        (data / "vocab.txt").write_text("\n".join(pieces))
        with pytest.raises(InputError, match="vocab.txt is not the vocabulary that the records"):
            train(data, 1)


class TestValidation:
    def test_masks_are_the_same_each_time_and_for_any_batches(self, data):
        first = rows_of(read_all(validation_dataset(data, 7, **SHAPE)))
        masks = masks_by_record(first)
        assert sorted(masks) == [0, 1, 2, 3, 100, 101, 102]
        again = rows_of(read_all(validation_dataset(data, 1, **SHAPE)))
        assert masks_by_record(again) == masks
        context = tf.distribute.InputContext(1, 0, 2)
        parts = read_all(validation_dataset(data, 4, **SHAPE, input_context=context))
        assert masks_by_record(rows_of(parts)[:7]) == masks

    def test_they_are_not_those_of_training(self, data):
        # Record 0 of shard 0 is the same record in both splits; some other ones are, too.
        held_out = masks_by_record(rows_of(read_all(validation_dataset(data, 7, **SHAPE))))
        manifest = Manifest.load(str(data))
        trained = masks_by_record(rows_of(train(data, 3, seed=manifest.config.seed)))
        assert sum(held_out[number] != trained[number] for number in (0, 1, 2, 3)) >= 2

    def test_padding_rows_have_no_weight(self, data):
        batches = read_all(validation_dataset(data, 4, **SHAPE))
        assert sum(batch["mask_weights"].sum() for batch in batches) == 3 * 7
        assert sum(batch["next_sentence_weights"].sum() for batch in batches) == 7


class TestConfigurations:
    def test_words_of_the_records_are_masked_together(self, tmp_path):
        data = write_small_records(
            tmp_path,
            [40],
            masks="dynamic",
            whole_word_mask=True,
            segmented_words=True,
            mask_rate=0.4,  # 2 of 6 tokens: one word.
        )
        for row in rows_of(train(data, 10)):
            # Words are tokens 0 and 1, 2 and 3, 4 and 5 (small_records).
            assert row["mask_positions"].tolist() in ([0, 1, 0], [2, 3, 0], [4, 5, 0])

    @pytest.mark.parametrize("masks", ["static", "dynamic"])
    def test_full_sentences_have_no_next_sentence(self, tmp_path, masks):
        data = write_small_records(tmp_path, [5], [3], masks=masks, objective="mlm")
        (batch,) = train(data, 1)
        (held_out,) = read_all(validation_dataset(data, 4, **SHAPE))
        for one in (batch, held_out):
            assert one["next_sentence_label"].tolist() == [[0]] * 4
            assert one["next_sentence_weights"].tolist() == [[0.0]] * 4
            assert one["next_sentence_weights"].dtype == np.float32
        assert held_out["mask_weights"].sum() == 3 * batch["mask_weights"][0].sum()

    def test_shapes_are_static(self, data):
        (batch,) = train(data, 1)
        dataset = training_dataset(data, 4, **SHAPE, seed=1)
        for name, spec in dataset.element_spec.items():
            assert spec == tf.TensorSpec(batch[name].shape, batch[name].dtype)
        manifest = Manifest.load(str(data))
        config = dataclasses.replace(manifest.config, whole_word_mask=True, max_ngram=2)
        words = training_dataset(dataclasses.replace(manifest, config=config), 4, **SHAPE, seed=1)
        assert words.element_spec == dataset.element_spec
