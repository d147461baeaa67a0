"""What people hand to a sentence encoder's `fit`, `evaluate` and `predict`, as rows of a model."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder
from keras_bert_tpu.tasks.raw_text import as_text
from keras_bert_tpu.tasks.tables import TextExample
from keras_bert_tpu.tasks.text_rows import encode
from keras_bert_tpu.text.batches import is_text, text_batches
from keras_bert_tpu.training.task_batches import TaskArrays

# Texts whose rows are in memory at once.
_CHUNK = 50_000


def predict_vectors(
    model: BertSentenceEncoder, x: Any, predict: Callable[[TaskArrays], np.ndarray]
) -> np.ndarray | None:
    """Returns the vectors of texts in memory, or the cosines of pairs of them.

    Args:
        model: BertSentenceEncoder with a tokenizer.
        x: What `predict` received.
        predict: Callable from TaskArrays to vectors, see `Predictor`.

    Returns:
        float32 [texts, hidden], or [pairs, 1]; None if x is no text in memory.

    Raises:
        InputError: If a text is empty or no text, or a pair lacks one.
    """
    if not _is_in_memory(x):
        return None
    if not _is_pair(x):
        return _vectors(model, _texts_of(x, "Text"), predict)
    first, second = (_vectors(model, column, predict) for column in _columns(x))
    products = (first * second).sum(axis=1, keepdims=True)
    lengths = [np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (first, second)]
    return products / np.maximum(lengths[0] * lengths[1], 1e-24)


def pair_batches(
    model: BertSentenceEncoder, x: Any, y: Any, weights: Any, batch_size: int, shuffle: bool
) -> tf.data.Dataset | None:
    """Returns batches of two rows for each pair, with the similarities.

    Args:
        model: BertSentenceEncoder with a tokenizer.
        x: Tuple of two columns of texts, or a data set of pairs, or of texts to be predicted.
        y: Similarities [pairs], -1 to 1; None for a data set.
        weights: Weights [pairs], or None.
        batch_size: int.
        shuffle: bool. In an order of its own for each epoch, that of Keras' global seed.

    Returns:
        tf.data.Dataset; None if x is no text.

    Raises:
        InputError: If x is in memory and no pair of columns, a text is empty or no text, or there
            are not as many similarities, each from -1 to 1, and weights as pairs.
    """
    if isinstance(x, tf.data.Dataset):
        if not is_text(x):
            return None
        batches = text_batches(
            x, None, None, model.tokenizer, model.sequence_length, batch_size, apart=True
        )
        if isinstance(batches.element_spec, tuple) and isinstance(batches.element_spec[0], Mapping):
            raise InputError(
                f"A sentence encoder learns from pairs: a data set of ((first, second), "
                f"similarity). Received: one of {x.element_spec}."
            )
        return batches
    if not _is_in_memory(x):
        return None
    if not _is_pair(x):
        raise InputError(
            f"A sentence encoder learns from pairs: a tuple of two lists of texts, the first and "
            f"the second of each pair. Received: {type(x).__name__}."
        )
    first, second = _columns(x)
    if not first:
        raise InputError("There must be one pair of texts at least. Received: none.")
    parts = [_numbers(y, "similarity", len(first))]
    for number, value in enumerate(parts[0].tolist()):
        if not -1.0 <= value <= 1.0:
            raise InputError(
                f"The similarity of pair {number} must be a cosine, from -1 to 1. Received: "
                f"{value:g}; scale the numbers, for example 0 to 5 by 1/5."
            )
    if weights is not None:
        parts.append(_numbers(weights, "weight", len(first)))
    rows = _cut(_encode(model, [*first, *second]))
    halves = tuple({k: v[part] for k, v in rows.items()} for part in _halves(len(first)))
    dataset = tf.data.Dataset.from_tensor_slices((halves, *parts))
    if shuffle:
        dataset = dataset.shuffle(len(first), reshuffle_each_iteration=True)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def _is_in_memory(x: Any) -> bool:
    """Whether it is to be text: neither a data set, a generator nor rows, as Keras takes them."""
    if isinstance(x, tuple) and len(x) == 2 and all(isinstance(rows, Mapping) for rows in x):
        return False
    return isinstance(x, str | bytes | list | tuple | np.ndarray | tf.Tensor)


def _is_pair(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) == 2 and not any(isinstance(c, str | bytes) for c in x)


def _columns(x: tuple[Any, Any]) -> tuple[list[str], list[str]]:
    first = _texts_of(x[0], "The first text of pair")
    second = _texts_of(x[1], "The second text of pair")
    if len(first) != len(second):
        raise InputError(
            f"There must be as many second texts as first ones, {len(first)}. Received: "
            f"{len(second)}."
        )
    return first, second


def _texts_of(column: Any, what: str) -> list[str]:
    if isinstance(column, str | bytes) or not hasattr(column, "__len__"):
        raise InputError(f"Texts must come in a list. Received: {column!r}; put it into one.")
    if isinstance(column, tf.Tensor):
        column = column.numpy()
    texts = []
    for number, value in enumerate(column):
        try:
            text = as_text(value)
        except InputError as error:
            raise InputError(f"{what} {number}: {error}") from error
        if not text.strip():
            raise InputError(f"{what} {number} is empty; fill it in or leave it out.")
        texts.append(text)
    return texts


def _numbers(values: Any, what: str, number: int) -> np.ndarray:
    try:
        found = np.asarray(values, "float32")
    except (TypeError, ValueError) as error:
        raise InputError(f"Each {what} must be a number. Received: {str(values)[:200]}.") from error
    if values is None or found.shape not in ((number,), (number, 1)):
        raise InputError(
            f"There must be a {what} for each of {number} pairs. Received: "
            f"{'none' if values is None else list(found.shape)}."
        )
    return found.reshape(-1)


def _vectors(
    model: BertSentenceEncoder, texts: list[str], predict: Callable[[TaskArrays], np.ndarray]
) -> np.ndarray:
    found = [np.empty([0, model.config.hidden_size], "float32")]
    for start in range(0, len(texts), _CHUNK):
        rows = _encode(model, texts[start : start + _CHUNK])
        found.append(predict(TaskArrays(rows, {})))
    return np.concatenate(found)


def _encode(model: BertSentenceEncoder, texts: list[str]) -> dict[str, np.ndarray]:
    examples = [TextExample("", (text,), None) for text in texts]
    return encode(examples, model.tokenizer, model.sequence_length)[0]


def _cut(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leaves out what is padding in all rows, up to a multiple of 8."""
    longest = int(rows["padding_mask"].sum(axis=-1).max())
    return {name: array[:, : -(-longest // 8) * 8] for name, array in rows.items()}


def _halves(number: int) -> tuple[slice, slice]:
    return slice(0, number), slice(number, 2 * number)
