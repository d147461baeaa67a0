import numpy as np
import pytest

from keras_bert_tpu.pretraining_data.masking import mask_tokens, num_predictions

CLS, SEP, MASK = 1, 2, 3
VOCAB_SIZE = 100


class Script:
    """A generator whose draws are written down beforehand, in the order in which they are made."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def random(self, size):
        return self._next(size)

    def integers(self, low, high, size):
        assert (low, high) == (0, VOCAB_SIZE)
        return self._next(size)

    def _next(self, size):
        draw = np.array(self.draws.pop(0))
        assert draw.shape == (size if isinstance(size, tuple) else (size,))
        return draw


def masked(token_ids, rng, padding=0, max_predictions=4, mask_rate=0.3, continues=None):
    token_ids = np.array(token_ids, np.int32)
    padding_mask = np.ones_like(token_ids)
    if padding:
        padding_mask[:, -padding:] = 0
    continues_word = None
    if continues is not None:
        continues_word = np.zeros(VOCAB_SIZE, bool)
        continues_word[list(continues)] = True
    return mask_tokens(
        token_ids,
        padding_mask,
        special_ids=(CLS, SEP),
        mask_id=MASK,
        vocab_size=VOCAB_SIZE,
        mask_rate=mask_rate,
        max_predictions=max_predictions,
        rng=rng,
        continues_word=continues_word,
    )


class TestNumPredictions:
    @pytest.mark.parametrize(
        ("length", "expected"),
        [
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
        assert num_predictions(np.array([length]), 0.15, 20).tolist() == [expected]

    def test_rounding_is_that_of_python(self):
        lengths = np.arange(1, 513)
        expected = [min(1000, max(1, int(round(n * 0.15)))) for n in range(1, 513)]
        assert num_predictions(lengths, 0.15, 1000).tolist() == expected


class TestPieces:
    def test_the_smallest_keys_are_chosen_and_replaced(self):
        # 10 real tokens x 0.3 = 3 predictions. Keys of candidates in ascending order: position 7
        # (.1), 2 (.2), 4 (.3); the smaller ones of [CLS], [SEP] and padding do not count. In
        # the order of positions 2, 4, 7 the draws say keep (.85), [MASK] (.79), random (.95: 66).
        token_ids = [[CLS, 11, 12, 13, 14, SEP, 16, 17, 18, SEP, 0, 0]]
        keys = [[0.0, 0.9, 0.2, 0.8, 0.3, 0.01, 0.7, 0.1, 0.6, 0.02, 0.03, 0.04]]
        result = masked(token_ids, Script(keys, [0.85, 0.79, 0.95], [55, 44, 66]), padding=2)
        assert result.token_ids.tolist() == [[CLS, 11, 12, 13, MASK, SEP, 16, 66, 18, SEP, 0, 0]]
        assert result.mask_positions.tolist() == [[2, 4, 7, 0]]
        assert result.mask_ids.tolist() == [[12, 14, 17, 0]]
        assert result.mask_weights.tolist() == [[1.0, 1.0, 1.0, 0.0]]
        assert (result.num_masked, result.num_kept, result.num_random) == (1, 1, 1)
        assert result.mask_weights.dtype == np.float32
        assert {result.token_ids.dtype, result.mask_positions.dtype, result.mask_ids.dtype} == {
            np.dtype(np.int32)
        }

    def test_each_row_has_as_many_as_its_own_length_says(self):
        # 6 real tokens x 0.3 = 1.8 -> 2; 3 x 0.3 = 0.9 -> 1.
        token_ids = np.array([[CLS, 11, 12, SEP, 13, SEP], [CLS, 21, SEP, 0, 0, 0]], np.int32)
        result = mask_tokens(
            token_ids,
            (token_ids > 0).astype(np.int32),
            special_ids=(CLS, SEP),
            mask_id=MASK,
            vocab_size=VOCAB_SIZE,
            mask_rate=0.3,
            max_predictions=2,
            rng=Script([[0.5, 0.3, 0.4, 0.5, 0.2, 0.5], [0.5] * 6], [0.0] * 3, [9, 9, 9]),
        )
        assert result.mask_positions.tolist() == [[1, 4], [1, 0]]
        assert result.mask_ids.tolist() == [[11, 13], [21, 0]]
        assert result.mask_weights.tolist() == [[1, 1], [1, 0]]
        assert result.token_ids.tolist() == [
            [CLS, MASK, 12, SEP, MASK, SEP],
            [CLS, MASK, SEP] + [0] * 3,
        ]

    def test_there_are_never_more_than_candidates(self):
        # 5 tokens x 0.9 = 4.5 -> 4, but 2 candidates.
        result = masked(
            [[CLS, 11, SEP, 12, SEP]], np.random.default_rng(0), max_predictions=5, mask_rate=0.9
        )
        assert result.mask_positions.tolist() == [[1, 3, 0, 0, 0]]
        assert result.mask_weights.tolist() == [[1, 1, 0, 0, 0]]

    def test_the_input_is_left_as_it_was(self):
        token_ids = np.array([[CLS, 11, SEP, 12, SEP]], np.int32)
        masked(token_ids, np.random.default_rng(0))
        assert token_ids.tolist() == [[CLS, 11, SEP, 12, SEP]]

    def test_shares_places_and_random_pieces_are_uniform(self):
        token_ids = np.full((2000, 103), 50, np.int32)
        token_ids[:, 0] = CLS
        token_ids[:, [51, 102]] = SEP
        result = masked(token_ids, np.random.default_rng(3), max_predictions=20, mask_rate=20 / 103)
        total = 40_000
        assert result.mask_weights.sum() == total
        # Standard deviations: sqrt(.8 x .2 / 40,000) = .002 and sqrt(.1 x .9 / 40,000) = .0015.
        assert abs(result.num_masked / total - 0.8) < 0.008
        assert abs(result.num_kept / total - 0.1) < 0.006
        assert result.num_masked + result.num_kept + result.num_random == total
        # Each of the 100 candidates 400 times, standard deviation sqrt(2000 x .2 x .8) = 18.
        places = np.bincount(result.mask_positions.ravel(), minlength=103)
        assert places[[0, 51, 102]].tolist() == [0, 0, 0]
        assert np.delete(places, [0, 51, 102]).min() > 320
        # A random piece is any of the 100, special ones and the original included: about 40 each,
        # standard deviation 6.3.
        replaced = np.take_along_axis(result.token_ids, result.mask_positions, axis=1).ravel()
        random = np.bincount(replaced, minlength=VOCAB_SIZE)
        assert np.delete(random, [MASK, 50]).min() > 12
        assert np.delete(random, [MASK, 50]).max() < 72


class TestWholeWords:
    # 91 and 92 continue the word before them.
    CONTINUES = (91, 92)

    def test_all_pieces_of_a_word_are_chosen_and_a_word_that_is_too_long_is_skipped(self):
        # Words: 1-3 (11 ##91 ##92), 4 (14), 6-7 (16 ##91), 8 (18). 10 tokens x 0.3 = 3. Keys at
        # the words' first pieces: .3, .4, .1, .2. Word 6-7 is taken (2 pieces), 8 too (3).
        token_ids = [[CLS, 11, 91, 92, 14, SEP, 16, 91, 18, SEP]]
        keys = [[0, 0.3, 0.01, 0.01, 0.4, 0, 0.1, 0.01, 0.2, 0]]
        result = masked(token_ids, Script(keys, [0.0] * 3, [9] * 3), continues=self.CONTINUES)
        assert result.mask_positions.tolist() == [[6, 7, 8, 0]]
        assert result.mask_ids.tolist() == [[16, 91, 18, 0]]
        # With the keys .2, .4, .1, .3: after 6-7 the word 1-3 would make 5 of 3: skipped, and the
        # next, 8, fills the number.
        keys = [[0, 0.2, 0.01, 0.01, 0.4, 0, 0.1, 0.01, 0.3, 0]]
        result = masked(token_ids, Script(keys, [0.0] * 3, [9] * 3), continues=self.CONTINUES)
        assert result.mask_positions.tolist() == [[6, 7, 8, 0]]

    def test_there_may_be_fewer_than_wanted(self):
        # Words of 3 and 2 pieces for 8 x 0.3 = 2.4 -> 2 predictions and of 3 and 3 for none.
        keys = [[0, 0.1, 0, 0, 0, 0.2, 0, 0]]
        result = masked(
            [[CLS, 11, 91, 92, SEP, 15, 91, SEP]],
            Script(keys, [0.0] * 2, [9] * 2),
            continues=self.CONTINUES,
        )
        assert result.mask_positions.tolist() == [[5, 6, 0, 0]]
        result = masked(
            [[CLS, 11, 91, 92, SEP, 15, 91, 92, SEP]],
            Script([keys[0] + [0]], [], []),
            mask_rate=0.2,
            continues=self.CONTINUES,
        )
        assert result.mask_weights.tolist() == [[0.0] * 4]

    def test_pieces_are_replaced_one_by_one(self):
        # 6 x 0.3 = 1.8 -> 2: the word 11 ##91, its first piece kept, its second masked.
        result = masked(
            [[CLS, 11, 91, SEP, 14, SEP]],
            Script([[0, 0.1, 0, 0, 0.2, 0]], [0.85, 0.5], [9, 9]),
            continues=self.CONTINUES,
        )
        assert result.token_ids.tolist() == [[CLS, 11, MASK, SEP, 14, SEP]]

    def test_a_first_piece_that_continues_a_word_starts_one(self):
        result = masked(
            [[CLS, 91, 12, SEP, 14, SEP]],
            Script([[0, 0.1, 0.2, 0, 0.3, 0]], [0.0, 0.0], [9, 9]),
            continues=self.CONTINUES,
        )
        assert result.mask_positions.tolist() == [[1, 2, 0, 0]]

    def test_across_a_separator_a_piece_continues_the_word_before_it(self):
        # Part b was truncated from the front and starts with ##91: Google's rule.
        result = masked(
            [[CLS, 11, 12, SEP, 91, SEP]],
            Script([[0, 0.2, 0.1, 0, 0.0, 0]], [0.0, 0.0], [9, 9]),
            continues=self.CONTINUES,
        )
        assert result.mask_positions.tolist() == [[2, 4, 0, 0]]
