"""This package's own model folder: config.json, model.safetensors and vocab.txt."""

import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_bert_tpu.checkpoints.names import POOLER, other_shapes
from keras_bert_tpu.checkpoints.storage import (
    DamagedFileError,
    assign_arrays,
    read_arrays,
    read_bytes,
    weights_by_name,
    write_arrays,
    write_atomically,
)
from keras_bert_tpu.checkpoints.weights_source import WeightsSource
from keras_bert_tpu.config import EncoderConfig, InputError
from keras_bert_tpu.dataclass_yaml import from_dict, to_dict
from keras_bert_tpu.text.vocabulary import Vocabulary

FORMAT_VERSION = 1
CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocab.txt"


class FolderConfig(NamedTuple):
    """What config.json of a model folder holds."""

    model: str
    encoder: EncoderConfig
    lower_case: bool
    strip_accents: bool | None
    added_tokens: tuple[str, ...]
    labels: tuple[str, ...]
    sequence_length: int
    multi_label: bool
    pairs: bool
    pooling: str
    normalize: bool


def save_folder(
    path: str,
    model: keras.Model,
    encoder: EncoderConfig,
    vocabulary: Vocabulary,
    lower_case: bool,
    strip_accents: bool | None = None,
    added_tokens: Sequence[str] = (),
    labels: Sequence[str] = (),
    sequence_length: int = 0,
    multi_label: bool = False,
    pairs: bool = False,
) -> None:
    """Writes a model folder; config.json comes last.

    Args:
        path: str. Local or gs:// folder.
        model: keras.Model. All its weights are stored.
        encoder: EncoderConfig.
        vocabulary: Vocabulary of the model.
        lower_case: bool. As of its BertTokenizer, like the next two.
        strip_accents: bool or None.
        added_tokens: Sequence of str.
        labels: Sequence of str. Names of the classes of its head, if it has any.
        sequence_length: int. Longest rows of a task model; 0 says nothing of it.
        multi_label: bool. Whether a text may have several of the labels.
        pairs: bool. Whether a text classifier was trained on pairs of texts.
    """
    source = WeightsSource(
        path=path,
        arrays=weights_by_name(model),
        encoder=encoder,
        vocabulary=vocabulary,
        description="",
        model=type(model).__name__,
        lower_case=lower_case,
        strip_accents=strip_accents,
        added_tokens=tuple(added_tokens),
        labels=tuple(labels),
        sequence_length=sequence_length,
        multi_label=multi_label,
        pairs=pairs,
    )
    write_folder(path, source)


def write_folder(path: str, source: WeightsSource) -> None:
    """Writes the weights of a source as a model folder; config.json comes last.

    One that lacks a head of a BertPretrainer is written as a BertEncoder, beside which what there
    is of heads is kept.

    Args:
        path: str. Local or gs:// folder.
        source: WeightsSource. All its arrays are stored.

    Raises:
        InputError: If it has no vocabulary.
    """
    source.require_vocabulary(f"the folder {path}")
    model = source.model
    if model == "BertPretrainer" and not _has_both_heads(source):
        model = "BertEncoder"
    tf.io.gfile.makedirs(path)
    source.vocabulary.save(posixpath.join(path, VOCABULARY))
    sha256 = write_arrays(posixpath.join(path, WEIGHTS), source.arrays)
    values = {
        "format_version": FORMAT_VERSION,
        "model": model,
        "encoder": to_dict(source.encoder),
        "lower_case": source.lower_case,
        "strip_accents": source.strip_accents,
        "added_tokens": list(source.added_tokens),
        "labels": list(source.labels),
        "sequence_length": source.sequence_length,
        "multi_label": source.multi_label,
        "pairs": source.pairs,
        "pooling": source.pooling,
        "normalize": source.normalize,
        "sha256": sha256,
    }
    write_atomically(posixpath.join(path, CONFIG), json.dumps(values, indent=2).encode())


def _has_both_heads(source: WeightsSource) -> bool:
    return all(
        name in source.arrays
        for name in other_shapes(source.encoder)
        if name.startswith((POOLER, "masked_language_model/", "next_sentence/"))
    )


def read_folder_config(path: str) -> FolderConfig:
    """Reads config.json of a model folder.

    Raises:
        InputError: If it is missing, is not JSON or has an unknown format version.
    """
    values = _read_config(path)
    _check_config(posixpath.join(path, CONFIG), values)
    return FolderConfig(
        model=values["model"],
        encoder=from_dict(EncoderConfig, values["encoder"], prefix="encoder."),
        lower_case=values["lower_case"],
        # Folders written before there were such settings lack them.
        strip_accents=values.get("strip_accents"),
        added_tokens=tuple(values.get("added_tokens", ())),
        labels=tuple(values.get("labels", ())),
        sequence_length=values.get("sequence_length", 0),
        multi_label=values.get("multi_label", False),
        pairs=values.get("pairs", False),
        pooling=values.get("pooling", ""),
        normalize=values.get("normalize", False),
    )


def load_folder_weights(path: str, model: keras.Model) -> None:
    """Assigns all weights of a model from a model folder.

    Raises:
        InputError: If the file is damaged or its arrays are not just those of the model.
    """
    assign_arrays(posixpath.join(path, WEIGHTS), model, read_folder_arrays(path))


def read_folder_arrays(path: str) -> dict[str, np.ndarray]:
    """Reads the weights of a model folder, by the names of `storage.weights_by_name`.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        return read_arrays(posixpath.join(path, WEIGHTS), _read_config(path).get("sha256", ""))
    except DamagedFileError as error:
        raise InputError(f"{error}; the model folder must be copied or written again.") from error


def _check_config(file: str, values: Mapping[str, Any]) -> None:
    for key, expected, default in (
        ("model", str, None),
        ("encoder", dict, None),
        ("lower_case", bool, None),
        ("strip_accents", bool | None, None),
        ("added_tokens", list, []),
        ("labels", list, []),
        ("sequence_length", int, 0),
        ("multi_label", bool, False),
        ("pairs", bool, False),
        ("pooling", str, ""),
        ("normalize", bool, False),
        ("sha256", str, None),
    ):
        value = values.get(key, default)
        is_wrong = not isinstance(value, expected)
        if isinstance(value, list):
            is_wrong |= not all(isinstance(entry, str) for entry in value)
        if is_wrong:
            raise InputError(
                f"{file}: {key} must be what save_pretrained writes. Received: {value!r}; copy the "
                f"file again."
            )


def _read_config(path: str) -> dict[str, Any]:
    file = posixpath.join(path, CONFIG)
    try:
        values = json.loads(read_bytes(file))
    except tf.errors.NotFoundError as error:
        raise InputError(
            f"{path} is not a model folder: it has no {CONFIG}. Give the folder `model` below the "
            f"output of kbt-pretrain."
        ) from error
    except ValueError as error:
        raise InputError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{file} must hold a JSON object; copy the file again.")
    if values.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{file} has format version {values.get('format_version')}, this version reads "
            f"{FORMAT_VERSION}; use the version of keras_bert_tpu that wrote it."
        )
    return values
