"""What kbt-inspect --verify finds."""

import dataclasses
import json
import os
import re

import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.inspection.verify import verify_records
from keras_bert_tpu.text.vocabulary import Vocabulary

from inspected_records import DOOR, PIECES, PLAY, SHORT, flip_byte, write_records


class TestVerify:
    def problems(self, tmp_path):
        return [str(problem) for problem in verify_records(str(tmp_path), False).problems]

    @pytest.fixture
    def manifest(self, tmp_path):
        return write_records(tmp_path, [[DOOR] * 3, [PLAY] * 3], [[SHORT] * 2])

    def test_all_is_well(self, manifest):
        found = verify_records(manifest.directory, progress=False)
        assert found.problems == ()
        assert str(found) == (
            f"{manifest.directory}: all is well (3 shards, 8 records, {found.megabytes:.1f} MB)"
        )
        assert found.checksums == 3

    def test_a_flipped_byte(self, manifest, tmp_path):
        # All records of a shard are equal, so the second begins at a third of it.
        size = manifest.train[1].bytes // 3
        flip_byte(tmp_path / "train-1.tfrecord", size + 100)
        first, second = self.problems(tmp_path)
        assert re.fullmatch(
            rf"train-1\.tfrecord: has the sha256 [0-9a-f]{{64}}, the manifest says "
            rf"{manifest.train[1].sha256}",
            first,
        )
        assert second == (
            f"train-1.tfrecord: record 1 at byte offset {size}: its content does not fit its "
            f"checksum"
        )

    def test_a_truncated_shard(self, manifest, tmp_path):
        path, size = tmp_path / "train-0.tfrecord", manifest.train[0].bytes
        path.write_bytes(path.read_bytes()[: size // 3 + 50])
        assert self.problems(tmp_path) == [
            f"train-0.tfrecord: has {size // 3 + 50} bytes, the manifest says {size}",
            f"train-0.tfrecord: record 1 at byte offset {size // 3}: the file is cut off in it "
            f"(2 records)",
        ]

    def test_missing_shards_are_all_named(self, manifest, tmp_path):
        os.remove(tmp_path / "train-0.tfrecord")
        os.remove(tmp_path / "validation-0.tfrecord")
        flip_byte(tmp_path / "train-1.tfrecord", 50)
        found = verify_records(str(tmp_path), False)
        lines = str(found).splitlines()
        assert lines[0] == "train-0.tfrecord: is missing"
        assert lines[2].startswith("train-1.tfrecord: record 0 at byte offset 0")
        assert lines[3] == "validation-0.tfrecord: is missing"
        assert lines[4].startswith(f"{tmp_path}: 4 problems in 3 files (3 shards, 8 records")

    def test_another_record_behind_the_last(self, manifest, tmp_path):
        path, size = tmp_path / "train-0.tfrecord", manifest.train[0].bytes
        content = path.read_bytes()
        path.write_bytes(content + content[: size // 3])
        first, second = self.problems(tmp_path)
        assert first == f"train-0.tfrecord: has {size // 3 * 4} bytes, the manifest says {size}"
        assert second.startswith(f"train-0.tfrecord: record 3 at byte offset {size}: ")

    def test_records_are_counted_where_no_checksum_is_known(self, manifest, tmp_path):
        shard = dataclasses.replace(manifest.train[0], num_examples=4, sha256="")
        dataclasses.replace(manifest, train=(shard, manifest.train[1])).save()
        (problem,) = self.problems(tmp_path)
        assert problem.startswith(f"train-0.tfrecord: record 3 at byte offset {shard.bytes}: ")

    def test_another_vocabulary(self, manifest, tmp_path):
        Vocabulary([*PIECES, "more"]).save(str(tmp_path / "vocab.txt"))
        (problem,) = self.problems(tmp_path)
        assert problem.startswith("vocab.txt: its pieces have the sha256 ")
        os.remove(tmp_path / "vocab.txt")
        (problem,) = self.problems(tmp_path)
        assert problem.startswith("vocab.txt: ")

    def test_no_manifest(self, tmp_path):
        with pytest.raises(InputError, match="There is no manifest.json"):
            verify_records(str(tmp_path), False)

    @pytest.mark.parametrize("content", ["{", "[]", '{"format_version": 1}'])
    def test_an_unreadable_manifest(self, manifest, tmp_path, content):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(InputError, match="manifest.json"):
            verify_records(str(tmp_path), False)

    def test_an_unknown_version_is_told_also_if_shards_are_missing(self, manifest, tmp_path):
        values = json.loads((tmp_path / "manifest.json").read_text())
        (tmp_path / "manifest.json").write_text(json.dumps({**values, "format_version": 99}))
        os.remove(tmp_path / "train-0.tfrecord")
        with pytest.raises(InputError, match="format_version 99"):
            verify_records(str(tmp_path), False)

    def test_findings_are_values_of_json(self, manifest, tmp_path):
        os.remove(tmp_path / "train-0.tfrecord")
        values = json.loads(json.dumps(verify_records(str(tmp_path), False).to_dict()))
        assert values["shards"] == 3
        assert values["problems"] == [
            {"file": "train-0.tfrecord", "text": "is missing", "record": None, "byte_offset": None}
        ]
