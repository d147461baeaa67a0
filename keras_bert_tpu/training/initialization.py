"""Which weights a run begins with, and which of them stay as they are."""

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

import keras

from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.checkpoints.storage import weights_by_name
from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.text.vocabulary import Vocabulary

# Rows of these tables are pieces of the vocabulary, and mean nothing under another one.
_OF_PIECES = ("encoder/embeddings/token_embedding/*", "masked_language_model/output_bias")


def load_initial_weights(
    pretrainer: BertPretrainer, path: str, layers: Sequence[str], vocabulary: Vocabulary
) -> str:
    """Assigns weights of another run to a model.

    Args:
        pretrainer: BertPretrainer.
        path: str. What `checkpoints.source.read_weights` reads.
        layers: Names of layers or weights, or patterns, see `select`.
        vocabulary: Vocabulary of the model.

    Returns:
        str. A table of what was taken and what begins at random, for people.

    Raises:
        InputError: If a name is unknown, a weight that is asked for is not there or of another
            shape, or pieces of the vocabulary are other ones.
    """
    source = read_weights(path)
    variables = weights_by_name(pretrainer)
    chosen = select(variables, layers, "init_layers")
    for name in chosen:
        array, shape = source.arrays.get(name), tuple(variables[name].shape)
        if array is None or array.shape != shape:
            received = "is not there" if array is None else f"has shape {array.shape}"
            raise InputError(
                f"init_checkpoint: {name} {received} in {source.path}, and {shape} is expected; "
                f"take a checkpoint of the same sizes, or choose init_layers without it."
            )
    of_pieces = [name for name in chosen if _matches(name, _OF_PIECES)]
    known = source.vocabulary
    if of_pieces and known is not None and known.sha256 != vocabulary.sha256:
        raise InputError(
            f"init_checkpoint: {source.path} has another vocabulary than the records, so that "
            f"{of_pieces[0]} would belong to other pieces; prepare the records with its vocab.txt, "
            f"or choose init_layers without {', '.join(of_pieces)}."
        )
    for name in chosen:
        variables[name].assign(source.arrays[name])
    return _table(source.description, variables, chosen)


def freeze(model: keras.Model, layers: Sequence[str]) -> list[str]:
    """Takes weights out of training, for good; call it before a step and optimizer are made.

    Args:
        model: keras.Model of this package.
        layers: Names of layers or weights, or patterns, see `select`.

    Returns:
        list of str. The names of the weights.

    Raises:
        InputError: If a name is unknown, or nothing is left to train.
    """
    variables = weights_by_name(model)
    frozen = select(variables, layers, "frozen_layers")
    if len(frozen) == len(variables):
        raise InputError(f"frozen_layers={list(layers)} leaves no weight to train; freeze fewer.")
    for name in frozen:
        variables[name].trainable = False
    return frozen


def select(names: Iterable[str], patterns: Sequence[str], setting: str) -> list[str]:
    """Returns the names that are meant, in their order.

    Args:
        names: Of weights, for example "encoder/layer_0/attention/query/kernel".
        patterns: Names of weights; or of layers, which are all weights below them; or either with
            the wildcards of a shell, of which * stands for any text, with / too.
        setting: str. Where the patterns come from, for messages.

    Raises:
        InputError: If a pattern means nothing.
    """
    names = list(names)
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in names):
            parts = (name.split("/") for name in names)
            known = {"/".join(part[:n]) for part in parts for n in range(1, len(part) + 1)}
            nearest = difflib.get_close_matches(pattern, sorted(known), n=1, cutoff=0.0)[0]
            raise InputError(
                f"{setting}: there is no layer or weight {pattern!r}; the nearest is {nearest!r}."
            )
    return [name for name in names if _matches(name, patterns)]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(
        fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}/*")
        for pattern in patterns
    )


def _table(description: str, variables: dict[str, keras.Variable], chosen: Sequence[str]) -> str:
    """One line for each layer: how many of its weights were taken."""
    layers: dict[str, list[str]] = {}
    for name in variables:
        depth = 2 if name.startswith("encoder/") else 1
        layers.setdefault("/".join(name.split("/")[:depth]), []).append(name)
    taken = set(chosen)
    lines = [f"Weights of {description}:"]
    for layer, names in layers.items():
        number = sum(name in taken for name in names)
        what = "taken" if number == len(names) else f"{number} of {len(names)} taken"
        lines.append(f"  {layer:<24} {'begins at random' if number == 0 else what}")
    return "\n".join(lines)
