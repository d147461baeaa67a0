"""What kbt-inspect counts, on records made by hand."""

import dataclasses
import os

import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.inspection.plot import draw
from keras_bert_tpu.pretraining_data.inspection.report import inspect_records, spread
from keras_bert_tpu.pretraining_data.inspection.text import show_examples, table
from keras_bert_tpu.pretraining_data.inspection.verify import verify_records
from keras_bert_tpu.pretraining_data.manifest import (
    Counts,
    Manifest,
    Shard,
)

from inspected_records import DOOR, LENGTH, PLAY, SHORT, to_arrays, write_records


class TestFigures:
    def test_what_the_manifest_does_not_know_is_counted(self, tmp_path):
        manifest = write_records(tmp_path, [[DOOR, PLAY], [SHORT, SHORT, SHORT]], documents=0)
        manifest = dataclasses.replace(
            manifest,
            train=tuple(dataclasses.replace(s, length_counts=()) for s in manifest.train),
        )
        report = inspect_records(manifest)
        assert list(report.splits) == ["train"]
        split = report.splits["train"]
        # Lengths 12, 16, 6, 6, 6 of 16; predictions 3, 2, 1, 1, 1; labels 0, 1, 0, 1, 0.
        assert (split.shards, split.examples, split.read, split.sampled) == (2, 5, 5, ())
        assert split.documents is None and split.documents_per_shard is None
        assert split.megabytes == sum(shard.bytes for shard in manifest.train) / 1e6
        assert split.mean_length == 46 / 5
        assert split.median_length == 6
        assert split.full_length == 1 / 5
        assert split.length_counts == (0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1)
        assert split.padding == pytest.approx(1 - 46 / 80)
        assert split.predictions == 8 / 5
        assert split.masked_tokens == 8 / 46
        # DOOR has one of each, PLAY a [MASK] and a random one, SHORT a [MASK].
        assert split.replaced_by_mask == 5 / 8
        assert split.kept == 1 / 8
        assert split.replaced_at_random == 2 / 8
        assert split.label_1 == 2 / 5
        # One of 46 - 5 x 3 tokens that are not special; the [MASK] places count as what they were.
        assert split.unknown_tokens == 1 / 31
        assert split.examples_per_shard == (2, 2.5, 3)
        assert split.shard_examples == (2, 3)
        assert split.shard_documents == ()
        # All have a token at 2, and four a prediction; DOOR and PLAY at 8, and DOOR a prediction.
        assert split.masked_by_position[2] == 4 / 5
        assert split.masked_by_position[8] == 1 / 2
        assert split.masked_by_position[0] == 0
        assert split.masked_by_position[15] == 0
        assert len(split.masked_by_position) == LENGTH
        assert split.frequent_pieces == (
            ("door", 4 / 8),
            ("in", 1 / 8),
            ("garden", 1 / 8),
            ("##ing", 1 / 8),
            ("##s", 1 / 8),
        )

    def test_what_the_manifest_knows_is_taken_from_it(self, tmp_path):
        # Other than the records, to be told from them.
        counts = Counts(
            documents=7,
            tokens=1000,
            unknown_tokens=20,
            examples=4,
            random_next=3,
            real_tokens=32,
            predictions=8,
            predictions_masked=4,
            predictions_kept=3,
            predictions_random=1,
        )
        manifest = write_records(
            tmp_path, [[DOOR] * 2, [PLAY] * 2], [[SHORT]], counts=(counts, Counts())
        )
        split = inspect_records(manifest, sample=2).splits["train"]
        assert split.documents == 7
        assert split.unknown_tokens == 0.02
        assert split.label_1 == 0.75
        assert split.mean_length == 8
        assert split.padding == 0.5
        assert split.predictions == 2
        assert split.masked_tokens == 0.25
        assert (split.replaced_by_mask, split.kept, split.replaced_at_random) == (0.5, 0.375, 0.125)
        assert split.length_counts == (0,) * 11 + (2, 0, 0, 0, 2)
        assert split.documents_per_shard == (3, 3, 3)
        assert split.sampled == (
            "median_length",
            "full_length",
            "masked_by_position",
            "frequent_pieces",
        )

    def test_what_an_index_knows_is_taken_from_it(self, tmp_path):
        # All that the records tell, and nothing of the text.
        counts = Counts(
            examples=4, random_next=1, real_tokens=32, predictions=8, predictions_masked=8
        )
        manifest = write_records(tmp_path, [[DOOR] * 4], counts=(counts, Counts()))
        split = inspect_records(manifest, sample=2).splits["train"]
        assert (split.label_1, split.predictions, split.replaced_by_mask) == (0.25, 2, 1)
        assert (split.documents, split.unknown_tokens) == (None, 0)
        assert "unknown_tokens" in split.sampled and "label_1" not in split.sampled

    def test_counts_of_other_examples_are_not_believed(self, tmp_path):
        counts = Counts(tokens=9, examples=3, real_tokens=99, predictions=9, predictions_masked=9)
        manifest = write_records(tmp_path, [[DOOR, DOOR]], counts=(counts, Counts()))
        split = inspect_records(manifest).splits["train"]
        assert split.mean_length == 12
        assert split.predictions == 3
        assert split.replaced_by_mask == 1 / 3

    def test_a_sample_is_of_all_shards(self, tmp_path):
        manifest = write_records(tmp_path, [[DOOR] * 2, [SHORT] * 4, [DOOR] * 2])
        split = inspect_records(manifest, sample=4).splits["train"]
        # One, two and one: two of length 12 and two of length 6.
        assert split.read == 4
        assert split.mean_length == 9
        assert split.median_length == 9
        assert "mean_length" in split.sampled and "padding" in split.sampled
        assert inspect_records(manifest, sample=0).splits["train"].read == 8
        assert inspect_records(manifest, sample=100).splits["train"].sampled == ()

    @pytest.mark.parametrize(
        ("counts", "sample", "expected"),
        [
            ([10, 10], 4, [2, 2]),
            ([1, 0, 9], 5, [0, 0, 5]),
            ([5, 5, 5], 100, [5, 5, 5]),
            ([1] * 10, 3, [0, 0, 0, 1, 0, 0, 1, 0, 0, 1]),
            ([0], 3, [0]),
        ],
    )
    def test_a_sample_is_divided_in_proportion(self, counts, sample, expected):
        assert spread(counts, sample) == expected

    def test_full_rows_have_no_labels(self, tmp_path):
        report = inspect_records(write_records(tmp_path, [[DOOR]], objective="mlm"))
        assert report.splits["train"].label_1 is None
        assert "follows" not in table(report)

    def test_more_than_a_batch_is_counted(self, tmp_path):
        manifest = write_records(tmp_path, [[DOOR] * 700 + [SHORT] * 500])
        split = inspect_records(manifest, sample=0).splits["train"]
        assert split.read == 1200
        assert split.mean_length == (700 * 12 + 500 * 6) / 1200
        assert split.frequent_pieces[0] == ("door", 1200 / 2600)

    def test_values_that_do_not_fit_are_told(self, tmp_path):
        with pytest.raises(InputError, match="There are no records in .* counts 0"):
            inspect_records(write_records(tmp_path / "a", []))
        with pytest.raises(InputError, match="sample must not be negative. Received: -1"):
            inspect_records(write_records(tmp_path / "b", [[DOOR]]), sample=-1)

    def test_they_are_those_that_the_preparation_counted(self, records):
        known = Manifest.load(str(records / "short"))
        unknown = dataclasses.replace(
            known,
            train_counts=Counts(),
            validation_counts=Counts(),
            train=tuple(dataclasses.replace(s, length_counts=()) for s in known.train),
        )
        assert known.train_counts.predictions > 1000
        for split in ("train", "validation"):
            expected = inspect_records(known, sample=0).splits[split]
            counted = inspect_records(unknown, sample=0).splits[split]
            for name in ("mean_length", "padding", "predictions", "masked_tokens", "label_1"):
                assert getattr(counted, name) == pytest.approx(getattr(expected, name)), name
            assert counted.length_counts == expected.length_counts
            # A random piece is the original or [MASK] once in 400 times of a tenth.
            for name in ("replaced_by_mask", "kept", "replaced_at_random"):
                assert getattr(counted, name) == pytest.approx(getattr(expected, name), abs=2e-3)


class TestOtherPeoplesFiles:
    """Files that an index lists: by full paths, with names of features of the Model Garden."""

    def index(self, tmp_path, suffix="", compression=None):
        arrays = to_arrays([DOOR, PLAY], [0, 1])
        names = {
            "token_ids": "input_word_ids",
            "segment_ids": "input_type_ids",
            "padding_mask": "input_mask",
            "mask_positions": "masked_lm_positions",
            "mask_ids": "masked_lm_ids",
            "mask_weights": "masked_lm_weights",
            "next_sentence_label": "next_sentence_labels",
        }
        (tmp_path / "theirs").mkdir()
        path = str(tmp_path / "theirs" / f"tf_examples.tfrecord{suffix}")
        with tf.io.TFRecordWriter(path, compression) as writer:
            for row in range(2):
                example = tf.train.Example()
                for name, values in arrays.items():
                    feature = example.features.feature[names[name]]
                    if name == "mask_weights":
                        feature.float_list.value.extend(values[row])
                    else:
                        feature.int64_list.value.extend(values[row])
                writer.write(example.SerializeToString())
        manifest = write_records(tmp_path / "index", [])
        manifest = dataclasses.replace(
            manifest,
            train=(Shard(path, 2, os.path.getsize(path)),),
            feature_names="v2",
        )
        manifest.save()
        return Manifest.load(manifest.directory), path

    @pytest.mark.parametrize(("suffix", "compression"), [("", None), (".gz", "GZIP")])
    def test_they_are_shown_counted_and_checked(self, tmp_path, suffix, compression):
        manifest, path = self.index(tmp_path, suffix, compression)
        text = show_examples(manifest, count=1)
        assert text.startswith(f"train 0 ({path}, record 0): b follows a, 12 tokens")
        assert "b: and went [kept:in] , [garden→gate]" in text
        split = inspect_records(manifest).splits["train"]
        assert (split.documents, split.documents_per_shard) == (None, None)
        assert (split.mean_length, split.predictions, split.label_1) == (14, 2.5, 0.5)
        found = verify_records(manifest.directory, progress=False)
        assert found.problems == ()
        assert "; for 1 of them no sha256 is known" in str(found)
        assert draw(inspect_records(manifest)).axes[7].texts[0].get_text() == "not known"

    def test_a_damaged_one_is_named_by_its_path(self, tmp_path):
        manifest, path = self.index(tmp_path)
        with open(path, "r+b") as file:
            file.seek(20)
            file.write(b"\xff")
        found = verify_records(manifest.directory, progress=False)
        assert [(p.file, p.record, p.byte_offset) for p in found.problems] == [(path, 0, 0)]
