"""Raw texts to the batches that Keras' `fit`, `evaluate` and `predict` take, through tf.data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.rows import join_rows
from keras_bert_tpu.text.tokenizer import BertTokenizer


def is_text(x: Any) -> bool:
    """Tells whether inputs are raw text: strings, a pair of columns of them, or a dataset of such.

    Args:
        x: Sequence or array of str, tuple of two such, or tf.data.Dataset of texts or of
            (texts, label[, weight]).
    """
    if isinstance(x, tf.data.Dataset):
        spec = x.element_spec
        return all(part.dtype == tf.string for part in tf.nest.flatten(_texts_of(spec)))
    return is_text_in_memory(x)


def is_text_in_memory(x: Any) -> bool:
    """As `is_text`, but for datasets, which are none."""
    if isinstance(x, tuple) and len(x) == 2 and not any(isinstance(c, str | bytes) for c in x):
        return all(is_text_in_memory(column) for column in x)
    if isinstance(x, Mapping) or not isinstance(x, Sequence | np.ndarray | tf.Tensor):
        return False
    if isinstance(x, tf.Tensor):
        return x.dtype == tf.string
    return len(x) > 0 and isinstance(x[0], str | bytes)


def has_pairs(x: Any) -> bool:
    """Tells of what `is_text` tells to be text whether it is pairs."""
    texts = _texts_of(x.element_spec) if isinstance(x, tf.data.Dataset) else x
    return isinstance(texts, tuple)


def text_batches(
    x: Any,
    y: Any,
    sample_weight: Any,
    tokenizer: BertTokenizer,
    sequence_length: int,
    batch_size: int,
    labels: Sequence[str] = (),
    shuffle: bool = False,
    apart: bool = False,
) -> tf.data.Dataset:
    """Returns batches of rows, with labels and weights where there are any.

    Args:
        x: What `is_text` tells to be text. A dataset has its labels in itself; one of single texts
            is put into batches, one of batches is taken as it is.
        y: Labels [examples], ids or names; None for a dataset, or without labels.
        sample_weight: Weights [examples], or None.
        tokenizer: BertTokenizer.
        sequence_length: int. Length of the rows.
        batch_size: int.
        labels: Names of the classes, for labels that are names.
        shuffle: bool. In an order of its own for each epoch, that of Keras' global seed.
        apart: bool. Whether the two texts of a pair have a row each: a tuple of two such rows.

    Raises:
        InputError: If there are not as many labels as texts, or one is not among `labels`.
    """
    if isinstance(x, tf.data.Dataset):
        is_single = tf.nest.flatten(_texts_of(x.element_spec))[0].shape.rank == 0
        dataset = x.batch(batch_size) if is_single else x
    else:
        dataset = _dataset_of(x, y, sample_weight, labels, batch_size, shuffle)

    def encode(*element: Any) -> Any:
        texts, *others = element
        columns = [tokenizer(c) for c in (texts if isinstance(texts, tuple) else (texts,))]
        if apart and len(columns) == 2:
            rows = tuple(join_rows([c], tokenizer.vocabulary, sequence_length) for c in columns)
            return (rows, *others)
        rows = join_rows(columns, tokenizer.vocabulary, sequence_length)
        return (rows, *others) if others else rows

    if isinstance(dataset.element_spec, tuple) and _is_pair_alone(dataset.element_spec):
        dataset = dataset.map(lambda a, b: ((a, b),))
    return dataset.map(encode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _dataset_of(
    x: Any, y: Any, sample_weight: Any, labels: Sequence[str], batch_size: int, shuffle: bool
) -> tf.data.Dataset:
    texts = tuple(tf.constant(c) for c in x) if isinstance(x, tuple) else tf.constant(x)
    number = tf.nest.flatten(texts)[0].shape[0]
    parts = [texts]
    if y is not None:
        parts.append(_label_ids(y, labels))
    if sample_weight is not None:
        parts.append(np.asarray(sample_weight, "float32"))
    for part in tf.nest.flatten(parts):
        if part.shape[0] != number:
            raise InputError(
                f"There must be a label, and a weight, for each of {number} texts, and as many "
                f"second texts. Received: {part.shape[0]}."
            )
    dataset = tf.data.Dataset.from_tensor_slices(tuple(parts))
    if shuffle:
        dataset = dataset.shuffle(number, reshuffle_each_iteration=True)
    return dataset.batch(batch_size)


def _label_ids(y: Any, labels: Sequence[str]) -> np.ndarray:
    y = np.asarray(y)
    if y.dtype.kind not in "OSU":
        return y
    ids = {label: index for index, label in enumerate(labels)}
    for label in y.tolist():
        if label not in ids:
            raise InputError(
                f"A label must be one of {list(labels)}, or its number. Received: {label!r}."
            )
    return np.array([ids[label] for label in y.tolist()], "int32")


def _texts_of(spec: Any) -> Any:
    """The part of a dataset's element that is text: the first of a tuple, or all of a pair."""
    if isinstance(spec, tuple) and not _is_pair_alone(spec):
        return spec[0]
    return spec


def _is_pair_alone(spec: tuple[Any, ...]) -> bool:
    """Whether an element is two texts, without a label."""
    return len(spec) == 2 and all(
        isinstance(part, tf.TensorSpec) and part.dtype == tf.string for part in spec
    )
