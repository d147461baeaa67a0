"""Files as create_pretraining_data.py of Google and of Model Garden write them, read in place."""

import collections
import hashlib
import os
import random

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.foreign import index_records, summary
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.pipeline import training_dataset, validation_dataset

from small_records import SPECIALS, read_all

LENGTH, PREDICTIONS, VOCAB_SIZE = 16, 4, 100
CLS, SEP, MASK = 2, 3, 4


def ints(values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=list(values)))


def floats(values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=list(values)))


def make_instance(rng, length):
    """Lists as `create_training_instances` makes them: one [MASK], one kept and one random."""
    part_a = length // 2 - 2
    tokens = [CLS, *(rng.randrange(5, 50) for _ in range(part_a)), SEP]
    tokens += [*(rng.randrange(5, 50) for _ in range(length - part_a - 3)), SEP]
    segments = [0] * (part_a + 2) + [1] * (length - part_a - 2)
    positions = sorted(rng.sample([i for i, t in enumerate(tokens) if t not in (CLS, SEP)], 3))
    labels = [tokens[position] for position in positions]
    for position, token in zip(positions, (MASK, tokens[positions[1]], 60), strict=True):
        tokens[position] = token
    return tokens, segments, positions, labels, rng.randrange(2)


def to_example(instance, names="v1", next_sentence=True, length=LENGTH):
    """What `write_instance_to_example_files` writes of an instance."""
    tokens, segments, positions, labels, is_random_next = instance
    padding = [0] * (length - len(tokens))
    free = PREDICTIONS - len(positions)
    features = collections.OrderedDict()
    features["input_ids" if names == "v1" else "input_word_ids"] = ints(tokens + padding)
    features["segment_ids" if names == "v1" else "input_type_ids"] = ints(segments + padding)
    features["input_mask"] = ints([1] * len(tokens) + padding)
    features["masked_lm_positions"] = ints(positions + [0] * free)
    features["masked_lm_ids"] = ints(labels + [0] * free)
    features["masked_lm_weights"] = floats([1.0] * len(positions) + [0.0] * free)
    if next_sentence:
        features["next_sentence_labels"] = ints([is_random_next])
    return tf.train.Example(features=tf.train.Features(feature=features))


def write(path, examples, gzip=False):
    with tf.io.TFRecordWriter(str(path), options="GZIP" if gzip else "") as writer:
        for example in examples:
            writer.write(example.SerializeToString())


@pytest.fixture
def instances():
    rng = random.Random(0)
    return [make_instance(rng, length) for length in [16] * 5 + [12, 9, 16, 10, 16, 16]]


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "pieces.txt"
    path.write_text("\n".join(SPECIALS + [f"w{number}" for number in range(5, VOCAB_SIZE)]))
    return str(path)


def index(tmp_path, vocab, **arguments):
    return index_records(
        str(tmp_path / "*.tfrecord*"),
        str(tmp_path / "records"),
        vocab,
        progress=False,
        **arguments,
    )


class TestIndex:
    @pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
    @pytest.mark.parametrize("names", ["v1", "v2"])
    def test_files_are_read_as_they_are(self, tmp_path, vocab, instances, names, gzip):
        suffix = ".gz" if gzip else ""
        first, second = (tmp_path / f"wiki.tfrecord-{n}-of-2{suffix}" for n in (0, 1))
        write(first, [to_example(instance, names) for instance in instances[:6]], gzip)
        write(second, [to_example(instance, names) for instance in instances[6:9]], gzip)
        held_out = tmp_path / f"dev.record{suffix}"
        write(held_out, [to_example(instance, names) for instance in instances[9:]], gzip)
        before = sorted(os.listdir(tmp_path))
        manifest = index(tmp_path, vocab, validation=str(held_out), checksums=True)

        assert manifest == Manifest.load(str(tmp_path / "records"))
        assert sorted(os.listdir(tmp_path)) == sorted([*before, "records"])
        assert sorted(os.listdir(tmp_path / "records")) == ["manifest.json", "vocab.txt"]
        assert manifest.feature_names == names
        assert manifest.config.sequence_length == LENGTH
        assert manifest.config.max_predictions == PREDICTIONS
        assert manifest.config.objective == "mlm+nsp"
        assert manifest.config.validation_rate == 2 / 11
        assert [shard.file for shard in manifest.train] == [str(first), str(second)]
        assert [shard.num_examples for shard in manifest.train] == [6, 3]
        content = second.read_bytes()
        assert manifest.train[1].bytes == len(content)
        assert manifest.train[1].sha256 == hashlib.sha256(content).hexdigest()
        # Lengths 9, 16 and 10 of 16: bins k for (k, k + 1].
        expected = [0] * 16
        expected[8] = expected[9] = expected[15] = 1
        assert list(manifest.train[1].length_counts) == expected

        numbers = {"sequence_length": LENGTH, "max_predictions": PREDICTIONS}
        (batch,) = read_all(validation_dataset(manifest, 2, **numbers))
        for row, instance in enumerate(instances[9:]):
            tokens, segments, positions, labels, is_random_next = instance
            padding = [0] * (LENGTH - len(tokens))
            assert batch["token_ids"][row].tolist() == tokens + padding
            assert batch["segment_ids"][row].tolist() == segments + padding
            assert batch["padding_mask"][row].tolist() == [1] * len(tokens) + padding
            assert batch["mask_positions"][row].tolist() == [*positions, 0]
            assert batch["mask_ids"][row].tolist() == [*labels, 0]
            assert batch["mask_weights"][row].tolist() == [1.0, 1.0, 1.0, 0.0]
            assert batch["next_sentence_label"][row].tolist() == [is_random_next]
        # An epoch has every record once.
        dataset = training_dataset(str(tmp_path / "records"), 3, **numbers, seed=1).take(3)
        rows = [row.tolist() for batch in read_all(dataset) for row in batch["token_ids"]]
        written = [tokens + [0] * (LENGTH - len(tokens)) for tokens, *_ in instances[:9]]
        assert sorted(rows) == sorted(written)

    def test_counts_are_those_of_the_records(self, tmp_path, vocab, instances):
        write(tmp_path / "a.tfrecord", map(to_example, instances))
        counts = index(tmp_path, vocab).train_counts
        assert counts.examples == 11
        assert counts.random_next == sum(instance[-1] for instance in instances)
        assert counts.real_tokens == 16 * 8 + 12 + 9 + 10
        assert counts.predictions == 33
        # One of each in every instance.
        assert counts.predictions_masked == counts.predictions_kept == 11
        assert counts.predictions_random == 11

    def test_records_without_next_sentences(self, tmp_path, vocab, instances):
        examples = [to_example(instance, next_sentence=False) for instance in instances]
        write(tmp_path / "a.tfrecord", examples)
        manifest = index(tmp_path, vocab)
        assert manifest.config.objective == "mlm"
        (batch,) = read_all(training_dataset(manifest, 11, LENGTH, PREDICTIONS, seed=1).take(1))
        assert batch["next_sentence_weights"].tolist() == [[0.0]] * 11
        assert batch["next_sentence_label"].tolist() == [[0]] * 11

    def test_an_empty_file_is_no_error(self, tmp_path, vocab, instances):
        write(tmp_path / "a.tfrecord", [])
        write(tmp_path / "b.tfrecord", map(to_example, instances))
        assert [shard.num_examples for shard in index(tmp_path, vocab).train] == [0, 11]

    def test_a_relative_path_is_kept_in_full(self, tmp_path, vocab, instances, monkeypatch):
        write(tmp_path / "a.tfrecord", map(to_example, instances))
        monkeypatch.chdir(tmp_path)
        manifest = index_records("a.tfrecord", "records", vocab, progress=False)
        assert manifest.train[0].file == str(tmp_path / "a.tfrecord")

    def test_the_summary_shows_what_there_is(self, tmp_path, vocab, instances):
        write(tmp_path / "a.tfrecord", map(to_example, instances))
        text = summary(index(tmp_path, vocab), 2.0, shuffle_window=8)
        lines = {line.split("  ")[0]: line.split()[-1] for line in text.splitlines()}
        assert lines["examples"] == "11"
        assert lines["mean length (of 16)"] == "14.5"  # 159 / 11.
        assert lines["predictions per example (at most 4)"] == "3.0"
        assert lines["of them [MASK] / kept / random"] == "33.3%"
        assert "Google's feature names" in text
        assert "11 examples in 2.0 s (6 per second)" in text


def changed(instance, feature, **change):
    """The record of an instance with one value of a feature set, or all of them."""
    example = to_example(instance)
    values = example.features.feature[feature]
    values = values.float_list.value if feature == "masked_lm_weights" else values.int64_list.value
    for place, value in change.get("at", {}).items():
        values[place] = value
    if "extend" in change:
        values.extend(change["extend"])
    return example


class TestInputErrors:
    @pytest.mark.parametrize(
        ("feature", "change", "message"),
        [
            ("input_ids", {"at": {1: 100}}, "has 100 in input_ids, where ids are below .* 100"),
            ("input_ids", {"at": {1: -1}}, "has -1 in input_ids"),
            ("masked_lm_ids", {"at": {0: 200}}, "has 200 in masked_lm_ids"),
            ("segment_ids", {"at": {3: 2}}, "has 2 in segment_ids, where segments are 0 or 1"),
            ("input_mask", {"at": {3: 2}}, "has 2 in input_mask"),
            ("input_mask", {"at": {3: 0}}, "input_mask that is not ones and then zeros"),
            ("masked_lm_weights", {"at": {0: 0.5}}, "masked_lm_weights other than 0 and 1"),
            ("masked_lm_positions", {"at": {2: 16}}, "predicts position 16, where there is no"),
            ("next_sentence_labels", {"at": {0: 2}}, "has 2 in next_sentence_labels"),
            ("input_ids", {"extend": [0]}, "has 17 values of input_ids instead of 16"),
            ("masked_lm_ids", {"extend": [0]}, "has 5 values of masked_lm_ids instead of 4"),
        ],
    )
    def test_a_record_that_cannot_be_is_named(
        self, tmp_path, vocab, instances, feature, change, message
    ):
        write(tmp_path / "a.tfrecord", map(to_example, instances))
        examples = list(map(to_example, instances))
        examples[7] = changed(instances[7], feature, **change)
        write(tmp_path / "b.tfrecord", examples)
        with pytest.raises(InputError, match=rf"Record 7 of \S*/b.tfrecord .*{message}"):
            index(tmp_path, vocab)
        assert not os.path.exists(tmp_path / "records" / "manifest.json")

    def test_a_prediction_on_padding(self, tmp_path, vocab, instances):
        example = changed(instances[6], "masked_lm_positions", at={2: 9})  # 9 tokens: 0 to 8.
        write(tmp_path / "a.tfrecord", [example])
        with pytest.raises(InputError, match="Record 0 .* predicts position 9"):
            index(tmp_path, vocab)

    def test_files_of_two_kinds(self, tmp_path, vocab, instances):
        write(tmp_path / "a.tfrecord", map(to_example, instances))
        write(tmp_path / "b.tfrecord", [to_example(instance, "v2") for instance in instances])
        with pytest.raises(InputError, match="Record 0 of .*b.tfrecord has 0 values of input_ids"):
            index(tmp_path, vocab)

    def test_other_files(self, tmp_path, vocab, instances):
        (tmp_path / "a.tfrecord").write_text("This is no record. " * 9)
        with pytest.raises(InputError, match="a.tfrecord is not a TFRecord file"):
            index(tmp_path, vocab)
        write(tmp_path / "a.tfrecord", map(to_example, instances), gzip=True)
        with pytest.raises(InputError, match="compressed with GZIP; rename it .* ends in .gz"):
            index(tmp_path, vocab)
        with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
            writer.write(b"\xff\xff")
        with pytest.raises(InputError, match="Record 0 of .* is not a tf.train.Example"):
            index(tmp_path, vocab)
        write(tmp_path / "a.tfrecord", [tf.train.Example()])
        with pytest.raises(InputError, match="0 values of input_ids .*features are none"):
            index(tmp_path, vocab)
        packed = to_example(instances[0])
        packed.features.feature["cls_positions"].int64_list.value.extend([0, 4])
        write(tmp_path / "a.tfrecord", [packed])
        with pytest.raises(InputError, match="hold several examples each .*take the folder"):
            index(tmp_path, vocab)
        write(tmp_path / "a.tfrecord", [])
        with pytest.raises(InputError, match="no record in the 1 files"):
            index(tmp_path, vocab)

    def test_a_damaged_record_is_named_with_its_place(self, tmp_path, vocab, instances):
        records = [to_example(instance).SerializeToString() for instance in instances]
        write(tmp_path / "a.tfrecord", map(to_example, instances))
        content = bytearray((tmp_path / "a.tfrecord").read_bytes())
        offset = sum(16 + len(record) for record in records[:5])
        content[offset + 30] ^= 1
        (tmp_path / "a.tfrecord").write_bytes(content)
        with pytest.raises(
            InputError, match=f"Record 5 of .*, at byte offset {offset}, is damaged"
        ):
            index(tmp_path, vocab)

    @pytest.mark.parametrize("extra", [1, 11])
    def test_bytes_behind_the_last_record(self, tmp_path, vocab, instances, extra):
        path = tmp_path / "a.tfrecord"
        write(path, [to_example(instance) for instance in instances])
        size = path.stat().st_size
        with open(path, "ab") as file:
            file.write(b"\0" * extra)
        with pytest.raises(InputError, match=f"cut off: {extra} bytes follow its 11 .* {size} on"):
            index(tmp_path, vocab)

    @pytest.mark.parametrize("lost", [1, 4, 9, 60])
    def test_a_gzip_file_that_is_cut_off(self, tmp_path, vocab, instances, lost):
        path = tmp_path / "a.tfrecord.gz"
        write(path, [to_example(instance) for instance in instances], gzip=True)
        path.write_bytes(path.read_bytes()[:-lost])
        with pytest.raises(InputError, match="a.tfrecord.gz' is cut off"):
            index(tmp_path, vocab)

    def test_records_of_another_vocabulary(self, tmp_path, vocab, instances):
        write(tmp_path / "a.tfrecord", [to_example(instance) for instance in instances])
        pieces = open(vocab).read().split("\n")
        pieces[CLS], pieces[7] = pieces[7], pieces[CLS]
        with open(vocab, "w") as file:
            file.write("\n".join(pieces))
        with pytest.raises(InputError, match=r"Record 0 .* \[CLS\] and end .* ids 2 and 3; check"):
            index(tmp_path, vocab)

    def test_a_folder_and_a_file_in_the_places_of_each_other(self, tmp_path, vocab, instances):
        (tmp_path / "b.tfrecords").mkdir()
        with pytest.raises(InputError, match="if it is a folder, name its files"):
            index(tmp_path, vocab)
        (tmp_path / "b.tfrecords").rmdir()
        write(tmp_path / "a.tfrecord", [to_example(instance) for instance in instances])
        (tmp_path / "records").write_text("")
        with pytest.raises(InputError, match="records' is not a folder"):
            index(tmp_path, vocab)

    def test_one_file_by_two_names_is_indexed_once(self, tmp_path, vocab, instances, monkeypatch):
        write(tmp_path / "a.tfrecord", [to_example(instance) for instance in instances])
        monkeypatch.chdir(tmp_path)
        names = f"a.tfrecord,./a.tfrecord,{tmp_path}/a.tfrecord"
        manifest = index_records(names, "records", vocab, progress=False)
        assert manifest.num_examples == len(instances)

    def test_most_records_may_be_held_out(self, tmp_path, vocab, instances):
        write(tmp_path / "a.tfrecord", [to_example(instance) for instance in instances[:2]])
        write(tmp_path / "dev", [to_example(instance) for instance in instances[2:]])
        manifest = index(tmp_path, vocab, validation=str(tmp_path / "dev"))
        assert (manifest.num_examples, manifest.num_validation_examples) == (2, 9)

    def test_a_file_in_both_splits(self, tmp_path, vocab, instances):
        write(tmp_path / "a.tfrecord", map(to_example, instances))
        with pytest.raises(InputError, match="a.tfrecord is named both for training and for"):
            index(tmp_path, vocab, validation=str(tmp_path / "a*"))

    def test_an_index_is_not_replaced_unasked(self, tmp_path, vocab, instances):
        write(tmp_path / "a.tfrecord", map(to_example, instances))
        index(tmp_path, vocab)
        write(tmp_path / "a.tfrecord", map(to_example, instances[:3]))
        with pytest.raises(InputError, match="already holds records or an index"):
            index(tmp_path, vocab)
        assert index(tmp_path, vocab, overwrite=True).num_examples == 3


def test_a_fault_far_inside_a_file_has_its_number(tmp_path, vocab, instances):
    # Beyond the batches in which records are checked.
    good = to_example(instances[0])
    bad = changed(instances[0], "segment_ids", at={0: 5})
    write(tmp_path / "a.tfrecord", [good] * 2500 + [bad] + [good] * 10)
    with pytest.raises(InputError, match="Record 2500 of"):
        index(tmp_path, vocab)
    write(tmp_path / "a.tfrecord", [good] * 2500)
    manifest = index(tmp_path, vocab)
    assert manifest.num_examples == 2500
    assert np.sum(manifest.train[0].length_counts) == 2500
