"""Rows of whole sentences for masked words alone, by the rule FULL-SENTENCES of RoBERTa.

The rule (arXiv 1907.11692, section 4.2): a row is filled with consecutive sentences up to its
length; where a document ends, sentences of the next follow, with a separator between. numpy only.
"""

import bisect
import dataclasses

import numpy as np

from keras_bert_tpu.pretraining_data.sentence_pairs import (
    JoinedRows,
    TokenBlock,
    draw_target,
    uniform_draws,
)

# [CLS] sentences [SEP]
NUM_SPECIALS = 2


@dataclasses.dataclass(frozen=True)
class FullRows:
    """Rows as stretches of one stream of tokens, in which documents are separated by [SEP].

    Attributes:
        stream: int32 array [tokens]. The documents of the block in a random order.
        stream_continues_word: int32 array [tokens], or None. As in the block.
        start: int64 array [rows]. First token of each row in the stream.
        end: int64 array [rows]. One past its last token.
        is_short: int64 array [rows]. 1 if the target length was drawn at random.
        document: int64 array [rows]. The document of the block in which the row begins.
    """

    stream: np.ndarray
    stream_continues_word: np.ndarray | None
    start: np.ndarray
    end: np.ndarray
    is_short: np.ndarray
    document: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: slice) -> "FullRows":
        return FullRows(
            self.stream,
            self.stream_continues_word,
            self.start[rows],
            self.end[rows],
            self.is_short[rows],
            self.document[rows],
        )


def make_full_rows(
    block: TokenBlock,
    *,
    sequence_length: int,
    short_sequence_rate: float,
    sep_id: int,
    rng: np.random.Generator,
) -> FullRows:
    """Goes once over the documents of a block, in a random order, and fills rows with sentences.

    A row takes sentences as long as they fit whole. A sentence longer than a row fills it, and
    goes on in the next one. With probability `short_sequence_rate` a row has a random target
    length from 2 to sequence_length - 2.

    Args:
        block: TokenBlock.
        sequence_length: int. Tokens of a row, special tokens included.
        short_sequence_rate: float. 0 in RoBERTa.
        sep_id: int. Separates documents.
        rng: numpy Generator.

    Returns:
        FullRows, which together hold every token of the block once.
    """
    order = rng.permutation(block.num_documents)
    stream, continues_word, sentence_starts, document_of = _concatenate(block, order, sep_id)
    starts, documents = sentence_starts.tolist(), document_of.tolist()
    # A document's last sentence carries the separator, which does not count at the end of a row.
    ends = (sentence_starts[1:] - (np.diff(document_of, append=-1) != 0)).tolist()
    capacity = sequence_length - NUM_SPECIALS
    draw = uniform_draws(rng)
    rows: list[tuple[int, int, bool, int]] = []
    sentence, token = 0, 0
    while sentence < len(ends):
        target, is_short = draw_target(draw, capacity, short_sequence_rate)
        whole = bisect.bisect_right(ends, token + target, sentence)
        if whole > sentence:
            rows.append((token, ends[whole - 1], is_short, documents[sentence]))
            sentence = whole
            token = starts[whole]
        else:
            rows.append((token, token + target, is_short, documents[sentence]))
            token += target
    start, end, is_short, document = np.array(rows, np.int64).reshape(-1, 4).T
    return FullRows(stream, continues_word, start, end, is_short, document)


def join_full_rows(
    rows: FullRows, *, sequence_length: int, cls_id: int, sep_id: int, pad_id: int
) -> JoinedRows:
    """Writes each row as [CLS] sentences [SEP], padded to a fixed length; all in segment 0."""
    position = np.arange(sequence_length)[None, :]
    last = (1 + rows.end - rows.start)[:, None]
    is_real = position <= last
    source = rows.start[:, None] + position - 1
    joined = np.take(rows.stream, source, mode="clip")
    joined[:, 0] = cls_id
    joined[position == last] = sep_id
    joined[~is_real] = pad_id
    continues_word = None
    if rows.stream_continues_word is not None:
        continues_word = np.take(rows.stream_continues_word, source, mode="clip")
        continues_word[(position >= last) | (position == 0)] = 0
    return JoinedRows(
        joined.astype(np.int32),
        np.zeros(joined.shape, np.int32),
        is_real.astype(np.int32),
        continues_word,
    )


def _concatenate(
    block: TokenBlock, order: np.ndarray, sep_id: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """The stream, its word continuations, where its sentences start, and their documents."""
    tokens: list[np.ndarray] = []
    continues: list[np.ndarray] = []
    starts: list[np.ndarray] = []
    document_of: list[np.ndarray] = []
    length = 0
    for document in order.tolist():
        first, end = block.document_starts[document], block.document_starts[document + 1]
        sentences = block.sentence_starts[first : end + 1]
        stretch = slice(sentences[0], sentences[-1])
        tokens += [block.token_ids[stretch], np.array([sep_id], np.int32)]
        if block.continues_word is not None:
            continues += [block.continues_word[stretch], np.zeros(1, np.int32)]
        starts.append(sentences[:-1] - sentences[0] + length)
        document_of.append(np.full(end - first, document))
        length += int(sentences[-1] - sentences[0]) + 1
    nothing = np.zeros(0, np.int32)
    return (
        np.concatenate([nothing, *tokens]),
        None if block.continues_word is None else np.concatenate([nothing, *continues]),
        np.concatenate([np.zeros(0, np.int64), *starts, [length]]),
        np.concatenate([np.zeros(0, np.int64), *document_of]),
    )
