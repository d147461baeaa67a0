"""Damaged shards: named in the graph, found by a scan, read around."""

import dataclasses
import gzip
import json
import logging
import os

import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.damage import ShardScan, Stretch, scan_shards
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.pipeline import (
    training_dataset,
    training_steps_per_epoch,
    validation_dataset,
    validation_steps,
)

from small_records import SHAPE, read_all, stream, write_small_records

COUNTS = [6, 5, 7]


def offsets(path):
    """Where the records of a file begin, and where it ends."""
    places, content = [0], path.read_bytes()
    while places[-1] < len(content):
        length = int.from_bytes(content[places[-1] : places[-1] + 8], "little")
        places.append(places[-1] + 16 + length)
    return places


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.fixture
def data(tmp_path):
    return write_small_records(tmp_path, train=COUNTS, validation=[4, 3])


def scan(data, **arguments):
    return scan_shards(Manifest.load(str(data)), progress=False, **arguments)


def found(scanned):
    return [
        (fault.file, fault.record, fault.byte_offset, fault.num_records) for fault in scanned.faults
    ]


class TestStop:
    """The default: an error that says where."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c, at: c[:-5], "is damaged or cut off in record 6 at byte offset {at[6]} "),
            (lambda c, at: c[: at[3]], r"has 3 \("),
            (lambda c, at: b"", r"is empty \("),
            (lambda c, at: b"no records" * 9, "is damaged or cut off in record 0 at byte offset 0"),
            (lambda c, at: c + c[: at[1]], r"has more than that \("),
            (lambda c, at: c + b"more" * 9, "is damaged or cut off in record 7 at .* {at[7]} "),
            (
                lambda c, at: c[: at[4] + 40] + bytes([c[at[4] + 40] ^ 1]) + c[at[4] + 41 :],
                "is damaged or cut off in record 4 at byte offset {at[4]} ",
            ),
        ],
        ids=[
            "last record cut",
            "cut between",
            "empty",
            "others",
            "longer",
            "more",
            "a bit flipped",
        ],
    )
    def test_file_record_and_byte_are_named(self, data, change, message):
        path = data / "train-2.tfrecord"
        places = offsets(path)
        path.write_bytes(change(path.read_bytes(), places))
        expected = r"counts 7 records in \S*train-2.tfrecord, but the file "
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=expected + message.format(at=places)
        ):
            stream(data, 18, batch_size=6)

    def test_of_held_out_records_too(self, data):
        path = data / "validation-1.tfrecord"
        places = offsets(path)
        flip(path, places[1] + 20)
        message = rf"counts 3 records in \S*validation-1.tfrecord, .* record 1 .* {places[1]} "
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            read_all(validation_dataset(data, 2, **SHAPE))

    def test_a_file_that_has_gone_is_named(self, data):
        manifest = Manifest.load(str(data))
        os.remove(data / "train-1.tfrecord")
        with pytest.raises(tf.errors.NotFoundError, match=r"train-1\.tfrecord"):
            stream(manifest, 18, batch_size=6)


class TestScan:
    def test_whole_shards_have_no_faults(self, data):
        scanned = scan(data)
        assert scanned.faults == () and scanned.stretches == {} and scanned.num_skipped() == 0
        assert scanned.splits == ("train", "validation")

    def test_a_damaged_content_costs_one_record(self, data, caplog):
        path = data / "train-2.tfrecord"
        places = offsets(path)
        flip(path, places[1] + 20)  # In the content.
        flip(path, places[4] - 1)  # In the checksum of record 3.
        with caplog.at_level(logging.WARNING):
            scanned = scan(data)
        assert found(scanned) == [
            ("train-2.tfrecord", 1, places[1], 1),
            ("train-2.tfrecord", 3, places[3], 1),
        ]
        assert scanned.stretches == {
            "train-2.tfrecord": (
                Stretch(0, 0, 1),
                Stretch(2, places[2], 1),
                Stretch(4, places[4], 3),
            )
        }
        assert caplog.messages == [
            f"train-2.tfrecord: record {number} at byte offset {places[number]}: its content does "
            f"not fit its checksum; 1 record left out"
            for number in (1, 3)
        ]

    @pytest.mark.parametrize("place", [0, 9], ids=["length", "its checksum"])
    def test_a_damaged_length_costs_the_rest(self, data, place):
        path = data / "train-2.tfrecord"
        places = offsets(path)
        flip(path, places[2] + place)
        scanned = scan(data)
        assert found(scanned) == [("train-2.tfrecord", 2, places[2], 5)]
        assert "the next record cannot be found" in scanned.faults[0].reason
        assert scanned.stretches == {"train-2.tfrecord": (Stretch(0, 0, 2),)}

    @pytest.mark.parametrize(
        ("end", "record", "lost", "reason"),
        [
            (lambda at: at[5], 5, 2, "the file ends here"),
            (lambda at: at[5] + 6, 5, 2, "cut off"),
            (lambda at: at[5] + 30, 5, 2, "cut off"),
            (lambda at: 0, 0, 7, "the file ends here"),
        ],
    )
    def test_a_file_that_is_too_short(self, data, end, record, lost, reason):
        path = data / "train-2.tfrecord"
        places = offsets(path)
        path.write_bytes(path.read_bytes()[: end(places)])
        scanned = scan(data)
        assert found(scanned) == [("train-2.tfrecord", record, places[record], lost)]
        assert reason in scanned.faults[0].reason
        expected = (Stretch(0, 0, record),) if record else ()
        assert scanned.stretches == {"train-2.tfrecord": expected}

    def test_a_file_that_is_too_long(self, data):
        for shard, more in ((0, b"some more"), (2, None)):
            path = data / f"train-{shard}.tfrecord"
            content = path.read_bytes()
            path.write_bytes(content + (more or content[: offsets(path)[2]]))
            places = offsets(path)
        scanned = scan(data)
        assert [(f.record, f.num_records) for f in scanned.faults] == [(6, 1), (7, 2)]
        assert scanned.faults[1].byte_offset == places[7]
        assert "beyond the 7 records" in scanned.faults[1].reason
        assert scanned.stretches["train-2.tfrecord"] == (Stretch(0, 0, 7),)

    def test_a_file_that_is_not_there(self, data):
        manifest = Manifest.load(str(data))
        os.remove(data / "train-1.tfrecord")
        scanned = scan_shards(manifest, progress=False)
        assert found(scanned) == [("train-1.tfrecord", 0, 0, 5)]
        assert scanned.stretches == {"train-1.tfrecord": ()}

    def test_far_inside_a_large_file(self, tmp_path):
        # Beyond the records that are read in one go.
        data = write_small_records(tmp_path, train=[2500])
        path = data / "train-0.tfrecord"
        places = offsets(path)
        for number in (1023, 1024, 2100):
            flip(path, places[number] + 20)
        scanned = scan(data, splits=["train"])
        assert [(f.record, f.byte_offset) for f in scanned.faults] == [
            (number, places[number]) for number in (1023, 1024, 2100)
        ]
        counts = [stretch.num_records for stretch in scanned.stretches["train-0.tfrecord"]]
        assert counts == [1023, 1075, 399]

    def test_a_compressed_file_is_lost_from_the_damage_on(self, data):
        path = data / "train-1.tfrecord"
        places = offsets(path)
        content = bytearray(path.read_bytes())
        content[places[3] + 20] ^= 1
        (data / "train-1.tfrecord.gz").write_bytes(gzip.compress(bytes(content)))
        manifest = Manifest.load(str(data))
        shards = list(manifest.train)
        shards[1] = dataclasses.replace(shards[1], file="train-1.tfrecord.gz")
        manifest = dataclasses.replace(manifest, train=tuple(shards))
        scanned = scan_shards(manifest, progress=False)
        assert found(scanned) == [("train-1.tfrecord.gz", 3, places[3], 2)]

    def test_it_can_be_written_down(self, data):
        flip(data / "train-2.tfrecord", 20)
        scanned = scan(data)
        again = ShardScan.from_dict(json.loads(json.dumps(scanned.to_dict())))
        assert again == scanned == scan(data)
        again.check(Manifest.load(str(data)), ["train"], 1)
        with pytest.raises(InputError, match="scan of the shards cannot be read .*'faults'"):
            ShardScan.from_dict({"fingerprint": "", "splits": []})


class TestSkip:
    @pytest.fixture
    def damaged(self, data):
        """Records 201 and 204 and all from 103 on are lost; of the held-out ones the first."""
        for name, record in (("train-2", 1), ("train-2", 4), ("validation-0", 0)):
            path = data / f"{name}.tfrecord"
            flip(path, offsets(path)[record] + 20)
        path = data / "train-1.tfrecord"
        flip(path, offsets(path)[3])
        return data

    SKIP = {"on_damage": "skip", "max_skipped": 4}
    LEFT = [0, 1, 2, 3, 4, 5, 100, 101, 102, 200, 202, 203, 205, 206]

    def test_every_readable_record_comes_once_an_epoch(self, damaged):
        numbers = stream(damaged, 42, batch_size=6, **self.SKIP)
        for epoch in (numbers[:14], numbers[14:28], numbers[28:]):
            assert sorted(epoch) == self.LEFT
        steps = training_steps_per_epoch(damaged, 7, seed=7, scan=scan(damaged))
        assert steps == 2

    def test_a_start_gives_the_tail_of_the_stream(self, damaged):
        scanned = scan(damaged)
        whole = stream(damaged, 36, batch_size=6, **self.SKIP)
        assert (
            stream(damaged, 18, batch_size=6, start_example=18, scan=scanned, **self.SKIP)
            == whole[18:]
        )

    def test_a_given_scan_is_used_in_place_of_another(self, damaged):
        # Nothing is damaged any more, but a run that goes on has the order that it began with.
        scanned = scan(damaged)
        whole = stream(damaged, 18, batch_size=6, **self.SKIP)
        for name, record in (("train-2", 1), ("train-2", 4)):
            path = damaged / f"{name}.tfrecord"
            flip(path, offsets(path)[record] + 20)
        assert stream(damaged, 18, batch_size=6, scan=scanned, **self.SKIP) == whole

    def test_held_out_records_too(self, damaged):
        arguments = {"on_damage": "skip", "max_skipped": 1}
        batches = read_all(validation_dataset(damaged, 4, **SHAPE, **arguments))
        numbers = [batch["token_ids"][:, 0].tolist() for batch in batches]
        # The padding rows are copies of the first readable record.
        assert numbers == [[1, 2, 3, 100], [101, 102, 1, 1]]
        assert validation_steps(damaged, 4, scan=scan(damaged)) == 2
        assert sum(batch["next_sentence_weights"].sum() for batch in batches) == 6

    def test_undamaged_shards_keep_their_order(self, data):
        assert stream(data, 18, batch_size=6, **self.SKIP) == stream(data, 18, batch_size=6)

    def test_more_damage_than_allowed(self, damaged):
        message = (
            r"4 of the records in .* max_skipped is 3 \(the first fault is in train-1.tfrecord"
        )
        with pytest.raises(InputError, match=message):
            stream(damaged, 1, on_damage="skip", max_skipped=3)
        with pytest.raises(InputError, match="1 of the records in .* is 0"):
            validation_dataset(damaged, 2, **SHAPE, on_damage="skip")

    def test_damage_after_the_scan_is_told(self, damaged):
        scanned = scan(damaged)
        path = damaged / "train-2.tfrecord"
        places = offsets(path)
        flip(path, places[3] + 20)
        message = (
            rf"The scan found 2 records from byte offset {places[2]} of \S*train-2.tfrecord, but "
            rf"the file is damaged or cut off in record 1 at byte offset {places[3]}"
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            stream(damaged, 14, batch_size=14, scan=scanned, **self.SKIP)

    def test_a_scan_of_other_shards_is_refused(self, damaged, tmp_path_factory):
        other = write_small_records(tmp_path_factory.mktemp("other"), train=[6, 5, 8])
        for scanned in (scan(other), scan(damaged, splits=["validation"])):
            with pytest.raises(InputError, match="scan is not of the train shards of"):
                stream(damaged, 1, scan=scanned, **self.SKIP)

    def test_nothing_is_left(self, tmp_path):
        data = write_small_records(tmp_path, train=[2])
        (data / "train-0.tfrecord").write_bytes(b"")
        with pytest.raises(InputError, match="no training records .* counts 2, all of them dam"):
            stream(data, 1, on_damage="skip", max_skipped=9)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"on_damage": "pass"}, "on_damage must be one of stop, skip. Received: 'pass'"),
            ({"on_damage": "skip", "max_skipped": -1}, "max_skipped must not be negative"),
        ],
    )
    def test_settings_are_checked(self, data, arguments, message):
        with pytest.raises(InputError, match=message):
            training_dataset(data, 2, **SHAPE, seed=1, **arguments)
        with pytest.raises(InputError, match=message):
            validation_dataset(data, 2, **SHAPE, **arguments)
