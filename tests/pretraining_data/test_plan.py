import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import plan as plan_module
from keras_bert_tpu.pretraining_data.corpora import find_corpora
from keras_bert_tpu.pretraining_data.documents import HoldOut
from keras_bert_tpu.pretraining_data.plan import CorpusPlan, plan_corpora, read_units


def corpus(directory, documents, name="text.txt"):
    """A file of that many documents; document 7 has the sentences `d7 s0` and `d7 s1`."""
    path = directory / name
    path.write_text("\n\n".join(f"d{n} s0\nd{n} s1" for n in range(documents)) + "\n")
    return str(path)


class TestPlanAndUnits:
    CONFIG = DataConfig(validation_rate=0.2, block_documents=4, dupe_factor=2, seed=5)

    @pytest.fixture(autouse=True)
    def small_units(self, monkeypatch):
        # Two blocks of 4 documents of 10 to 12 characters, gone over twice.
        monkeypatch.setattr(plan_module, "UNIT_CHARACTERS", 200)
        monkeypatch.setattr(plan_module, "MIN_UNITS", 1)

    def test_the_counts_are_those_of_the_files(self, tmp_path):
        paths = [corpus(tmp_path, 30, "a.txt"), corpus(tmp_path, 13, "b.txt")]
        plan = plan_corpora(find_corpora(paths), self.CONFIG)
        (counts,) = plan.counts
        assert counts.documents["train"] + counts.documents["validation"] == 43
        assert counts.sentences == 86
        assert counts.file_documents == (30, 13)
        # "d0 s0" has 5 characters, "d10 s0" 6: 20 documents of two times 5, 23 of two times 6.
        assert counts.characters == 20 * 10 + 23 * 12
        assert sum(unit.characters for unit in plan.units) == 2 * counts.characters
        assert max(unit.characters for unit in plan.units) <= 200

    @pytest.mark.parametrize(
        ("documents", "sizes"),
        [(3, [3]), (4, [4]), (7, [7]), (8, [4, 4]), (11, [4, 7]), (12, [4, 4, 4])],
    )
    def test_the_remainder_joins_the_last_full_block(self, tmp_path, documents, sizes):
        config = dataclasses.replace(self.CONFIG, validation_rate=0.0)
        plan = plan_corpora(find_corpora(corpus(tmp_path, documents)), config)
        blocks = [block for _, unit in read_units(plan) for block in unit]
        assert [len(block.documents) for block in blocks] == sizes
        assert [block.number for block in blocks] == list(range(len(sizes)))
        assert [block.first_document for block in blocks] == list(range(0, 4 * len(sizes), 4))

    @settings(max_examples=25, derandomize=True, deadline=None)
    @given(sizes=st.lists(st.integers(12, 60), min_size=1, max_size=3), unit=st.integers(1, 900))
    def test_every_document_is_in_the_block_that_its_number_gives(
        self, tmp_path_factory, sizes, unit
    ):
        directory = tmp_path_factory.mktemp("corpora")
        paths = [corpus(directory, size, f"{n}.txt") for n, size in enumerate(sizes)]
        corpora = find_corpora(paths, weights=[1.0] * len(paths))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan_module, "UNIT_CHARACTERS", unit)
            patch.setattr(plan_module, "MIN_UNITS", 1)
            plan = plan_corpora(corpora, self.CONFIG)
            read = list(read_units(plan))
        assert sorted(number for number, _ in read) == list(range(len(plan.units)))
        for number, size in enumerate(sizes):
            expected = {"train": [], "validation": []}
            for document, split in zip(range(size), HoldOut(0.2, 5, number).splits(), strict=False):
                expected[split].append(f"d{document} s0")
            for split, names in expected.items():
                blocks = [b for _, u in read for b in u if (b.split, b.corpus) == (split, number)]
                assert [b.number for b in blocks] == list(range(len(blocks)))
                assert [d[0] for b in blocks for d in b.documents] == names
                assert all(len(block.documents) == 4 for block in blocks[:-1])
                assert len(blocks[-1].documents) <= 7
                for block in blocks:
                    assert block.documents[0][0] == names[block.first_document]
        for number, blocks in read:
            assert len(blocks) == plan.units[number].num_blocks
            characters = sum(2 * len(s) for block in blocks for d in block.documents for s in d)
            assert characters == plan.units[number].characters
            assert len(blocks) == 1 or characters <= unit

    def test_units_that_are_done_are_left_out(self, tmp_path):
        plan = plan_corpora(find_corpora(corpus(tmp_path, 60)), self.CONFIG)
        read = dict(read_units(plan))
        assert len(read) > 5
        assert dict(read_units(plan, done={1, 3})) == {
            number: blocks for number, blocks in read.items() if number not in (1, 3)
        }

    def test_a_plan_survives_being_written_down(self, tmp_path):
        config = dataclasses.replace(self.CONFIG, duplicates="exact", min_characters=11)
        path = tmp_path / "text.txt"
        path.write_text("\n\n".join([f"document {n % 30}" for n in range(60)] + ["short"]))
        corpora = find_corpora(str(path))
        plan = plan_corpora(corpora, config)
        assert plan.counts[0].dropped == {"duplicate": 30 - 10, "too_short": 20 + 1}
        again = CorpusPlan.from_json(plan.to_json(), corpora, config)
        assert (again.units, again.num_shards) == (plan.units, plan.num_shards)
        np.testing.assert_array_equal(again.counts[0].is_kept, plan.counts[0].is_kept)
        read = list(read_units(again))
        assert read == list(read_units(plan))
        kept = [d[0] for _, unit in read for block in unit for d in block.documents]
        assert sorted(kept) == sorted(f"document {n}" for n in range(10, 30))

    @pytest.mark.parametrize("documents", [20, 30])
    def test_text_that_changes_meanwhile_is_noticed(self, tmp_path, documents):
        plan = plan_corpora(find_corpora(corpus(tmp_path, 25)), self.CONFIG)
        corpus(tmp_path, documents)
        with pytest.raises(InputError, match="text.txt changed while it was read"):
            list(read_units(plan))

    def test_shards_follow_from_the_size_of_the_text_or_from_the_config(
        self, tmp_path, monkeypatch
    ):
        corpora = find_corpora(corpus(tmp_path, 50))
        # 20 x 10 + 80 x 6 characters: some 4/5 of them for training, twice.
        monkeypatch.setattr(plan_module, "SHARD_CHARACTERS", 100)
        plan = plan_corpora(corpora, self.CONFIG)
        characters = {
            split: sum(unit.characters for unit in plan.units if unit.split == split)
            for split in ("train", "validation")
        }
        assert sum(characters.values()) == 2 * (10 * 10 + 40 * 12)
        assert plan.num_shards == {s: -(-count // 100) for s, count in characters.items()}
        config = dataclasses.replace(self.CONFIG, num_shards=3)
        assert plan_corpora(corpora, config).num_shards["train"] == 3
        config = dataclasses.replace(self.CONFIG, validation_rate=0.0)
        assert plan_corpora(corpora, config).num_shards["validation"] == 0


def test_a_small_corpus_has_units_for_all_cores(tmp_path):
    config = DataConfig(validation_rate=0.0, block_documents=2)
    plan = plan_corpora(find_corpora(corpus(tmp_path, 1000)), config)
    # 500 blocks of about the same size, some eight to a unit.
    assert 60 <= len(plan.units) <= 72


def test_blocks_carry_the_passes_of_their_corpus(tmp_path):
    paths = [corpus(tmp_path, 20, "a.txt"), corpus(tmp_path, 20, "b.txt")]
    config = DataConfig(validation_rate=0.0, block_documents=4, dupe_factor=3)
    plan = plan_corpora(find_corpora(paths, weights=[1.0, 2.0]), config)
    passes = {(b.corpus, b.passes) for _, unit in read_units(plan) for b in unit}
    assert passes == {(0, 3), (1, 6)}


class TestTooFewDocuments:
    def plan(self, directory, documents, rate, **settings):
        config = DataConfig(validation_rate=rate, **settings)
        return plan_corpora(find_corpora(corpus(directory, documents)), config)

    @pytest.mark.parametrize("documents", [0, 1])
    def test_a_corpus_needs_two(self, tmp_path, documents):
        (tmp_path / "text.txt").write_text("one\n" * documents)
        with pytest.raises(InputError, match=rf"holds {documents} document.*blank line between"):
            plan_corpora(find_corpora(str(tmp_path / "text.txt")), DataConfig(validation_rate=0.0))

    @pytest.mark.parametrize("objective", ["mlm", "mlm+sop"])
    def test_without_random_next_sentences_one_is_enough(self, tmp_path, objective):
        plan = self.plan(tmp_path, 1, 0.0, objective=objective)
        assert plan.num_documents("train") == 1
        with pytest.raises(InputError, match="at least 2 documents, or set validation_rate=0"):
            self.plan(tmp_path, 1, 0.5, objective=objective)

    @pytest.mark.parametrize(
        ("documents", "rate", "suggestion"),
        # Half of the documents make a group, so that there are two whole ones: 51 // 2 = 25 and
        # 1 / 25 = 0.04; 1 / 53 = 0.01887, of which 0.02 gives groups of 50 and 0.019 of 53.
        [(51, 0.01, "0.04"), (107, 0.01, "0.019"), (4, 0.01, "0.5")],
    )
    def test_the_message_names_a_rate_that_does(self, tmp_path, documents, rate, suggestion):
        with pytest.raises(InputError, match=f"set validation_rate to {suggestion} or"):
            self.plan(tmp_path, documents, rate, seed=2)
        plan = self.plan(tmp_path, documents, float(suggestion), seed=2)
        assert min(plan.counts[0].documents.values()) >= 2

    def test_three_documents_can_only_all_be_trained_on(self, tmp_path):
        with pytest.raises(InputError, match="at least 4 documents, or set validation_rate=0"):
            self.plan(tmp_path, 3, 0.3)
        plan = self.plan(tmp_path, 3, 0.0)
        assert plan.counts[0].documents == {"train": 3, "validation": 0}

    def test_each_corpus_needs_its_own(self, tmp_path):
        paths = [corpus(tmp_path, 20, "a.txt"), corpus(tmp_path, 1, "b.txt")]
        with pytest.raises(InputError, match="b.txt holds 1 document"):
            plan_corpora(find_corpora(paths, weights=[1, 1]), DataConfig(validation_rate=0.2))

    def test_what_hygiene_dropped_is_told(self, tmp_path):
        config = DataConfig(validation_rate=0.0, min_characters=100)
        with pytest.raises(InputError, match=r"0 document\(s\) besides the 9 that were dropped"):
            plan_corpora(find_corpora(corpus(tmp_path, 9)), config)
