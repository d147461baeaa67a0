"""Packed records hold the examples of plain ones, and are read as rows of several sequences."""

import collections
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import DataConfig, EncoderConfig, InputError
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.pretraining_data.inspection.report import inspect_records
from keras_bert_tpu.pretraining_data.inspection.text import show_examples, table
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.masking import MaskRules, draw_masks, num_predictions
from keras_bert_tpu.pretraining_data.packed_records import join_rows, pack_shard
from keras_bert_tpu.pretraining_data.pipeline import training_dataset, validation_dataset
from keras_bert_tpu.pretraining_data.prepare import prepare
from keras_bert_tpu.pretraining_data.records import (
    ShardContent,
    parse_examples,
    serialize_examples,
)
from keras_bert_tpu.pretraining_data.summary import next_step, summary
from keras_bert_tpu.training.evaluation import evaluate_pretraining

LENGTH, PREDICTIONS, SEQUENCES = 64, 10, 4
SHAPE = {"sequence_length": LENGTH, "max_predictions": PREDICTIONS}
KINDS = {
    "bert": {},
    "words": {"whole_word_mask": True},
    "dynamic": {"masks": "dynamic", "whole_word_mask": True, "segmented_words": True},
    "full": {"objective": "mlm"},
}


@pytest.fixture(scope="module", params=list(KINDS))
def folders(request, tmp_path_factory, short_documents, vocabulary):
    """The same examples in plain and in packed records."""
    folder = tmp_path_factory.mktemp(request.param)
    vocabulary.save(str(folder / "vocab.txt"))
    config = DataConfig(
        **SHAPE,
        dupe_factor=1,
        short_sequence_rate=0.5,
        validation_rate=0.1,
        block_documents=6,
        num_shards=3,
        max_sequences=SEQUENCES,
        **KINDS[request.param],
    )
    for name in ("plain", "packed"):
        packed = dataclasses.replace(config, pack=name == "packed")
        vocab = str(folder / "vocab.txt")
        prepare(short_documents, str(folder / name), vocab, packed, workers=2, progress=False)
    return folder


def manifests(folders):
    return [Manifest.load(str(folders / name)) for name in ("plain", "packed")]


def rows_of(manifest, split):
    """All rows of a split as the pipeline gives them; static masks or none."""
    if split == "train":
        manifest = dataclasses.replace(manifest, validation=manifest.train)
    batches = validation_dataset(
        manifest, 16, **SHAPE, max_sequences=manifest.config.sequences_per_row
    )
    rows = [
        {name: values[place] for name, values in batch.items()}
        for batch in batches.as_numpy_iterator()
        for place in range(16)
    ]
    return rows[: sum(shard.num_examples for shard in manifest.validation)]


def examples_in(rows, has_masks):
    """Counts the sequences of rows: tokens, segments, label and predictions of each."""
    found = collections.Counter()
    for row in rows:
        ids = row.get("sequence_ids", row["padding_mask"])
        weights = row["mask_weights"] > 0
        for sequence in range(1, ids.max() + 1):
            (places,) = np.nonzero(ids == sequence)
            start = places[0]
            assert places.tolist() == list(range(start, start + len(places)))
            if "sequence_ids" in row:
                assert row["position_ids"][places].tolist() == list(range(len(places)))
                assert row["cls_positions"][sequence - 1] == start
            is_own = weights & np.isin(row["mask_positions"], places)
            names = ("token_ids", "segment_ids") if has_masks else ("segment_ids",)
            found[
                *(tuple(row[name][places].tolist()) for name in names),
                int(row["next_sentence_label"][sequence - 1]),
                float(row["next_sentence_weights"][sequence - 1]),
                *((row["mask_positions"][is_own] - start) if has_masks else ()),
                *(row["mask_ids"][is_own] if has_masks else ()),
            ] += 1
    return found


@pytest.mark.parametrize("split", ["train", "validation"])
def test_each_example_is_in_one_row_as_it_was(folders, split):
    plain, packed = manifests(folders)
    has_masks = plain.config.masks == "static"
    rows = rows_of(packed, split)
    expected = examples_in(rows_of(plain, split), has_masks)
    assert examples_in(rows, has_masks) == expected
    assert expected.total() == getattr(packed, f"{split}_counts").examples
    assert len(rows) < 0.75 * expected.total()
    for row in rows:
        sequences = int(row["sequence_ids"].max())
        assert row["sequence_ids"].astype(bool).tolist() == row["padding_mask"].tolist()
        assert not row["cls_positions"][sequences:].any()
        assert not row["next_sentence_weights"][sequences:].any()


def test_the_first_rows_are_like_the_last_ones():
    rng = np.random.default_rng(0)
    lengths = np.where(rng.random(3000) < 0.25, LENGTH, rng.integers(4, LENGTH, 3000))
    config = DataConfig(**SHAPE, masks="dynamic", objective="mlm", pack=True)
    tokens = (np.arange(LENGTH) < lengths[:, None]).astype(np.int64)
    arrays = {"token_ids": tokens, "segment_ids": tokens * 0, "padding_mask": tokens}
    packed = pack_shard(ShardContent(serialize_examples(arrays), 1, lengths), config)
    rows = parse_examples(
        tf.constant(packed.records),
        **SHAPE,
        has_masks=False,
        has_next_sentence=False,
        sequences_per_row=8,
    )
    sequences = rows["next_sentence_weights"].numpy().sum(axis=1)
    assert sequences.sum() == 3000
    half = len(sequences) // 2
    error = sequences.std() / np.sqrt(half) * np.sqrt(2)
    assert abs(sequences[:half].mean() - sequences[half:].mean()) < 4 * error < 0.3


def test_the_manifest_and_the_summary_tell_the_padding_before_and_after(folders):
    plain, packed = manifests(folders)
    assert packed.train_counts == plain.train_counts
    before = plain.padding_share("train")
    assert before == pytest.approx(plain.train_counts.padding_share(LENGTH))
    mask = np.array([row["padding_mask"] for row in rows_of(packed, "train")])
    assert packed.padding_share("train") == pytest.approx(1 - mask.mean())
    assert packed.padding_share("train") < 0.08 < 0.4 < before
    written = packed.to_json()
    assert f'"padding_share_unpacked": {before}' in written
    assert f'"padding_share": {packed.padding_share("train")}' in written
    text = summary(packed, 1.0)
    assert "padding before packing" in text and "rows (at most 4 examples each)" in text
    assert f"max_sequences: {SEQUENCES}" in next_step(packed, "out").splitlines()[-1]


def test_the_figures_of_all_records_are_those_of_the_manifest(folders):
    _, packed = manifests(folders)
    report = inspect_records(packed, sample=0, progress=False)
    counted = report.splits["train"]
    rows = rows_of(packed, "train")
    assert counted.examples == len(rows)
    assert counted.sequences == packed.train_counts.examples
    assert counted.mean_length == pytest.approx(np.mean([r["padding_mask"].sum() for r in rows]))
    assert counted.full_length == np.mean([r["padding_mask"].all() for r in rows])
    if counted.label_1 is not None:
        labels = sum(row["next_sentence_label"].sum() for row in rows)
        assert counted.label_1 == labels / counted.sequences
    assert "examples per row" in table(report)


def test_a_row_is_shown_example_by_example(folders):
    _, packed = manifests(folders)
    rows = rows_of(packed, "train")
    several = next(n for n, row in enumerate(rows) if row["sequence_ids"].max() == 3)
    text = show_examples(packed, start=several, count=1)
    assert "3 examples" in text
    for number in (1, 2, 3):
        tokens = (rows[several]["sequence_ids"] == number).sum()
        assert f"  example {number}: {tokens} tokens" in text


def test_a_model_is_judged_as_on_plain_records(folders, vocabulary):
    plain, packed = manifests(folders)
    if plain.config.masks == "dynamic":
        pytest.skip("masks of rows are not those of their sequences")
    keras.utils.set_random_seed(1)
    config = EncoderConfig.from_preset(
        "tiny", vocab_size=len(vocabulary), max_positions=64, initializer_range=0.2
    )
    model = BertPretrainer(config, dtype="float32")
    one, other = (evaluate_pretraining(model, m, progress=False) for m in (plain, packed))
    assert other.masked_words.count == one.masked_words.count > 100
    assert other.masked_words.correct == one.masked_words.correct
    assert other.loss == pytest.approx(one.loss, abs=1e-5)
    if one.sentence_pairs:
        pairs = [result.sentence_pairs.score for result in (one, other)]
        assert pairs[1].count == pairs[0].count > 20
        assert pairs[1].correct == pairs[0].correct


def test_masks_drawn_in_reading_are_those_of_the_row_as_a_whole(folders):
    _, packed = manifests(folders)
    if packed.config.masks != "dynamic":
        pytest.skip("masks are in the records")
    for row in rows_of(packed, "train"):
        wanted = num_predictions(int(row["padding_mask"].sum()), 0.15, PREDICTIONS)
        assert 0 < row["mask_weights"].sum() <= wanted
        chosen = row["mask_positions"][row["mask_weights"] > 0]
        assert (row["position_ids"][chosen] > 0).all()  # Never a [CLS].


def test_batches_of_like_length_are_cut_in_all_tensors(folders):
    _, packed = manifests(folders)
    dataset = training_dataset(
        packed, 4, **SHAPE, seed=1, length_buckets=(48, LENGTH), max_sequences=SEQUENCES
    )
    widths = set()
    for batch in dataset.take(60).as_numpy_iterator():
        shapes = {
            batch[name].shape
            for name in ("token_ids", "sequence_ids", "position_ids", "segment_ids")
        }
        assert len(shapes) == 1
        widths.add(shapes.pop()[1])
        assert batch["cls_positions"].shape == (4, SEQUENCES)
    assert widths == {48, LENGTH}


def test_records_and_phase_must_agree(folders):
    plain, packed = manifests(folders)
    with pytest.raises(
        InputError, match="are packed, at most 4 .* set max_sequences=4 .* without --pack"
    ):
        training_dataset(packed, 4, **SHAPE, seed=1)
    with pytest.raises(InputError, match="are not packed, .* set max_sequences=1 .* with --pack"):
        validation_dataset(plain, 4, **SHAPE, max_sequences=4)


def test_rows_worked_out_by_hand():
    config = DataConfig(sequence_length=8, max_predictions=3, pack=True, max_sequences=2)
    padded = np.arange(8) < np.array([[3], [4], [8]])
    examples = {
        "token_ids": np.array([[2, 7, 3] + [0] * 5, [2, 8, 9, 3] + [0] * 4, [*range(10, 18)]]),
        "segment_ids": (np.arange(8) >= 2) * padded,
        "padding_mask": padded.astype(int),
        "mask_positions": np.array([[1, 0, 0], [1, 2, 0], [3, 0, 0]]),
        "mask_ids": np.array([[50, 0, 0], [60, 61, 0], [70, 0, 0]]),
        "mask_weights": np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0]], np.float32),
        "next_sentence_label": np.array([[0], [1], [1]]),
    }
    rows = {name: array.tolist() for name, array in join_rows(examples, [2, 1], config).items()}
    assert rows == {
        "token_ids": [[2, 7, 3, 2, 8, 9, 3, 0], [*range(10, 18)]],
        "segment_ids": [[0, 0, 1, 0, 0, 1, 1, 0], [0, 0, 1, 1, 1, 1, 1, 1]],
        "padding_mask": [[1] * 7 + [0], [1] * 8],
        "mask_positions": [[1, 4, 5], [3, 0, 0]],
        "mask_ids": [[50, 60, 61], [70, 0, 0]],
        "mask_weights": [[1.0] * 3, [1.0, 0.0, 0.0]],
        "cls_positions": [[0, 3], [0, 0]],
        "next_sentence_label": [[0, 1], [1, 0]],
    }


def test_no_word_goes_on_into_the_next_sequence(vocabulary):
    # The second sequence begins in the middle of a word, as what is cut off in front does.
    ids = vocabulary.ids
    row = [ids["[CLS]"], ids["a"], ids["##b"], ids["[SEP]"], ids["[CLS]"], ids["##c"], ids["[SEP]"]]
    config = DataConfig(sequence_length=8, max_predictions=3, mask_rate=0.15, whole_word_mask=True)
    rules = MaskRules.from_config(config, vocabulary)
    many = 300
    tokens = tf.constant([[*row, 0]] * many)
    mask = tf.cast(tokens > 0, tf.int32)
    keys = tf.range(many, dtype=tf.int64)
    positions = tf.constant([[0, 1, 2, 3, 0, 1, 2, 0]] * many)

    def sets(position_ids):
        masks = draw_masks(tokens, mask, keys, rules, position_ids=position_ids)
        chosen = zip(masks.mask_positions.numpy(), masks.mask_weights.numpy(), strict=True)
        return {tuple(places[weights > 0].tolist()) for places, weights in chosen}

    # One token is wanted: the word of two pieces is too long, and that of one is a word only if
    # it does not belong to the first.
    assert sets(positions) == {(5,)}
    assert sets(None) == {()}


def test_a_packed_row_has_room_for_two_examples_at_least():
    with pytest.raises(InputError, match="max_sequences must be at least 2"):
        DataConfig(pack=True, max_sequences=1)
    with pytest.raises(InputError, match="max_sequences must be at most sequence_length=64"):
        DataConfig(pack=True, sequence_length=64, max_predictions=9, max_sequences=65)
    assert DataConfig().sequences_per_row == 1
    assert DataConfig(pack=True).sequences_per_row == 8
