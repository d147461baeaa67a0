import gzip

import pytest

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data.documents import (
    CorpusPlan,
    HoldOut,
    keyed_generator,
    plan_corpus,
    read_documents,
    read_shards,
)


def corpus(directory, documents, name="text.txt"):
    """A file of that many documents; document 7 has the sentences `d7 s0` and `d7 s1`."""
    path = directory / name
    path.write_text("\n\n".join(f"d{n} s0\nd{n} s1" for n in range(documents)) + "\n")
    return str(path)


def splits(hold_out, documents):
    return [split for split, _ in zip(hold_out.splits(), range(documents), strict=False)]


class TestReadDocuments:
    def read(self, directory, content):
        path = directory / "text.txt"
        path.write_bytes(content)
        return list(read_documents([str(path)]))

    def test_blank_lines_separate_documents(self, tmp_path):
        assert self.read(tmp_path, b"a b\nc\n\nd\n") == [["a b", "c"], ["d"]]

    def test_several_blank_lines_do_not_make_documents(self, tmp_path):
        assert self.read(tmp_path, b"\n\na\n\n \t\n\nb\n\n\n") == [["a"], ["b"]]

    def test_a_line_of_unicode_white_space_is_blank(self, tmp_path):
        assert self.read(tmp_path, "a\n\u00a0\u3000\nb".encode()) == [["a"], ["b"]]

    def test_white_space_around_a_sentence_and_bytes_that_are_not_utf8_go(self, tmp_path):
        assert self.read(tmp_path, b"  a\xff b \r\n") == [["a b"]]

    def test_a_document_never_spans_files(self, tmp_path):
        (tmp_path / "1.txt").write_text("a")
        (tmp_path / "2.txt.gz").write_bytes(gzip.compress(b"b\n"))
        paths = [str(tmp_path / "1.txt"), str(tmp_path / "2.txt.gz")]
        assert list(read_documents(paths)) == [["a"], ["b"]]


class TestHoldOut:
    @pytest.mark.parametrize(
        ("rate", "size"), [(0.01, 100), (0.03, 33), (0.5, 2), (0.4, 2), (0.9, 1), (0.0, 0)]
    )
    def test_a_group_has_one_over_the_rate_documents(self, rate, size):
        # 1 / .03 = 33.3; 1 / .4 = 2.5, rounded to the even 2; 1 / .9 = 1.1.
        assert HoldOut(rate, 1).group_size == size

    def test_each_group_holds_out_one_document_at_a_place_of_its_own(self):
        drawn = splits(HoldOut(0.1, 3), 1000)
        groups = [drawn[start : start + 10] for start in range(0, 1000, 10)]
        assert all(group.count("validation") == 1 for group in groups)
        places = [group.index("validation") for group in groups]
        # 100 draws of 10 places: each is missed with probability .9 ** 100 = 3e-5.
        assert set(places) == set(range(10))

    def test_the_draw_depends_on_seed_and_group_only(self):
        assert splits(HoldOut(0.1, 3), 995) == splits(HoldOut(0.1, 3), 1000)[:995]
        assert splits(HoldOut(0.1, 3), 100) != splits(HoldOut(0.1, 4), 100)

    def test_a_rate_of_zero_holds_out_none(self):
        assert splits(HoldOut(0.0, 1), 50) == ["train"] * 50


class TestBlocks:
    @pytest.mark.parametrize(
        ("documents", "sizes"),
        [(3, [3]), (4, [4]), (7, [7]), (8, [4, 4]), (11, [4, 7]), (12, [4, 4, 4])],
    )
    def test_the_remainder_joins_the_last_full_block(self, documents, sizes):
        plan = CorpusPlan((), DataConfig(block_documents=4), {"train": documents}, 0, 0)
        blocks = [plan.block_of("train", number) for number in range(documents)]
        assert [blocks.count(block) for block in range(plan.num_blocks("train"))] == sizes
        assert blocks == sorted(blocks)

    def test_the_last_shard_takes_the_blocks_that_are_left(self):
        config = DataConfig(block_documents=2, blocks_per_shard=3)
        plan = CorpusPlan((), config, {"train": 14, "validation": 0}, 0, 0)
        assert plan.num_blocks("train") == 7
        assert plan.num_shards("train") == 3
        assert plan.num_shards("validation") == 0


class TestPlanAndShards:
    CONFIG = DataConfig(validation_rate=0.2, block_documents=4, blocks_per_shard=2, seed=5)

    def test_the_counts_are_those_of_the_files(self, tmp_path):
        paths = [corpus(tmp_path, 30, "a.txt"), corpus(tmp_path, 13, "b.txt")]
        plan = plan_corpus(paths, self.CONFIG)
        assert plan.documents["train"] + plan.documents["validation"] == 43
        assert plan.sentences == 86
        # "d0 s0" has 5 characters, "d10 s0" 6: 20 documents of two times 5, 23 of two times 6.
        assert plan.characters == 20 * 10 + 23 * 12

    def test_every_document_is_in_the_shard_that_its_number_gives(self, tmp_path):
        path = corpus(tmp_path, 63)
        plan = plan_corpus([path], self.CONFIG)
        names = {"train": [], "validation": []}
        drawn = HoldOut(0.2, 5).splits()
        for number, split in zip(range(63), drawn, strict=False):
            names[split].append(f"d{number} s0")
        shards = list(read_shards(plan))
        for split in ("train", "validation"):
            own = [shard for shard in shards if shard.split == split]
            assert [shard.index for shard in own] == list(range(plan.num_shards(split)))
            assert {shard.num_shards for shard in own} == {plan.num_shards(split)}
            assert [shard.first_block for shard in own] == list(range(0, 2 * len(own), 2))
            blocks = [block for shard in own for block in shard.blocks]
            assert [document[0] for block in blocks for document in block] == names[split]
            assert [len(block) for block in blocks[:-1]] == [4] * (len(blocks) - 1)
            assert 4 <= len(blocks[-1]) <= 7
            assert all(len(shard.blocks) == 2 for shard in own[:-1])
        # 63 documents: 12 whole groups of 5 and one cut short.
        assert len(names["validation"]) in (12, 13)
        assert sum(shard.num_documents for shard in shards) == 63

    def test_a_small_split_is_one_block(self, tmp_path):
        plan = plan_corpus([corpus(tmp_path, 15)], self.CONFIG)
        validation = [shard for shard in read_shards(plan) if shard.split == "validation"]
        assert [[len(block) for block in shard.blocks] for shard in validation] == [[3]]

    @pytest.mark.parametrize("documents", [20, 30])
    def test_files_that_change_meanwhile_are_noticed(self, tmp_path, documents):
        plan = plan_corpus([corpus(tmp_path, 25)], self.CONFIG)
        corpus(tmp_path, documents)
        with pytest.raises(InputError, match="changed while they were read: 25 documents"):
            list(read_shards(plan))


class TestTooFewDocuments:
    def plan(self, directory, documents, rate):
        return plan_corpus([corpus(directory, documents)], DataConfig(validation_rate=rate))

    @pytest.mark.parametrize("documents", [0, 1])
    def test_a_corpus_needs_two(self, tmp_path, documents):
        (tmp_path / "text.txt").write_text("one\n" * documents)
        with pytest.raises(InputError, match=rf"hold {documents} document.*blank line between"):
            plan_corpus([str(tmp_path / "text.txt")], DataConfig(validation_rate=0.0))

    @pytest.mark.parametrize(
        ("documents", "rate", "suggestion"),
        # Half of the documents make a group, so that there are two whole ones: 51 // 2 = 25 and
        # 1 / 25 = 0.04; 1 / 53 = 0.01887, of which 0.02 gives groups of 50 and 0.019 of 53.
        [(51, 0.01, "0.04"), (107, 0.01, "0.019"), (4, 0.01, "0.5"), (51, 0.9, "0.5")],
    )
    def test_the_message_names_a_rate_that_does(self, tmp_path, documents, rate, suggestion):
        with pytest.raises(InputError, match=f"set validation_rate to {suggestion} or"):
            self.plan(tmp_path, documents, rate)
        plan = self.plan(tmp_path, documents, float(suggestion))
        assert min(plan.documents.values()) >= 2

    def test_three_documents_can_only_all_be_trained_on(self, tmp_path):
        with pytest.raises(InputError, match="at least 4 documents, or set validation_rate=0"):
            self.plan(tmp_path, 3, 0.3)
        assert self.plan(tmp_path, 3, 0.0).documents == {"train": 3, "validation": 0}


def test_a_key_and_its_seed_decide_the_numbers():
    first = keyed_generator(7, 1, 2).random(4).tolist()
    assert keyed_generator(7, 1, 2).random(4).tolist() == first
    others = [keyed_generator(7, 1, 3), keyed_generator(8, 1, 2), keyed_generator(7, 1)]
    assert all(other.random(4).tolist() != first for other in others)
