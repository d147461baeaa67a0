"""Pieces of one or two texts to rows of a model: trim, join with [CLS] and [SEP], pad.

Only TensorFlow's own ragged operations are used, since exported graphs hold these steps and a
TF Serving with an old tensorflow-text does not know that library's trimming operations.
"""

from collections.abc import Sequence

import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.vocabulary import Vocabulary


def longest_first_trim(
    segments: Sequence[tf.RaggedTensor], length: int | tf.Tensor
) -> list[tf.RaggedTensor]:
    """Cuts pieces off the end of the longer segment until both together fit.

    The rule is `_truncate_seq_pair` of google-research/bert, run_classifier.py: one piece at a time
    from the longer segment, from the second if both are as long. So of 5 and 3 pieces to fit in 6,
    3 and 3 stay; of 4 and 4 to fit in 7, 4 and 3; of 9 and 1 to fit in 6, 5 and 1.

    Args:
        segments: One or two ragged tensors [batch, (pieces)].
        length: int. Pieces that one row may have in all segments together.

    Returns:
        List of as many ragged tensors [batch, (pieces)].

    Raises:
        InputError: If there are not one or two segments.
    """
    if len(segments) == 1:
        return [segments[0][:, :length]]
    if len(segments) != 2:
        raise InputError(f"A row of BERT has one or two segments. Received: {len(segments)}.")
    first, second = segments
    # A segment keeps what the other leaves free, but at least its half; the first gets the odd one.
    second_half = length // 2
    first_half = length - second_half
    first_length, second_length = first.row_lengths(), second.row_lengths()
    length, first_half, second_half = (
        tf.cast(value, first_length.dtype) for value in (length, first_half, second_half)
    )
    first_kept = tf.minimum(first_length, tf.maximum(length - second_length, first_half))
    second_kept = tf.minimum(second_length, tf.maximum(length - first_length, second_half))
    return [_keep_first(first, first_kept), _keep_first(second, second_kept)]


def join_rows(
    segments: Sequence[tf.RaggedTensor], vocabulary: Vocabulary, sequence_length: int
) -> dict[str, tf.Tensor]:
    """Builds the rows `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, trimmed and padded.

    Args:
        segments: One or two int32 ragged tensors [batch, (pieces)] without special tokens.
        vocabulary: Vocabulary. Gives the ids of [CLS], [SEP] and [PAD].
        sequence_length: int. Length of all rows. Longer ones are trimmed as in
            `longest_first_trim`.

    Returns:
        `token_ids`, `segment_ids` (0 up to the first [SEP], 1 behind it, 0 in the padding) and
        `padding_mask` (1 for tokens, 0 for padding), each int32 [batch, sequence_length].

    Raises:
        InputError: If there are not one or two segments, or `sequence_length` leaves no room for a
            piece of each.
    """
    specials = 1 + len(segments)
    if sequence_length < specials + len(segments):
        raise InputError(
            f"sequence_length must be at least {specials + len(segments)} for {len(segments)} "
            f"segments and their special tokens. Received: {sequence_length}."
        )
    segments = longest_first_trim(segments, sequence_length - specials)
    batch = segments[0].nrows()

    def column(token: int) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_tensor(tf.fill([batch, 1], token), ragged_rank=1)

    parts = [column(vocabulary.cls_id)]
    for segment in segments:
        parts += [tf.cast(segment, tf.int32), column(vocabulary.sep_id)]
    parts = [part.with_row_splits_dtype(tf.int64) for part in parts]
    tokens = tf.concat(parts, axis=1)
    first_length = tf.cast(parts[1].row_lengths() + 2, tf.int32)
    token_count = tf.cast(tokens.row_lengths(), tf.int32)
    positions = tf.range(sequence_length)[tf.newaxis]
    is_token = positions < token_count[:, tf.newaxis]
    is_second = tf.logical_and(is_token, positions >= first_length[:, tf.newaxis])
    return {
        "token_ids": tokens.to_tensor(vocabulary.pad_id, shape=[None, sequence_length]),
        "segment_ids": tf.cast(is_second, tf.int32),
        "padding_mask": tf.cast(is_token, tf.int32),
    }


def _keep_first(ragged: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """Keeps the first `lengths[i]` values of row i."""
    positions = tf.ragged.range(ragged.row_lengths())
    return tf.ragged.boolean_mask(ragged, positions < lengths[:, tf.newaxis])
