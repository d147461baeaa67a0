import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_bert_tpu.pretraining_data.full_sentences import join_full_rows, make_full_rows
from keras_bert_tpu.pretraining_data.sentence_pairs import TokenBlock

SEP = 1_000_000


class Script:
    """A generator with documents in their own order and draws that are written down beforehand."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def permutation(self, number):
        return np.arange(number)

    def random(self, size):
        return np.array([self.draws.pop(0)])


def block_of(*documents, continues_word=None):
    """A block from the numbers of tokens of each sentence of each document; token n is n."""
    row_splits = np.concatenate([[0], np.cumsum([n for document in documents for n in document])])
    return TokenBlock.from_ragged(
        np.arange(row_splits[-1]), row_splits, [len(d) for d in documents], continues_word
    )


def rows_of(block, rng, sequence_length=12, short_sequence_rate=0.0):
    return make_full_rows(
        block,
        sequence_length=sequence_length,
        short_sequence_rate=short_sequence_rate,
        sep_id=SEP,
        rng=rng,
    )


def tokens_of(rows):
    return [rows.stream[a:b].tolist() for a, b in zip(rows.start, rows.end, strict=True)]


class TestMakeFullRows:
    def test_rows_hold_whole_sentences_and_cross_documents_with_a_separator(self):
        # Room for 10. Document 0: sentences of 4, 4, 4; document 1: 3, 3; document 2: 6.
        # Two of 4; then 4, separator, 3 (8 tokens), as 3 more would be 11; 3, separator, 6.
        rows = rows_of(block_of([4, 4, 4], [3, 3], [6]), Script(*[0.9] * 3))
        assert tokens_of(rows) == [
            [0, 1, 2, 3, 4, 5, 6, 7],
            [8, 9, 10, 11, SEP, 12, 13, 14],
            [15, 16, 17, SEP, 18, 19, 20, 21, 22, 23],
        ]
        assert rows.document.tolist() == [0, 0, 1]

    def test_a_separator_at_the_end_of_a_row_is_left_out(self):
        # Documents of 10 tokens fill the row without their separator.
        rows = rows_of(block_of([10], [5, 5], [2]), Script(*[0.9] * 3))
        assert [len(row) for row in tokens_of(rows)] == [10, 10, 2]
        assert not any(SEP in row for row in tokens_of(rows))

    def test_a_sentence_longer_than_a_row_fills_it_and_goes_on(self):
        rows = rows_of(block_of([3, 24, 2]), Script(*[0.9] * 4))
        assert [len(row) for row in tokens_of(rows)] == [3, 10, 10, 4 + 2]

    def test_a_short_row_has_a_target_of_its_own(self):
        # The first row is short: target 2 + int(9 x .4) = 5, so one sentence of 4; the others full.
        rows = rows_of(block_of([4, 4, 4, 4]), Script(0.01, 0.4, 0.9, 0.9), short_sequence_rate=0.1)
        assert [len(row) for row in tokens_of(rows)] == [4, 8, 4]
        assert rows.is_short.tolist() == [1, 0, 0]

    def test_short_rows_are_as_many_as_the_rate_says(self):
        block = block_of(*[[1] * 100] * 200)
        rows = rows_of(block, np.random.default_rng(0), short_sequence_rate=0.1)
        # Some 2,200 rows: standard deviation sqrt(.1 x .9 / 2,200) = .0064.
        assert len(rows) > 2000 and abs(rows.is_short.mean() - 0.1) < 0.026

    @settings(max_examples=50, derandomize=True, deadline=None)
    @given(
        documents=st.lists(
            st.lists(st.integers(0, 30), min_size=1, max_size=8), min_size=1, max_size=6
        ),
        rate=st.sampled_from([0.0, 0.3]),
        seed=st.integers(0, 100),
    )
    def test_every_token_is_in_one_row_and_no_row_is_too_long(self, documents, rate, seed):
        block = block_of(*documents)
        rows = rows_of(block, np.random.default_rng(seed), short_sequence_rate=rate)
        found = [token for row in tokens_of(rows) for token in row if token != SEP]
        assert sorted(found) == list(range(len(block.token_ids)))
        assert all(0 < len(row) <= 10 for row in tokens_of(rows))
        assert not any(SEP in (row[0], row[-1]) for row in tokens_of(rows))

    def test_documents_come_in_another_order_each_time(self):
        block = block_of(*[[10]] * 20)
        orders = {
            tuple(rows_of(block, np.random.default_rng(seed)).document.tolist())
            for seed in range(5)
        }
        assert len(orders) == 5


def test_rows_are_joined_with_special_tokens_and_padding():
    block = block_of([4], [3], continues_word=np.array([0, 1, 1, 0, 1, 0, 1]))
    rows = rows_of(block, Script(0.9, 0.9), sequence_length=8)
    joined = join_full_rows(rows, sequence_length=8, cls_id=50, sep_id=51, pad_id=52)
    assert joined.token_ids.tolist() == [
        [50, 0, 1, 2, 3, 51, 52, 52],
        [50, 4, 5, 6, 51, 52, 52, 52],
    ]
    assert joined.padding_mask.tolist() == [[1] * 6 + [0] * 2, [1] * 5 + [0] * 3]
    assert joined.continues_word.tolist() == [[0, 0, 1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0, 0, 0]]
    assert not joined.segment_ids.any()
