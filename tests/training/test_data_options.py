"""Runs on what the data side can do besides static pairs of full length."""

import dataclasses
import json
import os
import re
import shutil

import pytest

from keras_bert_tpu.config import DataConfig, InputError, PretrainingConfig
from keras_bert_tpu.dataclass_yaml import from_dict
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.prepare import prepare
from keras_bert_tpu.training.loop import pretrain

from test_loop import StopAt, checksums, make_config, read_metrics


def with_phase(config, **changes):
    phases = tuple(dataclasses.replace(phase, **changes) for phase in config.phases)
    return dataclasses.replace(config, phases=phases)


@pytest.fixture(scope="module")
def dynamic_records(tmp_path_factory, sample_text, vocabulary):
    """Full sentences whose masks are drawn when they are read, in several shards."""
    folder = tmp_path_factory.mktemp("dynamic")
    vocabulary.save(str(folder / "vocab.txt"))
    config = DataConfig(
        objective="mlm",
        masks="dynamic",
        whole_word_mask=True,
        sequence_length=32,
        max_predictions=5,
        short_sequence_rate=0.5,
        dupe_factor=1,
        validation_rate=0.1,
        block_documents=6,
        num_shards=5,
    )
    vocab = str(folder / "vocab.txt")
    prepare(sample_text, str(folder / "short"), vocab, config, progress=False)
    return folder


def test_dynamic_masks_and_length_buckets_survive_a_crash(
    tmp_path, dynamic_records, vocabulary, capsys
):
    config = make_config(vocabulary, steps=20, save_every=5, shuffle_window=2)
    config = with_phase(config, length_buckets=(16, 32))
    pretrain(config, str(dynamic_records), str(tmp_path / "whole"))
    with pytest.raises(RuntimeError, match="stopped by the test"):
        pretrain(config, str(dynamic_records), str(tmp_path / "run"), callbacks=[StopAt(13)])
    assert max(checksums(tmp_path / "run")) == 10
    pretrain(config, str(dynamic_records), str(tmp_path / "run"))
    whole = checksums(tmp_path / "whole")
    assert len(whole) == 4 and checksums(tmp_path / "run") == whole
    # Of an epoch of some thousand steps, half in the shorter bucket, all shorter than full length.
    shares = [
        record["tokens_per_second"] / record["sequences_per_second"]
        for record in read_metrics(tmp_path / "whole", "train")
    ]
    assert 16 <= min(shares) and max(shares) <= 32 and len(set(shares)) > 1
    # There are no next sentences, so nothing is said of them.
    (*_, last) = read_metrics(tmp_path / "whole", "validation")
    assert last["nsp_loss"] == 0.0 and last["loss"] == last["mlm_loss"] > 0
    out = capsys.readouterr().out
    assert "nsp" not in out
    assert re.search(r"^Steps waited for input in \d+\.\d% of their time\.$", out, re.MULTILINE)


def test_without_length_buckets_the_run_is_another(tmp_path, dynamic_records, vocabulary):
    config = make_config(vocabulary, steps=10)
    pretrain(config, str(dynamic_records), str(tmp_path))
    with pytest.raises(InputError, match=r"there phases\.0\.length_buckets"):
        pretrain(with_phase(config, length_buckets=(16, 32)), str(dynamic_records), str(tmp_path))


class TestDamage:
    @pytest.fixture
    def damaged(self, tmp_path, records):
        """Records of which a training shard has one wrong byte, in its third record."""
        folder = tmp_path / "records"
        shutil.copytree(records, folder)
        manifest = Manifest.load(str(folder / "short"))
        path = manifest.path_of(manifest.train[0])
        content = bytearray(open(path, "rb").read())
        # A record: 8 bytes of length, 4 of checksum, the content, 4 of checksum.
        start = 0
        for _ in range(2):
            start += 16 + int.from_bytes(content[start : start + 8], "little")
        content[start + 40] ^= 1
        with open(path, "wb") as file:
            file.write(content)
        return folder, os.path.basename(path), start

    def test_it_stops_the_run_with_its_place(self, tmp_path, damaged, vocabulary):
        folder, file, offset = damaged
        config = make_config(vocabulary, steps=10)
        with pytest.raises(
            InputError, match=f"{file}.*in record 2 at byte offset {offset} .*on_damage=skip"
        ) as error:
            pretrain(config, str(folder), str(tmp_path / "run"))
        assert "\n" not in str(error.value)

    def test_a_run_can_go_on_around_it(self, tmp_path, damaged, records, vocabulary):
        folder, file, offset = damaged
        config = make_config(vocabulary, steps=10, save_every=5)
        output = tmp_path / "run"
        with pytest.raises(InputError, match="in record 2"):
            pretrain(config, str(folder), str(output))
        skipping = dataclasses.replace(config, on_damage="skip")
        with pytest.raises(InputError, match="1 of the records in .*max_skipped is 0"):
            pretrain(skipping, str(folder), str(output))
        skipping = dataclasses.replace(skipping, max_skipped=1)
        pretrain(skipping, str(folder), str(output))
        (phase,) = json.loads((output / "damage.json").read_text())["phases"]
        (fault,) = phase["faults"]
        assert (fault["file"], fault["record"], fault["byte_offset"]) == (file, 2, offset)
        assert max(checksums(output)) == 10

    def test_a_scan_that_was_refused_is_not_kept(self, tmp_path, damaged, records, vocabulary):
        folder, file, _ = damaged
        config = make_config(vocabulary, steps=10, on_damage="skip")
        with pytest.raises(InputError, match="max_skipped is 0"):
            pretrain(config, str(folder), str(tmp_path / "run"))
        assert not (tmp_path / "run" / "damage.json").exists()
        shutil.copy(records / "short" / file, folder / "short" / file)
        pretrain(config, str(folder), str(tmp_path / "run"))

    def test_a_missing_shard_counts_as_damage(self, tmp_path, damaged, vocabulary):
        folder, file, _ = damaged
        lost = Manifest.load(str(folder / "short")).train[0].num_examples
        os.remove(folder / "short" / file)
        config = make_config(vocabulary, steps=10, on_damage="skip", max_skipped=lost - 1)
        with pytest.raises(InputError, match=f"{lost} of the records .* max_skipped is {lost - 1}"):
            pretrain(config, str(folder), str(tmp_path / "run"))

    def test_a_run_around_damage_cannot_go_on_without(self, tmp_path, damaged, vocabulary):
        folder, *_ = damaged
        config = make_config(vocabulary, steps=10, on_damage="skip", max_skipped=1, save_every=5)
        with pytest.raises(RuntimeError):
            pretrain(config, str(folder), str(tmp_path / "run"), callbacks=[StopAt(7)])
        config = dataclasses.replace(config, on_damage="stop", max_skipped=0)
        with pytest.raises(InputError, match="set on_damage=skip and max_skipped as they were"):
            pretrain(config, str(folder), str(tmp_path / "run"))

    def test_the_scan_of_a_run_is_kept(self, tmp_path, damaged, vocabulary, monkeypatch):
        folder, *_ = damaged
        config = make_config(vocabulary, steps=10, on_damage="skip", max_skipped=1, save_every=5)
        output = tmp_path / "run"
        with pytest.raises(RuntimeError):
            pretrain(config, str(folder), str(output), callbacks=[StopAt(7)])
        monkeypatch.setattr("keras_bert_tpu.training.run_folder.scan_shards", None)
        pretrain(config, str(folder), str(output))
        assert max(checksums(output)) == 10


def test_settings_of_the_data_are_checked_by_name():
    with pytest.raises(InputError, match="on_damage must be one of stop, skip. Received: 'go'"):
        from_dict(PretrainingConfig, {"on_damage": "go"})
    with pytest.raises(InputError, match="max_skipped must not be negative"):
        from_dict(PretrainingConfig, {"max_skipped": -1})
    with pytest.raises(InputError, match="max_skipped=5 has an effect with on_damage=skip only"):
        from_dict(PretrainingConfig, {"max_skipped": 5})
