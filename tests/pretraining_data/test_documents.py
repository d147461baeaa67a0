import pytest

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.pretraining_data.documents import HoldOut, keyed_generator, passes_of


def splits(hold_out, documents):
    return [split for split, _ in zip(hold_out.splits(), range(documents), strict=False)]


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

    def test_the_draw_depends_on_seed_corpus_and_group_only(self):
        assert splits(HoldOut(0.1, 3), 995) == splits(HoldOut(0.1, 3), 1000)[:995]
        assert splits(HoldOut(0.1, 3), 100) != splits(HoldOut(0.1, 4), 100)
        assert splits(HoldOut(0.1, 3), 100) != splits(HoldOut(0.1, 3, corpus=1), 100)

    def test_a_rate_of_zero_holds_out_none(self):
        assert splits(HoldOut(0.0, 1), 50) == ["train"] * 50


class TestPasses:
    def test_the_weight_multiplies_the_passes_and_a_fraction_makes_one_more_of_some_blocks(self):
        config = DataConfig(dupe_factor=5)
        passes = [passes_of(config, 0.5, "train", 0, block) for block in range(2000)]
        assert set(passes) == {2, 3}
        # Half of 2,000: standard deviation sqrt(2,000 / 4) = 22.
        assert abs(passes.count(3) - 1000) < 90
        assert {passes_of(config, 2.0, "train", 0, block) for block in range(50)} == {10}

    def test_the_draw_is_a_function_of_its_key(self):
        def draw(seed=1, split="train", corpus=0):
            config = DataConfig(dupe_factor=1, seed=seed)
            return [passes_of(config, 0.5, split, corpus, block) for block in range(50)]

        assert draw() == draw()
        others = [draw(seed=2), draw(split="validation"), draw(corpus=1)]
        assert all(other != draw() for other in others)


def test_a_key_and_its_seed_decide_the_numbers():
    first = keyed_generator(7, 1, 2).random(4).tolist()
    assert keyed_generator(7, 1, 2).random(4).tolist() == first
    others = [keyed_generator(7, 1, 3), keyed_generator(8, 1, 2), keyed_generator(7, 1)]
    assert all(other.random(4).tolist() != first for other in others)
