import dataclasses

import numpy as np
import pytest

from keras_bert_tpu.pretraining_data.sentence_pairs import (
    SentencePairs,
    TokenBlock,
    join_pairs,
    make_order_pairs,
    make_pairs,
)

FULL = 0.99  # A draw that is above every rate used here.
RANDOM = 0.01  # A draw that is below every rate.
ALONE = 0.5  # The draw of a place to split at where there is one only.


class Script:
    """A generator whose draws are written down beforehand, in the order in which they are made."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def random(self, size):
        return np.array([self.draws.pop(0)])


def pick(number, choices):
    """The draw that gives `number` of the numbers from 0 to `choices` - 1."""
    assert 0 <= number < choices
    return (number + 0.5) / choices


def fronts(number, tokens):
    """The draw by which so many of the tokens that are taken away are taken from the front."""
    assert 0 <= number <= tokens
    return ((1 << number) - 0.5) / (1 << tokens)


def block_of(*documents):
    """A block from the numbers of tokens of each sentence of each document; token n is n."""
    lengths = [length for document in documents for length in document]
    row_splits = np.concatenate([[0], np.cumsum(lengths)])
    return TokenBlock.from_ragged(
        np.arange(row_splits[-1]), row_splits, [len(document) for document in documents]
    )


def pairs_of(block, script, sequence_length=13):
    """The pairs as (a_start, a_end, b_start, b_end, label, is_short); target length 10."""
    pairs = make_pairs(
        block,
        sequence_length=sequence_length,
        short_sequence_rate=0.1,
        random_next_rate=0.5,
        rng=script,
    )
    assert not script.draws
    columns = (pairs.a_start, pairs.a_end, pairs.b_start, pairs.b_end)
    flags = (pairs.label, pairs.is_short)
    return list(zip(*(column.tolist() for column in columns + flags), strict=True))


class TestTokenBlock:
    def test_empty_sentences_and_then_empty_documents_are_left_out(self):
        # Sentences of 2, 0, 1 | 0 | 0, 3, 0 | 1 tokens: the second document has no tokens.
        block = block_of([2, 0, 1], [0], [0, 3, 0], [1])
        assert block.sentence_starts.tolist() == [0, 2, 3, 6, 7]
        assert block.document_starts.tolist() == [0, 2, 3, 4]
        assert (block.num_documents, block.num_sentences) == (3, 4)
        assert block.document_numbers.tolist() == [0, 2, 3]

    def test_empty_documents_at_both_ends(self):
        block = block_of([0, 0], [2, 3], [0])
        assert block.sentence_starts.tolist() == [0, 2, 5]
        assert block.document_starts.tolist() == [0, 2]

    def test_a_block_without_tokens_has_no_documents(self):
        block = block_of([0], [0, 0])
        assert (block.num_documents, block.num_sentences) == (0, 0)


class TestMakePairs:
    def test_sentences_are_gathered_up_to_the_target_and_the_rest_of_them_follows(self):
        # Document 0: sentences of 4 tokens, [0, 4), [4, 8), [8, 12), [12, 16). Target 10: three are
        # gathered (8 < 10 <= 12). Two go to part a, the third follows as b: 12 tokens, 2 too many,
        # both taken from the longer a, one of them from its front.
        # The fourth is alone: b is random; one sentence of document 1, [16, 26), from its start:
        # 4 + 10 tokens, 4 too many, all from b (10 against 4, in the end 6 against 4), one of them
        # from its front.
        # Document 1 is alone too: 10 + 4 tokens, from document 0's sentence [4, 8); its target is
        # filled from 0 tokens on, so one sentence is enough; 4 too many, all from the front of a.
        script = Script(
            *(FULL, pick(1, 2), FULL, fronts(1, 2)),
            *(ALONE, pick(0, 1), pick(0, 1), fronts(1, 4)),
            *(FULL, ALONE, pick(0, 1), pick(1, 4), fronts(4, 4)),
        )
        assert pairs_of(block_of([4, 4, 4, 4], [10]), script) == [
            (1, 7, 8, 12, 0, 0),
            (12, 16, 17, 23, 1, 0),
            (20, 26, 4, 8, 1, 0),
        ]

    def test_sentences_that_a_random_next_leaves_unused_are_put_back(self):
        # Document 0: [0, 3), [3, 6), [6, 9), [9, 12): four sentences reach 10. One goes to part a,
        # and b is random: 7 tokens are wanted, of document 1's [12, 16), [16, 20), [20, 24) from
        # the second on, 8 tokens: 1 too many, from the longer b, at its front. Then it goes on at
        # [3, 6): three sentences are left, all gathered though they have only 9 tokens; a is the
        # first two, b the third. Document 1: three sentences reach 10 (12), a is one of 4, b the
        # other two of 8; 2 too many, from b, at its back.
        script = Script(
            *(FULL, pick(0, 3), RANDOM, pick(0, 1), pick(1, 3), fronts(1, 1)),
            *(pick(1, 2), FULL),
            *(FULL, pick(0, 2), FULL, fronts(0, 2)),
        )
        assert pairs_of(block_of([3, 3, 3, 3], [4, 4, 4]), script) == [
            (0, 3, 17, 24, 1, 0),
            (3, 9, 9, 12, 0, 0),
            (12, 16, 16, 22, 0, 0),
        ]

    def test_a_short_target_is_drawn_once_for_a_document(self):
        # Target 5 for document 0, sentences of 3: two at a time, [0, 6) and [6, 12), neither
        # truncated. Document 1 keeps the target 10: its only sentence and a random next, [9, 12),
        # 9 tokens; 9 + 3 are 2 too many, from a.
        script = Script(
            *(RANDOM, pick(5 - 2, 9), pick(0, 1), FULL, pick(0, 1), FULL),
            *(FULL, ALONE, pick(0, 1), pick(3, 4), fronts(2, 2)),
        )
        assert pairs_of(block_of([3, 3, 3, 3], [9]), script) == [
            (0, 3, 3, 6, 0, 1),
            (6, 9, 9, 12, 0, 1),
            (14, 21, 9, 12, 1, 0),
        ]

    def test_a_random_next_ends_with_its_document_even_if_it_is_too_short(self):
        # Document 1 has only 2 tokens for the 8 that are wanted; nothing of document 2 follows.
        script = Script(
            *(FULL, ALONE, pick(0, 2), pick(0, 1)),
            *(FULL, ALONE, pick(1, 2), pick(0, 1)),
            *(FULL, ALONE, pick(0, 2), pick(0, 1)),
        )
        assert pairs_of(block_of([2], [2], [2]), script) == [
            (0, 2, 2, 4, 1, 0),
            (2, 4, 4, 6, 1, 0),
            (4, 6, 0, 2, 1, 0),
        ]

    def test_equally_long_parts_lose_tokens_in_turn_b_first(self):
        # a [0, 8), b [8, 14): 14 tokens, 4 too many. a loses two (8 -> 6), then b, then a: 5 and 5.
        # One of the three of a is lost at its front, and that of b.
        script = Script(
            *(FULL, pick(0, 1), FULL, fronts(1, 3), fronts(1, 1)),
            *(FULL, ALONE, pick(0, 1), pick(0, 2), fronts(1, 1)),
        )
        pairs = pairs_of(block_of([8, 6], [3]), script)
        assert pairs[0] == (1, 6, 9, 14, 0, 0)
        # Document 1, [14, 17), with a random next of 7 or more tokens: [0, 8), 1 too many, from b.
        assert pairs[1] == (14, 17, 1, 8, 1, 0)

    def test_truncation_is_that_of_removing_one_token_at_a_time(self):
        rng = np.random.default_rng(0)
        for _ in range(300):
            a, b, capacity = (int(n) for n in rng.integers([1, 1, 5], [140, 140, 140]))
            # Google's loop: from the longer one, from b if they are equal.
            part_a, part_b = list(range(a)), list(range(a, a + b))
            lost = {"a": [], "b": []}
            while len(part_a) + len(part_b) > capacity:
                name, longer = ("a", part_a) if len(part_a) > len(part_b) else ("b", part_b)
                lost[name].append(rng.random() < 0.5)
                del longer[0 if lost[name][-1] else -1]
            draws = []
            for tosses in lost.values():
                for start in range(0, len(tosses), 48):
                    drawn = tosses[start : start + 48]
                    draws.append(fronts(sum(drawn), len(drawn)))
            # Document 0 in two sentences; document 1 of one, whose own truncation is not looked at.
            script = [FULL, pick(0, 1), FULL, *draws]
            block = block_of([a, b], [1])
            if a >= capacity:
                # Part a alone reaches the target, so its next sentence is a random one, which is
                # made to be the one of b tokens.
                script = [FULL, ALONE, pick(0, 1), pick(0, 1), *draws]
                block = block_of([a], [b])
            pairs = make_pairs(
                block,
                sequence_length=capacity + 3,
                short_sequence_rate=0.1,
                random_next_rate=0.5,
                rng=ScriptThenGenerator(script, rng),
            )
            assert (pairs.a_start[0], pairs.a_end[0]) == (part_a[0], part_a[-1] + 1)
            assert (pairs.b_start[0], pairs.b_end[0]) == (part_b[0], part_b[-1] + 1)

    def test_tokens_are_lost_at_the_front_as_often_as_at_the_back(self):
        # One sentence of 100 tokens for each part, of which 61 and 61 are lost.
        front = []
        rng = np.random.default_rng(5)
        for _ in range(200):
            pairs = make_pairs(
                block_of([100], [100]),
                sequence_length=81,
                short_sequence_rate=0.0,
                random_next_rate=0.5,
                rng=rng,
            )
            front += (pairs.a_start % 100).tolist() + (pairs.b_start % 100).tolist()
        # 800 sums of 61 tosses: mean 30.5, and 15.25 is the variance of each.
        assert abs(np.mean(front) - 30.5) < 4 * np.sqrt(15.25 / 800)
        assert abs(np.var(front) - 15.25) < 3.5

    def test_the_other_document_is_never_the_own_and_each_other_is_as_likely(self):
        block = block_of(*[[5]] * 4)
        counts = np.zeros((4, 4), int)
        rng = np.random.default_rng(1)
        for _ in range(3000):
            pairs = make_pairs(
                block,
                sequence_length=13,
                short_sequence_rate=0.0,
                random_next_rate=0.5,
                rng=rng,
            )
            counts[pairs.a_start // 5, pairs.b_start // 5] += 1
        assert np.diag(counts).tolist() == [0] * 4
        # 1,000 expected, standard deviation sqrt(3000 x 1/3 x 2/3) = 26.
        others = counts[~np.eye(4, dtype=bool)]
        assert others.min() > 870 and others.max() < 1130

    def test_a_short_target_is_uniform_from_2_to_the_longest(self):
        # Sentences of one token, never a random next of more than one sentence at target 10: with
        # target t a document of 10 sentences starts with a pair of min(t, 10) tokens, if b follows.
        block = block_of([1] * 10, [1] * 10)
        rng = np.random.default_rng(2)
        lengths = []
        for _ in range(2000):
            pairs = make_pairs(
                block,
                sequence_length=13,
                short_sequence_rate=0.999,
                random_next_rate=0.0,
                rng=rng,
            )
            first = np.flatnonzero(pairs.a_start % 10 == 0)
            lengths += (pairs.b_end - pairs.a_start)[first].tolist()
        # 4,000 draws of the 9 targets 2..10: 444 each, standard deviation 20.
        counts = np.bincount(lengths, minlength=11)
        assert counts[:2].tolist() == [0, 0]
        assert counts[2:].min() > 340 and counts[2:].max() < 550

    def test_a_block_needs_two_documents(self):
        with pytest.raises(ValueError, match="at least 2 documents .* Received: 1"):
            pairs_of(block_of([3, 3], [0]), Script())


class ScriptThenGenerator(Script):
    """Draws from a generator once the script is used up."""

    def __init__(self, draws, generator):
        super().__init__(*draws)
        self.generator = generator

    def random(self, size):
        return super().random(size) if self.draws else self.generator.random(size)


class TestMakeOrderPairs:
    def pairs(self, block, script, swap_rate=0.5):
        pairs = make_order_pairs(
            block, sequence_length=13, short_sequence_rate=0.1, swap_rate=swap_rate, rng=script
        )
        assert not script.draws
        return list(
            zip(
                *(getattr(pairs, field.name).tolist() for field in dataclasses.fields(pairs)),
                strict=True,
            )
        )

    def test_the_later_part_comes_first_where_the_draw_says_so(self):
        # Two chunks of three sentences: [0, 12) in order, cut after two; [12, 24) swapped, cut
        # after one, both 2 tokens too long. The longer part loses them, at its front.
        script = Script(
            *(FULL, pick(1, 2), FULL, fronts(2, 2)),
            *(pick(0, 2), RANDOM, fronts(2, 2)),
        )
        assert self.pairs(block_of([4] * 6), script) == [
            (2, 8, 8, 12, 0, 0, 0),
            (18, 24, 12, 16, 1, 0, 0),
        ]

    def test_a_sentence_alone_is_cut_at_a_token_and_one_of_one_token_is_left_out(self):
        # Document 0: one sentence of 10 tokens, cut after the third. Document 1: one of one token.
        script = Script(*(FULL, pick(2, 9), FULL), *(FULL, ALONE))
        assert self.pairs(block_of([10], [1]), script) == [(0, 3, 3, 10, 0, 0, 0)]

    def test_both_orders_are_as_likely_and_parts_are_neighbours(self):
        rng = np.random.default_rng(0)
        pairs = make_order_pairs(
            block_of(*[[3] * 40] * 50),
            sequence_length=33,
            short_sequence_rate=0.1,
            swap_rate=0.5,
            rng=rng,
        )
        # Some 250 chunks: standard deviation sqrt(.25 / 250) = .032.
        assert len(pairs) > 200 and abs(pairs.label.mean() - 0.5) < 0.13
        is_swapped = pairs.label == 1
        whole = pairs.a_end - pairs.a_start + pairs.b_end - pairs.b_start < 30
        ends = np.where(is_swapped, pairs.b_end, pairs.a_end)
        starts = np.where(is_swapped, pairs.a_start, pairs.b_start)
        assert whole.sum() > 20
        np.testing.assert_array_equal(ends[whole], starts[whole])
        assert (ends <= starts).all()


class TestJoinPairs:
    def pairs(self, *rows):
        zeros = np.zeros(len(rows), int)
        return SentencePairs(*np.array(rows).T, zeros, zeros, zeros)

    def test_parts_stand_between_special_tokens(self):
        block = TokenBlock(
            np.arange(100, 120, dtype=np.int32),
            np.array([0, 20]),
            np.array([0, 1]),
            np.array([0]),
            np.arange(20, dtype=np.int32),
        )
        rows = join_pairs(
            block,
            self.pairs((2, 5, 10, 12), (0, 1, 17, 20)),
            sequence_length=9,
            cls_id=7,
            sep_id=8,
            pad_id=0,
        )
        assert rows.token_ids.tolist() == [
            [7, 102, 103, 104, 8, 110, 111, 8, 0],
            [7, 100, 8, 117, 118, 119, 8, 0, 0],
        ]
        assert rows.segment_ids.tolist() == [
            [0, 0, 0, 0, 0, 1, 1, 1, 0],
            [0, 0, 0, 1, 1, 1, 1, 0, 0],
        ]
        assert rows.padding_mask.tolist() == [[1] * 8 + [0], [1] * 7 + [0, 0]]
        assert rows.continues_word.tolist() == [
            [0, 2, 3, 4, 0, 10, 11, 0, 0],
            [0, 0, 0, 17, 18, 19, 0, 0, 0],
        ]
        assert {array.dtype for array in rows} == {np.dtype(np.int32)}

    def test_a_pair_may_fill_the_whole_length(self):
        rows = join_pairs(
            block_of([5]),
            self.pairs((0, 2, 2, 5)),
            sequence_length=8,
            cls_id=11,
            sep_id=12,
            pad_id=0,
        )
        assert rows.token_ids.tolist() == [[11, 0, 1, 12, 2, 3, 4, 12]]
        assert rows.segment_ids.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
        assert rows.padding_mask.tolist() == [[1] * 8]
        assert rows.continues_word is None
