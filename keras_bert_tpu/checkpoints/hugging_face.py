"""Hugging Face's folders: config.json, model.safetensors and the files of a tokenizer."""

import json
import posixpath
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import tensorflow as tf

from keras_bert_tpu.checkpoints import bert_config
from keras_bert_tpu.checkpoints import hugging_face_names as names
from keras_bert_tpu.checkpoints.hugging_face_tokenizer import read_tokenizer, write_tokenizer
from keras_bert_tpu.checkpoints.names import POOLER, check_encoder, check_vocabulary
from keras_bert_tpu.checkpoints.sentence_modules import read_modules, write_modules
from keras_bert_tpu.checkpoints.storage import (
    list_folder,
    read_bytes,
    read_json_object,
    write_arrays,
    write_atomically,
)
from keras_bert_tpu.checkpoints.weights_source import WeightsSource
from keras_bert_tpu.config import EncoderConfig, InputError
from keras_bert_tpu.dataclass_yaml import from_dict

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"

# Their names of our settings; what a config lacks has the defaults of EncoderConfig, which are
# those of their BertConfig.
_SETTINGS = {**bert_config.KEYS, "layer_norm_epsilon": "layer_norm_eps"}
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
# Settings that make another model of it, with the value that BERT has.
_REQUIRED = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
}
# Classes of theirs, with the one of ours that has the same head.
_MODELS = {
    "BertModel": "BertEncoder",
    "BertForPreTraining": "BertPretrainer",
    "BertForMaskedLM": "BertPretrainer",
    "BertForNextSentencePrediction": "BertPretrainer",
    "BertForSequenceClassification": "BertTextClassifier",
    "BertForTokenClassification": "BertTokenClassifier",
    "BertForQuestionAnswering": "BertQuestionAnswerer",
    "BertForMultipleChoice": "BertMultipleChoice",
}
# Classes of theirs whose encoder has no pooler.
_WITHOUT_POOLER = ("BertForMaskedLM", "BertForTokenClassification", "BertForQuestionAnswering")


def is_hugging_face(path: str, files: set[str]) -> bool:
    """Whether a folder with these files is one of theirs: its config names a type of model."""
    if CONFIG not in files:
        return False
    values = read_json_object(posixpath.join(path, CONFIG))
    # The first configs had no type.
    return "model_type" in values or "num_hidden_layers" in values


def read_hugging_face(path: str) -> WeightsSource:
    """Reads a folder that `save_pretrained` of transformers wrote, or one of its hub.

    One of sentence-transformers is a BertSentenceEncoder, if its vectors can be computed.

    Args:
        path: str. Local or gs:// folder.

    Raises:
        InputError: If the model is not BERT, its weights are pickled, or a file is damaged or does
            not belong to the others.
    """
    file = posixpath.join(path, CONFIG)
    values = read_json_object(file)
    encoder = _encoder_config(file, values)
    tensors = _read_tensors(path)
    arrays = names.to_ours(path, tensors, encoder)
    check_encoder(path, arrays, encoder)
    tokenizer = read_tokenizer(path)
    if tokenizer.vocabulary is not None:
        check_vocabulary(path, len(tokenizer.vocabulary), encoder)
    model = _model(values, arrays)
    source = WeightsSource(
        path=path,
        arrays=arrays,
        encoder=encoder,
        vocabulary=tokenizer.vocabulary,
        description=f"the Hugging Face folder {path}",
        format="hf",
        model=model,
        lower_case=tokenizer.lower_case,
        strip_accents=tokenizer.strip_accents,
        added_tokens=tokenizer.added_tokens,
        no_tokenizer=tokenizer.refusal,
        labels=_labels(file, values, arrays, model),
    )
    return _with_modules(source)


def write_hugging_face(path: str, source: WeightsSource) -> None:
    """Writes a folder that transformers loads as the model with the heads that the source has.

    That of a sentence encoder is one of sentence-transformers, too. A warning names what their
    class has no place for.

    Args:
        path: str. Local or gs:// folder.
        source: WeightsSource.

    Raises:
        InputError: If the source has no vocabulary.
    """
    source.require_vocabulary(f"the folder {path}")
    architecture = architecture_of(source)
    arrays = {
        name: array
        for name, array in source.arrays.items()
        if not (name.startswith(POOLER) and architecture in _WITHOUT_POOLER)
    }
    left_out = [name for name in source.arrays if name not in arrays or not names.their_name(name)]
    if left_out:
        warnings.warn(
            f"{architecture} has no place for {', '.join(left_out)}: left out.", stacklevel=2
        )
    prefix = "" if architecture == "BertModel" else "bert."
    tf.io.gfile.makedirs(path)
    write_tokenizer(
        path,
        source.vocabulary,
        source.lower_case,
        source.strip_accents,
        source.added_tokens,
        source.encoder.max_positions,
    )
    write_arrays(posixpath.join(path, WEIGHTS), names.to_theirs(arrays, prefix), {"format": "pt"})
    config = _their_config(source, architecture)
    if source.pooling:
        write_modules(
            path,
            source.pooling,
            source.normalize,
            source.sequence_length,
            source.encoder.hidden_size,
        )
    write_atomically(posixpath.join(path, CONFIG), json.dumps(config, indent=2).encode())


def architecture_of(source: WeightsSource) -> str:
    """Returns the class of theirs that has the heads of a source."""
    heads = names.heads_of(name for name in source.arrays if names.their_name(name))
    if {"masked_language_model", "next_sentence"} <= heads:
        return "BertForPreTraining"
    if "masked_language_model" in heads:
        return "BertForMaskedLM"
    if "next_sentence" in heads:
        return "BertForNextSentencePrediction"
    if "span_classifier" in heads:
        return "BertForQuestionAnswering"
    if "classifier" in heads:
        of_ours = {ours: theirs for theirs, ours in _MODELS.items()}
        return of_ours.get(source.model, "BertForSequenceClassification")
    return "BertModel"


def _with_modules(source: WeightsSource) -> WeightsSource:
    """Adds how vectors are made of texts, where sentence-transformers has its files beside."""
    modules = read_modules(source.path, source.encoder.hidden_size)
    if modules is None or modules.obstacle:
        return source
    if modules.lower_case and not source.lower_case:
        # Lower-casing before the tokenizer leaves the accents to it.
        source = source._replace(lower_case=True, strip_accents=bool(source.strip_accents))
    # With heads beside, it is their model, too.
    is_plain = source.model == "BertEncoder"
    return source._replace(
        model="BertSentenceEncoder" if is_plain else source.model,
        pooling=modules.pooling,
        normalize=modules.normalize,
        sequence_length=modules.sequence_length or source.encoder.max_positions,
    )


def _encoder_config(file: str, values: Mapping[str, Any]) -> EncoderConfig:
    if values.get("model_type", "bert") != "bert":
        raise InputError(
            f"{file} is of a model of type {values['model_type']!r}, and only 'bert' can be "
            f"read; give a BERT."
        )
    for name, required in _REQUIRED.items():
        if values.get(name, required) not in (required, None):
            raise InputError(
                f"{file} has {name}={values[name]!r}, which is another model than BERT, where it "
                f"is {required!r}; give a BERT encoder."
            )
    settings = {
        ours: values[theirs] for ours, theirs in _SETTINGS.items() if values.get(theirs) is not None
    }
    activation = settings.get("hidden_activation", "gelu")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise InputError(
            f"{file} has hidden_act={activation!r}, and {', '.join(_ACTIVATIONS)} can be computed; "
            f"give a model with one of these."
        )
    settings["hidden_activation"] = _ACTIVATIONS[activation]
    try:
        return from_dict(EncoderConfig, settings)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _read_tensors(path: str) -> dict[str, np.ndarray]:
    files = list_folder(path)
    if WEIGHTS in files:
        return read_safetensors(posixpath.join(path, WEIGHTS))
    if INDEX in files:
        return _read_shards(path, files)
    if PICKLED in files or f"{PICKLED}.index.json" in files:
        raise InputError(
            f"{path} has its weights in {PICKLED}, and unpickling runs whatever code is in there; "
            f"write {WEIGHTS} once with transformers, "
            f'AutoModelForPreTraining.from_pretrained("{path}").save_pretrained("NEW_FOLDER").'
        )
    raise InputError(f"{path} has a {CONFIG} and no {WEIGHTS}; copy its weights, too.")


def _read_shards(path: str, files: set[str]) -> dict[str, np.ndarray]:
    file = posixpath.join(path, INDEX)
    weight_map = read_json_object(file).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{file} has no weight_map; copy it again.")
    tensors: dict[str, np.ndarray] = {}
    for shard in sorted({str(name) for name in weight_map.values()}):
        # A name with a folder in it is not among them, so that nothing outside is read.
        if shard not in files:
            raise InputError(f"{file} names {shard!r}, which is not in {path}; copy that, too.")
        tensors |= read_safetensors(posixpath.join(path, shard))
    for name in weight_map:
        if name not in tensors:
            raise InputError(f"{file} names the weight {name}, which no file of {path} has.")
    return tensors


def read_safetensors(file: str) -> dict[str, np.ndarray]:
    """Reads a safetensors file of any dtype that numpy has, and bfloat16 as float32.

    The header is checked against the size of the file before anything of its size is made.

    Raises:
        InputError: If it cannot be read, or is damaged.
    """
    try:
        entries = safetensors.deserialize(read_bytes(file))
    except tf.errors.OpError as error:
        raise InputError(f"{file} cannot be read: {error.message}") from error
    except safetensors.SafetensorError as error:
        raise InputError(f"{file} is damaged, copy it again: {error}.") from error
    return {name: _array(file, name, entry) for name, entry in entries}


_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def _array(file: str, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    if entry["dtype"] == "BF16":
        # The upper half of a float32.
        halves = np.frombuffer(entry["data"], "<u2").astype("uint32") << 16
        return halves.view("float32").reshape(entry["shape"])
    if entry["dtype"] not in _DTYPES:
        raise InputError(
            f"{file}: {name} is of dtype {entry['dtype']}, and F32, F16, BF16 or F64 can be read; "
            f"save the model in float32."
        )
    return np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _model(values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    architectures = values.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else None
    if isinstance(first, str) and first in _MODELS:
        return _MODELS[first]
    heads = names.heads_of(arrays)
    if "span_classifier" in heads:
        return "BertQuestionAnswerer"
    if "classifier" in heads:
        return "BertTextClassifier"
    return "BertPretrainer" if heads & {"masked_language_model", "next_sentence"} else "BertEncoder"


def _labels(
    file: str, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray], model: str
) -> tuple[str, ...]:
    """Names of the classes of a classifier; LABEL_0 and so on are those of none."""
    by_id = values.get("id2label")
    if model not in ("BertTextClassifier", "BertTokenClassifier") or not by_id:
        return ()
    count = len(arrays.get("classifier/bias", ()))
    ids = [str(index) for index in range(count)]
    if not isinstance(by_id, dict) or sorted(by_id) != sorted(ids):
        raise InputError(
            f"{file}: id2label must name the {count} classes of the classifier by 0 to "
            f"{count - 1}. Received: {str(by_id)[:200]}."
        )
    labels = tuple(str(by_id[index]) for index in ids)
    return () if labels == _default_labels(count) else labels


def _default_labels(count: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{index}" for index in range(count))


def _their_config(source: WeightsSource, architecture: str) -> dict[str, Any]:
    of_theirs = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
    values: dict[str, Any] = {"architectures": [architecture], "model_type": "bert"}
    for ours, theirs in _SETTINGS.items():
        value = getattr(source.encoder, ours)
        values[theirs] = of_theirs[value] if ours == "hidden_activation" else value
    values["pad_token_id"] = source.vocabulary.pad_id
    if architecture in ("BertForSequenceClassification", "BertForTokenClassification"):
        count = len(source.arrays["classifier/bias"])
        labels: Sequence[str] = source.labels or _default_labels(count)
        values["id2label"] = {str(index): label for index, label in enumerate(labels)}
        values["label2id"] = {label: index for index, label in enumerate(labels)}
    return values
