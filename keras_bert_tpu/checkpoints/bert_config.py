"""bert_config.json, which stands beside Google's checkpoints, and what it cannot say.

Google's code has no setting for the epsilon of layer normalization, and computes "gelu" by tanh
(modeling.py of google-research/bert, activations/gelu.py of the Model Garden). Nor does a folder of
theirs say how text is to be tokenized. What we write into other people's formats has a file
`kbt_settings.json` beside it that says these things, so that nothing is lost on the way back.
"""

import json
import posixpath
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_bert_tpu.checkpoints.storage import (
    list_folder,
    read_json_object,
    write_atomically,
)
from keras_bert_tpu.checkpoints.weights_source import WeightsSource
from keras_bert_tpu.config import EncoderConfig, InputError
from keras_bert_tpu.dataclass_yaml import from_dict, to_dict
from keras_bert_tpu.text.vocabulary import Vocabulary

CONFIG, VOCABULARY, SETTINGS = "bert_config.json", "vocab.txt", "kbt_settings.json"
SETTINGS_VERSION = 1
_SIZES = (
    "vocab_size",
    "num_layers",
    "hidden_size",
    "num_heads",
    "intermediate_size",
    "max_positions",
    "type_vocab_size",
)

# Our settings, by the names they have in bert_config.json, which Hugging Face took over.
KEYS = {
    "vocab_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "hidden_activation": "hidden_act",
    "hidden_dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "max_positions": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "initializer_range": "initializer_range",
}
ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu"}


class Settings(NamedTuple):
    """What is known of a model whose format does not say it all."""

    encoder: EncoderConfig
    lower_case: bool
    strip_accents: bool | None
    added_tokens: tuple[str, ...]
    labels: tuple[str, ...]
    model: str | None


def read_bert_config(path: str) -> EncoderConfig:
    """Reads bert_config.json of a folder.

    Raises:
        InputError: If it is damaged or of another model.
    """
    file = posixpath.join(path, CONFIG)
    return encoder_of(file, read_json_object(file), KEYS)


def encoder_of(file: str, values: Mapping[str, Any], keys: Mapping[str, str]) -> EncoderConfig:
    """Makes an EncoderConfig of Google's settings.

    Args:
        file: str. Where they are from, for messages.
        values: Mapping of their names to values.
        keys: Mapping of our names to theirs.

    Raises:
        InputError: If a value does not fit, or is of another model.
    """
    settings = {ours: values[key] for ours, key in keys.items() if values.get(key) is not None}
    if "vocab_size" not in settings:
        raise InputError(f"{file} has no {keys['vocab_size']}; it is no config of BERT.")
    activation = settings.get("hidden_activation", "gelu")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise InputError(
            f"{file} has {keys['hidden_activation']}={activation!r}, and "
            f"{', '.join(ACTIVATIONS)} can be computed; give a model with one of these."
        )
    settings["hidden_activation"] = ACTIVATIONS[activation]
    embedding_size = values.get("embedding_size")
    if embedding_size is not None and embedding_size != values.get("hidden_size"):
        raise InputError(
            f"{file} has embedding_size={embedding_size!r}, other than hidden_size, which is "
            f"another model than BERT (ALBERT, for example); give a BERT."
        )
    try:
        return from_dict(EncoderConfig, settings)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def write_bert_config(path: str, encoder: EncoderConfig) -> None:
    """Writes bert_config.json into a folder; an exact GELU is written as Google's, by tanh."""
    values = {key: getattr(encoder, ours) for ours, key in KEYS.items()}
    values["hidden_act"] = "relu" if encoder.hidden_activation == "relu" else "gelu"
    write_atomically(posixpath.join(path, CONFIG), json.dumps(values, indent=2).encode())


def read_vocabulary(path: str) -> Vocabulary | None:
    """Reads vocab.txt of a folder, if there is one."""
    if VOCABULARY not in list_folder(path):
        return None
    return Vocabulary.load(posixpath.join(path, VOCABULARY))


def read_settings(
    path: str,
    encoder: EncoderConfig,
    vocabulary: Vocabulary | None,
    lower_case: bool | None = None,
    strip_accents: bool | None = None,
) -> Settings:
    """Reads `kbt_settings.json` of a folder, or tells from the rest what it would say.

    A vocabulary with a capital letter is cased. [unused1] and the special tokens tell nothing.

    Args:
        path: str. Local or gs:// folder.
        encoder: EncoderConfig as the format has it.
        vocabulary: Vocabulary of the folder.
        lower_case: bool, if the format says it.
        strip_accents: bool, if the format says it.

    Raises:
        InputError: If the file is damaged.
    """
    if SETTINGS not in list_folder(path):
        if lower_case is None:
            lower_case = not _is_cased(vocabulary)
        return Settings(encoder, lower_case, strip_accents, (), (), None)
    file = posixpath.join(path, SETTINGS)
    values = read_json_object(file)
    if values.get("format_version") != SETTINGS_VERSION:
        raise InputError(
            f"{file} has format version {values.get('format_version')}, this version reads "
            f"{SETTINGS_VERSION}; use the version of keras_bert_tpu that wrote it, or remove it."
        )
    _check_settings(file, values)
    own = from_dict(EncoderConfig, values["encoder"], prefix="encoder.")
    for name in _SIZES:  # Those of the weights, which the format's own config has.
        if getattr(own, name) != getattr(encoder, name):
            raise InputError(
                f"{file} has {name}={getattr(own, name)}, and the weights beside it have "
                f"{getattr(encoder, name)}; copy both again, or remove {SETTINGS}."
            )
    return Settings(
        own,
        values["lower_case"],
        values["strip_accents"],
        tuple(values["added_tokens"]),
        tuple(values["labels"]),
        values["model"],
    )


def _check_settings(file: str, values: Mapping[str, Any]) -> None:
    for key, expected in (
        ("encoder", dict),
        ("lower_case", bool),
        ("strip_accents", bool | None),
        ("added_tokens", list),
        ("labels", list),
        ("model", str),
    ):
        value = values.get(key)
        is_wrong = key not in values or not isinstance(value, expected)
        if isinstance(value, list):
            is_wrong |= not all(isinstance(entry, str) for entry in value)
        if is_wrong:
            raise InputError(
                f"{file}: {key} must be what was written. Received: {value!r}; copy the file again."
            )


def write_settings(path: str, source: WeightsSource) -> None:
    """Writes `kbt_settings.json` into a folder of another format."""
    values = {
        "format_version": SETTINGS_VERSION,
        "encoder": to_dict(source.encoder),
        "lower_case": source.lower_case,
        "strip_accents": source.strip_accents,
        "added_tokens": list(source.added_tokens),
        "labels": list(source.labels),
        "model": source.model,
    }
    write_atomically(posixpath.join(path, SETTINGS), json.dumps(values, indent=2).encode())


def warn_of_other_numbers(where: str, encoder: EncoderConfig) -> None:
    """Warns if other people's code, whose settings are fixed, will compute something else."""
    if encoder.hidden_activation == "gelu":
        warnings.warn(
            f"{where} computes GELU by tanh, which is up to 5e-4 from the exact one of this model: "
            f"its outputs there differ.",
            stacklevel=3,
        )
    if encoder.layer_norm_epsilon != 1e-12:
        warnings.warn(
            f"{where} normalizes with an epsilon of 1e-12 and this model with "
            f"{encoder.layer_norm_epsilon:g}: its outputs there differ.",
            stacklevel=3,
        )


def _is_cased(vocabulary: Vocabulary | None) -> bool:
    pieces = vocabulary.pieces if vocabulary is not None else ()
    return any(
        piece != piece.lower() for piece in pieces if not (piece[0] == "[" and piece[-1] == "]")
    )
