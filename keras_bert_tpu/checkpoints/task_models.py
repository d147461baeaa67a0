"""Task models in model folders: the whole of them, or a new head on a pre-trained encoder."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from absl import logging

from keras_bert_tpu.checkpoints.folder import read_folder_config, save_folder
from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.checkpoints.storage import weights_by_name
from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.task_model import TaskModel
from keras_bert_tpu.text.tokenizer import BertTokenizer

Model = TypeVar("Model", bound=TaskModel)
DEFAULT_LENGTH = 128


def load(
    model_class: type[Model],
    path: str,
    labels: Sequence[str] | None,
    sequence_length: int | None,
    dtype: Any,
    head: Mapping[str, Any],
) -> Model:
    """Loads a task model; the arguments are those of `TaskModel.from_pretrained`.

    Raises:
        InputError: If there are no such weights, or they are of another encoder or head.
    """
    source = read_weights(path)
    if source.vocabulary is None:
        raise InputError(
            f"{source.path} has no vocabulary beside its weights, which is needed for text; give "
            f"the folder `model` of the finished run."
        )
    folder = read_folder_config(source.path)
    is_same = folder.model == model_class.__name__
    known = dict(folder.head) if is_same else {}
    known_labels = tuple(known.pop("labels", ()))
    known_length = known.pop("sequence_length", None)
    if labels is None:
        labels = known_labels
    if labels and "num_classes" not in head:
        head = {**head, "num_classes": len(labels)}
    settings = {**known, **head}
    if is_same and any(known.get(name) != value for name, value in settings.items()):
        raise InputError(
            f"{path} has a head with {known}, and {dict(head)} is asked for; leave that out, or "
            f"give a pre-trained model without a head."
        )
    if is_same and known_labels and tuple(labels) != known_labels:
        raise InputError(
            f"{path} has the labels {list(known_labels)}. Received: {list(labels)}; leave them "
            f"out, or give a pre-trained model without a head."
        )
    model = model_class(source.encoder, dtype=dtype, **settings)
    _check_labels(model, labels)
    missing = []
    for name, variable in weights_by_name(model).items():
        array = source.arrays.get(name)
        if array is not None and array.shape == tuple(variable.shape):
            variable.assign(array)
        elif name.startswith("encoder/"):
            received = "is not there" if array is None else f"has shape {array.shape}"
            raise InputError(f"{source.path}: {name} {received}; the encoder is not whole.")
        else:
            missing.append(name)
    if missing:
        logging.info("%s begin at random.", ", ".join(missing))
    model.tokenizer = BertTokenizer(
        source.vocabulary, folder.lower_case, folder.strip_accents, folder.added_tokens
    )
    model.labels = tuple(labels)
    length = sequence_length or known_length or DEFAULT_LENGTH
    positions = model.config.max_positions
    if sequence_length and sequence_length > positions:
        raise InputError(
            f"sequence_length={sequence_length} is longer than the {positions} positions of "
            f"{path}; shorten it."
        )
    model.sequence_length = min(length, positions)
    return model


def save(path: str, model: TaskModel) -> None:
    """Writes a task model with all that it needs to be used on text.

    Args:
        path: str. Local or gs:// folder.
        model: TaskModel with a tokenizer.

    Raises:
        InputError: If it has none.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise InputError(
            f"This {type(model).__name__} has no tokenizer to save it with; make it by "
            f"from_pretrained, or set its tokenizer."
        )
    head = {**model.head_config(), "labels": list(model.labels)}
    save_folder(
        path,
        model,
        model.config,
        tokenizer.vocabulary,
        tokenizer.lower_case,
        tokenizer.strip_accents,
        tokenizer.added_tokens,
        {**head, "sequence_length": model.sequence_length},
    )


def _check_labels(model: TaskModel, labels: Sequence[str]) -> None:
    number = model.head_config().get("num_classes", len(labels))
    if labels and number != len(labels):
        raise InputError(
            f"There must be a label for each of num_classes={number}. Received: {list(labels)}."
        )
