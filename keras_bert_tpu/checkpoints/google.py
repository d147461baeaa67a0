"""Google's first checkpoints of BERT: bert_config.json, bert_model.ckpt.* and vocab.txt.

The names are those of modeling.py, run_pretraining.py, run_classifier.py and run_squad.py of
google-research/bert. Kernels are [inputs, outputs]; the classifiers' weights are [classes, hidden].
"""

import posixpath
import re
import tempfile
import warnings
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from keras_bert_tpu.checkpoints import bert_config
from keras_bert_tpu.checkpoints.names import (
    TOKEN_TABLE,
    arrange,
    check_encoder,
    check_vocabulary,
    layers_among,
    shapes_with_layers,
)
from keras_bert_tpu.checkpoints.tensorflow_checkpoint import CheckpointFiles
from keras_bert_tpu.checkpoints.weights_source import WeightsSource
from keras_bert_tpu.config import EncoderConfig

CHECKPOINT = "bert_model.ckpt"

_IN_A_LAYER = {
    "attention/query": "attention/self/query",
    "attention/key": "attention/self/key",
    "attention/value": "attention/self/value",
    "attention/output_projection": "attention/output/dense",
    "attention_layer_norm": "attention/output/LayerNorm",
    "intermediate": "intermediate/dense",
    "output_projection": "output/dense",
    "output_layer_norm": "output/LayerNorm",
}
_ELSEWHERE = {
    "encoder/embeddings/layer_norm": "bert/embeddings/LayerNorm",
    "encoder/pooler": "bert/pooler/dense",
    "masked_language_model/transform": "cls/predictions/transform/dense",
    "masked_language_model/layer_norm": "cls/predictions/transform/LayerNorm",
}
_ALONE = {
    TOKEN_TABLE: "bert/embeddings/word_embeddings",
    "encoder/embeddings/position_embeddings": "bert/embeddings/position_embeddings",
    "encoder/embeddings/segment_embeddings": "bert/embeddings/token_type_embeddings",
    "masked_language_model/output_bias": "cls/predictions/output_bias",
    "next_sentence/classifier/kernel": "cls/seq_relationship/output_weights",
    "next_sentence/classifier/bias": "cls/seq_relationship/output_bias",
    "classifier/kernel": "output_weights",
    "classifier/bias": "output_bias",
    "span_classifier/kernel": "cls/squad/output_weights",
    "span_classifier/bias": "cls/squad/output_bias",
}
_TURNED = ("next_sentence/classifier/kernel", "classifier/kernel", "span_classifier/kernel")
# What a training leaves beside the weights.
_OF_TRAINING = re.compile(
    r"global_step|(beta[12]_power)|.*/(adam_[mv]|Adam(_1)?|AdamWeightDecay.*)"
)


def read_google(path: str, prefix: str) -> WeightsSource:
    """Reads a checkpoint of google-research/bert.

    Whether text is lower-cased is told from the vocabulary: one with capital letters is cased.

    Args:
        path: str. Local or gs:// folder with bert_config.json.
        prefix: str. Of the checkpoint's files.

    Raises:
        InputError: If a file is missing, damaged or does not belong to the others.
    """
    encoder = bert_config.read_bert_config(path)
    vocabulary = bert_config.read_vocabulary(path)
    if vocabulary is not None:
        check_vocabulary(path, len(vocabulary), encoder)
    arrays = _to_ours(CheckpointFiles(prefix), encoder)
    check_encoder(prefix, arrays, encoder)
    settings = bert_config.read_settings(path, encoder, vocabulary)
    return WeightsSource(
        path=path,
        arrays=arrays,
        encoder=settings.encoder,
        vocabulary=vocabulary,
        description=f"Google's checkpoint {prefix}",
        format="google",
        model=settings.model or _model(arrays),
        lower_case=settings.lower_case,
        strip_accents=settings.strip_accents,
        added_tokens=settings.added_tokens,
        labels=settings.labels,
        sequence_length=settings.sequence_length,
        pooling=settings.pooling,
        normalize=settings.normalize,
    )


def write_google(path: str, source: WeightsSource) -> None:
    """Writes bert_config.json, bert_model.ckpt.* and vocab.txt.

    A warning tells where Google's code will compute something else: it has no exact GELU.

    Args:
        path: str. Local or gs:// folder.
        source: WeightsSource.

    Raises:
        InputError: If the source has no vocabulary.
    """
    source.require_vocabulary(f"the folder {path}")
    theirs = {}
    left_out = []
    for name, array in source.arrays.items():
        key = their_name(name)
        if key is None:
            left_out.append(name)
        else:
            theirs[key] = _unfold(name, np.asarray(array, "float32"))
    if left_out:
        warnings.warn(f"Google's format has no place for {', '.join(left_out)}.", stacklevel=2)
    bert_config.warn_of_other_numbers("Google's code", source.encoder)
    tf.io.gfile.makedirs(path)
    source.vocabulary.save(posixpath.join(path, bert_config.VOCABULARY))
    _save(path, theirs)
    bert_config.write_settings(path, source)
    bert_config.write_bert_config(path, source.encoder)


def their_name(name: str) -> str | None:
    """Returns Google's name for one of our weights; None if it has none."""
    if name in _ALONE:
        return _ALONE[name]
    layer, _, leaf = name.rpartition("/")
    if layer in _ELSEWHERE:
        return f"{_ELSEWHERE[layer]}/{leaf}"
    match = re.fullmatch(r"encoder/layer_(\d+)/(.+)", layer)
    if match and match[2] in _IN_A_LAYER:
        return f"bert/encoder/layer_{match[1]}/{_IN_A_LAYER[match[2]]}/{leaf}"
    return None


def _to_ours(files: CheckpointFiles, config: EncoderConfig) -> dict[str, np.ndarray]:
    layers = layers_among(files.shapes, r"bert/encoder/layer_(\d{1,4})/", config)
    shapes = shapes_with_layers(config, layers)
    left = set(files.shapes)
    arrays = {}
    for name, shape in shapes.items():
        key = their_name(name)
        if key in left:
            left.remove(key)
            array = files.read(key)
            arrays[name] = arrange(files.prefix, key, array, shape, name in _TURNED)
    for key in sorted(left):
        if not _OF_TRAINING.fullmatch(key):
            arrays[key] = files.read(key)
    return arrays


def _unfold(name: str, array: np.ndarray) -> np.ndarray:
    """Makes one axis of heads and width, and turns a classifier's kernel to [classes, hidden]."""
    if name in _TURNED:
        return np.ascontiguousarray(array.T)
    if "/attention/output_projection/kernel" in name:
        return array.reshape(-1, array.shape[-1])
    if "/attention/" in name and array.ndim > 1:
        return array.reshape(array.shape[0], -1) if name.endswith("kernel") else array.reshape(-1)
    return array


def _save(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as tf.compat.v1.train.Saver would, each under its bare name."""
    with tempfile.TemporaryDirectory() as folder:
        prefix = f"{folder}/{CHECKPOINT}"
        names = sorted(arrays)
        tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.constant(arrays[name]) for name in names],
        )
        # The index last: without it there is no checkpoint.
        for file in sorted(tf.io.gfile.listdir(folder)):
            target = posixpath.join(path, file)
            tf.io.gfile.copy(f"{folder}/{file}", target, overwrite=True)


def _model(arrays: Mapping[str, np.ndarray]) -> str:
    if "span_classifier/kernel" in arrays:
        return "BertQuestionAnswerer"
    if "classifier/kernel" in arrays:
        return "BertTextClassifier"
    is_pretrainer = any(name.startswith(("masked_", "next_")) for name in arrays)
    return "BertPretrainer" if is_pretrainer else "BertEncoder"
