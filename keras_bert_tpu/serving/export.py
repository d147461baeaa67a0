"""Exports a model of a task as a SavedModel that TF Serving loads: text in, answers out."""

import contextlib
import os
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.multiple_choice import BertMultipleChoice
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.models.token_classifier import BertTokenClassifier
from keras_bert_tpu.pipelines.fill_mask import FillMask
from keras_bert_tpu.serving.choices import ServableMultipleChoice
from keras_bert_tpu.serving.entities import ServableTokenClassifier
from keras_bert_tpu.serving.masked_words import ServableFillMask
from keras_bert_tpu.serving.questions import ServableQuestionAnswerer
from keras_bert_tpu.serving.signatures import Servable
from keras_bert_tpu.serving.text_scores import ServableSentenceEncoder, ServableTextClassifier
from keras_bert_tpu.serving.warmup import require_messages, write_warmup
from keras_bert_tpu.serving.weights import Kind
from keras_bert_tpu.tasks.prediction import load_task_model

# TF Serving passes over folders whose names are no numbers.
_UNFINISHED = "unfinished-"


def export(
    model: keras.Model | FillMask,
    path: str,
    version: int | None = None,
    pairs: bool | None = None,
    buckets: Sequence[int] | None = None,
    tokens_at_once: int = 512,
    top_k: int | None = None,
    weights: Kind = "float32",
    xla: bool = False,
    warmup: bool = True,
) -> tuple[str, Servable]:
    """Writes a SavedModel with the tokenizer inside, complete or not at all.

    Args:
        model: TaskModel or BertSentenceEncoder, or a FillMask. A TaskModel without a tokenizer has
            `serving_ids` alone.
        path: str. Local or gs:// folder, the base path of TF Serving; the model is in a folder
            below it whose name is the version.
        version: int or None. None takes the one behind the last that is there, from 1.
        pairs: bool or None. Whether a text classifier takes pairs of texts; None does as it was
            trained.
        buckets: Lengths that rows are cut to, see `length_batches`; None chooses them.
        tokens_at_once: int. Most tokens that go through the model together, padding counted; a row
            may have more. Many of them go faster, and have more padding among them.
        top_k: int or None. Pieces that a FillMask gives for each place; None gives 5.
        weights: "float32", "bfloat16" or "int8". How the matrices are kept: in as many bytes for
            each number, and computed with in float32.
        xla: bool. Whether XLA compiles the model, once for each of some shapes; a server must be
            told to allow it.
        warmup: bool. Whether requests that TF Serving warms up with are written, for which
            tensorflow-serving-api must be installed.

    Returns:
        The folder that was written, and the Servable that is in it.

    Raises:
        InputError: If the model cannot be exported, the version is there already, the folder cannot
            be written to, or tensorflow-serving-api is not installed.
    """
    if tokens_at_once < 1:
        raise InputError(f"tokens_at_once must be greater than 0. Received: {tokens_at_once}.")
    if version is not None and version < 1:
        raise InputError(f"version must be greater than 0. Received: {version}.")
    if warmup:
        require_messages()
    served = servable(
        model,
        pairs,
        top_k,
        buckets=buckets,
        tokens_at_once=tokens_at_once,
        weights=weights,
        xla=xla,
    )
    signatures = served.signatures()
    if version is not None and version in versions(path):
        raise already_there(path, version)
    # Beside the versions, to be renamed at once. In a bucket nothing can be renamed so: what is
    # whole is copied there.
    beside = tempfile.gettempdir() if "://" in path else path
    unfinished = os.path.join(beside, f"{_UNFINISHED}{uuid.uuid4().hex[:12]}")
    module = tf.Module()
    module.variables_of_model = served.weights.variables
    try:
        os.makedirs(unfinished)
        with _without_notes():
            tf.saved_model.save(module, unfinished, signatures=signatures)
        if warmup:
            write_warmup(unfinished, served, model_name(path))
        return _publish(unfinished, path, version), served
    except (tf.errors.OpError, OSError) as error:
        raise InputError(f"{path} cannot be written to: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def model_name(path: str) -> str:
    """Returns what TF Serving shall call the model: the last part of its base path."""
    name = posixpath.basename(path.rstrip("/"))
    return name or "model"


def load_model(path: str, dtype: Any = None) -> keras.Model | FillMask:
    """Loads what can be exported: a model of a task, a sentence encoder, or one that fills masks.

    A model of a task may come without a tokenizer that a graph can have, and takes ids alone.

    Args:
        path: str. What `checkpoints.source.read_weights` reads.
        dtype: Keras dtype policy, for example "mixed_bfloat16".

    Raises:
        InputError: If there is no such model.
    """
    source = read_weights(path)
    if source.model == BertSentenceEncoder.__name__ or source.pooling:
        return BertSentenceEncoder.from_pretrained(path, dtype=dtype)
    if source.model == BertPretrainer.__name__:
        return FillMask.from_pretrained(path, dtype=dtype)
    return load_task_model(path, dtype, needs_tokenizer=False)


def servable(
    model: keras.Model | FillMask,
    pairs: bool | None = None,
    top_k: int | None = None,
    **settings: Any,
) -> Servable:
    """Returns a model with what its task has before and behind it.

    Args:
        model: What `export` takes.
        pairs: bool or None. See `ServableTextClassifier`; other models have none.
        top_k: int or None. See `ServableFillMask`; other models have none.
        **settings: Those of `Servable`.

    Raises:
        InputError: If it is another model, or a setting is given that it has not.
    """
    name = type(model).__name__
    if pairs and not isinstance(model, BertTextClassifier):
        raise InputError(f"A {name} takes no pairs of texts; leave pairs out.")
    if top_k is not None and not isinstance(model, FillMask):
        raise InputError(f"A {name} gives no words for masked places; leave top_k out.")
    if isinstance(model, BertTextClassifier):
        return ServableTextClassifier(model, pairs, **settings)
    if isinstance(model, FillMask):
        return ServableFillMask(model, 5 if top_k is None else top_k, **settings)
    for kind, of_kind in _OTHERS.items():
        if isinstance(model, kind):
            return of_kind(model, **settings)
    raise InputError(
        f"A {name} cannot be exported; a model of a task, a BertSentenceEncoder or a FillMask can."
    )


_OTHERS = {
    BertMultipleChoice: ServableMultipleChoice,
    BertQuestionAnswerer: ServableQuestionAnswerer,
    BertSentenceEncoder: ServableSentenceEncoder,
    BertTokenClassifier: ServableTokenClassifier,
}


def versions(path: str) -> list[int]:
    """Returns the versions of a base path, ascending."""
    if not tf.io.gfile.isdir(path):
        return []
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(path))
    return sorted(int(name) for name in names if name.isdecimal())


def already_there(path: str, version: int) -> InputError:
    """Returns what is raised where a version would be written over."""
    return InputError(
        f"{posixpath.join(path, str(version))} is there already; give another version, or none for "
        f"the next one that is free."
    )


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """TensorFlow tells all the hundreds of weights by their numbers when it saves."""
    before = logging.get_verbosity()
    logging.set_verbosity(min(logging.WARNING, before))
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _publish(unfinished: str, path: str, version: int | None) -> str:
    """Gives a complete model its name."""
    while True:
        number = version or max(versions(path), default=0) + 1
        final = posixpath.join(path, str(number))
        if "://" in path:
            _copy(unfinished, final)
            return final
        try:
            # Fails where another one was quicker: a folder that has files is not written over.
            os.rename(unfinished, final)
            return final
        except OSError as error:
            if not os.path.isdir(final):
                raise InputError(f"{final} cannot be written to: {error.strerror}.") from error
            if version is not None:
                raise already_there(path, version) from error


def _copy(source: str, target: str) -> None:
    """Copies a SavedModel to a bucket; what loaders look for comes last."""
    paths = [path for path in Path(source).rglob("*") if path.is_file()]
    try:
        for path in sorted(paths, key=lambda path: path.name == "saved_model.pb"):
            to = posixpath.join(target, path.relative_to(source).as_posix())
            tf.io.gfile.makedirs(posixpath.dirname(to))
            tf.io.gfile.copy(str(path), to)
    except BaseException:
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.rmtree(target)
        raise
