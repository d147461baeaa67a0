import numpy as np
import pytest

from keras_bert_tpu.pretraining_data.sentence_pairs import (
    SentencePairs,
    TokenBlock,
    join_pairs,
    make_pairs,
)

FULL = 0.99  # A draw that is above every rate used here.
RANDOM = 0.01  # A draw that is below every rate.


class Script:
    """A generator whose draws are written down beforehand, in the order in which they are made."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def random(self, size=None):
        draw = self.draws.pop(0)
        assert (size is None) == isinstance(draw, float)
        assert size is None or len(draw) == size
        return draw if size is None else np.array(draw)

    def integers(self, low, high):
        draw = self.draws.pop(0)
        assert isinstance(draw, int) and low <= draw < high
        return draw


def block_of(*documents):
    """A block from the numbers of tokens of each sentence of each document; token n is n."""
    lengths = [length for document in documents for length in document]
    row_splits = np.concatenate([[0], np.cumsum(lengths)])
    return TokenBlock.from_ragged(
        np.arange(row_splits[-1]), row_splits, [len(document) for document in documents]
    )


def pairs_of(block, script, sequence_length=13):
    """The pairs as (a_start, a_end, b_start, b_end, is_random_next, is_short); target length 10."""
    pairs = make_pairs(
        block,
        sequence_length=sequence_length,
        short_sequence_rate=0.1,
        random_next_rate=0.5,
        rng=script,
    )
    assert not script.draws
    columns = (pairs.a_start, pairs.a_end, pairs.b_start, pairs.b_end)
    flags = (pairs.is_random_next, pairs.is_short)
    return list(zip(*(column.tolist() for column in columns + flags), strict=True))


class TestTokenBlock:
    def test_empty_sentences_and_then_empty_documents_are_left_out(self):
        # Sentences of 2, 0, 1 | 0 | 0, 3, 0 | 1 tokens: the second document has no tokens.
        block = block_of([2, 0, 1], [0], [0, 3, 0], [1])
        assert block.sentence_starts.tolist() == [0, 2, 3, 6, 7]
        assert block.document_starts.tolist() == [0, 2, 3, 4]
        assert (block.num_documents, block.num_sentences) == (3, 4)

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
        # both taken from the longer a, the first from its front, the second from its back.
        # The fourth is alone: b is random; one sentence of document 1, [16, 26), from its start:
        # 4 + 10 tokens, 4 too many, all from b (10 against 4, in the end 6 against 4).
        # Document 1 is alone too: 10 + 4 tokens, from document 0's sentence [4, 8); its target is
        # filled from 0 tokens on, so one sentence is enough; 4 too many, all from a.
        script = Script(
            *(FULL, 2, FULL, [RANDOM, FULL]),
            *(0, 4, [FULL, FULL, RANDOM, FULL]),
            *(FULL, 0, 1, [RANDOM, RANDOM, RANDOM, RANDOM]),
        )
        assert pairs_of(block_of([4, 4, 4, 4], [10]), script) == [
            (1, 7, 8, 12, False, False),
            (12, 16, 17, 23, True, False),
            (20, 26, 4, 8, True, False),
        ]

    def test_sentences_that_a_random_next_leaves_unused_are_put_back(self):
        # Document 0: [0, 3), [3, 6), [6, 9), [9, 12): four sentences reach 10. One goes to part a,
        # and b is random: 7 tokens are wanted, of document 1's [12, 16), [16, 20), [20, 24) from
        # the second on, 8 tokens: 1 too many, from the longer b, at its front. Then it goes on at
        # [3, 6): three sentences are left, all gathered though they have only 9 tokens; a is the
        # first two, b the third. Document 1: three sentences reach 10 (12), a is one of 4, b the
        # other two of 8; 2 too many, from b, at its back.
        script = Script(
            *(FULL, 1, RANDOM, 0, 5, [RANDOM]),
            *(2, FULL),
            *(FULL, 1, FULL, [FULL, FULL]),
        )
        assert pairs_of(block_of([3, 3, 3, 3], [4, 4, 4]), script) == [
            (0, 3, 17, 24, True, False),
            (3, 9, 9, 12, False, False),
            (12, 16, 16, 22, False, False),
        ]

    def test_a_short_target_is_drawn_once_for_a_document(self):
        # Target 5 for document 0, sentences of 3: two at a time, [0, 6) and [6, 12), neither
        # truncated. Document 1 keeps the target 10: its only sentence and a random next, [9, 12),
        # 9 tokens; 9 + 3 are 2 too many, from a.
        script = Script(
            *(RANDOM, 5, 1, FULL, 1, FULL),
            *(FULL, 0, 3, [RANDOM, RANDOM]),
        )
        assert pairs_of(block_of([3, 3, 3, 3], [9]), script) == [
            (0, 3, 3, 6, False, True),
            (6, 9, 9, 12, False, True),
            (14, 21, 9, 12, True, False),
        ]

    def test_a_random_next_ends_with_its_document_even_if_it_is_too_short(self):
        # Document 1 has only 2 tokens for the 8 that are wanted; nothing of document 2 follows.
        script = Script(
            *(FULL, 0, 1),
            *(FULL, 1, 2),
            *(FULL, 0, 0),
        )
        assert pairs_of(block_of([2], [2], [2]), script) == [
            (0, 2, 2, 4, True, False),
            (2, 4, 4, 6, True, False),
            (4, 6, 0, 2, True, False),
        ]

    def test_equally_long_parts_lose_tokens_in_turn_b_first(self):
        # a [0, 8), b [8, 14): 14 tokens, 4 too many. a loses two (8 -> 6), then b, then a: 5 and 5.
        # Front, back for a; front for b; back for a.
        script = Script(
            *(FULL, 1, FULL, [RANDOM, FULL, RANDOM, FULL]),
            *(FULL, 0, 0, [RANDOM]),
        )
        pairs = pairs_of(block_of([8, 6], [3]), script)
        assert pairs[0] == (1, 6, 9, 14, False, False)
        # Document 1, [14, 17), with a random next of 7 or more tokens: [0, 8), 1 too many, from b.
        assert pairs[1] == (14, 17, 1, 8, True, False)

    def test_truncation_is_that_of_removing_one_token_at_a_time(self):
        rng = np.random.default_rng(0)
        for _ in range(300):
            a, b, capacity = (int(n) for n in rng.integers([1, 1, 5], [40, 40, 40]))
            excess = max(0, a + b - capacity)
            draws = rng.random(excess).tolist()
            # Google's loop: from the longer one, from b if they are equal.
            part_a, part_b = list(range(a)), list(range(a, a + b))
            for draw in draws:
                longer = part_a if len(part_a) > len(part_b) else part_b
                del longer[0 if draw < 0.5 else -1]
            # Document 0 in two sentences; document 1 of one, whose own truncation is not looked at.
            script = [FULL, 1, FULL] + ([draws] if excess else [])
            if a >= capacity:
                # Part a alone reaches the target, so its next sentence is a random one, which is
                # made to be the one of b tokens.
                script = [FULL, 0, 1] + ([draws] if excess else [])
                block = block_of([a], [b])
            else:
                block = block_of([a, b], [1])
            pairs = make_pairs(
                block,
                sequence_length=capacity + 3,
                short_sequence_rate=0.1,
                random_next_rate=0.5,
                rng=ScriptThenGenerator(script, rng),
            )
            assert (pairs.a_start[0], pairs.a_end[0]) == (part_a[0], part_a[-1] + 1)
            assert (pairs.b_start[0], pairs.b_end[0]) == (part_b[0], part_b[-1] + 1)

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

    def random(self, size=None):
        return super().random(size) if self.draws else self.generator.random(size)

    def integers(self, low, high):
        return super().integers(low, high) if self.draws else self.generator.integers(low, high)


class TestJoinPairs:
    def test_parts_stand_between_special_tokens(self):
        tokens = np.arange(100, 120, dtype=np.int32)
        pairs = SentencePairs(
            a_start=np.array([2, 0]),
            a_end=np.array([5, 1]),
            b_start=np.array([10, 17]),
            b_end=np.array([12, 20]),
            is_random_next=np.array([True, False]),
            is_short=np.array([False, False]),
        )
        token_ids, segment_ids, padding_mask = join_pairs(
            tokens, pairs, sequence_length=9, cls_id=7, sep_id=8, pad_id=0
        )
        assert token_ids.tolist() == [
            [7, 102, 103, 104, 8, 110, 111, 8, 0],
            [7, 100, 8, 117, 118, 119, 8, 0, 0],
        ]
        assert segment_ids.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1, 0, 0]]
        assert padding_mask.tolist() == [[1] * 8 + [0], [1] * 7 + [0, 0]]
        assert {array.dtype for array in (token_ids, segment_ids, padding_mask)} == {
            np.dtype(np.int32)
        }

    def test_a_pair_may_fill_the_whole_length(self):
        pairs = SentencePairs(*(np.array([n]) for n in (0, 2, 2, 5)), *[np.array([False])] * 2)
        token_ids, segment_ids, padding_mask = join_pairs(
            np.arange(10, 15), pairs, sequence_length=8, cls_id=1, sep_id=2, pad_id=0
        )
        assert token_ids.tolist() == [[1, 10, 11, 2, 12, 13, 14, 2]]
        assert segment_ids.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
        assert padding_mask.tolist() == [[1] * 8]
