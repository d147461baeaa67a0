"""Presets of KerasHub: its BertBackbone, and the heads of BertMaskedLM and BertTextClassifier.

KerasHub computes GELU by tanh and normalizes with an epsilon of 1e-12, and has no settings for
these; only the head of its BertMaskedLM has 1e-5, where ours takes that of the encoder, so that its
scores differ by as much as that matters. Its tokenizer keeps accents even where its vocabulary has
none, as those of the uncased presets, which Google trained on text without accents; here text is
treated as Google does it.
"""

import math
import posixpath
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

from keras_bert_tpu.checkpoints import bert_config
from keras_bert_tpu.checkpoints.names import (
    ENCODER,
    TOKEN_TABLE,
    arrange,
    check_vocabulary,
    layer_shapes,
    other_shapes,
    shapes_with_layers,
)
from keras_bert_tpu.checkpoints.storage import list_folder, read_json_object
from keras_bert_tpu.checkpoints.weights_source import WeightsSource
from keras_bert_tpu.config import EncoderConfig, InputError
from keras_bert_tpu.dataclass_yaml import from_dict
from keras_bert_tpu.text.vocabulary import Vocabulary

CONFIG, TOKENIZER, TASK = "config.json", "tokenizer.json", "task.json"
TASK_WEIGHTS = "task.weights.h5"
VOCABULARY = "assets/tokenizer/vocabulary.txt"
# One file, or an index of several.
_WEIGHTS = ("model.weights.h5", "model.weights.json")

_SIZES = {
    "vocab_size": "vocabulary_size",
    "num_layers": "num_layers",
    "hidden_size": "hidden_dim",
    "num_heads": "num_heads",
    "intermediate_size": "intermediate_dim",
    "hidden_dropout": "dropout",
    "max_positions": "max_sequence_length",
    "type_vocab_size": "num_segments",
}
_IN_A_LAYER = {
    "self_attention_layer/query": "attention/query",
    "self_attention_layer/key": "attention/key",
    "self_attention_layer/value": "attention/value",
    "self_attention_layer/attention_output": "attention/output_projection",
    "self_attention_layer_norm": "attention_layer_norm",
    "feedforward_intermediate_dense": "intermediate",
    "feedforward_output_dense": "output_projection",
    "feedforward_layer_norm": "output_layer_norm",
}
_ELSEWHERE = {
    "token_embedding/embeddings": TOKEN_TABLE,
    "position_embedding/embeddings": "encoder/embeddings/position_embeddings",
    "segment_embedding/embeddings": "encoder/embeddings/segment_embeddings",
    "embeddings_layer_norm/gamma": "encoder/embeddings/layer_norm/gamma",
    "embeddings_layer_norm/beta": "encoder/embeddings/layer_norm/beta",
    "pooled_dense/kernel": "encoder/pooler/kernel",
    "pooled_dense/bias": "encoder/pooler/bias",
    "mlm_head/intermediate_dense/kernel": "masked_language_model/transform/kernel",
    "mlm_head/intermediate_dense/bias": "masked_language_model/transform/bias",
    "mlm_head/intermediate_layer_norm/gamma": "masked_language_model/layer_norm/gamma",
    "mlm_head/intermediate_layer_norm/beta": "masked_language_model/layer_norm/beta",
    "mlm_head/output_bias": "masked_language_model/output_bias",
    "logits/kernel": "classifier/kernel",
    "logits/bias": "classifier/bias",
}


def is_preset_name(path: str) -> bool:
    """Whether a path is the name of a preset: bert_tiny_en_uncased or kaggle://..."""
    return path.startswith("kaggle://") or re.fullmatch(r"bert_\w+", path) is not None


def is_preset_folder(path: str, files: set[str]) -> bool:
    """Whether a folder with these files is a preset: its config names a class of KerasHub."""
    if CONFIG not in files:
        return False
    return "registered_name" in read_json_object(posixpath.join(path, CONFIG))


def read_keras_hub(path: str) -> WeightsSource:
    """Reads a preset.

    Args:
        path: str. Local or gs:// folder, or the name of a preset (see `is_preset_name`), which
            KerasHub downloads and keeps.

    Raises:
        InputError: If keras-hub is not installed, or the preset cannot be had, is damaged or not
            BERT.
    """
    hub = _import_keras_hub()
    if is_preset_name(path) and not tf.io.gfile.isdir(path):
        return _read_named(hub, path)
    with _local_copy(path) as folder:
        return _read_folder(hub, path, folder)


def write_keras_hub(path: str, source: WeightsSource) -> None:
    """Writes a preset of BertBackbone and BertTokenizer.

    A warning names heads, which such a preset has none of, and tells where KerasHub computes
    something else.

    Args:
        path: str. Local or gs:// folder.
        source: WeightsSource.

    Raises:
        InputError: If keras-hub is not installed, the source has no vocabulary or no pooler, or the
            activation is one that KerasHub cannot compute.
    """
    hub = _import_keras_hub()
    source.require_vocabulary(f"the preset {path}")
    encoder = source.encoder
    if encoder.hidden_activation == "relu":
        raise InputError(
            f"{source.path} has hidden_activation='relu', and KerasHub's BertBackbone has GELU "
            f"alone; convert it to another format."
        )
    backbone = _backbone(hub, encoder)
    assigned = set()
    for weight in backbone.weights:
        name = _our_name(weight.path)
        if name not in source.arrays:
            raise InputError(f"{source.path} has no weights for {name}, which KerasHub asks for.")
        weight.assign(source.arrays[name])
        assigned.add(name)
    if left_out := [name for name in source.arrays if name not in assigned]:
        warnings.warn(
            f"A preset of KerasHub's BertBackbone has no place for {', '.join(left_out)}: left "
            f"out.",
            stacklevel=2,
        )
    bert_config.warn_of_other_numbers("KerasHub", encoder)
    strips = source.strip_accents
    tokenizer = hub.models.BertTokenizer(
        vocabulary=list(source.vocabulary.pieces),
        lowercase=source.lower_case,
        strip_accents=source.lower_case if strips is None else strips,
    )
    with tempfile.TemporaryDirectory() as folder:
        backbone.save_to_preset(folder)
        tokenizer.save_to_preset(folder)
        _copy_tree(folder, path)
    bert_config.write_settings(path, source)


def _read_folder(hub: ModuleType, path: str, folder: str) -> WeightsSource:
    encoder = _encoder_config(path, read_json_object(posixpath.join(folder, CONFIG)))
    files = list_folder(folder)
    weights = next((name for name in _WEIGHTS if name in files), None)
    if weights is None:
        raise InputError(f"{path} has a {CONFIG} and no {_WEIGHTS[0]}; copy its weights, too.")
    _check_size(path, folder, encoder)
    _check_numbers(path, posixpath.join(folder, weights), encoder)
    model = _backbone(hub, encoder)
    try:
        model.load_weights(posixpath.join(folder, weights))
        if TASK in files and TASK_WEIGHTS in files:
            model = _task(hub, path, read_json_object(posixpath.join(folder, TASK)), model)
            model.load_task_weights(posixpath.join(folder, TASK_WEIGHTS))
    # h5py raises what its C library gives it.
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"The weights of {path} cannot be read, copy them again: {_one_line(error)}"
        ) from error
    vocabulary, lower_case, strip_accents = _tokenizer(folder, files)
    return _source(path, model, encoder, vocabulary, lower_case, strip_accents, folder)


def _read_named(hub: ModuleType, name: str) -> WeightsSource:
    try:
        backbone = hub.models.BertBackbone.from_preset(name, dtype="float32")
        tokenizer = hub.models.BertTokenizer.from_preset(name)
    # What a download raises is up to the client of each site; all of it means the same here.
    except Exception as error:
        raise InputError(
            f"KerasHub has no preset {name!r} at hand ({_one_line(error)}); check the name and the "
            f"network, or give the folder of a preset."
        ) from error
    encoder = _encoder_config(name, {"class_name": "BertBackbone", "config": backbone.get_config()})
    vocabulary = Vocabulary(tokenizer.get_vocabulary())
    strips = True if tokenizer.strip_accents else None
    return _source(name, backbone, encoder, vocabulary, bool(tokenizer.lowercase), strips, None)


def _source(
    path: str,
    model: keras.Model,
    encoder: EncoderConfig,
    vocabulary: Vocabulary | None,
    lower_case: bool | None,
    strip_accents: bool | None,
    folder: str | None,
) -> WeightsSource:
    arrays = _to_ours(path, model, encoder)
    if vocabulary is not None:
        check_vocabulary(path, len(vocabulary), encoder)
    if folder is not None:
        settings = bert_config.read_settings(folder, encoder, vocabulary, lower_case, strip_accents)
    else:
        settings = bert_config.Settings(encoder, lower_case, strip_accents, (), (), None)
    ours = "BertSentenceEncoder" if settings.pooling else "BertEncoder"
    if "classifier/kernel" in arrays:
        ours = "BertTextClassifier"
    elif any(name.startswith("masked_language_model/") for name in arrays):
        ours = "BertPretrainer"
    return WeightsSource(
        path=path,
        arrays=arrays,
        encoder=settings.encoder,
        vocabulary=vocabulary,
        description=f"KerasHub's preset {path}",
        format="keras_hub",
        model=ours,
        lower_case=settings.lower_case,
        strip_accents=settings.strip_accents,
        added_tokens=settings.added_tokens,
        sequence_length=settings.sequence_length,
        pooling=settings.pooling,
        normalize=settings.normalize,
    )


def _import_keras_hub() -> ModuleType:
    try:
        import keras_hub
    except ImportError as error:
        raise InputError(
            f"Presets of KerasHub need it to be installed ({error}); run "
            f"pip install 'keras_bert_tpu[keras-hub]'."
        ) from error
    return keras_hub


def _backbone(hub: ModuleType, encoder: EncoderConfig) -> keras.Model:
    sizes = {theirs: getattr(encoder, ours) for ours, theirs in _SIZES.items()}
    return hub.models.BertBackbone(**sizes, dtype="float32")


def _task(
    hub: ModuleType, path: str, values: Mapping[str, Any], backbone: keras.Model
) -> keras.Model:
    """The task model around a backbone, made of plain settings: no class is taken from a file."""
    kind = values.get("class_name")
    if kind == "BertMaskedLM":
        return hub.models.BertMaskedLM(backbone=backbone, preprocessor=None)
    settings = values.get("config")
    classes = settings.get("num_classes") if isinstance(settings, dict) else None
    if kind != "BertTextClassifier" or not isinstance(classes, int) or not 0 < classes < 1 << 20:
        raise InputError(
            f"{path} is a preset of the task {kind!r} with {classes!r} classes; BertMaskedLM and "
            f"BertTextClassifier can be read, or a preset of the backbone alone."
        )
    return hub.models.BertTextClassifier(backbone=backbone, num_classes=classes, preprocessor=None)


def _encoder_config(path: str, values: Mapping[str, Any]) -> EncoderConfig:
    settings = values.get("config")
    if values.get("class_name") != "BertBackbone" or not isinstance(settings, dict):
        raise InputError(
            f"{path} is a preset of {values.get('class_name')!r}, and only BertBackbone can be "
            f"read; give a preset of BERT."
        )
    known = {ours: settings[theirs] for ours, theirs in _SIZES.items() if theirs in settings}
    try:
        encoder = from_dict(
            EncoderConfig,
            {
                **known,
                "attention_dropout": known.get("hidden_dropout", 0.1),
                "hidden_activation": "gelu_tanh",
            },
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return encoder


def _check_size(path: str, folder: str, encoder: EncoderConfig) -> None:
    """Refuses a config that promises more numbers than the files have bytes."""
    has = sum(
        tf.io.gfile.stat(posixpath.join(folder, name)).length
        for name in list_folder(folder)
        if name.endswith(".h5")
    )
    one_layer = sum(int(np.prod(shape, dtype=object)) for shape in layer_shapes(encoder).values())
    tables = encoder.vocab_size + encoder.max_positions + encoder.type_vocab_size
    if encoder.num_layers * one_layer + tables * encoder.hidden_size > has:
        raise InputError(
            f"{path} has {has} bytes of weights, too few for the model of its {CONFIG}; one of the "
            f"two is damaged or of another model."
        )


def _check_numbers(path: str, file: str, encoder: EncoderConfig) -> None:
    """Checks that a file has just as many numbers as the config asks for.

    Keras leaves what it does not find at random, and what is too much alone, in silence.
    """
    shapes = shapes_with_layers(encoder, range(encoder.num_layers))
    expected = sum(math.prod(shapes[name]) for name in shapes if name.startswith(ENCODER))
    found = 0

    def count(name: str, entry: h5py.Group | h5py.Dataset) -> None:
        nonlocal found
        if isinstance(entry, h5py.Dataset) and entry.dtype.kind == "f":
            found += entry.size

    try:
        with h5py.File(file) as weights:
            weights.visititems(count)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"The weights of {path} cannot be read, copy them again: {_one_line(error)}"
        ) from error
    if found != expected:
        raise InputError(
            f"{path} has {found:,} numbers in its weights, and its {CONFIG} asks for {expected:,}; "
            f"one of the two is damaged or of another model."
        )


def _tokenizer(folder: str, files: set[str]) -> tuple[Vocabulary | None, bool | None, bool | None]:
    """Vocabulary, lower_case and strip_accents of the tokenizer in a folder."""
    lower_case = strip_accents = None
    if TOKENIZER in files:
        settings = read_json_object(posixpath.join(folder, TOKENIZER)).get("config")
        if isinstance(settings, dict):
            lower_case = bool(settings.get("lowercase"))
            strip_accents = True if settings.get("strip_accents") else None
    file = posixpath.join(folder, VOCABULARY)
    vocabulary = Vocabulary.load(file) if tf.io.gfile.exists(file) else None
    return vocabulary, lower_case, strip_accents


def _to_ours(path: str, model: keras.Model, encoder: EncoderConfig) -> dict[str, np.ndarray]:
    shapes = other_shapes(encoder)
    in_layer = layer_shapes(encoder)
    arrays = {}
    for weight in model.weights:
        name = _our_name(weight.path)
        array = keras.ops.convert_to_numpy(weight)
        if name is None:
            arrays[weight.path] = array
            continue
        shape = in_layer.get(re.sub(r"^encoder/layer_\d+/", "", name)) or shapes[name]
        arrays[name] = arrange(path, weight.path, array, shape)
    return arrays


def _our_name(path: str) -> str | None:
    match = re.fullmatch(r"transformer_layer_(\d+)/(.+)/(\w+)", path)
    if match and match[2] in _IN_A_LAYER:
        return f"encoder/layer_{match[1]}/{_IN_A_LAYER[match[2]]}/{match[3]}"
    return _ELSEWHERE.get(path)


@contextmanager
def _local_copy(path: str) -> Iterator[str]:
    """Gives a local folder, where Keras reads and writes; that of a bucket is copied."""
    if "://" not in path:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        _copy_tree(path, folder)
        yield folder


def _copy_tree(source: str, target: str) -> None:
    for folder, _, files in tf.io.gfile.walk(source):
        inside = folder.removeprefix(source).strip("/")
        goal = posixpath.join(target, inside) if inside else target
        tf.io.gfile.makedirs(goal)
        for name in files:
            tf.io.gfile.copy(
                posixpath.join(folder, name), posixpath.join(goal, name), overwrite=True
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
