"""Pairs of text parts for next-sentence prediction, by the rules of Google's BERT.

The rules are those of `create_instances_from_document` and `truncate_seq_pair` in Google's
`create_pretraining_data.py` (BERT paper, section 3.1 and appendix A.2). The tokens of a block lie
in one flat array and a part is always a stretch of it, so that making a pair is arithmetic on four
indices, and tokens are copied once, for many examples at a time. numpy only.
"""

import bisect
import dataclasses
from collections.abc import Sequence

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
    """

    token_ids: np.ndarray
    sentence_starts: np.ndarray
    document_starts: np.ndarray

    @classmethod
    def from_ragged(
        cls, token_ids: np.ndarray, row_splits: np.ndarray, sentences: Sequence[int]
    ) -> "TokenBlock":
        """Builds a block, leaving out sentences and then documents that have no tokens.

        Args:
            token_ids: int array [tokens]. Values of the ragged tensor of all sentences.
            row_splits: int array [rows + 1]. Its row splits.
            sentences: For each document, how many of the rows are its own.
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
        is_random_next: bool array [pairs]. Whether part b is from another document.
        is_short: bool array [pairs]. Whether the target length of its document was drawn at random.
    """

    a_start: np.ndarray
    a_end: np.ndarray
    b_start: np.ndarray
    b_end: np.ndarray
    is_random_next: np.ndarray
    is_short: np.ndarray

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
    """Goes once over the documents of a block and cuts them into pairs.

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
    rows: list[tuple[int, int, int, int, bool, bool]] = []
    for document in range(block.num_documents):
        target = capacity
        is_short = bool(rng.random() < short_sequence_rate)
        if is_short:
            target = int(rng.integers(2, capacity + 1))
        sentence, document_end = documents[document], documents[document + 1]
        while sentence < document_end:
            gathered_end = _reach(starts, sentence, document_end, target)
            a_end = sentence + 1
            if gathered_end - sentence >= 2:
                a_end = sentence + int(rng.integers(1, gathered_end - sentence))
            is_random = gathered_end - sentence == 1 or bool(rng.random() < random_next_rate)
            part_a = starts[sentence], starts[a_end]
            if is_random:
                # One of the others, each as likely: the own number is skipped.
                other = int(rng.integers(0, block.num_documents - 1))
                other += other >= document
                b_start = int(rng.integers(documents[other], documents[other + 1]))
                wanted = target - (part_a[1] - part_a[0])
                b_end = _reach(starts, b_start, documents[other + 1], wanted)
                part_b = starts[b_start], starts[b_end]
                sentence = a_end
            else:
                part_b = starts[a_end], starts[gathered_end]
                sentence = gathered_end
            rows.append((*_truncate(part_a, part_b, capacity, rng), is_random, is_short))
    columns = np.array(rows, np.int64).reshape(-1, 6).T
    return SentencePairs(*columns[:4], columns[4].astype(bool), columns[5].astype(bool))


def _reach(starts: list[int], first: int, end: int, length: int) -> int:
    """One past the last of the sentences from `first` on that it takes to have `length` tokens.

    At least one sentence is taken, and none from `end` on.
    """
    return bisect.bisect_left(starts, starts[first] + length, first + 1, end)


def _truncate(
    part_a: tuple[int, int], part_b: tuple[int, int], capacity: int, rng: np.random.Generator
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
    from_front = rng.random(excess) < 0.5
    # The longer part loses all until both are equal; from there b and a lose one in turn.
    until_equal = min(abs(a_length - b_length), excess)
    from_a = np.zeros(excess, bool)
    from_a[:until_equal] = a_length > b_length
    from_a[until_equal + 1 :: 2] = True
    a_lost = int(np.count_nonzero(from_a))
    a_front = int(np.count_nonzero(from_front & from_a))
    b_front = int(np.count_nonzero(from_front)) - a_front
    return (
        a_start + a_front,
        a_end - (a_lost - a_front),
        b_start + b_front,
        b_end - (excess - a_lost - b_front),
    )


def join_pairs(
    token_ids: np.ndarray,
    pairs: SentencePairs,
    *,
    sequence_length: int,
    cls_id: int,
    sep_id: int,
    pad_id: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Writes each pair as [CLS] part_a [SEP] part_b [SEP], padded to a fixed length.

    Args:
        token_ids: int32 array [tokens]. Of the block that the pairs are from.
        pairs: SentencePairs. With n pairs.
        sequence_length: int. Must hold the longest of them.
        cls_id: int.
        sep_id: int.
        pad_id: int.

    Returns:
        Three int32 arrays [n, sequence_length]: token_ids, segment_ids (0 up to the first [SEP]
        and on padding, 1 from there to the second) and padding_mask (1 = real token).
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
    joined = np.take(token_ids, source, mode="clip")
    joined[:, 0] = cls_id
    joined[(position == first_sep) | (position == second_sep)] = sep_id
    joined[~is_real] = pad_id
    return (
        joined.astype(np.int32),
        (in_b & is_real).astype(np.int32),
        is_real.astype(np.int32),
    )
