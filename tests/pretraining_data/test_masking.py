import functools
import itertools
import math
import random
import threading

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data.keyed_random import fold_in
from keras_bert_tpu.pretraining_data.masking import (
    KEPT,
    MASKED,
    RANDOM,
    MaskRules,
    draw_masks,
    num_predictions,
)
from keras_bert_tpu.text.vocabulary import Vocabulary

PAD, UNK, CLS, SEP, MASK = range(5)
SUFFIXES = 60, 61, 62, 63
VOCABULARY = Vocabulary(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    + [f"w{i}" for i in range(5, 60)]
    + [f"##s{i}" for i in SUFFIXES]
)
S, T = SUFFIXES[:2]


@functools.cache
def rules(length=128, **settings):
    settings = {"sequence_length": length, "max_predictions": 20, **settings}
    if settings.get("max_ngram", 1) > 1:
        settings["whole_word_mask"] = True
    return MaskRules.from_config(DataConfig(**settings), VOCABULARY)


@functools.cache
def function_of(mask_rules, length, segmented=False):
    """The masks of rows [n, length] with the keys [n], as numpy arrays."""
    row = tf.TensorSpec([None, length], tf.int32)
    signature = [row, row, tf.TensorSpec([None], tf.uint64)] + segmented * [row]
    draw = tf.function(
        lambda token_ids, padding_mask, keys, *continues: draw_masks(
            token_ids, padding_mask, keys, mask_rules, *continues
        ),
        input_signature=signature,
        autograph=False,
    )

    def run(token_ids, keys, *continues):
        token_ids = np.asarray(token_ids, np.int32)
        masks = draw(token_ids, (token_ids != PAD).astype(np.int32), keys, *continues)
        return type(masks)(*(part.numpy() for part in masks))

    return run


def many(row, mask_rules, repeats=20_000, continues=None, seed=0):
    """The masks of one row under many keys."""
    row = np.asarray(row, np.int32)
    run = function_of(mask_rules, len(row), segmented=continues is not None)
    extra = () if continues is None else (np.tile(np.asarray(continues, np.int32), (repeats, 1)),)
    return run(np.tile(row, (repeats, 1)), fold_in(seed, np.arange(repeats)), *extra)


def chosen_sets(masks):
    """How often each set of positions was chosen."""
    counts: dict[tuple[int, ...], int] = {}
    for positions, weights in zip(masks.mask_positions, masks.mask_weights, strict=True):
        key = tuple(positions[weights > 0].tolist())
        counts[key] = counts.get(key, 0) + 1
    return counts


def assert_share(count, total, share):
    """Within five standard deviations of the binomial distribution."""
    assert abs(count - total * share) < 5 * math.sqrt(total * share * (1 - share)) + 1e-9


def assert_distribution(counts, shares):
    """Counts that agree with exact probabilities; a chi-square sum below mean + 5 deviations."""
    assert set(counts) <= {key for key, share in shares.items() if share > 0}
    assert abs(sum(shares.values()) - 1) < 1e-9
    total = sum(counts.values())
    expected = {key: total * share for key, share in shares.items() if share > 0}
    assert min(expected.values()) > 10
    statistic = sum((counts.get(key, 0) - value) ** 2 / value for key, value in expected.items())
    assert statistic < (len(expected) - 1) + 5 * math.sqrt(2 * (len(expected) - 1)) + 1e-9


def assert_same_distribution(first, second):
    """Counts of two samples of the same size; rare outcomes are put together."""
    assert sum(first.values()) == sum(second.values())
    cells, rest = [], np.zeros(2)
    for key in {**first, **second}:
        pair = np.array([first.get(key, 0), second.get(key, 0)])
        if pair.sum() >= 20:
            cells.append(pair)
        else:
            rest += pair
    if rest.sum() >= 20:
        cells.append(rest)
    assert len(cells) > 1
    statistic = sum((a - b) ** 2 / (a + b) for a, b in cells)
    assert statistic < (len(cells) - 1) + 5 * math.sqrt(2 * (len(cells) - 1))


class TestNumPredictions:
    @pytest.mark.parametrize(
        ("length", "expected"),
        [
            (0, 1),
            (5, 1),  # 0.75
            (3, 1),  # 0.45 rounds to 0, but one at least
            (10, 2),  # 1.5 rounds to the even 2
            (30, 4),  # 4.5 rounds to the even 4
            (31, 5),  # 4.65
            (128, 19),  # 19.2
            (134, 20),  # 20.1
            (512, 20),  # 76.8, but 20 at most
        ],
    )
    def test_fifteen_percent_of_the_length(self, length, expected):
        assert num_predictions(length, 0.15, 20) == expected

    @pytest.mark.parametrize("rate", [0.1, 0.15, 0.2, 0.3, 0.4])
    def test_rows_of_every_length_have_as_many_as_pythons_round_says(self, rate):
        # No special tokens, so that there are always enough candidates.
        token_ids = np.tril(np.full((512, 512), 7, np.int32))
        masks = function_of(rules(512, max_predictions=200, mask_rate=rate), 512)(
            token_ids, np.arange(512, dtype=np.uint64)
        )
        expected = [min(200, max(1, round(length * rate))) for length in range(1, 513)]
        assert masks.mask_weights.sum(axis=1).tolist() == expected

    def test_special_tokens_count_in_the_length(self):
        # 10 real tokens x 0.15 = 1.5 -> 2, where the 7 candidates alone would give 1.
        masks = many(
            [CLS, 11, 12, 13, SEP, 15, 16, 17, 18, SEP, 0, 0], rules(12, max_predictions=4), 50
        )
        assert set(masks.mask_weights.sum(axis=1).tolist()) == {2.0}


class TestShapes:
    def test_a_row_worked_out_by_hand(self):
        # The only two candidates are chosen: 5 x 0.9 = 4.5 -> 4.
        mask_rules = rules(9, max_predictions=5, mask_rate=0.9)
        masks = many([CLS, 11, SEP, 12, SEP, 0, 0, 0, 0], mask_rules, 300)
        assert (masks.mask_positions == [1, 3, 0, 0, 0]).all()
        assert (masks.mask_ids == [11, 12, 0, 0, 0]).all()
        assert (masks.mask_weights == [1, 1, 0, 0, 0]).all()
        assert (masks.mask_kinds[:, 2:] == 0).all()
        assert set(masks.mask_kinds[:, :2].ravel().tolist()) == {MASKED, KEPT, RANDOM}
        assert (np.delete(masks.token_ids, [1, 3], axis=1) == [CLS, SEP, SEP, 0, 0, 0, 0]).all()
        for column, original in ((1, 11), (3, 12)):
            ids, kinds = masks.token_ids[:, column], masks.mask_kinds[:, column // 2]
            assert (ids[kinds == MASKED] == MASK).all()
            assert (ids[kinds == KEPT] == original).all()

    def test_the_results_have_static_shapes_and_their_dtypes(self):
        mask_rules = rules(9, max_predictions=5)
        dataset = tf.data.Dataset.from_tensors(np.zeros(9, np.int32)).batch(4)
        dataset = dataset.map(lambda ids: draw_masks(ids, ids, tf.zeros([1], tf.int64), mask_rules))
        token_ids, *others, kinds = dataset.element_spec
        assert token_ids == tf.TensorSpec([None, 9], tf.int32)
        assert kinds == tf.TensorSpec([None, 5], tf.int32)
        assert [spec.dtype for spec in others] == [tf.int32, tf.int32, tf.float32]
        assert {tuple(spec.shape) for spec in others} == {(None, 5)}

    @pytest.mark.parametrize("max_ngram", [0, 1, 3])
    def test_rows_without_a_candidate_and_no_row_at_all(self, max_ngram):
        mask_rules = rules(
            8, max_predictions=3, whole_word_mask=max_ngram > 0, max_ngram=max_ngram or 1
        )
        run = function_of(mask_rules, 8)
        rows = np.array([[0] * 8, [CLS, SEP, SEP] + [0] * 5], np.int32)
        masks = run(rows, np.array([1, 2], np.uint64))
        assert (masks.token_ids == rows).all()
        assert not any(part.any() for part in masks[1:])
        assert run(np.zeros((0, 8)), np.zeros(0, np.uint64)).mask_positions.shape == (0, 3)

    def test_a_row_may_be_shorter_than_the_predictions(self):
        masks = many([CLS, 11, SEP], rules(128, max_predictions=20), 10)
        assert (masks.mask_positions == [1] + [0] * 19).all()

    def test_a_length_that_is_not_static_is_refused(self):
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
        def draw(ids):
            return draw_masks(ids, ids, tf.zeros([1], tf.int64), rules(8, max_predictions=2))

        with pytest.raises(InputError, match="must have a static length"):
            draw(np.zeros((1, 8), np.int32))


class TestPieces:
    def test_every_set_of_pieces_is_as_likely(self):
        # 8 x 0.3 = 2.4 -> 2 of 5 candidates, which are 10 pairs; suffixes are pieces like others.
        row = [CLS, 11, S, 13, SEP, 15, T, SEP, 0, 0]
        masks = many(row, rules(10, max_predictions=3, mask_rate=0.3))
        pairs = itertools.combinations([1, 2, 3, 5, 6], 2)
        assert_distribution(chosen_sets(masks), {pair: 1 / 10 for pair in pairs})

    def test_long_rows_are_chosen_from_uniformly(self):
        row = np.full(128, 50)
        row[0], row[[60, 127]] = CLS, SEP
        masks = many(row, rules(128), 4000)
        places = np.bincount(
            masks.mask_positions.ravel()[masks.mask_weights.ravel() > 0], minlength=128
        )
        # 128 x .15 = 19.2; 19 of 125 candidates.
        assert places.sum() == 4000 * 19
        assert places[[0, 60, 127]].tolist() == [0, 0, 0]
        for count in np.delete(places, [0, 60, 127]):
            assert_share(count, 4000, 19 / 125)

    def test_words_do_not_matter(self):
        mask_rules = rules(12, max_predictions=4)
        row = [CLS, 11, S, 12, T, SEP, 13, 14, SEP, 0, 0, 0]
        continues = [1] * 12
        plain, segmented = many(row, mask_rules, 50), many(row, mask_rules, 50, continues)
        for a, b in zip(plain, segmented, strict=True):
            np.testing.assert_array_equal(a, b)


def whole_word_shares(words, wanted):
    """Exact probabilities of Google's rule: all orders of the words are as likely."""
    shares: dict[tuple[int, ...], float] = {}
    orders = list(itertools.permutations(words))
    for order in orders:
        chosen: list[int] = []
        for word in order:
            if len(chosen) >= wanted:
                break
            if len(chosen) + len(word) > wanted:
                continue
            chosen.extend(word)
        key = tuple(sorted(chosen))
        shares[key] = shares.get(key, 0) + 1 / len(orders)
    return shares


class TestWholeWords:
    @pytest.mark.parametrize(
        ("row", "words", "wanted"),
        [
            # 10 x .3 = 3.
            ([CLS, 11, S, T, 14, SEP, 16, S, 18, SEP], [(1, 2, 3), (4,), (6, 7), (8,)], 3),
            # 8 x .3 = 2.4 -> 2: the word of three pieces is too long.
            ([CLS, 11, S, SEP, 14, S, S, SEP, 0, 0, 0], [(1, 2), (4, 5, 6)], 2),
            # Both are too long: none is chosen.
            ([CLS, 11, S, S, 14, S, S, SEP, 0, 0, 0], [(1, 2, 3), (4, 5, 6)], 2),
            # The first candidate starts a word even as a suffix.
            ([CLS, S, 12, S, SEP, 14, 15, SEP], [(1,), (2, 3), (5,), (6,)], 2),
            # Part b was truncated from the front: its first piece goes with the last of part a.
            ([CLS, 11, 12, SEP, S, T, 13, SEP, 0], [(1,), (2, 4, 5), (6,)], 2),
            ([CLS, 11, 12, SEP, S, 13, 14, SEP, 0], [(1,), (2, 4), (5,), (6,)], 2),
        ],
    )  # fmt: skip
    def test_words_are_chosen_as_in_googles_rule(self, row, words, wanted):
        mask_rules = rules(len(row), max_predictions=3, mask_rate=0.3, whole_word_mask=True)
        length = np.count_nonzero(row)
        assert num_predictions(length, 0.3, 3) == wanted
        shares = whole_word_shares(words, wanted)
        counts = chosen_sets(many(row, mask_rules))
        if len(shares) == 1:
            assert set(counts) == set(shares)
        else:
            assert_distribution(counts, shares)

    def test_given_words_override_the_suffixes(self):
        # Words (1, 2), (3), (4), (5): positions 1 and 2 are one word, the suffix at 4 is its own.
        row = [CLS, 11, 12, 13, S, 15, SEP, 0]
        mask_rules = rules(8, max_predictions=3, mask_rate=0.3, whole_word_mask=True)
        counts = chosen_sets(many(row, mask_rules, continues=[0, 0, 1, 0, 0, 0, 0, 0]))
        assert_distribution(counts, whole_word_shares([(1, 2), (3,), (4,), (5,)], 2))

    def test_a_row_that_is_one_word_throughout(self):
        row = [CLS, 11, S, S, S, S, S, SEP]
        masks = many(row, rules(8, max_predictions=4, whole_word_mask=True), 20)
        assert not masks.mask_weights.any()


def model_garden_grams(words, max_ngram, wanted, rng):
    """The Model Garden's rule for runs of words, stated plainly; `words` are ranges."""
    lists = {}
    for size in range(1, max_ngram + 1):
        runs = [words[i : i + size] for i in range(len(words) - size + 1)]
        lists[size] = [
            range(run[0].start, run[-1].stop)
            for run in runs
            if all(a.stop == b.start for a, b in itertools.pairwise(run))
        ]
        rng.shuffle(lists[size])
    weights = [1 / size for size in lists]
    grams: list[range] = []
    masked: set[int] = set()
    while len(masked) < wanted and any(lists.values()):
        (size,) = rng.choices(list(lists), weights)
        if not lists[size]:
            continue
        gram = lists[size].pop()
        if len(masked) + len(gram) <= wanted and masked.isdisjoint(gram):
            grams.append(gram)
            masked.update(gram)
    return grams


def model_garden_words(row):
    """Words as in the Model Garden's `_wordpieces_to_grams`: behind a special token a new one."""
    words: list[range] = []
    for position, piece in enumerate(row):
        if piece in (PAD, CLS, SEP):
            continue
        if piece in SUFFIXES and words and words[-1].stop == position:
            words[-1] = range(words[-1].start, position + 1)
        else:
            words.append(range(position, position + 1))
    return words


class TestRunsOfWords:
    @pytest.mark.parametrize(
        ("row", "max_ngram", "max_predictions"),
        [
            ([CLS, 11, 12, 13, SEP, 15, 16, SEP], 2, 3),
            ([CLS, 11, S, 12, 13, SEP, 15, S, 16, SEP, 0], 3, 4),
            # A suffix behind [SEP] begins a word, and no run goes over [SEP].
            ([CLS, 11, 12, SEP, S, 13, T, SEP, 0], 3, 4),
            # Runs of three are longer than what is wanted, runs of four than the row.
            ([CLS, 11, 12, 13, 14, 15, 16, SEP], 4, 2),
            # Two words of two pieces and one of one: often fewer than wanted.
            ([CLS, 11, S, 12, T, SEP, 13, SEP], 2, 4),
        ],
    )
    def test_positions_and_runs_have_the_distribution_of_the_model_garden(
        self, row, max_ngram, max_predictions
    ):
        # One draw for a run shows the runs: with the kinds of the pieces, they are compared too.
        mask_rules = rules(
            len(row),
            max_predictions=max_predictions,
            mask_rate=0.5,
            max_ngram=max_ngram,
            replacement="gram",
        )
        repeats = 10_000
        masks = many(row, mask_rules, repeats)
        wanted = num_predictions(np.count_nonzero(row), 0.5, max_predictions)
        found: dict = {}
        for positions, kinds in zip(masks.mask_positions, masks.mask_kinds, strict=True):
            key = tuple(
                (p, k) for p, k in zip(positions.tolist(), kinds.tolist(), strict=True) if k
            )
            found[key] = found.get(key, 0) + 1
        rng = random.Random(1)
        expected: dict = {}
        for _ in range(repeats):
            key = []
            for gram in model_garden_grams(model_garden_words(row), max_ngram, wanted, rng):
                draw = rng.random()
                kind = MASKED if draw < 0.8 else KEPT if draw < 0.9 else RANDOM
                key += [(position, kind) for position in gram]
            key = tuple(sorted(key))
            expected[key] = expected.get(key, 0) + 1
        assert_same_distribution(found, expected)

    def test_long_rows_have_the_distribution_of_the_model_garden(self):
        rng = random.Random(5)
        row = [CLS] + [rng.choice([10, 20, 30, S]) for _ in range(126)] + [SEP]
        row[50], row[51] = SEP, S
        repeats = 2000
        masks = many(row, rules(128, max_ngram=3), repeats)
        words = model_garden_words(row)
        expected = np.zeros((repeats, 128), bool)
        for sample in expected:
            for gram in model_garden_grams(words, 3, 19, rng):
                sample[gram.start : gram.stop] = True
        found = np.zeros((repeats, 128), bool)
        rows, slots = np.nonzero(masks.mask_weights)
        found[rows, masks.mask_positions[rows, slots]] = True

        # How many tokens are chosen in a row, at which positions, and how much without a gap.
        full = [np.count_nonzero(sample.sum(axis=1) == 19) for sample in (found, expected)]
        assert found.sum(axis=1).max() == 19
        assert abs(full[0] - full[1]) < 5 * math.sqrt(2 * repeats - sum(full) + 1)
        places = [sample.mean(axis=0) for sample in (found, expected)]
        deviation = np.sqrt(2 * places[1] * (1 - places[1]) / repeats)
        assert (np.abs(places[0] - places[1]) <= 5 * deviation).all()

        def gapless(sample):
            edges = np.diff(np.pad(sample.astype(int), [(0, 0), (1, 1)]), axis=1)
            lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
            return np.bincount(np.minimum(lengths, 9), minlength=10)

        a, b = gapless(found).astype(float), gapless(expected).astype(float)
        # The counts of one row hang together a little; twice the deviation of independent ones.
        assert (np.abs(a - b) < 2 * 5 * np.sqrt(a + b + 1)).all()
        assert abs(a.sum() - b.sum()) < 0.03 * b.sum()

    def test_a_longest_run_of_one_word_is_whole_words(self):
        row = [CLS, 11, S, 12, 13, SEP, 15, S, 16, SEP]
        mask_rules = rules(10, max_predictions=4, mask_rate=0.4, whole_word_mask=True)
        counts = chosen_sets(many(row, mask_rules))
        words = [tuple(word) for word in model_garden_words(row)]
        assert_distribution(counts, whole_word_shares(words, 4))


class TestReplacement:
    # Words of two pieces, without special tokens: 128 x .15 = 19.2 -> 18 pieces of 9 words.
    WORDS = [11, S] * 64

    def test_eighty_ten_ten(self):
        kinds = many(self.WORDS, rules(128), 2000).mask_kinds
        total = 2000 * 19
        assert np.count_nonzero(kinds) == total
        for kind, share in ((MASKED, 0.8), (KEPT, 0.1), (RANDOM, 0.1)):
            assert_share(np.count_nonzero(kinds == kind), total, share)
        # In each place of the results, too.
        for column in kinds.T[:19]:
            assert_share(np.count_nonzero(column == MASKED), 2000, 0.8)

    @pytest.mark.parametrize("max_ngram", [1, 2])
    def test_pieces_of_a_word_draw_on_their_own(self, max_ngram):
        kinds = many(
            self.WORDS, rules(128, whole_word_mask=True, max_ngram=max_ngram), 2000
        ).mask_kinds
        assert np.count_nonzero(kinds) == 2000 * 18
        first, second = kinds[:, 0:18:2], kinds[:, 1:18:2]
        # Both are equal with .8 x .8 + .1 x .1 + .1 x .1.
        assert_share(np.count_nonzero(first == second), first.size, 0.66)

    def test_a_word_draws_once(self):
        kinds = many(
            self.WORDS, rules(128, whole_word_mask=True, replacement="gram"), 2000
        ).mask_kinds
        first, second = kinds[:, 0:18:2], kinds[:, 1:18:2]
        np.testing.assert_array_equal(first, second)
        for kind, share in ((MASKED, 0.8), (KEPT, 0.1), (RANDOM, 0.1)):
            assert_share(np.count_nonzero(first == kind), first.size, share)
        # Different words are independent, those that stand side by side as well.
        assert_share(np.count_nonzero(first[:, 1:] == first[:, :-1]), first[:, 1:].size, 0.66)

    def test_a_run_of_words_draws_once(self):
        # Two words in all: chosen as one run, with one draw, or one by one, with two. From the
        # first draw of a length: a run of two with (1/2) / (1 + 1/2) = 1/3.
        row = [CLS, 11, 12, SEP, 0, 0, 0, 0]
        settings = {"max_predictions": 2, "mask_rate": 0.5, "max_ngram": 2}
        kinds = many(row, rules(8, replacement="gram", **settings)).mask_kinds
        same = np.count_nonzero(kinds[:, 0] == kinds[:, 1])
        assert_share(same, 20_000, 1 / 3 + 2 / 3 * 0.66)
        kinds = many(row, rules(8, replacement="piece", **settings)).mask_kinds
        assert_share(np.count_nonzero(kinds[:, 0] == kinds[:, 1]), 20_000, 0.66)

    def test_single_pieces_are_their_own_grams(self):
        both = [many(self.WORDS, rules(128, replacement=r), 50) for r in ("piece", "gram")]
        np.testing.assert_array_equal(both[0].mask_kinds, both[1].mask_kinds)

    @pytest.mark.parametrize("random_specials", [True, False])
    @pytest.mark.parametrize("replacement", ["piece", "gram"])
    def test_random_pieces_are_uniform_over_the_vocabulary(self, random_specials, replacement):
        mask_rules = rules(
            128, whole_word_mask=True, replacement=replacement, random_specials=random_specials
        )
        masks = many(self.WORDS, mask_rules, 4000)
        rows, slots = np.nonzero(masks.mask_kinds == RANDOM)
        pieces = masks.token_ids[rows, masks.mask_positions[rows, slots]]
        choices = range(0 if random_specials else 5, len(VOCABULARY))
        counts = dict(
            zip(*map(np.ndarray.tolist, np.unique(pieces, return_counts=True)), strict=True)
        )
        assert_distribution(counts, {piece: 1 / len(choices) for piece in choices})
        # The two pieces of a word are independent: equal as often as chance has it.
        slots_of_pairs = masks.mask_kinds[:, 0:18:2] + masks.mask_kinds[:, 1:18:2] == 2 * RANDOM
        ids = np.take_along_axis(masks.token_ids, masks.mask_positions, axis=1)
        equal = (ids[:, 0:18:2] == ids[:, 1:18:2])[slots_of_pairs]
        assert_share(np.count_nonzero(equal), equal.size, 1 / len(choices))

    def test_a_vocabulary_of_special_tokens_has_no_random_piece(self):
        config = DataConfig(random_specials=False)
        with pytest.raises(InputError, match="has special tokens only"):
            MaskRules.from_config(config, Vocabulary(VOCABULARY.pieces[:5]))

    def test_the_rules_are_those_of_the_configuration(self):
        config = DataConfig(max_predictions=17, mask_rate=0.2, whole_word_mask=True, max_ngram=2)
        mask_rules = MaskRules.from_config(config, VOCABULARY)
        assert (mask_rules.max_predictions, mask_rules.mask_rate) == (17, 0.2)
        assert (mask_rules.whole_words, mask_rules.max_ngram) == (True, 2)
        assert (mask_rules.mask_id, mask_rules.never_chosen) == (MASK, (CLS, SEP))
        assert np.flatnonzero(mask_rules.continues_word).tolist() == list(SUFFIXES)


MODES = {
    "pieces": {},
    "words": {"whole_word_mask": True},
    "words as grams": {"whole_word_mask": True, "replacement": "gram"},
    "runs": {"max_ngram": 3, "replacement": "gram", "random_specials": False},
}


def random_rows(rng, count, length):
    """Pairs of parts of all lengths, with suffixes anywhere."""
    rows = np.zeros((count, length), np.int32)
    for row in rows:
        real = rng.integers(4, length + 1)
        row[:real] = np.where(rng.random(real) < 0.4, S, rng.integers(5, 60, real))
        row[0], row[real - 1] = CLS, SEP
        row[rng.integers(1, real - 1)] = SEP
    return rows


@pytest.mark.parametrize("mode", MODES)
class TestKeys:
    LENGTH = 40

    def rules(self, mode):
        return rules(self.LENGTH, max_predictions=8, mask_rate=0.2, **MODES[mode])

    def test_a_row_depends_on_its_own_tokens_and_key_only(self, mode):
        run = function_of(self.rules(mode), self.LENGTH)
        rows = random_rows(np.random.default_rng(1), 60, self.LENGTH)
        keys = fold_in(1, np.arange(60))
        together = run(rows, keys)
        order = np.random.default_rng(2).permutation(60)
        for a, b in zip(run(rows[order], keys[order]), together, strict=True):
            np.testing.assert_array_equal(a, b[order])
        for i in range(0, 60, 7):
            for a, b in zip(run(rows[i : i + 1], keys[i : i + 1]), together, strict=True):
                np.testing.assert_array_equal(a[0], b[i])

    def test_padding_does_not_matter(self, mode):
        mask_rules = self.rules(mode)
        rows = random_rows(np.random.default_rng(3), 30, self.LENGTH)
        keys = fold_in(1, np.arange(30))
        masks = function_of(mask_rules, self.LENGTH)(rows, keys)
        longer = function_of(mask_rules, self.LENGTH + 9)(np.pad(rows, [(0, 0), (0, 9)]), keys)
        np.testing.assert_array_equal(longer.token_ids[:, :-9], masks.token_ids)
        for a, b in zip(longer[1:], masks[1:], strict=True):
            np.testing.assert_array_equal(a, b)

    def test_the_same_key_gives_the_same_masks_and_another_key_others(self, mode):
        run = function_of(self.rules(mode), self.LENGTH)
        row = [CLS] + [11, S, 12, 13] * 9 + [14, 15, SEP]
        keys = fold_in(1, np.arange(500))
        first = run(np.tile(row, (500, 1)), keys)
        again = run(np.tile(row, (500, 1)), keys)
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
        # 8 of 39 tokens and their replacements: a repetition is next to impossible.
        assert len(np.unique(first.token_ids, axis=0)) > 490
        assert len(np.unique(first.mask_positions, axis=0)) > 490

    def test_it_is_the_same_eagerly_in_datasets_in_threads_and_for_signed_keys(self, mode):
        mask_rules = self.rules(mode)
        rows = random_rows(np.random.default_rng(4), 23, self.LENGTH)
        padding_mask = (rows > 0).astype(np.int32)
        keys = fold_in(2, np.arange(23))
        run = function_of(mask_rules, self.LENGTH)
        expected = run(rows, keys)
        dataset = tf.data.Dataset.from_tensor_slices((rows, padding_mask, keys.view(np.int64)))
        dataset = dataset.batch(5).map(
            lambda *row: draw_masks(*row, mask_rules), num_parallel_calls=2
        )
        threaded = {}
        threads = [
            threading.Thread(target=lambda i=i: threaded.update({i: run(rows, keys)}))
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        results = [
            draw_masks(rows, padding_mask, keys, mask_rules),
            [np.concatenate(parts) for parts in zip(*dataset.as_numpy_iterator(), strict=True)],
            *(threaded[i] for i in range(4)),
        ]
        for result in results:
            for a, b in zip(result, expected, strict=True):
                np.testing.assert_array_equal(a, b)

    def test_masks_stay_as_they_are(self, mode):
        # A run that goes on, or records prepared in part, would be continued with other masks.
        row = [CLS, 11, S, 12, 13, 14, SEP, 16, 17, T, S, 19, SEP] + [0] * 27
        masks = function_of(self.rules(mode), self.LENGTH)([row] * 3, fold_in(7, np.arange(3)))
        assert masks.mask_positions[:, :3].tolist() == EXPECTED[mode][0]
        assert masks.mask_kinds[:, :3].tolist() == EXPECTED[mode][1]
        assert masks.token_ids[masks.token_ids != row].tolist() == EXPECTED[mode][2]


# Of each mode: positions and kinds of three rows, and what has come into the changed places. They
# came from this code; that the choice of words is right, the tests above say.
EXPECTED = {
    "pieces": (
        [[2, 10, 11], [1, 4, 10], [3, 8, 9]],
        [[RANDOM, MASKED, MASKED], [MASKED, MASKED, MASKED], [MASKED, MASKED, RANDOM]],
        [44, 4, 4, 4, 4, 4, 4, 4, 34],
    ),
    "words": (
        [[3, 7, 11], [5, 7, 11], [3, 5, 7]],
        [[RANDOM, MASKED, MASKED], [MASKED, MASKED, MASKED], [MASKED, MASKED, RANDOM]],
        [44, 4, 4, 4, 4, 4, 4, 4, 34],
    ),
    "words as grams": (
        [[3, 7, 11], [5, 7, 11], [3, 5, 7]],
        [[RANDOM, MASKED, MASKED], [MASKED, MASKED, MASKED], [MASKED, MASKED, RANDOM]],
        [44, 4, 4, 4, 4, 4, 4, 4, 34],
    ),
    "runs": (
        [[3, 4, 5], [5, 7, 11], [3, 4, 5]],
        [[RANDOM, RANDOM, RANDOM], [MASKED, MASKED, MASKED], [MASKED, MASKED, MASKED]],
        [46, 28, 54, 4, 4, 4, 4, 4, 4],
    ),
}


SHORT = 24
FUNCTIONS = {
    mode: function_of(rules(SHORT, max_predictions=6, mask_rate=0.3, **settings), SHORT, True)
    for mode, settings in MODES.items()
}


@st.composite
def rows_and_words(draw):
    pieces = st.sampled_from([CLS, SEP, UNK, MASK, 11, 12, 13, 14, 59, S, T])
    row = draw(st.lists(pieces, min_size=1, max_size=SHORT))
    continues = [int(piece in SUFFIXES) for piece in row]
    if draw(st.booleans()):
        continues = draw(st.lists(st.integers(0, 1), min_size=len(row), max_size=len(row)))
    padding = [0] * (SHORT - len(row))
    return row + padding, continues + padding


def words_of(row, continues, apart):
    words: list[list[int]] = []
    for position, piece in enumerate(row):
        if piece in (PAD, CLS, SEP):
            continue
        follows = words and (not apart or words[-1][-1] == position - 1)
        if continues[position] and follows:
            words[-1].append(position)
        else:
            words.append([position])
    return words


@pytest.mark.parametrize("mode", MODES)
@hypothesis.settings(derandomize=True, deadline=None, max_examples=150)
@hypothesis.given(
    rows=st.lists(rows_and_words(), min_size=1, max_size=4), key=st.integers(0, 2**64 - 1)
)
def test_what_holds_of_all_masks(mode, rows, key):
    token_ids, continues = (np.array(part, np.int32) for part in zip(*rows, strict=True))
    masks = FUNCTIONS[mode](token_ids, fold_in(key, np.arange(len(rows))), continues)
    for i, row in enumerate(token_ids.tolist()):
        count = int(masks.mask_weights[i].sum())
        positions = masks.mask_positions[i, :count].tolist()
        wanted = num_predictions(sum(piece != PAD for piece in row), 0.3, 6)
        candidates = [p for p, piece in enumerate(row) if piece not in (PAD, CLS, SEP)]

        assert masks.mask_weights[i].tolist() == [1.0] * count + [0.0] * (6 - count)
        assert positions == sorted(set(positions)) and set(positions) <= set(candidates)
        for padding in (masks.mask_positions, masks.mask_ids, masks.mask_kinds):
            assert not padding[i, count:].any()
        assert masks.mask_ids[i, :count].tolist() == [row[p] for p in positions]

        kinds = dict(zip(positions, masks.mask_kinds[i].tolist(), strict=False))
        for position, (before, after) in enumerate(zip(row, masks.token_ids[i], strict=True)):
            kind = kinds.get(position, KEPT)
            assert kind in (MASKED, KEPT, RANDOM)
            assert kind != KEPT or after == before
            assert kind != MASKED or after == MASK
            assert 0 <= after < len(VOCABULARY)
            assert not (kind == RANDOM and mode == "runs") or after >= 5

        if mode == "pieces":
            assert count == min(wanted, len(candidates))
            continue
        assert count <= wanted
        for word in words_of(row, continues[i].tolist(), apart=mode == "runs"):
            chosen = [position in kinds for position in word]
            assert all(chosen) or not any(chosen)
            # No word is left out for which there is room.
            assert any(chosen) or count + len(word) > wanted
            if any(chosen) and mode != "words":
                assert len({kinds[position] for position in word}) == 1
