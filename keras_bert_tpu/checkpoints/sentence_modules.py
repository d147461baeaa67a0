"""What sentence-transformers keeps beside Hugging Face's weights: how a text becomes one vector.

`modules.json` lists a Transformer, a Pooling and perhaps a Normalize, each with a folder for its
settings. Pooling has a flag for each of its ways and, from version 5 on, the name of the one.
"""

import json
import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from keras_bert_tpu.checkpoints.storage import (
    list_folder,
    read_bytes,
    read_json_object,
    write_atomically,
)
from keras_bert_tpu.config import InputError

MODULES, TRANSFORMER = "modules.json", "sentence_bert_config.json"
_PROMPTS = "config_sentence_transformers.json"
_CONFIG, _POOLING, _NORMALIZE = "config.json", "1_Pooling", "2_Normalize"
_MODE = "pooling_mode"
# Their flags, with the name of the way; of these "mean" and "cls" can be computed.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_COMPUTED = ("mean", "cls")


class SentenceModules(NamedTuple):
    """What the files say, in the terms of `BertSentenceEncoder`.

    Attributes:
        pooling: str. "" if something else is computed there.
        normalize: bool.
        sequence_length: int. Longest rows; 0 if they do not say it.
        lower_case: bool. Whether texts are lower-cased before the tokenizer has them.
        obstacle: str. What cannot be computed here, in words; "" if all can be.
    """

    pooling: str
    normalize: bool
    sequence_length: int
    lower_case: bool
    obstacle: str


def read_modules(path: str, hidden_size: int) -> SentenceModules | None:
    """Reads the files of sentence-transformers in a folder of Hugging Face's.

    Args:
        path: str. Local or gs:// folder.
        hidden_size: int. Of the encoder there.

    Returns:
        SentenceModules; None if there is no modules.json.

    Raises:
        InputError: If a file is damaged or is of another encoder.
    """
    names = list_folder(path)
    if MODULES not in names:
        return None
    modules = _list_modules(posixpath.join(path, MODULES), names)
    settings = read_json_object(posixpath.join(path, TRANSFORMER)) if TRANSFORMER in names else {}
    length = settings.get("max_seq_length") or 0
    if not isinstance(length, int) or length < 0:
        raise InputError(
            f"{posixpath.join(path, TRANSFORMER)}: max_seq_length must be a whole number. "
            f"Received: {length!r}; copy the file again."
        )
    kinds = [kind for kind, _ in modules]
    pooling, obstacle = "", ""
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        obstacle = f"the modules {', '.join(kinds)}"
    elif modules[0][1]:
        obstacle = f"its Transformer in the folder {modules[0][1]}"
    else:
        mode = _pooling_mode(posixpath.join(path, modules[1][1], _CONFIG), hidden_size)
        pooling = mode if mode in _COMPUTED else ""
        obstacle = "" if pooling else f"pooling by {mode}"
    if not obstacle and _PROMPTS in names:
        obstacle = _prompt(posixpath.join(path, _PROMPTS))
    return SentenceModules(
        pooling="" if obstacle else pooling,
        normalize=not obstacle and "Normalize" in kinds,
        sequence_length=length,
        lower_case=settings.get("do_lower_case") is True,
        obstacle=obstacle,
    )


def write_modules(
    path: str, pooling: str, normalize: bool, sequence_length: int, hidden_size: int
) -> None:
    """Writes the files with which sentence-transformers computes what `BertSentenceEncoder` does.

    Args:
        path: str. Local or gs:// folder of Hugging Face's.
        pooling: str. "mean" or "cls".
        normalize: bool.
        sequence_length: int. Longest rows; 0 leaves it to the positions of the encoder.
        hidden_size: int. Of the encoder.
    """
    modules = [("Transformer", ""), ("Pooling", _POOLING), ("Normalize", _NORMALIZE)]
    listed = [
        {
            "idx": index,
            "name": str(index),
            "path": folder,
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, (kind, folder) in enumerate(modules if normalize else modules[:-1])
    ]
    flags = {flag: mode == pooling for flag, mode in _FLAGS.items()}
    tf.io.gfile.makedirs(posixpath.join(path, _POOLING))
    for name, values in (
        (posixpath.join(_POOLING, _CONFIG), {"word_embedding_dimension": hidden_size, **flags}),
        (TRANSFORMER, {"max_seq_length": sequence_length or None, "do_lower_case": False}),
        (MODULES, listed),
    ):
        write_atomically(posixpath.join(path, name), json.dumps(values, indent=2).encode())


def _list_modules(file: str, names: set[str]) -> list[tuple[str, str]]:
    """The class and the folder of each module."""
    try:
        values = json.loads(read_bytes(file))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not valid JSON, copy it again: {error}.") from error
    modules = values if isinstance(values, list) else [values]
    found = []
    for module in modules:
        kind = module.get("type") if isinstance(module, Mapping) else None
        folder = module.get("path") if kind else None
        if not isinstance(kind, str) or not isinstance(folder, str):
            raise InputError(
                f"{file} must list modules, each with a type and a path. Received: "
                f"{str(module)[:200]}; copy it again."
            )
        # Normalize has nothing to keep, so that its folder is often not copied. A name with a
        # folder in it is not among them, so that nothing outside is read.
        kind = kind.rpartition(".")[2]
        if kind == "Pooling" and folder not in names:
            raise InputError(f"{file} names the folder {folder!r}, which is not beside it.")
        found.append((kind, folder))
    return found


def _prompt(file: str) -> str:
    """What is put before every text there, in words."""
    values = read_json_object(file)
    prompts, name = values.get("prompts"), values.get("default_prompt_name")
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    return f"the prompt {prompt!r} before every text" if prompt else ""


def _pooling_mode(file: str, hidden_size: int) -> str:
    """The way of pooling, or several with + between them."""
    values: dict[str, Any] = read_json_object(file)
    size = values.get("embedding_dimension", values.get("word_embedding_dimension", hidden_size))
    if size != hidden_size:
        raise InputError(
            f"{file} is of vectors of {size!r}, and the encoder beside it has {hidden_size}; take "
            f"the files of one model."
        )
    mode = values.get(_MODE)
    if mode is None:
        # Without any flag, it is the mean there.
        mode = [name for flag, name in _FLAGS.items() if values.get(flag)] or "mean"
    return "+".join(map(str, mode)) if isinstance(mode, list) else str(mode)
