"""Examples are read with the masks that the input pipeline gives them."""

import dataclasses

import numpy as np
import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.inspection.examples import ExampleReader
from keras_bert_tpu.pretraining_data.inspection.report import inspect_records
from keras_bert_tpu.pretraining_data.inspection.text import show_examples, table
from keras_bert_tpu.pretraining_data.masking import KEPT, MASKED, RANDOM
from keras_bert_tpu.pretraining_data.pipeline import training_dataset, validation_dataset
from keras_bert_tpu.pretraining_data.records import ShardContent, serialize_examples, write_shard
from keras_bert_tpu.text.vocabulary import Vocabulary

from inspected_records import (
    DOOR,
    LENGTH,
    PIECES,
    PREDICTIONS,
    VOCABULARY,
    flip_byte,
    to_arrays,
    write_records,
)


class TestDynamicMasks:
    ROWS = ("[CLS] she opened the door [SEP] and went in , the garden gate [SEP]", {})

    @pytest.fixture
    def manifest(self, tmp_path):
        return write_records(
            tmp_path,
            [[self.ROWS] * 3, [self.ROWS] * 4],
            [[self.ROWS] * 2, [self.ROWS] * 2],
            masks="dynamic",
            mask_rate=0.3,
        )

    def read(self, manifest, split, epoch, seed):
        """Masked rows, and originals, of all records in the order of the shards."""
        reader = ExampleReader(manifest, split, epoch, seed)
        shards = getattr(manifest, split)
        parts = [
            part
            for index, shard in enumerate(shards)
            for part in reader.read(index, 0, shard.num_examples)
        ]
        return (
            np.concatenate([part.token_ids for part in parts]).tolist(),
            np.concatenate([part.original_ids for part in parts]).tolist(),
        )

    @pytest.mark.parametrize("epoch", [0, 2])
    def test_they_are_those_of_the_training(self, manifest, epoch):
        dataset = training_dataset(
            manifest.directory, 7, LENGTH, PREDICTIONS, seed=11, start_example=7 * epoch
        )
        batch = next(dataset.as_numpy_iterator())
        masked, originals = self.read(manifest, "train", epoch, 11)
        assert sorted(masked) == sorted(batch["token_ids"].tolist())
        # Rows differ in their masks only, and no two of seven are alike.
        assert len({tuple(row) for row in masked}) == 7
        expected = [VOCABULARY.ids[piece] for piece in self.ROWS[0].split()] + [0, 0]
        assert originals == [expected] * 7

    def test_another_epoch_and_another_run_have_others(self, manifest):
        first, _ = self.read(manifest, "train", 0, 11)
        assert self.read(manifest, "train", 0, 11)[0] == first
        assert self.read(manifest, "train", 1, 11)[0] != first
        assert self.read(manifest, "train", 0, 12)[0] != first

    def test_held_out_ones_are_those_of_every_evaluation(self, manifest):
        dataset = validation_dataset(manifest.directory, 4, LENGTH, PREDICTIONS)
        batch = next(dataset.as_numpy_iterator())
        for epoch, seed in [(0, 11), (3, 12)]:
            assert self.read(manifest, "validation", epoch, seed)[0] == batch["token_ids"].tolist()

    def test_part_of_a_shard_has_the_masks_of_its_record_numbers(self, manifest):
        text = show_examples(manifest, count=7, epoch=1, seed=11).split("\n\n")
        assert (
            show_examples(manifest, start=4, count=2, epoch=1, seed=11).split("\n\n") == text[4:6]
        )

    def test_they_are_shown_and_counted(self, manifest):
        # Of 14 tokens, 0.3 are round(4.2) = 4 predictions.
        assert "14 tokens of 16, 4 predictions (" in show_examples(manifest, count=1)
        report = inspect_records(manifest, epoch=3)
        assert report.epoch == 3
        assert report.splits["train"].predictions == 4
        assert "those of epoch 3 were counted" in table(report)

    def test_words_of_the_records_are_heeded(self, tmp_path):
        # A word of six pieces and one of one, and 0.2 x 10 = 2 predictions at most.
        config = {"whole_word_mask": True, "segmented_words": True, "mask_rate": 0.2}
        manifest = write_records(tmp_path, [[]], masks="dynamic", **config)
        arrays = to_arrays([("[CLS] she opened the [SEP] door and went in [SEP]", {})], [0])
        arrays = {name: a for name, a in arrays.items() if not name.startswith("mask_")}
        arrays["continues_word"] = np.zeros([1, LENGTH], np.int64)
        arrays["continues_word"][0, 2:8] = 1
        content = ShardContent(serialize_examples(arrays), 1, np.array([10]))
        shard = write_shard(str(tmp_path), "train-0.tfrecord", content, LENGTH)
        manifest = dataclasses.replace(manifest, train=(shard,))
        (examples,) = ExampleReader(manifest, "train").read(0, 0, 1)
        assert np.flatnonzero(examples.mask_kinds[0]).tolist() == [8]


class TestUnreadable:
    def test_damage_is_told_with_the_file_and_what_to_do(self, tmp_path):
        manifest = write_records(tmp_path, [[DOOR] * 3, [DOOR] * 3])
        flip_byte(tmp_path / "train-1.tfrecord", 40)
        message = r"train-1\.tfrecord cannot be read .*kbt-inspect --verify says what is damaged"
        with pytest.raises(InputError, match=message):
            inspect_records(manifest)
        with pytest.raises(InputError, match=message):
            show_examples(manifest, start=3)

    def test_fewer_records_than_counted(self, tmp_path):
        manifest = write_records(tmp_path, [[DOOR] * 3])
        shard = dataclasses.replace(manifest.train[0], num_examples=5)
        manifest = dataclasses.replace(manifest, train=(shard,))
        with pytest.raises(InputError, match="ends after 3 records, but the manifest counts 5"):
            inspect_records(manifest)

    def test_another_shape(self, tmp_path):
        manifest = write_records(tmp_path, [[DOOR]])
        config = dataclasses.replace(manifest.config, sequence_length=32)
        with pytest.raises(InputError, match="input_ids must hold 32 values"):
            show_examples(dataclasses.replace(manifest, config=config))

    def test_another_vocabulary(self, tmp_path):
        manifest = write_records(tmp_path, [[DOOR]])
        small = Vocabulary(PIECES[:10])
        small.save(str(tmp_path / "vocab.txt"))
        with pytest.raises(InputError, match="not the vocabulary .* put the right one there"):
            inspect_records(manifest)
        # Where the manifest is wrong as well, the tokens tell.
        unknown = dataclasses.replace(manifest, vocabulary_sha256=small.sha256)
        with pytest.raises(InputError, match="holds the token 14, but .* has only 10 pieces"):
            inspect_records(unknown)


def test_kinds_are_told_apart_in_the_reader(tmp_path):
    manifest = write_records(tmp_path, [[DOOR]])
    (examples,) = ExampleReader(manifest, "train").read(0, 0, 1)
    kinds = {position: kind for position, kind in enumerate(examples.mask_kinds[0]) if kind}
    assert kinds == {4: MASKED, 8: KEPT, 10: RANDOM}
