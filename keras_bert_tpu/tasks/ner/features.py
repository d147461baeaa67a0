"""Sentences as rows of a model, with labels on the first piece of each word.

Only first pieces count (Devlin et al. 2018, section 5.3). A sentence that is too long is cut into
windows that overlap, and each word counts in the one where its first piece has most context; so
every word has one prediction, and is trained on once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import windows
from keras_bert_tpu.tasks.ner.reading import Sentence
from keras_bert_tpu.tasks.row_files import some
from keras_bert_tpu.text.rows import join_rows
from keras_bert_tpu.text.tokenizer import BertTokenizer

# Words that are tokenized at once.
_BATCH = 8192
_SPECIALS = 2  # [CLS] window [SEP]


class NerFeatures(NamedTuple):
    """Rows `[CLS] window of a sentence [SEP]` of many sentences.

    Attributes:
        token_ids, segment_ids, padding_mask: int32 [rows, length]. As from `join_rows`.
        label_ids: int32 [rows, length]. The label of the word at its first piece; 0 elsewhere.
        label_weights: float32 [rows, length]. 1 where a label counts; 0 elsewhere, and everywhere
            if the sentences have no labels.
        sentence_index: int32 [rows], ascending. Whose sentence it is.
        word_rows, word_positions: int32 [words]. Where each word of all sentences, one after
            another, has its prediction.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    padding_mask: np.ndarray
    label_ids: np.ndarray
    label_weights: np.ndarray
    sentence_index: np.ndarray
    word_rows: np.ndarray
    word_positions: np.ndarray


def make_features(
    sentences: Sequence[Sentence],
    tokenizer: BertTokenizer,
    labels: Sequence[str],
    sequence_length: int = 128,
    stride: int | None = None,
) -> NerFeatures:
    """Makes the rows of sentences.

    A word that has no piece, such as one of control characters, has [UNK].

    Args:
        sentences: Sequence of Sentence, with labels or all without.
        tokenizer: BertTokenizer.
        labels: Sequence of str. All labels; the id of one is its place.
        sequence_length: int. Length of all rows.
        stride: int or None. Pieces from the start of a window to that of the next one; None takes
            half of a window.

    Returns:
        NerFeatures, in the order of the sentences.

    Raises:
        InputError: If a label is not one of `labels`, or the lengths leave no room.
    """
    room = sequence_length - _SPECIALS
    stride = max(1, room // 2) if stride is None else stride
    if min(room, stride) < 1:
        raise InputError(
            f"sequence_length must be at least {_SPECIALS + 1} and stride at least 1. Received: "
            f"sequence_length={sequence_length}, stride={stride}."
        )
    pieces = _tokenize([word for sentence in sentences for word in sentence.words], tokenizer)
    counts = np.array([len(sentence.words) for sentence in sentences])
    word_ends = np.cumsum(counts)
    piece_bounds = np.concatenate([[0], np.cumsum(pieces.row_lengths().numpy())])
    flat = pieces.values.numpy()
    rows: list[np.ndarray] = []
    sentence_index: list[int] = []
    word_rows, word_positions = np.zeros((2, len(piece_bounds) - 1), np.int32)
    for index, (count, end) in enumerate(zip(counts, word_ends, strict=True)):
        bounds = piece_bounds[end - count : end + 1]
        size = int(bounds[-1] - bounds[0])
        found = windows.spans(size, room, stride)
        first_pieces = bounds[:-1] - bounds[0]
        best = windows.max_context(found, size)[first_pieces]
        word_rows[end - count : end] = best + len(rows)
        word_positions[end - count : end] = first_pieces - found.starts[best] + 1  # Behind [CLS].
        for start, length in zip(*found, strict=True):
            rows.append(flat[bounds[0] + start : bounds[0] + start + length])
            sentence_index.append(index)
    segment = tf.RaggedTensor.from_row_lengths(
        np.concatenate([np.zeros(0, np.int32), *rows]),
        np.array([len(row) for row in rows], np.int64),
    )
    joined = join_rows([segment], tokenizer.vocabulary, sequence_length)
    label_ids = np.zeros((len(rows), sequence_length), np.int32)
    label_weights = np.zeros((len(rows), sequence_length), np.float32)
    if any(sentence.labels for sentence in sentences):
        label_ids[word_rows, word_positions] = _ids_of(sentences, labels)
        label_weights[word_rows, word_positions] = 1
    return NerFeatures(
        **{name: value.numpy() for name, value in joined.items()},
        label_ids=label_ids,
        label_weights=label_weights,
        sentence_index=np.array(sentence_index, np.int32),
        word_rows=word_rows,
        word_positions=word_positions,
    )


def labels_of_words(
    predicted_ids: np.ndarray,
    features: NerFeatures,
    sentences: Sequence[Sentence],
    labels: Sequence[str],
) -> list[list[str]]:
    """Returns the predicted label of each word.

    Args:
        predicted_ids: int [rows, length]. Ids of the most likely labels.
        features: NerFeatures.
        sentences: Sequence of Sentence that the features are made of.
        labels: Sequence of str. As for `make_features`.

    Returns:
        List of a list of labels for each sentence.

    Raises:
        InputError: If the predictions have another shape than the rows.
    """
    predicted_ids = np.asarray(predicted_ids)
    if predicted_ids.shape != features.token_ids.shape:
        raise InputError(
            f"Predictions must have the shape of the rows, {features.token_ids.shape}. Received: "
            f"{predicted_ids.shape}."
        )
    flat = [labels[i] for i in predicted_ids[features.word_rows, features.word_positions].tolist()]
    found, start = [], 0
    for sentence in sentences:
        found.append(flat[start : start + len(sentence.words)])
        start += len(sentence.words)
    return found


def _tokenize(words: list[str], tokenizer: BertTokenizer) -> tf.RaggedTensor:
    """Returns the pieces of words, int32 [words, (pieces)], at least one each."""
    parts = [tokenizer(tf.constant(words[i : i + _BATCH])) for i in range(0, len(words), _BATCH)]
    pieces = tf.concat(parts, axis=0)
    is_empty = tf.cast(pieces.row_lengths() == 0, tf.int64)
    unknown = tf.RaggedTensor.from_row_lengths(
        tf.fill([tf.reduce_sum(is_empty)], tokenizer.vocabulary.unk_id), is_empty
    )
    return tf.concat([pieces, unknown], axis=1)


def _ids_of(sentences: Sequence[Sentence], labels: Sequence[str]) -> np.ndarray:
    ids = {label: index for index, label in enumerate(labels)}
    for sentence in sentences:
        if len(sentence.labels) != len(sentence.words):
            raise InputError(
                f"Sentence {sentence.id} has {len(sentence.labels)} labels for its "
                f"{len(sentence.words)} words; each word needs one."
            )
        for offset, label in enumerate(sentence.labels):
            if label not in ids:
                raise InputError(
                    f"The label on line {sentence.line + offset}, in sentence {sentence.id}, must "
                    f"be one of {some(list(labels))}. Received: {label!r}."
                )
    return np.array([ids[label] for sentence in sentences for label in sentence.labels], np.int32)
