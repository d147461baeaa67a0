"""Task models in model folders: the whole of them, or a new head on a pre-trained encoder."""

import types
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from keras_bert_tpu.checkpoints.folder import save_folder
from keras_bert_tpu.checkpoints.loading import load_weights
from keras_bert_tpu.checkpoints.names import ENCODER
from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.checkpoints.weights_source import WeightsSource
from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.task_model import TaskModel

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
    return from_source(model_class, read_weights(path), labels, sequence_length, dtype, head)


def from_source(
    model_class: type[Model],
    source: WeightsSource,
    labels: Sequence[str] | None = None,
    sequence_length: int | None = None,
    dtype: Any = None,
    head: Mapping[str, Any] = types.MappingProxyType({}),
    needs_tokenizer: bool = True,
) -> Model:
    """Makes a task model of weights that were read; the other arguments are those of `load`.

    Without a tokenizer beside them it has none, if `needs_tokenizer` is not set.

    Raises:
        InputError: If they are of another encoder or head, or there is no tokenizer.
    """
    is_same = source.model == model_class.__name__
    if not is_same:
        # The head of another task may have the names of this one's.
        encoder = {n: array for n, array in source.arrays.items() if n.startswith(ENCODER)}
        source = source._replace(
            arrays=encoder, labels=(), sequence_length=0, multi_label=False, pairs=False
        )
    labels = source.labels if labels is None else tuple(labels)
    _check_labels(source.path, source.labels, labels)
    model = model_class(source.encoder, dtype=dtype, **_head(source, labels, head))
    if needs_tokenizer or source.vocabulary is not None:
        model.tokenizer = source.tokenizer()
    model.labels = labels
    model.multi_label = source.multi_label
    model.pairs = source.pairs
    model.sequence_length = longest_rows(source, sequence_length)
    if is_same:
        load_weights(model, source)
    else:
        with warnings.catch_warnings():
            # That the head begins at random is what was asked for.
            warnings.simplefilter("ignore")
            report = load_weights(model, source)
        lacking = [name for name in report.random if name.startswith(ENCODER)]
        if lacking and model.encoder.pooler.trainable:
            warnings.warn(
                f"{source.description} has no {', '.join(lacking)}: they begin at random.",
                stacklevel=3,
            )
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
    save_folder(
        path,
        model,
        model.config,
        tokenizer.vocabulary,
        tokenizer.lower_case,
        tokenizer.strip_accents,
        tokenizer.added_tokens,
        model.labels,
        model.sequence_length,
        model.multi_label,
        model.pairs,
    )


def _head(source: WeightsSource, labels: Sequence[str], head: Mapping[str, Any]) -> dict[str, Any]:
    """What the model is made with beside the config: as asked for, or else as its weights are."""
    head = dict(head)
    kernel = source.arrays.get("classifier/kernel")
    known = None if kernel is None else kernel.shape[-1]
    if labels:
        number = head.setdefault("num_classes", len(labels))
        if number != len(labels):
            raise InputError(
                f"There must be a label for each of num_classes={number}. Received: {list(labels)}."
            )
    elif known is not None and source.model in ("BertTextClassifier", "BertTokenClassifier"):
        head.setdefault("num_classes", known)
    if known is not None and head.get("num_classes", known) != known:
        raise InputError(
            f"{source.path} has a head of {known} classes, and num_classes={head['num_classes']} "
            f"is asked for; leave that out, or give a pre-trained model without a head."
        )
    return head


def _check_labels(path: str, known: Sequence[str], labels: Sequence[str]) -> None:
    if known and tuple(labels) != tuple(known):
        raise InputError(
            f"{path} has the labels {list(known)}. Received: {list(labels)}; leave them out, or "
            f"give a pre-trained model without a head."
        )


def longest_rows(source: WeightsSource, asked: int | None) -> int:
    """Returns the length of rows: as asked for, or else that of the source, or else 128.

    Raises:
        InputError: If it is longer than the positions of the encoder.
    """
    positions = source.encoder.max_positions
    if asked and asked > positions:
        raise InputError(
            f"sequence_length={asked} is longer than the {positions} positions of {source.path}; "
            f"shorten it."
        )
    return min(asked or source.sequence_length or DEFAULT_LENGTH, positions)
