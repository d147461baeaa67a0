import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_bert_tpu.pretraining_data import spill
from keras_bert_tpu.pretraining_data.examples import ExampleBatch
from keras_bert_tpu.pretraining_data.manifest import Counts


def batch_of(rng, size, first=0):
    return ExampleBatch(
        serialized=[b"%d " % (first + n) + rng.bytes(int(rng.integers(9))) for n in range(size)],
        order_keys=rng.integers(0, 2**64, size, dtype=np.uint64),
        documents=rng.integers(0, 5, size),
        lengths=rng.integers(1, 129, size),
        counts=Counts(),
    )


@settings(max_examples=30, derandomize=True, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 40), max_size=3), min_size=1, max_size=4),
    file_bytes=st.sampled_from([1, 100, 10**9]),
    shards=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_shards_are_all_examples_in_the_order_of_their_keys(
    tmp_path_factory, sizes, file_bytes, shards, seed
):
    directory = tmp_path_factory.mktemp("units")
    rng = np.random.default_rng(seed)
    units = [
        [batch_of(rng, size, 1000 * unit + 100 * place) for place, size in enumerate(unit_sizes)]
        for unit, unit_sizes in enumerate(sizes)
    ]
    paths = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "FILE_BYTES", file_bytes)
        for number, batches in enumerate(units):
            found = spill.write_unit(str(directory / f"{number}"), iter(batches), shards)
            if file_bytes == 1:
                filled = sum(len(batch.serialized) > 0 for batch in batches)
                is_rest = bool(batches) and not batches[-1].serialized
                assert len(found) == max(1, filled + is_rest)
            paths += found
    read = [spill.read_shard(paths, shard) for shard in range(shards)]

    everything = [
        (key, record, length, document)
        for batches in units
        for batch in batches
        for key, record, length, document in zip(
            batch.order_keys.tolist(),
            batch.serialized,
            batch.lengths.tolist(),
            batch.documents.tolist(),
            strict=True,
        )
    ]
    everything.sort()
    assert [record for shard in read for record in shard.records] == [e[1] for e in everything]
    lengths = [length for shard in read for length in shard.lengths.tolist()]
    assert lengths == [e[2] for e in everything]
    for number, shard in enumerate(read):
        own = {d for key, _, _, d in everything if key * shards >> 64 == number}
        assert shard.num_documents == len(own)


def test_examples_with_the_same_key_keep_the_order_of_their_units(tmp_path):
    keys = np.array([5, 3, 5], np.uint64)
    paths = []
    for unit in range(2):
        batch = ExampleBatch(
            [b"%d-%d" % (unit, place) for place in range(3)], keys, keys, keys, Counts()
        )
        paths += spill.write_unit(str(tmp_path / f"{unit}"), [batch], 1)
    expected = [b"0-1", b"1-1", b"0-0", b"0-2", b"1-0", b"1-2"]
    assert spill.read_shard(paths, 0).records == expected


def test_keys_are_spread_over_the_shards_evenly():
    keys = np.random.default_rng(0).integers(0, 2**64, 70_000, dtype=np.uint64)
    counts = np.bincount(spill.shard_of(keys, 7), minlength=7)
    # 10,000 expected, standard deviation sqrt(70,000 x 1/7 x 6/7) = 93.
    assert len(counts) == 7 and abs(counts - 10_000).max() < 400
    assert spill.shard_of(np.array([0, 2**64 - 1], np.uint64), 7).tolist() == [0, 6]


def test_a_unit_that_cannot_be_written_has_no_file(tmp_path):
    batch = batch_of(np.random.default_rng(0), 3)
    (tmp_path / "unit-000.partial").mkdir()
    with pytest.raises(tf.errors.OpError):
        spill.write_unit(str(tmp_path / "unit"), [batch], 2)
    assert not (tmp_path / "unit-000").exists()
