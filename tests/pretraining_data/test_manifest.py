import dataclasses
import json
import os

import numpy as np
import pytest

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data.manifest import CorpusEntry, Counts, Manifest
from keras_bert_tpu.pretraining_data.records import ShardContent, shard_name, write_shard


class TestCounts:
    COUNTS = Counts(examples=4, real_tokens=300, random_next=3, predictions=50)

    def test_they_add_up(self):
        total = self.COUNTS + Counts(documents=2, examples=1, real_tokens=100)
        assert total == Counts(
            documents=2, examples=5, real_tokens=400, random_next=3, predictions=50
        )

    def test_means_and_shares(self):
        # 300 / 4; 1 - 75 / 100; 3 / 4; 50 / 4.
        assert self.COUNTS.mean_length == 75
        assert self.COUNTS.padding_share(100) == 0.25
        assert self.COUNTS.random_next_share == 0.75
        assert self.COUNTS.masks_per_example == 12.5

    def test_of_nothing_they_are_zero(self):
        nothing = Counts()
        assert nothing.mean_length == nothing.padding_share(8) == nothing.masks_per_example == 0


class TestManifest:
    def save(self, directory):
        shards = [
            write_shard(
                str(directory),
                shard_name(split, index, number),
                ShardContent([b"record"] * count, 1, np.full(count, 64)),
                64,
            )
            for split, index, number, count in [
                ("train", 0, 2, 3),
                ("train", 1, 2, 4),
                ("validation", 0, 1, 2),
            ]
        ]
        manifest = Manifest(
            directory=str(directory),
            config=DataConfig(sequence_length=64, whole_word_mask=True),
            corpora=(CorpusEntry("*", 1.0, ("a.txt", "b.txt.gz"), 3, 9, 270, {"too_short": 2}),),
            vocabulary_size=1000,
            vocabulary_sha256="0123",
            train=tuple(shards[:2]),
            validation=tuple(shards[2:]),
            train_counts=Counts(examples=7, real_tokens=70),
            validation_counts=Counts(examples=2, real_tokens=128),
        )
        manifest.save()
        return manifest

    def change(self, directory, **values):
        path = directory / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    def test_it_comes_back_as_it_was_saved(self, tmp_path):
        manifest = self.save(tmp_path)
        assert Manifest.load(str(tmp_path)) == manifest
        assert (manifest.num_examples, manifest.num_validation_examples) == (7, 2)
        assert sorted(os.listdir(tmp_path)) == [
            "manifest.json",
            "train-00000-of-00002.tfrecord",
            "train-00001-of-00002.tfrecord",
            "validation-00000-of-00001.tfrecord",
        ]

    def test_other_programs_find_what_they_need(self, tmp_path):
        manifest = self.save(tmp_path)
        values = json.loads((tmp_path / "manifest.json").read_text())
        assert values["format_version"] == 2
        assert values["num_examples"] == values["train"]["num_examples"] == 7
        settings = dataclasses.asdict(manifest.config)
        assert values["settings"] == {**settings, "added_tokens": []}
        assert values["vocabulary"] == {"file": "vocab.txt", "size": 1000, "sha256": "0123"}
        (corpus,) = values["corpora"]
        assert corpus["files"] == ["a.txt", "b.txt.gz"] and corpus["dropped"] == {"too_short": 2}
        (shard,) = values["validation"]["shards"]
        assert {**shard, "length_counts": tuple(shard["length_counts"])} == dataclasses.asdict(
            manifest.validation[0]
        )
        # 70 / 7 = 10 of 64 positions; 128 / 2 = all of them.
        assert values["train"]["mean_length"] == 10
        assert values["train"]["padding_share"] == 1 - 10 / 64
        assert values["validation"]["padding_share"] == 0

    def test_no_manifest(self, tmp_path):
        for directory in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(InputError, match="There is no manifest.json in .*did not finish"):
                Manifest.load(str(directory))

    @pytest.mark.parametrize("content", ["", "{", '{"format_version": 1', "\x00\x01"])
    def test_an_unreadable_manifest(self, tmp_path, content):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(InputError, match="manifest.json cannot be read"):
            Manifest.load(str(tmp_path))

    @pytest.mark.parametrize("version", [1, 3, "2", None])
    def test_an_unknown_version(self, tmp_path, version):
        self.save(tmp_path)
        self.change(tmp_path, format_version=version)
        with pytest.raises(InputError, match=rf"format_version {version!r}, but .* reads 2;"):
            Manifest.load(str(tmp_path))

    def test_a_manifest_that_is_a_list(self, tmp_path):
        (tmp_path / "manifest.json").write_text("[1]")
        with pytest.raises(InputError, match="format_version None"):
            Manifest.load(str(tmp_path))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"train": {"shards": []}}, "KeyError: 'counts'"),
            ({"validation": None}, "TypeError"),
            ({"settings": {"sequence_len": 8}}, "nearest is sequence_length"),
        ],
    )
    def test_a_manifest_with_other_content(self, tmp_path, values, message):
        self.save(tmp_path)
        self.change(tmp_path, **values)
        with pytest.raises(InputError, match=f"not a whole manifest .*{message}"):
            Manifest.load(str(tmp_path))

    def test_missing_shards(self, tmp_path):
        self.save(tmp_path)
        os.remove(tmp_path / "train-00001-of-00002.tfrecord")
        os.remove(tmp_path / "validation-00000-of-00001.tfrecord")
        with pytest.raises(InputError, match="2 of the 3 shards .* first is train-00001-of-00002"):
            Manifest.load(str(tmp_path))
