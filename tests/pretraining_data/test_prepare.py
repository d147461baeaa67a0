import dataclasses
import itertools
import os
import re

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import documents, plan
from keras_bert_tpu.pretraining_data.corpora import find_corpora, read_documents
from keras_bert_tpu.pretraining_data.manifest import CorpusEntry, Counts, Manifest, Shard
from keras_bert_tpu.pretraining_data.prepare import prepare
from keras_bert_tpu.pretraining_data.sentence_pairs import TokenBlock, make_pairs
from keras_bert_tpu.pretraining_data.summary import summary
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import SPECIAL_TOKENS, Vocabulary

from prepared_text import SAMPLE, contents, originals, read, write_corpus


class RealText:
    """The shipped sample, prepared, and its tokens to look things up in."""

    def __init__(self, directory, vocab):
        self.config = DataConfig(
            dupe_factor=3,
            validation_rate=0.1,
            block_documents=12,
            sequence_length=64,
            num_shards=3,
            seed=7,
        )
        self.manifest = prepare(SAMPLE, str(directory), vocab, self.config, 1, progress=False)
        self.vocabulary = Vocabulary.load(vocab)
        self.examples = {split: read(self.manifest, split) for split in ("train", "validation")}
        self.splits = list(
            zip(
                documents.HoldOut(0.1, 7).splits(),
                read_documents(find_corpora(SAMPLE)[0], "sentences", "text"),
                strict=False,
            )
        )
        tokenizer = BertTokenizer(self.vocabulary)
        # One bytes object for each document, two bytes a token.
        self.documents = [
            tokenizer(tf.constant(text)).values.numpy().astype(np.uint16) for _, text in self.splits
        ]
        self.longest = max(
            int(tokenizer(tf.constant(text)).row_lengths().numpy().max()) for _, text in self.splits
        )

    def parts(self, split):
        """(part a, part b, label, total length), without masks, of every example."""
        examples = self.examples[split]
        token_ids = originals(examples)
        lengths = examples["padding_mask"].sum(axis=1)
        b_lengths = examples["segment_ids"].sum(axis=1)
        for row, length, b_length, (label,) in zip(
            token_ids, lengths, b_lengths, examples["next_sentence_label"], strict=True
        ):
            assert row[0] == self.vocabulary.cls_id
            assert row[length - 1] == row[length - b_length - 1] == self.vocabulary.sep_id
            yield row[1 : length - b_length - 1], row[length - b_length : length - 1], label, length

    def places(self, tokens):
        """(document, first token) of every place where the tokens stand in the corpus."""
        wanted = tokens.astype(np.uint16).tobytes()
        found = []
        for number, document in enumerate(self.documents):
            content = document.tobytes()
            at = content.find(wanted)
            while at >= 0:
                if at % 2 == 0:
                    found.append((number, at // 2))
                at = content.find(wanted, at + 1)
        return found


@pytest.fixture(scope="module")
def real_text(tmp_path_factory, vocab):
    return RealText(tmp_path_factory.mktemp("records"), vocab)


class TestRealText:
    """On some 3,500 examples of English prose; bounds are four standard deviations or wider."""

    def test_the_counts_are_those_of_the_records(self, real_text):
        for split in ("train", "validation"):
            examples = real_text.examples[split]
            counts = getattr(real_text.manifest, f"{split}_counts")
            own = [text for own_split, text in real_text.splits if own_split == split]
            assert counts.documents == len(own)
            assert counts.sentences == sum(map(len, own))
            assert counts.dropped_documents == counts.dropped_sentences == 0
            assert counts.tokens == sum(
                len(tokens)
                for tokens, (own_split, _) in zip(
                    real_text.documents, real_text.splits, strict=True
                )
                if own_split == split
            )
            assert counts.examples == len(examples["token_ids"])
            assert counts.real_tokens == examples["padding_mask"].sum()
            assert counts.random_next == examples["next_sentence_label"].sum()
            assert counts.predictions == examples["mask_weights"].sum()
            shards = getattr(real_text.manifest, split)
            assert sum(shard.num_examples for shard in shards) == counts.examples
        assert len(real_text.manifest.train) == 3
        assert Manifest.load(real_text.manifest.directory) == real_text.manifest
        assert Vocabulary.load(os.path.join(real_text.manifest.directory, "vocab.txt")).sha256 == (
            real_text.manifest.vocabulary_sha256
        )

    def test_part_b_follows_part_a_or_is_of_another_document(self, real_text):
        capacity = real_text.config.sequence_length - 3
        checked = {0: 0, 1: 0}
        for split in ("train", "validation"):
            for part_a, part_b, label, length in real_text.parts(split):
                assert len(part_a) >= 1 and len(part_b) >= 1
                if min(len(part_a), len(part_b)) < 4:
                    continue  # Too short to be found once.
                places_a, places_b = real_text.places(part_a), real_text.places(part_b)
                assert places_a and places_b
                gaps = [
                    b - (a + len(part_a))
                    for document_a, a in places_a
                    for document_b, b in places_b
                    if document_a == document_b
                ]
                if label == 1:
                    assert {d for d, _ in places_a + places_b} != {places_a[0][0]}
                elif length < capacity + 3:
                    # Nothing was truncated.
                    assert 0 in gaps
                else:
                    # What was truncated between the parts is at most the surplus of the sentence
                    # that went beyond the target.
                    assert any(0 <= gap < real_text.longest for gap in gaps)
                if len(places_a) == len(places_b) == 1:
                    assert (not gaps) == (label == 1)
                checked[int(label)] += 1
        assert min(checked.values()) > 1000

    def test_training_and_validation_text_are_apart(self, real_text):
        for split in ("train", "validation"):
            own = {n for n, (s, _) in enumerate(real_text.splits) if s == split}
            seen = set()
            for part_a, part_b, _, _ in real_text.parts(split):
                for part in (part_a, part_b):
                    places = real_text.places(part) if len(part) >= 8 else []
                    # A phrase that stands elsewhere too must still stand in its own split.
                    assert not places or own & {document for document, _ in places}
                    if len(places) == 1:
                        seen.add(places[0][0])
            assert seen == own

    def test_every_shard_is_a_random_sample_of_all_documents(self, real_text):
        documents_of = {n for n, (split, _) in enumerate(real_text.splits) if split == "train"}
        sizes = [shard.num_examples for shard in real_text.manifest.train]
        parts = real_text.parts("train")
        for size, shard in zip(sizes, real_text.manifest.train, strict=True):
            # A third of some 3,000 examples: standard deviation 26.
            assert abs(size - sum(sizes) / 3) < 110
            found = []
            for part_a, _, _, _ in itertools.islice(parts, size):
                places = real_text.places(part_a) if len(part_a) >= 8 else []
                if len(places) == 1:
                    found.append(places[0][0])
            assert set(found) == documents_of and shard.num_documents == len(documents_of)
            # In the order in which they were made, nearly all would be beside one of their own.
            beside = np.mean([a == b for a, b in itertools.pairwise(found)])
            assert len(found) > 500 and beside < 0.1

    def test_lengths_are_counted_for_each_shard(self, real_text):
        lengths = real_text.examples["train"]["padding_mask"].sum(axis=1)
        start = 0
        for shard in real_text.manifest.train:
            own = lengths[start : start + shard.num_examples]
            start += shard.num_examples
            # Bins of four tokens: 1 to 4, 5 to 8 and so on.
            expected = [((own > 4 * k) & (own <= 4 * k + 4)).sum() for k in range(16)]
            assert list(shard.length_counts) == expected

    def test_next_sentences_are_random_in_half_of_the_pairs_that_have_a_choice(self, real_text):
        labels = real_text.examples["train"]["next_sentence_label"]
        # A part alone in its chunk always gets a random one, so it is more than half.
        assert 0.5 < labels.mean() < 0.75
        assert real_text.manifest.train_counts.random_next_share == pytest.approx(labels.mean())

    def test_masks_are_of_the_right_number_and_never_on_special_tokens(self, real_text):
        for examples in real_text.examples.values():
            lengths = examples["padding_mask"].sum(axis=1)
            wanted = np.minimum(20, np.maximum(1, np.rint(lengths * 0.15)))
            number = examples["mask_weights"].sum(axis=1)
            candidates = lengths - 3
            np.testing.assert_array_equal(number, np.minimum(wanted, candidates))
            is_real = examples["mask_weights"] > 0
            assert not np.isin(
                examples["mask_ids"][is_real], real_text.vocabulary.special_ids[2:]
            ).any()
            positions = examples["mask_positions"].astype(int)
            ascending = (np.diff(positions, axis=1) > 0) | ~is_real[:, 1:]
            assert ascending.all()
            assert (positions[~is_real] == 0).all() and (examples["mask_ids"][~is_real] == 0).all()

    def test_masked_pieces_are_replaced_80_10_10(self, real_text):
        examples = real_text.examples["train"]
        is_real = examples["mask_weights"] > 0
        found = np.take_along_axis(
            examples["token_ids"], examples["mask_positions"].astype(int), axis=1
        )[is_real]
        wanted = examples["mask_ids"][is_real]
        total = len(found)
        is_mask = found == real_text.vocabulary.mask_id
        assert total > 20_000
        # Standard deviations sqrt(.8 x .2 / 20,000) = .0028 and sqrt(.1 x .9 / 20,000) = .0021.
        assert abs(is_mask.mean() - 0.8) < 0.012
        assert abs((found == wanted).mean() - 0.1) < 0.009
        assert abs((~is_mask & (found != wanted)).mean() - 0.1) < 0.009
        counts = real_text.manifest.train_counts
        assert counts.predictions_masked + counts.predictions_kept + counts.predictions_random == (
            total
        )
        # A random piece may happen to be [MASK] or the original: 2 of the 3,000 of the vocabulary.
        assert 0 <= is_mask.sum() - counts.predictions_masked < 15
        assert 0 <= (found == wanted).sum() - counts.predictions_kept < 15

    def test_unmasked_pieces_are_those_of_the_text(self, real_text):
        # `parts` puts the originals back, and `places` found them: this is the other way round.
        examples = real_text.examples["train"]
        assert np.isin(examples["segment_ids"], (0, 1)).all()
        is_padding = examples["padding_mask"] == 0
        assert (examples["token_ids"][is_padding] == real_text.vocabulary.pad_id).all()
        assert (examples["segment_ids"][is_padding] == 0).all()

    def test_documents_are_short_as_often_as_the_rate_says(self, real_text):
        tokenizer = BertTokenizer(real_text.vocabulary)
        texts = [text for _, text in real_text.splits]
        ragged = tokenizer(tf.constant([s for text in texts for s in text]))
        block = TokenBlock.from_ragged(
            ragged.values.numpy(), ragged.row_splits.numpy(), [len(text) for text in texts]
        )
        short = total = 0
        for dupe in range(40):
            pairs = make_pairs(
                block,
                sequence_length=64,
                short_sequence_rate=0.1,
                random_next_rate=0.5,
                rng=documents.keyed_generator(1, 1, dupe),
            )
            starts = block.sentence_starts[block.document_starts[:-1]]
            first = np.searchsorted(pairs.a_start, starts)
            short += pairs.is_short[first].sum()
            total += len(starts)
        # 1,800 documents: standard deviation sqrt(.1 x .9 / 1,800) = .0071.
        assert total == 1_800
        assert abs(short / total - 0.1) < 0.03

    def test_all_tokens_of_all_documents_are_used(self, real_text):
        """Where nothing is truncated, the parts that are not random tile each document."""
        sizes = [len(tokens) for tokens in real_text.documents]
        ragged_splits = np.concatenate([[0], np.cumsum([20] * (sum(sizes) // 20))])
        per_document = [size // 20 for size in sizes]
        block = TokenBlock.from_ragged(
            np.arange(20 * sum(per_document)),
            ragged_splits[: sum(per_document) + 1],
            per_document,
        )
        pairs = make_pairs(
            block,
            sequence_length=max(sizes) + 23,
            short_sequence_rate=0.999,
            random_next_rate=0.5,
            rng=np.random.default_rng(0),
        )
        assert len(pairs) > 45
        ends = np.where(pairs.label, pairs.a_end, pairs.b_end)
        assert pairs.a_start[0] == 0 and ends[-1] == len(block.token_ids)
        np.testing.assert_array_equal(pairs.a_start[1:], ends[:-1])

    def test_the_summary_tells_what_was_prepared(self, real_text):
        text = summary(real_text.manifest, seconds=2.0)
        counts = real_text.manifest.train_counts
        number = counts.examples + real_text.manifest.validation_counts.examples
        assert f"{number:,} examples; this run took 2.0 s" in text
        rows = {line[:35].strip(): line.split() for line in text.splitlines()}
        assert rows["documents"][1:] == [str(counts.documents), str(45 - counts.documents)]
        assert rows["examples (dupe_factor 3)"][3] == f"{counts.examples:,}"
        assert rows["padding"][1] == f"{1 - counts.real_tokens / counts.examples / 64:.1%}"


class TestDeterminism:
    CONFIG = DataConfig(
        sequence_length=32,
        max_predictions=5,
        dupe_factor=2,
        validation_rate=0.2,
        block_documents=3,
        num_shards=4,
        whole_word_mask=True,
    )

    @pytest.mark.parametrize("objective", ["mlm+nsp", "mlm", "mlm+sop"])
    def test_any_number_of_workers_writes_the_same_bytes(self, tmp_path, vocab, objective):
        text = write_corpus(tmp_path, 50)
        config = dataclasses.replace(self.CONFIG, objective=objective)
        for workers in (1, 2, 5):
            output = tmp_path / str(workers)
            prepare(text, str(output), vocab, config, workers, progress=False)
        first = contents(tmp_path / "1")
        assert len(first) == 4 + 1 + 2
        assert contents(tmp_path / "2") == first
        assert contents(tmp_path / "5") == first

    def test_the_size_of_units_decides_nothing(self, tmp_path, vocab, monkeypatch):
        text = write_corpus(tmp_path, 50)
        for size in (1, 600, 10**9):
            monkeypatch.setattr(plan, "UNIT_CHARACTERS", size)
            prepare(text, str(tmp_path / str(size)), vocab, self.CONFIG, 2, progress=False)
        first = contents(tmp_path / "1")
        assert contents(tmp_path / "600") == first
        assert contents(tmp_path / "1000000000") == first

    def test_the_seed_changes_the_records_and_nothing_else_does(self, tmp_path, vocab):
        text = write_corpus(tmp_path, 20)
        settings = {"sequence_length": 32, "validation_rate": 0.2}
        configs = [DataConfig(**settings, seed=seed) for seed in (1, 1, 2)]
        for number, config in enumerate(configs):
            prepare(text, str(tmp_path / str(number)), vocab, config, 1, progress=False)
        assert contents(tmp_path / "0") == contents(tmp_path / "1")
        assert contents(tmp_path / "0") != contents(tmp_path / "2")

    def test_passes_and_blocks_differ_and_examples_are_mixed(self, tmp_path, vocab):
        # All documents have the same text, so that only random numbers can tell passes apart.
        (tmp_path / "text.txt").write_text("\n\n".join(["the green garden was there\n" * 40] * 8))
        config = DataConfig(
            sequence_length=64, dupe_factor=2, validation_rate=0.0, block_documents=4
        )
        manifest = prepare(
            str(tmp_path / "text.txt"), str(tmp_path / "out"), vocab, config, 1, progress=False
        )
        examples = read(manifest, "train")
        rows = {row.tobytes() for row in examples["token_ids"]}
        assert len(rows) == len(examples["token_ids"]) > 50


class TestDroppedText:
    def test_what_has_no_tokens_is_dropped_and_counted(self, tmp_path, vocab):
        # U+200B is no white space, so the line is not blank, but no token comes of it.
        (tmp_path / "text.txt").write_text(
            "the garden was green\n\u200b\nthe wall was old\n\n\u200b\n\nthe key was there\n",
            encoding="utf-8",
        )
        config = DataConfig(validation_rate=0.0, dupe_factor=1)
        manifest = prepare(
            str(tmp_path / "text.txt"), str(tmp_path / "out"), vocab, config, 1, progress=False
        )
        counts = manifest.train_counts
        assert (counts.documents, counts.dropped_documents) == (2, 1)
        assert (counts.sentences, counts.dropped_sentences) == (3, 2)
        assert counts.tokens == 12

    def test_a_document_left_alone_in_its_block_is_dropped(self, tmp_path, vocab):
        (tmp_path / "text.txt").write_text(
            "a garden\n\n\u200b\n\nthe wall\n\nthe key\n", encoding="utf-8"
        )
        config = DataConfig(validation_rate=0.0, dupe_factor=1, block_documents=2)
        manifest = prepare(
            str(tmp_path / "text.txt"), str(tmp_path / "out"), vocab, config, 1, progress=False
        )
        assert manifest.num_examples == 2
        assert manifest.train_counts.dropped_documents == 2

    def test_a_corpus_without_any_token_gives_no_manifest(self, tmp_path, vocab):
        (tmp_path / "text.txt").write_text("\u200b\n\n" * 5, encoding="utf-8")
        with pytest.raises(InputError, match="No training example came out of the 5 documents"):
            prepare(
                str(tmp_path / "text.txt"),
                str(tmp_path / "out"),
                vocab,
                DataConfig(validation_rate=0.0),
                1,
                progress=False,
            )
        assert not (tmp_path / "out" / "manifest.json").exists()


class TestObjectives:
    @pytest.fixture
    def prepared(self, tmp_path, vocab):
        def make(**settings):
            config = DataConfig(dupe_factor=1, validation_rate=0.1, sequence_length=64, **settings)
            directory = tmp_path / str(len(list(tmp_path.iterdir())))
            return prepare(SAMPLE, str(directory), vocab, config, 2, progress=False)

        return make

    def test_full_sentences_fill_rows_of_one_segment(self, prepared, vocab):
        manifest = prepared(objective="mlm", short_sequence_rate=0.0)
        examples = read(manifest, "train")
        assert not examples["segment_ids"].any() and not examples["next_sentence_label"].any()
        # Sentences of some 25 pieces fill 62 places to three quarters; pairs of the same length
        # are cut to fit.
        assert 0.6 < examples["padding_mask"].mean() < 0.95
        sep_id = Vocabulary.load(vocab).sep_id
        inner = (originals(examples) == sep_id).sum(axis=1) - 1
        # 45 documents end in some 2,500 rows, unless at the end of a row.
        assert 10 < inner.sum() <= 45
        counts = manifest.train_counts
        # Each token of the text is used once, and [CLS], [SEP] and separators come to them.
        assert counts.real_tokens == counts.tokens + 2 * counts.examples + inner.sum()

    def test_parts_are_swapped_in_half_of_the_pairs(self, prepared, vocab):
        manifest = prepared(objective="mlm+sop")
        labels = read(manifest, "train")["next_sentence_label"]
        # Standard deviation sqrt(.25 / 1,500) = .013.
        assert len(labels) > 1500 and abs(labels.mean() - 0.5) < 0.052
        assert manifest.train_counts.random_next == labels.sum()

    def test_masks_that_are_drawn_later_leave_the_text_as_it_is(self, prepared, vocab):
        static, dynamic = (prepared(masks=masks) for masks in ("static", "dynamic"))
        files = [os.path.join(dynamic.directory, shard.file) for shard in dynamic.train]
        records = [record.numpy() for record in tf.data.TFRecordDataset(files)]
        names = set(tf.train.Example.FromString(records[0]).features.feature)
        assert names == {"input_ids", "input_mask", "segment_ids", "next_sentence_labels"}
        ids = [
            list(tf.train.Example.FromString(r).features.feature["input_ids"].int64_list.value)
            for r in records
        ]
        np.testing.assert_array_equal(ids, originals(read(static, "train")))
        assert dynamic.train_counts.predictions == 0
        assert "[MASK]" not in summary(dynamic, 1.0) and "[MASK]" in summary(static, 1.0)


def test_whole_words_of_segmented_chinese_are_masked_together(tmp_path):
    characters = "今天气很好我们去公园玩"
    Vocabulary([*SPECIAL_TOKENS, *characters, "##天", "the"]).save(str(tmp_path / "vocab.txt"))
    words = "今天 天气 很 好 我们 去 公园 玩".split()
    (tmp_path / "text.txt").write_text(
        "\n\n".join("\n".join([" ".join(words)] * 20) for _ in range(4)), encoding="utf-8"
    )
    settings = {"validation_rate": 0.0, "sequence_length": 32, "max_predictions": 5}
    settings |= {"short_sequence_rate": 0.0, "dupe_factor": 4, "whole_word_mask": True}

    def cut_words(**changes):
        config = DataConfig(**settings, **changes)
        output = tmp_path / str(len(list(tmp_path.iterdir())))
        manifest = prepare(
            str(tmp_path / "text.txt"),
            str(output),
            str(tmp_path / "vocab.txt"),
            config,
            1,
            progress=False,
        )
        examples = read(manifest, "train")
        pieces = Vocabulary.load(str(tmp_path / "vocab.txt")).pieces
        cut = whole = 0
        for row in range(len(examples["token_ids"])):
            ids = examples["token_ids"][row].copy()
            chosen = np.zeros(len(ids), bool)
            real = examples["mask_weights"][row] > 0
            positions = examples["mask_positions"][row][real]
            ids[positions] = examples["mask_ids"][row][real]
            chosen[positions] = True
            text = [pieces[i] for i in ids]
            for first in range(len(text) - 1):
                # 们 and 园 stand at the end of a word only, so both characters are there.
                if text[first] + text[first + 1] in ("我们", "公园"):
                    cut += chosen[first] != chosen[first + 1]
                    whole += chosen[first] and chosen[first + 1]
        return cut, whole

    cut, whole = cut_words(segmented_words=True)
    assert cut == 0 and whole > 20
    cut, whole = cut_words()
    assert cut > 20


def test_several_corpora_are_mixed_by_weight(tmp_path, vocab):
    paths = [write_corpus(tmp_path, 30, name=name) for name in ("a.txt", "b.txt")]
    config = DataConfig(
        sequence_length=32, validation_rate=0.0, dupe_factor=2, block_documents=3, num_shards=1
    )

    def examples(**arguments):
        output = str(tmp_path / str(len(list(tmp_path.iterdir()))))
        return prepare(paths, output, vocab, config, 1, progress=False, **arguments)

    equal, weighted = examples(weights=[1, 1]), examples(weights=[0.5, 3])
    assert [corpus.weight for corpus in weighted.corpora] == [0.5, 3.0]
    assert [corpus.documents for corpus in weighted.corpora] == [30, 30]
    # One pass and six, in place of two and two; passes have about as many examples.
    assert weighted.num_examples / equal.num_examples == pytest.approx(7 / 4, rel=0.05)


def test_records_can_go_to_another_file_system(tmp_path, vocab):
    text = write_corpus(tmp_path, 20)
    config = DataConfig(sequence_length=32, validation_rate=0.2, dupe_factor=1)
    here = prepare(text, str(tmp_path / "out"), vocab, config, 1, progress=False)
    there = prepare(text, "ram://prepared/out", vocab, config, 1, progress=False)
    assert there.train == here.train and there.validation == here.validation
    assert Manifest.load("ram://prepared/out") == there
    assert read(there, "train").keys() == read(here, "train").keys()
    with pytest.raises(InputError, match="already holds records"):
        prepare(text, "ram://prepared/out", vocab, config, 1, progress=False)


def test_the_summary_leaves_out_a_validation_that_there_is_not():
    manifest = Manifest(
        directory="out",
        config=DataConfig(),
        corpora=(CorpusEntry("a.txt", 1.0, ("a.txt",), 2, 9, 90, {"too_short": 3}),),
        vocabulary_size=10,
        vocabulary_sha256="0",
        train=(Shard("train", 4, 2_000_000, "0"),),
        validation=(),
        train_counts=Counts(examples=4, real_tokens=256, predictions=40, predictions_masked=30),
        validation_counts=Counts(),
    )
    text = summary(manifest, 1.0)
    assert "validation" not in text
    # 1 - 64 / 128; 40 / 4; 30 / 40.
    assert re.search(r"padding +50.0%", text)
    assert re.search(r"\(at most 20\) +10.0\n", text)
    assert re.search(r"random +75.0% / 0.0% / 0.0%", text)
    assert re.search(r"megabytes +2.0", text)
    assert "dropped of a.txt: too_short 3" in text
