"""Rows through a model within a graph: the short ones together, and never too many at once.

A request may have ten thousand rows, of one word and of hundreds. They are sorted by length and
computed some at a time, fewer of the long ones, each time as long as the longest needs: no memory
for all of them at once, and little for padding.
"""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

# Numbers of rows that static batches are filled up to, if there are no more.
_ROWS = [4**power for power in range(15)]


def length_buckets(longest: int) -> list[int]:
    """Returns the lengths that rows are cut to: multiples of 16, of 32 from 128 on, of 64 from 256.

    Args:
        longest: int. Longest rows; the last bucket.
    """
    buckets, length = [], 16
    while length < longest:
        buckets.append(length)
        length += 16 if length < 128 else 32 if length < 256 else 64
    return [*buckets, longest]


def static_shapes(buckets: Sequence[int], tokens_at_once: int) -> list[tuple[int, int]]:
    """Returns the shapes that static batches have: numbers of rows, and lengths.

    Args:
        buckets: Ascending lengths.
        tokens_at_once: int. Most tokens of a batch.
    """
    shapes = []
    for length in buckets:
        most = max(tokens_at_once // length, 1)
        shapes += [(rows, length) for rows in _ROWS if rows < most] + [(most, length)]
    return shapes


def compute_by_length(
    compute: Callable[[Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]],
    rows: Mapping[str, tf.Tensor],
    buckets: Sequence[int],
    tokens_at_once: int,
    outputs: Mapping[str, tf.TensorSpec],
    is_static: bool = False,
) -> dict[str, tf.Tensor]:
    """Computes rows in batches of like length.

    Args:
        compute: Callable from a part of the rows, cut to one of the buckets or to the length that
            they have, to tensors of as many rows.
        rows: Mapping of int32 tensors [rows, length], one of them `padding_mask`.
        buckets: Ascending lengths.
        tokens_at_once: int. Most tokens of a batch, padding counted; a row may have more.
        outputs: tf.TensorSpec of each of the tensors that `compute` returns. The number of rows is
            open, and where the second axis is, too, it is the length.
        is_static: bool. Whether batches have few different shapes: those of `static_shapes`.

    Returns:
        Dict of tensors of all rows, in their order; 0 behind the length that a row was cut to.
    """
    if is_static:
        missing = tf.maximum(buckets[-1] - tf.shape(rows["padding_mask"])[1], 0)
        rows = {name: tf.pad(row, [[0, 0], [0, missing]]) for name, row in rows.items()}
    number, length = tf.unstack(tf.shape(rows["padding_mask"]))
    # A row ends with its last real token, also where there is padding before it.
    places = tf.cast(rows["padding_mask"] > 0, tf.int32) * tf.range(1, length + 1)
    lengths = tf.reduce_max(tf.pad(places, [[0, 0], [0, 1]]), axis=1)
    order = tf.argsort(lengths, direction="DESCENDING", stable=True)
    allowed = tf.constant(list(buckets), tf.int32)
    of_pieces = {name for name, spec in outputs.items() if spec.shape[1] is None}

    def compute_some(
        start: tf.Tensor, found: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        bucket = tf.reduce_sum(tf.cast(allowed < tf.gather(lengths, order[start]), tf.int32))
        kept = tf.minimum(tf.gather(allowed, tf.minimum(bucket, len(buckets) - 1)), length)
        most = tf.maximum(tokens_at_once // kept, 1)
        end = start + most
        if is_static:
            # The last row again and again: what is written twice is the same.
            some = tf.minimum(most, _filled_up(number - start))
            chosen = tf.gather(order, tf.minimum(tf.range(start, start + some), number - 1))
        else:
            chosen = order[start:end]
        part = {name: tf.gather(row, chosen)[:, :kept] for name, row in rows.items()}
        values = dict(compute(part))
        for name in of_pieces:
            missing = [[0, 0]] * values[name].shape.rank
            missing[1] = [0, length - kept]
            values[name] = tf.pad(values[name], missing)
        return end, {
            name: tf.tensor_scatter_nd_update(found[name], chosen[:, tf.newaxis], value)
            for name, value in values.items()
        }

    nothing = {
        name: tf.zeros(
            [number, *([length] if name in of_pieces else []), *filter(None, spec.shape[1:])],
            spec.dtype,
        )
        for name, spec in outputs.items()
    }
    _, found = tf.while_loop(
        lambda start, found: start < number,
        compute_some,
        (tf.constant(0), nothing),
        shape_invariants=(tf.TensorShape([]), {n: spec.shape for n, spec in outputs.items()}),
        parallel_iterations=1,
    )
    return found


def _filled_up(rows: tf.Tensor) -> tf.Tensor:
    """The number of rows that a static batch has for so many, and perhaps more than are allowed."""
    return tf.gather(_ROWS, tf.reduce_sum(tf.cast(tf.constant(_ROWS) < rows, tf.int32)))
