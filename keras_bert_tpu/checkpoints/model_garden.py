"""Checkpoints of TensorFlow's Model Garden (official/nlp): tf.train.Checkpoint of its objects.

The keys of such a checkpoint depend on how the objects hold each other, and differ between its
BertEncoder, BertEncoderV2 and its pre-trainer. The names of the variables, which the graph of
objects in the checkpoint has too, do not, so they decide; what stands before them (the name of the
model, such as "bert_encoder_v2/") is left out. Kernels have the shapes of ours.
"""

import posixpath
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import trackable_object_graph_pb2

from keras_bert_tpu.checkpoints import bert_config
from keras_bert_tpu.checkpoints.names import (
    TOKEN_TABLE,
    arrange,
    check_encoder,
    check_vocabulary,
    layer_shapes,
    other_shapes,
)
from keras_bert_tpu.checkpoints.storage import list_folder, read_bytes
from keras_bert_tpu.checkpoints.tensorflow_checkpoint import OBJECT_GRAPH, CheckpointFiles
from keras_bert_tpu.checkpoints.weights_source import WeightsSource
from keras_bert_tpu.config import EncoderConfig, InputError

PARAMS = "params.yaml"

_IN_A_LAYER = {
    "self_attention/query": "attention/query",
    "self_attention/key": "attention/key",
    "self_attention/value": "attention/value",
    "self_attention/attention_output": "attention/output_projection",
    "self_attention_layer_norm": "attention_layer_norm",
    "intermediate": "intermediate",
    "output": "output_projection",
    "output_layer_norm": "output_layer_norm",
}
_ELSEWHERE = {
    "word_embeddings/embeddings": TOKEN_TABLE,
    "position_embedding/embeddings": "encoder/embeddings/position_embeddings",
    "type_embeddings/embeddings": "encoder/embeddings/segment_embeddings",
    "embeddings/layer_norm/gamma": "encoder/embeddings/layer_norm/gamma",
    "embeddings/layer_norm/beta": "encoder/embeddings/layer_norm/beta",
    "pooler_transform/kernel": "encoder/pooler/kernel",
    "pooler_transform/bias": "encoder/pooler/bias",
    "cls/predictions/transform/dense/kernel": "masked_language_model/transform/kernel",
    "cls/predictions/transform/dense/bias": "masked_language_model/transform/bias",
    "cls/predictions/transform/LayerNorm/gamma": "masked_language_model/layer_norm/gamma",
    "cls/predictions/transform/LayerNorm/beta": "masked_language_model/layer_norm/beta",
    "cls/predictions/output_bias/bias": "masked_language_model/output_bias",
    "next_sentence/logits/kernel": "next_sentence/classifier/kernel",
    "next_sentence/logits/bias": "next_sentence/classifier/bias",
    "sentence_prediction/logits/kernel": "classifier/kernel",
    "sentence_prediction/logits/bias": "classifier/bias",
}
# A head on whole rows has a pooler of its own, and the encoder's then stays as it began.
_HEAD_POOLER = re.compile(r"(?:.*/)?(?:next_sentence|sentence_prediction)/pooler_dense/(\w+)")
_LAYER = re.compile(r"(?:.*/)?transformer/layer_(\d{1,4})/(.+)/(\w+)")
# The keys of task.model.encoder.bert in the params.yaml of its runs.
_PARAMS = {
    "vocab_size": "vocab_size",
    "num_layers": "num_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "hidden_activation": "hidden_activation",
    "hidden_dropout": "dropout_rate",
    "attention_dropout": "attention_dropout_rate",
    "max_positions": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "initializer_range": "initializer_range",
}


def read_model_garden(path: str, prefix: str) -> WeightsSource:
    """Reads an object-based checkpoint of a BERT of the Model Garden.

    Args:
        path: str. Local or gs:// folder with bert_config.json or params.yaml.
        prefix: str. Of the checkpoint's files.

    Raises:
        InputError: If a file is missing, damaged or does not belong to the others.
    """
    encoder = _encoder_config(path)
    vocabulary = bert_config.read_vocabulary(path)
    if vocabulary is not None:
        check_vocabulary(path, len(vocabulary), encoder)
    arrays = _read_arrays(CheckpointFiles(prefix), encoder)
    check_encoder(prefix, arrays, encoder)
    settings = bert_config.read_settings(path, encoder, vocabulary)
    heads = {name.split("/")[0] for name in arrays}
    model = "BertTextClassifier" if "classifier" in heads else "BertEncoder"
    if heads & {"masked_language_model", "next_sentence"}:
        model = "BertPretrainer"
    return WeightsSource(
        path=path,
        arrays=arrays,
        encoder=encoder,
        vocabulary=vocabulary,
        description=f"the Model Garden's checkpoint {prefix}",
        format="model_garden",
        model=model,
        lower_case=settings.lower_case,
    )


def _encoder_config(path: str) -> EncoderConfig:
    files = list_folder(path)
    if bert_config.CONFIG in files:
        return bert_config.read_bert_config(path)
    if PARAMS not in files:
        raise InputError(
            f"{path} has a checkpoint of the Model Garden and neither {bert_config.CONFIG} nor "
            f"{PARAMS}, one of which says what model it is of; put it there."
        )
    file = posixpath.join(path, PARAMS)
    try:
        values: Any = yaml.safe_load(read_bytes(file))
        bert = values["task"]["model"]["encoder"]["bert"]
        norm_first = bert.get("norm_first")
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{file} has no settings of a BERT in task.model.encoder.bert; give a checkpoint of "
            f"BERT, or a {bert_config.CONFIG} beside it."
        ) from error
    if norm_first:
        raise InputError(f"{file} has norm_first=true, which is another model than BERT.")
    return bert_config.encoder_of(file, bert, _PARAMS)


def _read_arrays(files: CheckpointFiles, config: EncoderConfig) -> dict[str, np.ndarray]:
    keys = _keys_by_variable(files)
    pooler = {}
    arrays = {}
    all_shapes = other_shapes(config)
    in_layer = layer_shapes(config)
    for variable, key in keys.items():
        name, shape = _our_name(variable, config, all_shapes, in_layer)
        array = files.read(key)
        if match := _HEAD_POOLER.fullmatch(variable):
            name = f"encoder/pooler/{match[1]}"
            if name in all_shapes:
                pooler[name] = arrange(files.prefix, variable, array, all_shapes[name])
        elif name is None:
            arrays[variable] = array
        else:
            arrays[name] = arrange(files.prefix, variable, array, shape)
    return arrays | pooler


def _our_name(
    variable: str,
    config: EncoderConfig,
    all_shapes: Mapping[str, tuple],
    in_layer: Mapping[str, tuple],
) -> tuple[str | None, tuple]:
    if match := _LAYER.fullmatch(variable):
        name = f"{_IN_A_LAYER.get(match[2])}/{match[3]}"
        if name in in_layer and int(match[1]) < config.num_layers:
            return f"encoder/layer_{int(match[1])}/{name}", in_layer[name]
        return None, ()
    parts = variable.split("/")
    for start in range(len(parts)):
        name = _ELSEWHERE.get("/".join(parts[start:]))
        if name is not None:
            return name, all_shapes[name]
    return None, ()


def _keys_by_variable(files: CheckpointFiles) -> dict[str, str]:
    """The key in the checkpoint of each variable of the model, by the variable's name.

    The optimizer, with its copies of the weights, and counters are left out.
    """
    try:
        graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(files.read(OBJECT_GRAPH))
    except DecodeError as error:
        raise InputError(
            f"The checkpoint {files.prefix} has no readable graph of objects ({error}); copy it "
            f"again."
        ) from error
    found = {}
    seen = {0}
    waiting = [0] if graph.nodes else []
    while waiting:
        node = graph.nodes[waiting.pop()]
        for attribute in node.attributes:
            if attribute.name == "VARIABLE_VALUE" and attribute.checkpoint_key:
                name = attribute.full_name or attribute.checkpoint_key
                if attribute.checkpoint_key in files.shapes:
                    found[name] = attribute.checkpoint_key
        for child in node.children:
            is_of_model = child.local_name not in ("optimizer", "global_step", "save_counter")
            if is_of_model and child.node_id not in seen and 0 <= child.node_id < len(graph.nodes):
                seen.add(child.node_id)
                waiting.append(child.node_id)
    return found
