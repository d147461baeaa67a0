"""The names and shapes of our weights, against which those of other frameworks are checked.

A layer's kernels of query, key and value are [hidden, heads, width], with biases [heads, width];
that of the attention's output is [heads, width, hidden]. All others are [inputs, outputs].
"""

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from keras_bert_tpu.config import EncoderConfig, InputError

ENCODER = "encoder/"
TOKEN_TABLE = "encoder/embeddings/token_embedding/embeddings"
POOLER = "encoder/pooler/"

Shape = tuple[int | None, ...]


def layer_shapes(config: EncoderConfig) -> dict[str, Shape]:
    """Shapes of the weights of one transformer layer, by their names within the layer."""
    hidden, inner, heads = config.hidden_size, config.intermediate_size, config.num_heads
    width = hidden // heads
    shapes: dict[str, Shape] = {}
    for name in ("query", "key", "value"):
        shapes[f"attention/{name}/kernel"] = (hidden, heads, width)
        shapes[f"attention/{name}/bias"] = (heads, width)
    shapes["attention/output_projection/kernel"] = (heads, width, hidden)
    shapes["attention/output_projection/bias"] = (hidden,)
    shapes |= _norm("attention_layer_norm", hidden)
    shapes |= _dense("intermediate", hidden, inner)
    shapes |= _dense("output_projection", inner, hidden)
    return shapes | _norm("output_layer_norm", hidden)


def other_shapes(config: EncoderConfig) -> dict[str, Shape]:
    """Shapes of all other weights, those of every head included; None stands for any size."""
    hidden = config.hidden_size
    return {
        TOKEN_TABLE: (config.vocab_size, hidden),
        "encoder/embeddings/position_embeddings": (config.max_positions, hidden),
        "encoder/embeddings/segment_embeddings": (config.type_vocab_size, hidden),
        **_norm("encoder/embeddings/layer_norm", hidden),
        **_dense("encoder/pooler", hidden, hidden),
        **_dense("masked_language_model/transform", hidden, hidden),
        **_norm("masked_language_model/layer_norm", hidden),
        "masked_language_model/output_bias": (config.vocab_size,),
        **_dense("next_sentence/classifier", hidden, 2),
        **_dense("classifier", hidden, None),
        **_dense("span_classifier", hidden, 2),
    }


def layers_among(names: Iterable[str], pattern: str, config: EncoderConfig) -> list[int]:
    """Returns the numbers of the layers, of those the config has, that some names are of.

    Args:
        names: Of weights.
        pattern: str. Regular expression that a name of a layer's weight begins with, and whose
            group 1 is the number.
        config: EncoderConfig.
    """
    matches = (re.match(pattern, name) for name in names)
    numbers = {int(match[1]) for match in matches if match}
    return sorted(number for number in numbers if number < config.num_layers)


def shapes_with_layers(config: EncoderConfig, layers: Iterable[int]) -> dict[str, Shape]:
    """Shapes of all weights, of the encoder's layers only those of some numbers."""
    in_layer = layer_shapes(config)
    return other_shapes(config) | {
        f"encoder/layer_{index}/{name}": shape
        for index in layers
        for name, shape in in_layer.items()
    }


def encoder_names(config: EncoderConfig) -> Iterator[str]:
    """Names of the weights that an encoder must have: all but those of its pooler.

    A config may promise any number of layers, so they come one after the other.
    """
    yield from (
        name
        for name in other_shapes(config)
        if name.startswith(ENCODER) and not name.startswith(POOLER)
    )
    for index in range(config.num_layers):
        yield from (f"encoder/layer_{index}/{name}" for name in layer_shapes(config))


def arrange(
    path: str, theirs: str, array: np.ndarray, shape: Shape, transpose: bool = False
) -> np.ndarray:
    """Gives an array of another framework our dtype and shape.

    Args:
        path: str. The file, for messages.
        theirs: str. The name of the array there, for messages.
        array: Float array.
        shape: Tuple. Our shape; it must only differ in how heads are folded into other axes.
        transpose: bool. Whether a kernel is [outputs, inputs] there.

    Raises:
        InputError: If it is no float array or cannot have that shape.
    """
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise InputError(
            f"{path}: {theirs} must hold floating point numbers. Received: {array.dtype}."
        )
    expected = tuple(shape)
    if None in expected:
        expected = (*expected[:-1], array.shape[0 if transpose else -1] if array.ndim else 0)
    flat = _folded(expected, array.ndim)
    if flat is not None and transpose:
        flat = flat[::-1]
    if flat != array.shape:
        raise InputError(
            f"{path}: {theirs} has shape {list(array.shape)}, and the config asks for "
            f"{list(flat or expected)}; the two are not of the same model, or one is damaged."
        )
    array = np.asarray(array, "float32")
    return np.ascontiguousarray((array.T if transpose else array).reshape(expected))


def _folded(shape: Shape, rank: int) -> Shape | None:
    """The shape with heads and width as one axis, where an array has an axis less than we have."""
    if rank == len(shape):
        return shape
    if rank != len(shape) - 1 or rank == 0:
        return None
    if rank == 1:
        return (shape[0] * shape[1],)
    # Of a kernel, [hidden, heads, width] or [heads, width, hidden], hidden is heads times width.
    hidden = max(shape)
    return (hidden, hidden)


def check_encoder(path: str, arrays: Mapping[str, np.ndarray], config: EncoderConfig) -> None:
    """Checks that no weight of the encoder is missing, but for the pooler's.

    Raises:
        InputError: Naming the first that is.
    """
    for name in encoder_names(config):
        if name not in arrays:
            raise InputError(
                f"{path} has no weights for {name}, which a BERT encoder of {config.num_layers} "
                f"layers has; it is of another architecture, or was not copied whole."
            )


def check_vocabulary(path: str, pieces: int, config: EncoderConfig) -> None:
    """Checks that every piece of a vocabulary has a row; tables are often padded beyond it.

    Raises:
        InputError: If there are more pieces than rows.
    """
    if pieces > config.vocab_size:
        raise InputError(
            f"The vocabulary of {path} has {pieces} pieces, and the table of the model only "
            f"{config.vocab_size} rows; take the vocabulary that the model was trained with."
        )


def _dense(name: str, inputs: int, outputs: int | None) -> dict[str, Shape]:
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def _norm(name: str, size: int) -> dict[str, Shape]:
    return {f"{name}/gamma": (size,), f"{name}/beta": (size,)}
