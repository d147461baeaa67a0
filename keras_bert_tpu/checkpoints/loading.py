"""Weights of any source into any of our models, and a report of what went where."""

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras

from keras_bert_tpu.checkpoints.names import (
    ENCODER,
    POOLER,
    check_vocabulary,
    shapes_with_layers,
)
from keras_bert_tpu.checkpoints.storage import check_same_arrays, weights_by_name
from keras_bert_tpu.checkpoints.weights_source import WeightsSource
from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.encoder import BertEncoder

# As many names are written out of one kind; the rest is counted.
_LISTED = 8


class LoadReport(NamedTuple):
    """What became of each weight; `str` makes a table of it.

    Attributes:
        description: str. The source.
        loaded: tuple of str. Names of weights that were assigned.
        missing: tuple of str. Names of weights that the source lacks: they begin at random.
        unexpected: tuple of str. Names in the source that the model has no weight for.
        other_shape: Mapping of names to the shape in the source and that in the model. The weights
            begin at random.
    """

    description: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other_shape: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def random(self) -> tuple[str, ...]:
        """Names of all weights that begin at random."""
        return (*self.missing, *self.other_shape)

    def __str__(self) -> str:
        shapes = [
            f"{name}: {list(source)} there, {list(model)} here"
            for name, (source, model) in self.other_shape.items()
        ]
        lines = [f"Weights of {self.description}:", *_by_layer(self.loaded, "loaded")]
        for what, names in (
            ("missing there, begin at random", self.missing),
            ("of another shape, begin at random", shapes),
            ("not of this model, left out", self.unexpected),
        ):
            if names:
                lines.append(f"  {what} ({len(names)}):")
                lines += [f"    {name}" for name in names[:_LISTED]]
                if len(names) > _LISTED:
                    lines.append(f"    and {len(names) - _LISTED} more")
        return "\n".join(lines)


def load_weights(model: keras.Model, source: WeightsSource) -> LoadReport:
    """Assigns the weights of a source to a model, by their names.

    What the source has no weights for begins at random, and a warning names it, but for a pooler
    that is not trained. Only a folder of ours that is of the model's own class must have just its
    weights.

    Args:
        model: keras.Model: a BertEncoder, or a model whose encoder has the name "encoder".
        source: WeightsSource.

    Raises:
        InputError: If weights of the encoder are missing or of another shape, but that the pooler
            may be missing; or the vocabulary has more pieces than the model has rows; or a folder
            of ours does not have just the weights of its class.
    """
    is_encoder = isinstance(model, BertEncoder)
    # Models that have no use for the pooler do not train it, and many sources lack it.
    has_idle_pooler = not is_encoder and not model.encoder.pooler.trainable
    if source.format == "kbt" and source.model == type(model).__name__ and not is_encoder:
        needed = {
            name: variable
            for name, variable in weights_by_name(model).items()
            if name in source.arrays or not (has_idle_pooler and name.startswith(POOLER))
        }
        check_same_arrays(source.path, needed, source.arrays)
    prefix = ENCODER if is_encoder else ""
    variables = {f"{prefix}{name}": value for name, value in weights_by_name(model).items()}
    shapes = {
        name: (tuple(source.arrays[name].shape), tuple(variable.shape))
        for name, variable in variables.items()
        if name in source.arrays
    }
    report = LoadReport(
        description=source.description,
        loaded=tuple(name for name, (theirs, ours) in shapes.items() if theirs == ours),
        missing=tuple(name for name in variables if name not in source.arrays),
        unexpected=tuple(name for name in source.arrays if name not in variables),
        other_shape={name: pair for name, pair in shapes.items() if pair[0] != pair[1]},
    )
    _check_encoder(report, source)
    if source.vocabulary is not None:
        check_vocabulary(source.path, len(source.vocabulary), source.encoder)
    for name in report.loaded:
        variables[name].assign(source.arrays[name])
    needed_random = [
        name for name in report.random if not (has_idle_pooler and name.startswith(POOLER))
    ]
    if needed_random:
        warnings.warn(
            f"{source.description} has no weights for {_some(needed_random)}: they begin at "
            f"random, and are to be trained before the model is of use.",
            stacklevel=2,
        )
    return report


def table_of(source: WeightsSource) -> str:
    """Returns a table of the weights that a source has, for people."""
    known = shapes_with_layers(source.encoder, range(source.encoder.num_layers))
    lines = [f"Weights of {source.description}:"]
    lines += _by_layer([name for name in source.arrays if name in known], "weights")
    lines += [f"  {name}: of no model here" for name in source.arrays if name not in known]
    return "\n".join(lines)


def _check_encoder(report: LoadReport, source: WeightsSource) -> None:
    for name in report.missing:
        if name.startswith(ENCODER) and not name.startswith(POOLER):
            raise InputError(
                f"{source.path} has no weights for {name}; build the model with the config of the "
                f"weights, which the source has as `encoder`."
            )
    for name, (theirs, ours) in report.other_shape.items():
        if name.startswith(ENCODER):
            raise InputError(
                f"{source.path}: {name} has shape {list(theirs)}, the model expects {list(ours)}; "
                f"build the model with the config of the weights, which the source has as "
                f"`encoder`."
            )


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{rest}"


def _by_layer(names: Sequence[str], what: str) -> list[str]:
    """One line for each layer: how many of its weights are named."""
    counts: dict[str, int] = {}
    for name in names:
        layer = "/".join(name.split("/")[: 2 if name.startswith(ENCODER) else 1])
        counts[layer] = counts.get(layer, 0) + 1
    return [f"  {layer:<24} {count:>3} {what}" for layer, count in counts.items()]
