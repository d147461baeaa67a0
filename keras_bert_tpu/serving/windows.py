"""Long texts as overlapping windows within a graph, by the rules of `tasks.windows`."""

from typing import NamedTuple

import tensorflow as tf

from keras_bert_tpu.tasks.windows import LENGTH_WEIGHT


class Windows(NamedTuple):
    """Windows of many texts, one text after another.

    Attributes:
        owner: int32 [windows], ascending. Whose window it is.
        first: int32 [windows]. Its first piece, counted through all texts.
        lengths: int32 [windows]. Its pieces.
        splits: int32 [texts + 1]. Those of text i are from splits[i] to splits[i + 1].
    """

    owner: tf.Tensor
    first: tf.Tensor
    lengths: tf.Tensor
    splits: tf.Tensor

    def take(self, pieces: tf.Tensor) -> tf.RaggedTensor:
        """Returns values of all pieces, one text after another, as [windows, (pieces)]."""
        places = tf.ragged.range(self.first, self.first + self.lengths)
        taken = places.with_values(tf.gather(pieces, places.values))
        return taken.with_row_splits_dtype(tf.int64)


class Places(NamedTuple):
    """What stands in the rows of windows.

    Attributes:
        piece: int32 [windows, length]. Which piece it is, counted through all texts; 0 where there
            is none of a text.
        is_text: bool [windows, length]. Whether it is a piece of a text.
        has_max_context: bool [windows, length]. Whether it is, and no other window gives it more
            context.
    """

    piece: tf.Tensor
    is_text: tf.Tensor
    has_max_context: tf.Tensor


def cut(pieces: tf.Tensor, room: tf.Tensor, stride: int) -> Windows:
    """Cuts texts into windows.

    Args:
        pieces: int32 [texts]. How many each has.
        room: int32 [texts]. Pieces that its windows may have, at least 1.
        stride: int. Pieces from the start of a window to that of the next one.

    Returns:
        Windows, at least one of each text.
    """
    stride = tf.minimum(stride, room)
    number = 1 + tf.maximum(pieces - room + stride - 1, 0) // stride
    owner = tf.repeat(tf.range(tf.size(pieces)), number)
    start = tf.ragged.range(number).values * tf.gather(stride, owner)
    before = tf.cumsum(pieces, exclusive=True)
    lengths = tf.minimum(tf.gather(room, owner), tf.gather(pieces, owner) - start)
    splits = tf.concat([[0], tf.cumsum(number)], axis=0)
    return Windows(owner, tf.gather(before, owner) + start, lengths, splits)


def place(windows: Windows, offset: tf.Tensor, length: tf.Tensor, pieces: tf.Tensor) -> Places:
    """Says what stands where in the rows of windows.

    Args:
        windows: Windows.
        offset: int32 [windows]. Where in its row each begins.
        length: int32 []. Of the rows.
        pieces: int32 []. Of all texts.

    Returns:
        Places.
    """
    left = tf.range(length)[tf.newaxis] - offset[:, tf.newaxis]
    right = windows.lengths[:, tf.newaxis] - 1 - left
    is_text = (left >= 0) & (right >= 0)
    piece = tf.where(is_text, windows.first[:, tf.newaxis] + left, 0)
    context = tf.cast(tf.minimum(left, right), tf.float64) + LENGTH_WEIGHT * tf.cast(
        windows.lengths[:, tf.newaxis], tf.float64
    )
    # What is of no text has no segment.
    segment = tf.where(is_text, piece, -1)
    most = tf.math.unsorted_segment_max(context, segment, pieces)
    # With as much in two windows, it is the first one's.
    row = tf.range(tf.shape(piece)[0])[:, tf.newaxis] + tf.zeros_like(piece)
    has_most = is_text & (context == _take(most, piece))
    chosen = tf.math.unsorted_segment_min(row, tf.where(has_most, piece, -1), pieces)
    return Places(piece, is_text, has_most & (row == _take(chosen, piece)))


def _take(values: tf.Tensor, piece: tf.Tensor) -> tf.Tensor:
    """Gathers, where there may be no pieces at all."""
    return tf.gather(tf.pad(values, [[0, 1]]), piece)
