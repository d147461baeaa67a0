"""What Hugging Face calls the weights of its BERT models, and ours.

Their kernels are [outputs, inputs]. Models with a head put "bert." before the names of the
encoder's weights, BertModel alone does not; files of 2019 have gamma and beta for the weight and
bias of layer normalization.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from keras_bert_tpu.checkpoints.names import (
    TOKEN_TABLE,
    arrange,
    layers_among,
    shapes_with_layers,
)
from keras_bert_tpu.config import EncoderConfig, InputError

# Layers of ours, with the name of theirs.
_IN_A_LAYER = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output_projection": "attention.output.dense",
    "attention_layer_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output_projection": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}
_ELSEWHERE = {
    "encoder/embeddings/layer_norm": "bert.embeddings.LayerNorm",
    "encoder/pooler": "bert.pooler.dense",
    "masked_language_model/transform": "cls.predictions.transform.dense",
    "masked_language_model/layer_norm": "cls.predictions.transform.LayerNorm",
    "next_sentence/classifier": "cls.seq_relationship",
    "classifier": "classifier",
    "span_classifier": "qa_outputs",
}
# Weights of ours that are no layer's kernel, bias, gamma or beta.
_ALONE = {
    TOKEN_TABLE: "bert.embeddings.word_embeddings.weight",
    "encoder/embeddings/position_embeddings": "bert.embeddings.position_embeddings.weight",
    "encoder/embeddings/segment_embeddings": "bert.embeddings.token_type_embeddings.weight",
    "masked_language_model/output_bias": "cls.predictions.bias",
}
_LEAVES = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}

_DECODER, _DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
_BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")


def their_name(name: str) -> str | None:
    """Returns the name of theirs for one of our weights; None if they have none."""
    if name in _ALONE:
        return _ALONE[name]
    layer, _, leaf = name.rpartition("/")
    if leaf not in _LEAVES:
        return None
    if layer in _ELSEWHERE:
        return f"{_ELSEWHERE[layer]}.{_LEAVES[leaf]}"
    match = re.fullmatch(r"encoder/layer_(\d+)/(.+)", layer)
    if match and match[2] in _IN_A_LAYER:
        return f"bert.encoder.layer.{match[1]}.{_IN_A_LAYER[match[2]]}.{_LEAVES[leaf]}"
    return None


def to_ours(
    path: str, tensors: Mapping[str, np.ndarray], config: EncoderConfig
) -> dict[str, np.ndarray]:
    """Gives weights of theirs our names, shapes and dtype.

    Args:
        path: str. Where they are from, for messages.
        tensors: Mapping of their names to arrays.
        config: EncoderConfig of the model.

    Returns:
        Dict of our names to float32 arrays. What we have no place for keeps its name.

    Raises:
        InputError: If a weight is not of the shape that the config asks for, or the decoder of the
            masked language model is not the table of the pieces.
    """
    theirs = {_full_name(name): name for name in tensors}
    layers = layers_among(theirs, r"bert\.encoder\.layer\.(\d{1,4})\.", config)
    shapes = shapes_with_layers(config, layers)
    arrays = {}
    for name, shape in shapes.items():
        key = theirs.pop(their_name(name), None)
        if key is not None:
            arrays[name] = arrange(path, key, tensors[key], shape, name.endswith("/kernel"))
    _check_tied(path, arrays, tensors, theirs)
    for full_name, key in theirs.items():
        if full_name not in _BUFFERS:
            arrays[key] = tensors[key]
    return arrays


def to_theirs(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Gives our weights their names and shapes.

    Args:
        arrays: Mapping of our names to arrays; those that they have no name for are left out.
        prefix: str. Before the names of the encoder's weights: "bert.", or "" for BertModel.
    """
    theirs = {}
    for name, array in arrays.items():
        key = their_name(name)
        if key is None:
            continue
        if key.startswith("bert."):
            key = prefix + key.removeprefix("bert.")
        theirs[key] = _unfold(name, np.asarray(array))
    return theirs


def heads_of(arrays: Iterable[str]) -> set[str]:
    """Returns the first parts of the names of the heads' weights."""
    return {name.split("/")[0] for name in arrays} - {"encoder"}


def _unfold(name: str, array: np.ndarray) -> np.ndarray:
    """Makes one axis of heads and width, and turns a kernel to [outputs, inputs]."""
    if "/attention/" in name and array.ndim == (3 if name.endswith("/kernel") else 2):
        is_output = name.endswith("attention/output_projection/kernel")
        columns = array.shape[-1] if is_output else array[0].size
        array = array.reshape(-1, columns) if name.endswith("/kernel") else array.reshape(-1)
    return np.ascontiguousarray(array.T if name.endswith("/kernel") else array)


def _full_name(name: str) -> str:
    """Their name in the form that models with heads have today."""
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
    if name.startswith(("embeddings.", "encoder.", "pooler.")):
        return f"bert.{name}"
    return name


def _check_tied(
    path: str,
    arrays: Mapping[str, np.ndarray],
    tensors: Mapping[str, np.ndarray],
    left: dict[str, str],
) -> None:
    """Takes the decoder out of what is left; it must be the table of the pieces once more."""
    bias = "masked_language_model/output_bias"
    for decoder, name in ((_DECODER, TOKEN_TABLE), (_DECODER_BIAS, bias)):
        key = left.pop(decoder, None)
        if key is not None and name in arrays:
            if not np.array_equal(np.asarray(tensors[key], "float32"), arrays[name]):
                raise InputError(
                    f"{path}: {decoder} differs from {their_name(name)}, and the two are one in "
                    f"BERT; a model that was trained with them untied cannot be read."
                )
