"""Random numbers that are a pure function of integer keys, in numpy and in TensorFlow alike.

There is no state: a key is a 64-bit integer, `fold_in` makes a new key of a key and a number, and
`random_bits` gives a key's numbers by their index. So a number depends neither on what was drawn
before it nor on batch size, threads, device or version, and only on 64-bit integer operations,
which are exact: numpy arrays give numpy arrays, tensors give tensors, with the same bits.

The mixing function and its constants are those of SplitMix64 (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014, in the form of Vigna's public-domain
splitmix64.c): an increment of 2**64 divided by the golden ratio, and the 13th of David Stafford's
mixers ("Better bit mixing", 2011). With h(d) the number of index d of SplitMix64 seeded with 0,

    fold_in(key, d) = mix(key XOR h(d))
    random_bits(key, width)[i] = fold_in(key, i)

`mix` is a bijection, so one key gives different results for different data, and different keys
give different results for the same data. XOR with a mixed number, where SplitMix64 adds a multiple
of the increment, is what keeps the numbers of two keys from being one stream, shifted.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError

_INCREMENT = 0x9E3779B97F4A7C15
_MULTIPLIERS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_SHIFTS = 30, 27, 31

_MUST_BE_INTEGERS = "Keys, what is folded in and bounds must be integers."

Integers = Any  # Python ints, numpy arrays of integers, or tensors of integers.


def fold_in(keys: Integers, *data: Integers) -> np.ndarray | tf.Tensor:
    """Makes new keys of keys and numbers; to fold in several is to fold in one after the other.

    Args:
        keys: Python int, integer array or integer tensor of any shape: keys, or a seed. Signed
            numbers stand for the 64 bits that hold them.
        *data: Integers of the same kinds, of shapes that broadcast with `keys`.

    Returns:
        uint64 of the broadcast shape: a tensor if anything given is one, else a numpy array.

    Raises:
        InputError: If something given is not integer or does not fit into 64 bits.
    """
    in_graph = any(tf.is_tensor(numbers) for numbers in (keys, *data))
    keys = _uint64(keys, in_graph)
    with np.errstate(over="ignore"):  # Wrapping around is meant; numpy warns of it for scalars.
        for numbers in data:
            keys = _mix(keys ^ _splitmix(_uint64(numbers, in_graph)))
    return keys


def random_bits(keys: Integers, width: int | tf.Tensor) -> np.ndarray | tf.Tensor:
    """Returns the first `width` numbers of each key.

    Args:
        keys: Integer array or tensor [...].
        width: int, or int tensor [].

    Returns:
        uint64 [..., width], 64 random bits each. Number i of a key is the same for every width.
    """
    if tf.is_tensor(keys) or tf.is_tensor(width):
        return fold_in(tf.convert_to_tensor(keys)[..., tf.newaxis], tf.range(width))
    return fold_in(np.asarray(keys)[..., np.newaxis], np.arange(width))


def uniform(bits: np.ndarray | tf.Tensor) -> np.ndarray | tf.Tensor:
    """Turns random bits into float64 numbers in [0, 1): the multiples of 2**-53, equally likely.

    Args:
        bits: uint64, of any shape; the upper 53 bits are used.
    """
    if tf.is_tensor(bits):
        return tf.cast(_shift_right(bits, 11), tf.float64) * 2.0**-53
    return (bits >> np.uint64(11)) * 2.0**-53


def integers(bits: np.ndarray | tf.Tensor, bound: Integers) -> np.ndarray | tf.Tensor:
    """Turns random bits into integers from 0 to bound - 1.

    Args:
        bits: uint64, of any shape; the upper 32 bits are used. A result's probability is off by
            at most 2**-32, which is 1 in 100,000 of it for a bound of 30,000.
        bound: int, integer array or tensor, from 1 to 2**32, that broadcasts with `bits`.

    Returns:
        int64, of the broadcast shape.
    """
    in_graph = tf.is_tensor(bits) or tf.is_tensor(bound)
    bits = _uint64(bits, in_graph)
    result = _shift_right(_shift_right(bits, 32) * _uint64(bound, in_graph), 32)
    return tf.cast(result, tf.int64) if in_graph else result.astype(np.int64)


def _splitmix(index: np.ndarray | tf.Tensor) -> np.ndarray | tf.Tensor:
    increment = _uint64(_INCREMENT, tf.is_tensor(index))
    return _mix(index * increment + increment)


def _mix(bits: np.ndarray | tf.Tensor) -> np.ndarray | tf.Tensor:
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        bits = (bits ^ _shift_right(bits, shift)) * _uint64(multiplier, tf.is_tensor(bits))
    return bits ^ _shift_right(bits, _SHIFTS[-1])


def _shift_right(bits: np.ndarray | tf.Tensor, places: int) -> np.ndarray | tf.Tensor:
    # Zeros come in from the left, as the bits are unsigned; a shift of int64 would copy the sign.
    if tf.is_tensor(bits):
        return tf.bitwise.right_shift(bits, tf.constant(places, tf.uint64))
    return bits >> np.uint64(places)


def _uint64(numbers: Integers, in_graph: bool) -> np.ndarray | tf.Tensor:
    if tf.is_tensor(numbers):
        if numbers.dtype.is_integer:
            return tf.cast(numbers, tf.uint64)
        raise InputError(f"{_MUST_BE_INTEGERS} Received: {numbers.dtype.name}.")
    if isinstance(numbers, int):
        if not -(2**63) <= numbers < 2**64:
            raise InputError(f"A key must fit into 64 bits. Received: {numbers}.")
        numbers = np.uint64(numbers % 2**64)
    numbers = np.asarray(numbers)
    if numbers.dtype.kind not in "iu":
        raise InputError(f"{_MUST_BE_INTEGERS} Received: {numbers.dtype.name}.")
    numbers = numbers.astype(np.uint64)
    return tf.constant(numbers) if in_graph else numbers
