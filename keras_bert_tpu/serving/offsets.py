"""Stretches of texts within a graph: from bytes to characters, and to what stands there."""

import tensorflow as tf


def chars_of_bytes(
    texts: tf.Tensor, owner: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Turns places in bytes into places in characters.

    Args:
        texts: string [texts]. Bytes that are not UTF-8 are no characters.
        owner: int32 [stretches]. In which text each is.
        starts: int32 [stretches]. First bytes, where characters begin or texts end.
        ends: int32 [stretches]. Bytes behind the last ones, where characters begin or texts end.

    Returns:
        Both in characters, int32 [stretches].
    """
    chars, begins = tf.strings.unicode_decode_with_offsets(texts, "UTF-8", errors="ignore")
    before = _before(texts)
    of_char = tf.repeat(before, chars.row_lengths())
    places = tf.cast(tf.concat([starts, ends], axis=0), tf.int64)
    owner = tf.concat([owner, owner], axis=0)
    found = tf.searchsorted(
        begins.values + of_char, tf.gather(before, owner) + places, out_type=tf.int64
    )
    found = tf.cast(found - tf.gather(chars.row_starts(), owner), tf.int32)
    number = tf.size(starts)
    return found[:number], found[number:]


def texts_between(
    texts: tf.Tensor, owner: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor
) -> tf.Tensor:
    """Returns what stands between places; the texts themselves are not copied for each.

    Args:
        texts: string [texts].
        owner: int32 [stretches]. In which text each is.
        starts: int32 [stretches]. First bytes.
        ends: int32 [stretches]. Bytes behind the last ones.

    Returns:
        string [stretches].
    """
    bytes_of = tf.strings.bytes_split(texts)
    before = tf.cast(tf.gather(bytes_of.row_starts(), owner), tf.int32)
    places = tf.ragged.range(before + starts, before + ends)
    return tf.strings.unsorted_segment_join(
        tf.gather(bytes_of.values, places.values), places.value_rowids(), tf.size(owner)
    )


def _before(texts: tf.Tensor) -> tf.Tensor:
    """Where each text would begin, int64 [texts], if all stood behind each other with a gap."""
    sizes = tf.cast(tf.strings.length(texts), tf.int64)
    return tf.cumsum(sizes + 1, exclusive=True)
