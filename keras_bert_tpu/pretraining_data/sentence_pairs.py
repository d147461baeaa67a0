"""Pairs of text parts for next-sentence prediction (BERT) and sentence order (ALBERT).

The rules are those of `create_instances_from_document` and `truncate_seq_pair` in Google's
`create_pretraining_data.py` (BERT paper, section 3.1 and appendix A.2). The tokens of a block lie
in one flat array and a part is always a stretch of it, so that making a pair is arithmetic on four
indices, and tokens are copied once, for many examples at a time. numpy only.
"""

import bisect
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

# [CLS] part_a [SEP] part_b [SEP]
NUM_SPECIALS = 3


@dataclasses.dataclass(frozen=True)
class TokenBlock:
    """The token ids of a block of documents.

    Attributes:
        token_ids: int32 array [tokens]. All sentences in a row.
        sentence_starts: int64 array [sentences + 1]. Where each sentence starts in `token_ids`, and
            the end. No sentence is empty.
        document_starts: int64 array [documents + 1]. Where each document starts in
            `sentence_starts`, and the end. No document is empty.
        document_numbers: int64 array [documents]. Which documents of the block as it was given
            these are.
        continues_word: int32 array [tokens], or None. 1 where a piece continues the word before
            it; given if that does not follow from the piece.
    """

    token_ids: np.ndarray
    sentence_starts: np.ndarray
    document_starts: np.ndarray
    document_numbers: np.ndarray
    continues_word: np.ndarray | None = None

    @classmethod
    def from_ragged(
        cls,
        token_ids: np.ndarray,
        row_splits: np.ndarray,
        sentences: Sequence[int],
        continues_word: np.ndarray | None = None,
    ) -> "TokenBlock":
        """Builds a block, leaving out sentences and then documents that have no tokens.

        Args:
            token_ids: int array [tokens]. Values of the ragged tensor of all sentences.
            row_splits: int array [rows + 1]. Its row splits.
            sentences: For each document, how many of the rows are its own.
            continues_word: int array [tokens] or None.
        """
        row_splits = np.asarray(row_splits, np.int64)
        keep = np.diff(row_splits) > 0
        # Rows kept before each row, read off at the first row of each document.
        kept_before = np.concatenate([[0], np.cumsum(keep)])
        document_starts = kept_before[np.concatenate([[0], np.cumsum(sentences)]).astype(np.int64)]
        return cls(
            np.asarray(token_ids, np.int32),
            # An empty row starts where the next one does, so dropping its start drops the row.
            np.append(row_splits[:-1][keep], row_splits[-1]),
            np.unique(document_starts),
            np.flatnonzero(np.diff(document_starts)),
            None if continues_word is None else np.asarray(continues_word, np.int32),
        )

    @property
    def num_documents(self) -> int:
        """Documents that have tokens."""
        return len(self.document_starts) - 1

    @property
    def num_sentences(self) -> int:
        """Sentences that have tokens."""
        return len(self.sentence_starts) - 1


@dataclasses.dataclass(frozen=True)
class SentencePairs:
    """The pairs made of a block: two stretches of its tokens each.

    Attributes:
        a_start: int64 array [pairs]. First token of part a in `TokenBlock.token_ids`.
        a_end: int64 array [pairs]. One past its last token.
        b_start: int64 array [pairs]. First token of part b.
        b_end: int64 array [pairs]. One past its last token.
        label: int64 array [pairs]. The next-sentence label: 1 if part b is from another document
            or, for sentence order, if the parts are swapped.
        is_short: int64 array [pairs]. 1 if the target length of its document was drawn at random.
        document: int64 array [pairs]. The document of the block whose sentences were gathered.
    """

    a_start: np.ndarray
    a_end: np.ndarray
    b_start: np.ndarray
    b_end: np.ndarray
    label: np.ndarray
    is_short: np.ndarray
    document: np.ndarray

    def __len__(self) -> int:
        return len(self.a_start)

    def __getitem__(self, rows: slice) -> "SentencePairs":
        return SentencePairs(
            *(getattr(self, field.name)[rows] for field in dataclasses.fields(self))
        )


def make_pairs(
    block: TokenBlock,
    *,
    sequence_length: int,
    short_sequence_rate: float,
    random_next_rate: float,
    rng: np.random.Generator,
) -> SentencePairs:
    """Goes once over the documents of a block and cuts them into pairs for next sentences.

    For each document the target length is sequence_length - 3 or, with probability
    `short_sequence_rate`, a random one from 2 up to that (drawn once for the document, as in
    Google's code). Whole sentences are gathered until they reach the target or the document ends;
    a random number of them, at least one, is part a. With probability `random_next_rate`, or if
    there is one sentence only, part b is random: sentences of another document of the block, from
    a random one on, until the target is filled; the gathered sentences that part a leaves unused
    are then put back. Otherwise part b is the rest of the gathered sentences.

    Args:
        block: TokenBlock. At least two documents.
        sequence_length: int. Tokens of an example, special tokens included.
        short_sequence_rate: float.
        random_next_rate: float.
        rng: numpy Generator.

    Returns:
        SentencePairs in the order of the documents; both parts of each have a token or more, and
        together at most sequence_length - 3.

    Raises:
        ValueError: If the block has fewer than two documents.
    """
    if block.num_documents < 2:
        raise ValueError(
            f"A block needs at least 2 documents to draw a random next sentence from another one. "
            f"Received: {block.num_documents}."
        )
    starts = block.sentence_starts.tolist()
    documents = block.document_starts.tolist()
    capacity = sequence_length - NUM_SPECIALS
    draw = uniform_draws(rng)
    rows: list[tuple[int, ...]] = []
    for document in range(block.num_documents):
        target, is_short = draw_target(draw, capacity, short_sequence_rate)
        sentence, document_end = documents[document], documents[document + 1]
        while sentence < document_end:
            gathered_end = _reach(starts, sentence, document_end, target)
            a_end = _split(draw, sentence, gathered_end)
            is_random = gathered_end - sentence == 1 or draw() < random_next_rate
            part_a = starts[sentence], starts[a_end]
            if is_random:
                # One of the others, each as likely: the own number is skipped.
                other = draw_below(draw, block.num_documents - 1)
                other += other >= document
                first = documents[other]
                b_start = first + draw_below(draw, documents[other + 1] - first)
                wanted = target - (part_a[1] - part_a[0])
                b_end = _reach(starts, b_start, documents[other + 1], wanted)
                part_b = starts[b_start], starts[b_end]
                sentence = a_end
            else:
                part_b = starts[a_end], starts[gathered_end]
                sentence = gathered_end
            parts = _truncate(part_a, part_b, capacity, draw)
            rows.append((*parts, is_random, is_short, document))
    return _to_pairs(rows)


def make_order_pairs(
    block: TokenBlock,
    *,
    sequence_length: int,
    short_sequence_rate: float,
    swap_rate: float,
    rng: np.random.Generator,
) -> SentencePairs:
    """Goes once over the documents of a block and cuts them into pairs for sentence order.

    The rule is that of ALBERT (arXiv 1909.11942, section 3.1): both parts are consecutive, and
    with probability `swap_rate` the later one comes first, with label 1. Sentences are gathered as
    in `make_pairs`. A sentence that is gathered alone is cut in two at a random token, and is left
    out if it has one token only.

    Args:
        block: TokenBlock. At least one document.
        sequence_length: int. Tokens of an example, special tokens included.
        short_sequence_rate: float.
        swap_rate: float.
        rng: numpy Generator.

    Returns:
        SentencePairs in the order of the documents, as from `make_pairs`.
    """
    starts = block.sentence_starts.tolist()
    documents = block.document_starts.tolist()
    capacity = sequence_length - NUM_SPECIALS
    draw = uniform_draws(rng)
    rows: list[tuple[int, ...]] = []
    for document in range(block.num_documents):
        target, is_short = draw_target(draw, capacity, short_sequence_rate)
        sentence, document_end = documents[document], documents[document + 1]
        while sentence < document_end:
            gathered_end = _reach(starts, sentence, document_end, target)
            first, end = starts[sentence], starts[gathered_end]
            if gathered_end - sentence >= 2:
                middle = starts[_split(draw, sentence, gathered_end)]
            else:
                middle = _split(draw, first, end)
            sentence = gathered_end
            if middle == end:
                continue
            is_swapped = draw() < swap_rate
            parts = _truncate((first, middle), (middle, end), capacity, draw)
            if is_swapped:
                parts = (*parts[2:], *parts[:2])
            rows.append((*parts, is_swapped, is_short, document))
    return _to_pairs(rows)


def uniform_draws(rng: np.random.Generator) -> Callable[[], float]:
    """Returns a function that gives a number in [0, 1), faster than `rng.random()` does."""

    def numbers() -> Iterator[float]:
        while True:
            yield from rng.random(1024).tolist()

    return numbers().__next__


def draw_below(draw: Callable[[], float], limit: int) -> int:
    """Draws an integer from 0 to `limit` - 1."""
    return int(draw() * limit)


def draw_target(
    draw: Callable[[], float], capacity: int, short_sequence_rate: float
) -> tuple[int, bool]:
    """Draws a target length in tokens, and says whether it is a short one.

    "We *usually* want to fill up the entire sequence", as Google's code has it, but sometimes want
    shorter ones, "to minimize the mismatch between pre-training and fine-tuning".
    """
    if draw() < short_sequence_rate:
        return 2 + draw_below(draw, capacity - 1), True
    return capacity, False


def _split(draw: Callable[[], float], first: int, end: int) -> int:
    """A random place between two of the entries from `first` to `end`; `end` if there is one."""
    return first + 1 + draw_below(draw, end - first - 1)


def _to_pairs(rows: list[tuple[int, ...]]) -> SentencePairs:
    return SentencePairs(*np.array(rows, np.int64).reshape(-1, 7).T)


def _reach(starts: list[int], first: int, end: int, length: int) -> int:
    """One past the last of the sentences from `first` on that it takes to have `length` tokens.

    At least one sentence is taken, and none from `end` on.
    """
    return bisect.bisect_left(starts, starts[first] + length, first + 1, end)


def _truncate(
    part_a: tuple[int, int],
    part_b: tuple[int, int],
    capacity: int,
    draw: Callable[[], float],
) -> tuple[int, int, int, int]:
    """Takes tokens away, one at a time, until the parts have `capacity` together.

    Each is taken from the longer part (from b if they are equally long), from its front or its back
    with the same probability, "to add more randomness and avoid biases" (Google's code).
    """
    a_start, a_end = part_a
    b_start, b_end = part_b
    a_length, b_length = a_end - a_start, b_end - b_start
    excess = a_length + b_length - capacity
    if excess <= 0:
        return a_start, a_end, b_start, b_end
    # The longer part loses all until both are equal; from there b and a lose one in turn.
    until_equal = min(abs(a_length - b_length), excess)
    a_lost = (excess - until_equal) // 2
    if a_length > b_length:
        a_lost += until_equal
    b_lost = excess - a_lost
    a_front, b_front = _heads(draw, a_lost), _heads(draw, b_lost)
    return (
        a_start + a_front,
        a_end - (a_lost - a_front),
        b_start + b_front,
        b_end - (b_lost - b_front),
    )


def _heads(draw: Callable[[], float], tosses: int) -> int:
    """How many of so many tosses of a coin show heads."""
    heads = 0
    while tosses > 0:
        # The leading bits of a float in [0, 1) are random; it has 53.
        at_once = min(tosses, 48)
        heads += int(draw() * (1 << at_once)).bit_count()
        tosses -= at_once
    return heads


class JoinedRows(NamedTuple):
    """Rows with their special tokens, padded to one length.

    Attributes:
        token_ids: int32 array [n, sequence_length].
        segment_ids: int32 array [n, sequence_length]. 0 up to the first [SEP] and on padding, 1
            from there to the second.
        padding_mask: int32 array [n, sequence_length]. 1 = real token.
        continues_word: int32 array [n, sequence_length], or None. As in the block.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    padding_mask: np.ndarray
    continues_word: np.ndarray | None


def join_pairs(
    block: TokenBlock,
    pairs: SentencePairs,
    *,
    sequence_length: int,
    cls_id: int,
    sep_id: int,
    pad_id: int,
) -> JoinedRows:
    """Writes each pair as [CLS] part_a [SEP] part_b [SEP], padded to a fixed length.

    Args:
        block: TokenBlock. What the pairs are from.
        pairs: SentencePairs. With n pairs.
        sequence_length: int. Must hold the longest of them.
        cls_id: int.
        sep_id: int.
        pad_id: int.

    Returns:
        JoinedRows of n rows.
    """
    position = np.arange(sequence_length)[None, :]
    first_sep = (1 + pairs.a_end - pairs.a_start)[:, None]
    second_sep = first_sep + (1 + pairs.b_end - pairs.b_start)[:, None]
    in_b = position > first_sep
    source = np.where(
        in_b,
        pairs.b_start[:, None] + position - first_sep - 1,
        pairs.a_start[:, None] + position - 1,
    )
    is_real = position <= second_sep
    is_sep = (position == first_sep) | (position == second_sep)
    joined = np.take(block.token_ids, source, mode="clip")
    joined[:, 0] = cls_id
    joined[is_sep] = sep_id
    joined[~is_real] = pad_id
    continues_word = None
    if block.continues_word is not None:
        continues_word = np.take(block.continues_word, source, mode="clip")
        continues_word[is_sep | ~is_real | (position == 0)] = 0
    return JoinedRows(
        joined.astype(np.int32),
        (in_b & is_real).astype(np.int32),
        is_real.astype(np.int32),
        continues_word,
    )
