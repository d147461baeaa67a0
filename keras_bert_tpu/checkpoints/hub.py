"""Models of the Hugging Face hub by name, such as bert-base-uncased, downloaded once and kept."""

import os
import re

from keras_bert_tpu.config import InputError

# What a model's folder needs to be read; weights in other forms stay there.
_FILES = (
    "config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    # Those of a preset of KerasHub, by their own names: *.h5 would take in tf_model.h5.
    "model.weights.h5",
    "task.json",
    "task.weights.h5",
    "assets/tokenizer/vocabulary.txt",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "*_Pooling/config.json",
)


def is_hub_name(path: str) -> bool:
    """Whether a path may be the name of a model on the hub: NAME or OWNER/NAME."""
    word = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
    return re.fullmatch(rf"{word}(/{word})?", path) is not None


def download(name: str) -> str:
    """Downloads a model, or finds it in the cache of huggingface_hub.

    Args:
        name: str. NAME or OWNER/NAME.

    Returns:
        str. The local folder.

    Raises:
        InputError: If huggingface_hub is not installed, or the model cannot be had, or has weights
            in no form that is read, as where they are pickled.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise InputError(
            f"There is no folder {name!r} to read weights from; to take it as the name of a model "
            f"on the Hugging Face hub, run pip install 'keras_bert_tpu[hub]'."
        ) from error
    try:
        folder = snapshot_download(name, allow_patterns=list(_FILES))
    # No network, no such model, no permission, a full disk: each client raises its own.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"There is no folder {name!r} to read weights from, and the Hugging Face hub cannot "
            f"give a model of that name ({type(error).__name__}: {reason}); check the name, the "
            f"network and, for a private model, HF_TOKEN."
        ) from error
    if not any(file.endswith((".safetensors", ".weights.h5")) for file in os.listdir(folder)):
        raise InputError(
            f"The model {name!r} of the Hugging Face hub has no weights in safetensors, and those "
            f"in other forms are not taken, as unpickling runs whatever code is in there; write a "
            f"folder once with transformers, "
            f'AutoModelForPreTraining.from_pretrained("{name}").save_pretrained("NEW_FOLDER").'
        )
    return folder
