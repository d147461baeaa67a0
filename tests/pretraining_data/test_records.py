import hashlib
import os

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.pretraining_data.manifest import Shard
from keras_bert_tpu.pretraining_data.records import (
    ShardContent,
    parse_examples,
    parse_lengths,
    serialize_examples,
    shard_name,
    write_shard,
)

EXAMPLE = {
    "token_ids": [101, 7, 103, 102, 9, 102, 0, 0],
    "segment_ids": [0, 0, 0, 0, 1, 1, 0, 0],
    "padding_mask": [1, 1, 1, 1, 1, 1, 0, 0],
    "mask_positions": [2, 4, 0],
    "mask_ids": [8, 9, 0],
    "mask_weights": [1.0, 1.0, 0.0],
    "next_sentence_label": [1],
}


def serialize(**changed):
    """One record of EXAMPLE, with some of its arrays changed, or left out if they are None."""
    rows = {name: value for name, value in {**EXAMPLE, **changed}.items() if value is not None}
    arrays = {
        name: np.array([value], np.float32 if name == "mask_weights" else np.int64)
        for name, value in rows.items()
    }
    return serialize_examples(arrays)[0]


# What Google's run_pretraining.py gives to tf.parse_single_example.
GOOGLE_FEATURES = {
    "input_ids": tf.io.FixedLenFeature([8], tf.int64),
    "input_mask": tf.io.FixedLenFeature([8], tf.int64),
    "segment_ids": tf.io.FixedLenFeature([8], tf.int64),
    "masked_lm_positions": tf.io.FixedLenFeature([3], tf.int64),
    "masked_lm_ids": tf.io.FixedLenFeature([3], tf.int64),
    "masked_lm_weights": tf.io.FixedLenFeature([3], tf.float32),
    "next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64),
}


class TestExamples:
    def test_googles_feature_spec_reads_a_record(self):
        parsed = tf.io.parse_single_example(serialize(), GOOGLE_FEATURES)
        assert {name: value.numpy().tolist() for name, value in parsed.items()} == {
            "input_ids": [101, 7, 103, 102, 9, 102, 0, 0],
            "input_mask": [1, 1, 1, 1, 1, 1, 0, 0],
            "segment_ids": [0, 0, 0, 0, 1, 1, 0, 0],
            "masked_lm_positions": [2, 4, 0],
            "masked_lm_ids": [8, 9, 0],
            "masked_lm_weights": [1.0, 1.0, 0.0],
            "next_sentence_labels": [1],
        }

    def test_a_record_written_as_google_does_is_parsed(self):
        def ints(*values):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

        features = {
            "input_ids": ints(101, 7, 102, 9, 102, 0, 0, 0),
            "input_mask": ints(1, 1, 1, 1, 1, 0, 0, 0),
            "segment_ids": ints(0, 0, 0, 1, 1, 0, 0, 0),
            "masked_lm_positions": ints(3, 0, 0),
            "masked_lm_ids": ints(6, 0, 0),
            "masked_lm_weights": tf.train.Feature(
                float_list=tf.train.FloatList(value=[1.0, 0.0, 0.0])
            ),
            "next_sentence_labels": ints(0),
        }
        record = tf.train.Example(features=tf.train.Features(feature=features))
        parsed = parse_examples(tf.constant([record.SerializeToString()]), 8, 3)
        assert {name: value.numpy().tolist() for name, value in parsed.items()} == {
            "token_ids": [[101, 7, 102, 9, 102, 0, 0, 0]],
            "padding_mask": [[1, 1, 1, 1, 1, 0, 0, 0]],
            "segment_ids": [[0, 0, 0, 1, 1, 0, 0, 0]],
            "mask_positions": [[3, 0, 0]],
            "mask_ids": [[6, 0, 0]],
            "mask_weights": [[1.0, 0.0, 0.0]],
            "next_sentence_label": [[0]],
        }

    def test_features_have_one_order_in_the_bytes(self):
        # Or else two processes could write different bytes for the same example.
        record = serialize()
        assert sorted(GOOGLE_FEATURES, key=lambda name: record.index(name.encode())) == sorted(
            GOOGLE_FEATURES
        )

    def test_a_batch_comes_back_as_it_was_written(self):
        rng = np.random.default_rng(0)
        arrays = {
            "token_ids": rng.integers(0, 30000, (5, 8)).astype(np.int32),
            "segment_ids": rng.integers(0, 2, (5, 8)).astype(np.int32),
            "padding_mask": rng.integers(0, 2, (5, 8)).astype(np.int32),
            "mask_positions": rng.integers(0, 8, (5, 3)).astype(np.int32),
            "mask_ids": rng.integers(0, 30000, (5, 3)).astype(np.int32),
            "mask_weights": rng.integers(0, 2, (5, 3)).astype(np.float32),
            "next_sentence_label": rng.integers(0, 2, (5, 1)).astype(np.int32),
        }
        parsed = parse_examples(tf.constant(serialize_examples(arrays)), 8, 3)
        assert parsed.keys() == arrays.keys()
        for name, value in arrays.items():
            np.testing.assert_array_equal(parsed[name], value)
            assert parsed[name].dtype.as_numpy_dtype == value.dtype

    @pytest.mark.parametrize("batch", [2, None])
    def test_shapes_are_static_in_a_dataset(self, batch):
        dataset = tf.data.Dataset.from_tensors(serialize()).repeat(4)
        dataset = dataset.batch(2, drop_remainder=batch is not None)
        dataset = dataset.map(lambda serialized: parse_examples(serialized, 8, 3))
        shapes = {name: spec.shape.as_list() for name, spec in dataset.element_spec.items()}
        assert shapes == {
            "token_ids": [batch, 8],
            "segment_ids": [batch, 8],
            "padding_mask": [batch, 8],
            "mask_positions": [batch, 3],
            "mask_ids": [batch, 3],
            "mask_weights": [batch, 3],
            "next_sentence_label": [batch, 1],
        }
        assert len(list(dataset)) == 2

    @pytest.mark.parametrize("in_graph", [False, True])
    @pytest.mark.parametrize(
        ("length", "predictions", "message"),
        [
            (16, 3, r"sequence_length=16: feature input_ids must hold 16 .*found:.*8"),
            # 2 records of 8 tokens are as many as 4 of 4.
            (4, 3, r"sequence_length=4: feature input_ids must hold 4 .*found:.*8"),
            (8, 20, r"max_predictions=20: feature masked_lm_positions must hold 20 .*found:.*3"),
        ],
    )
    def test_another_shape_is_told(self, length, predictions, message, in_graph):
        def parse(serialized):
            return parse_examples(serialized, length, predictions)

        records = tf.constant([serialize()] * 2)
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s){message}"):
            (tf.function(parse) if in_graph else parse)(records)

    def test_a_missing_feature_is_told(self):
        record = serialize(next_sentence_label=None)
        message = "next_sentence_labels must hold 1"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            parse_examples(tf.constant([record]), 8, 3)

    def test_what_is_not_asked_for_need_not_be_there(self):
        record = serialize(
            mask_positions=None, mask_ids=None, mask_weights=None, next_sentence_label=None
        )
        parsed = parse_examples(
            tf.constant([record]), 8, 3, has_masks=False, has_next_sentence=False
        )
        assert sorted(parsed) == ["padding_mask", "segment_ids", "token_ids"]
        assert parsed["token_ids"].numpy().tolist() == [EXAMPLE["token_ids"]]

    def test_words_are_read_if_asked_for(self):
        record = serialize(continues_word=[0, 0, 1, 0, 0, 0, 0, 0])
        parsed = parse_examples(tf.constant([record]), 8, 3, has_words=True)
        assert parsed["continues_word"].numpy().tolist() == [[0, 0, 1, 0, 0, 0, 0, 0]]
        with pytest.raises(tf.errors.InvalidArgumentError, match="continues_word must hold 8"):
            parse_examples(tf.constant([serialize()]), 8, 3, has_words=True)

    def test_names_of_model_garden(self):
        example = tf.train.Example.FromString(serialize())
        feature = example.features.feature
        feature["input_word_ids"].CopyFrom(feature.pop("input_ids"))
        feature["input_type_ids"].CopyFrom(feature.pop("segment_ids"))
        records = tf.constant([example.SerializeToString()])
        parsed = parse_examples(records, 8, 3, feature_names="v2")
        assert {name: value.numpy()[0].tolist() for name, value in parsed.items()} == EXAMPLE
        with pytest.raises(tf.errors.InvalidArgumentError, match="feature input_ids must hold 8"):
            parse_examples(records, 8, 3)

    def test_lengths_are_those_of_the_mask(self):
        masks = [[1] * length + [0] * (8 - length) for length in (1, 5, 8)]
        records = tf.constant([serialize(padding_mask=mask) for mask in masks])
        assert parse_lengths(records, 8).numpy().tolist() == [1, 5, 8]
        with pytest.raises(tf.errors.InvalidArgumentError, match="input_mask must hold 16"):
            parse_lengths(records, 16)


class TestShards:
    def test_a_shard_holds_its_records_and_is_described(self, tmp_path):
        records = [b"one", b"", b"three" * 100]
        content = ShardContent(records, 2, np.array([1, 17, 64]))
        shard = write_shard(str(tmp_path), "train-00000-of-00001.tfrecord", content, 64)
        path = tmp_path / "train-00000-of-00001.tfrecord"
        assert [r.numpy() for r in tf.data.TFRecordDataset(str(path))] == records
        written = path.read_bytes()
        # Of 64 positions each bin has 4: 1 is in the first, 17 in the fifth, 64 in the last.
        lengths = tuple(int(k in (0, 4, 15)) for k in range(16))
        sha256 = hashlib.sha256(written).hexdigest()
        assert shard == Shard(path.name, 3, len(written), sha256, 2, lengths)
        # A record has 16 bytes around it.
        assert shard.bytes == 3 * 16 + 3 + 0 + 500
        assert os.listdir(tmp_path) == [path.name]

    def test_an_unfinished_file_does_not_have_the_name(self, tmp_path):
        content = ShardContent([b"one", 2], 1, np.array([1, 1]))
        with pytest.raises(TypeError):
            write_shard(str(tmp_path), "train.tfrecord", content, 8)
        assert "train.tfrecord" not in os.listdir(tmp_path)

    def test_names_sort_as_their_numbers(self):
        assert shard_name("train", 3, 12) == "train-00003-of-00012.tfrecord"
