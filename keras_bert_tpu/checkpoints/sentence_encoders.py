"""Sentence encoders in model folders, and made of the weights of other models."""

from typing import Any

from keras_bert_tpu.checkpoints.folder import write_folder
from keras_bert_tpu.checkpoints.loading import load_weights
from keras_bert_tpu.checkpoints.names import ENCODER
from keras_bert_tpu.checkpoints.sentence_modules import MODULES, read_modules
from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.checkpoints.storage import copy_arrays, weights_by_name
from keras_bert_tpu.checkpoints.task_models import longest_rows
from keras_bert_tpu.checkpoints.weights_source import WeightsSource
from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder


def load(
    model_class: type[BertSentenceEncoder],
    path: str,
    pooling: str | None,
    normalize: bool | None,
    sequence_length: int | None,
    dtype: Any,
) -> BertSentenceEncoder:
    """Loads a sentence encoder; the arguments are those of `BertSentenceEncoder.from_pretrained`.

    Raises:
        InputError: If there are no such weights, or they make vectors in another way.
    """
    source = read_weights(path)
    if source.pooling:
        normalize = source.normalize if normalize is None else normalize
    else:
        if source.format == "hf" and pooling is None:
            _check_modules(source)
        source = source._replace(sequence_length=0)  # It is of another task.
    if source.model != model_class.__name__:
        encoder = {n: array for n, array in source.arrays.items() if n.startswith(ENCODER)}
        source = source._replace(arrays=encoder)
    model = model_class(
        source.encoder,
        pooling or source.pooling or "mean",
        True if normalize is None else normalize,
        dtype=dtype,
    )
    model.tokenizer = source.tokenizer()
    model.sequence_length = longest_rows(source, sequence_length)
    load_weights(model, source)
    return model


def save(path: str, model: BertSentenceEncoder) -> None:
    """Writes a sentence encoder with all that it needs to be used on text.

    Args:
        path: str. Local or gs:// folder.
        model: BertSentenceEncoder with a tokenizer.

    Raises:
        InputError: If it has none.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise InputError(
            "This BertSentenceEncoder has no tokenizer to save it with; make it by "
            "from_pretrained, or set its tokenizer."
        )
    source = WeightsSource(
        path=path,
        arrays=copy_arrays(weights_by_name(model)),
        encoder=model.config,
        vocabulary=tokenizer.vocabulary,
        description="",
        model=type(model).__name__,
        lower_case=tokenizer.lower_case,
        strip_accents=tokenizer.strip_accents,
        added_tokens=tokenizer.added_tokens,
        sequence_length=model.sequence_length,
        pooling=model.pooling,
        normalize=model.normalize,
    )
    write_folder(path, source)


def _check_modules(source: WeightsSource) -> None:
    modules = read_modules(source.path, source.encoder.hidden_size)
    if modules is not None and modules.obstacle:
        raise InputError(
            f"{source.path} makes its vectors with {modules.obstacle} ({MODULES}), and a "
            f"BertSentenceEncoder has a Transformer, pooling by mean or cls, and Normalize; give "
            f"pooling to train one of its encoder, or another folder."
        )
