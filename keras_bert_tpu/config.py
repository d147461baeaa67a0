"""Settings: frozen dataclasses, one YAML key for each field.

A run file is a mapping whose keys are the field names below, nested as the dataclasses are.
`from_dict` names the nearest key when one does not exist, and `--set key.subkey=value` on the
command line reaches every field. This module imports nothing else of the package.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import yaml

ConfigType = TypeVar("ConfigType")

# Layers, hidden size and heads of the checkpoints published with "Well-Read Students Learn Better"
# (arXiv 1908.08962) and, for base and large, with BERT itself (arXiv 1810.04805).
PRESETS: Mapping[str, Mapping[str, int]] = types.MappingProxyType(
    {
        name: {
            "num_layers": layers,
            "hidden_size": hidden,
            "num_heads": heads,
            "intermediate_size": 4 * hidden,
        }
        for name, layers, hidden, heads in [
            ("tiny", 2, 128, 2),
            ("mini", 4, 256, 4),
            ("small", 4, 512, 8),
            ("medium", 8, 512, 8),
            ("base", 12, 768, 12),
            ("large", 24, 1024, 16),
        ]
    }
)

HIDDEN_ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
COMPUTE_DTYPES = ("float32", "bfloat16")


class InputError(ValueError):
    """Bad input, told in one sentence: what was received, what was expected, what to do.

    The command line programs print the sentence and exit with status 2, without a traceback.
    """


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise InputError(f"{name} must be greater than 0. Received: {getattr(config, name)}.")


def _require_not_negative(config: Any, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 0:
            raise InputError(f"{name} must not be negative. Received: {getattr(config, name)}.")


def _require_rate(config: Any, *names: str) -> None:
    for name in names:
        if not 0.0 <= getattr(config, name) < 1.0:
            raise InputError(
                f"{name} must be at least 0 and less than 1. Received: {getattr(config, name)}."
            )


def _require_choice(config: Any, name: str, choices: tuple[str, ...]) -> None:
    if getattr(config, name) not in choices:
        raise InputError(
            f"{name} must be one of {', '.join(choices)}. Received: {getattr(config, name)!r}."
        )


def _require_seed(config: Any) -> None:
    if not 0 <= config.seed < 2**31:
        raise InputError(f"seed must be from 0 to 2**31 - 1. Received: {config.seed}.")


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Shape and rates of a BERT encoder.

    Attributes:
        vocab_size: int. Number of word pieces, special tokens included.
        num_layers: int. Number of transformer layers.
        hidden_size: int. Width of the residual stream.
        num_heads: int. Attention heads; must divide `hidden_size`.
        intermediate_size: int. Width between the two feed-forward products.
        hidden_activation: str. "gelu" (exact, with erf), "gelu_tanh" or "relu".
        hidden_dropout: float. Dropout rate of embeddings and of each sublayer's output.
        attention_dropout: float. Dropout rate of the attention probabilities.
        max_positions: int. Longest sequence the position table can hold.
        type_vocab_size: int. Number of segments.
        initializer_range: float. Standard deviation of the truncated normal initializer.
        layer_norm_epsilon: float. Added to the variance in layer normalization.
    """

    vocab_size: int = 30522
    num_layers: int = 12
    hidden_size: int = 768
    num_heads: int = 12
    intermediate_size: int = 3072
    hidden_activation: str = "gelu"
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    max_positions: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_epsilon: float = 1e-12

    def __post_init__(self):
        _require_positive(
            self, "vocab_size", "num_layers", "hidden_size", "num_heads", "intermediate_size"
        )
        _require_positive(self, "max_positions", "type_vocab_size")
        _require_rate(self, "hidden_dropout", "attention_dropout")
        _require_choice(self, "hidden_activation", HIDDEN_ACTIVATIONS)
        if self.hidden_size % self.num_heads:
            raise InputError(
                f"hidden_size must be a multiple of num_heads. Received: "
                f"hidden_size={self.hidden_size}, num_heads={self.num_heads}."
            )

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "EncoderConfig":
        """Returns the configuration of a published size.

        Args:
            name: str. One of "tiny", "mini", "small", "medium", "base" and "large".
            **overrides: Any field, for example `vocab_size=8000`.

        Raises:
            InputError: If there is no preset or no field of that name.
        """
        return from_dict(cls, {"preset": name, **overrides})


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How documents become pre-training examples. Written into the manifest of the records.

    Attributes:
        sequence_length: int. Tokens in an example, [CLS] and both [SEP] included.
        max_predictions: int. Largest number of masked positions in an example.
        mask_rate: float. Share of the tokens (specials counted in the length) that are masked.
        short_sequence_rate: float. Share of the documents whose target length is a random, shorter
            one; drawn anew in each pass over the corpus.
        random_next_rate: float. Share of the pairs whose second part is from another document.
        whole_word_mask: bool. Mask all pieces of a word together.
        dupe_factor: int. How often the corpus is gone over, each time with other pairs and masks.
        lower_case: bool. Lower-case and strip accents, as uncased vocabularies ask for.
        validation_rate: float. Share of the documents that are held out.
        block_documents: int. Documents in a block, the independent unit of work.
        blocks_per_shard: int. Blocks whose examples go to one shard file.
        seed: int. All randomness derives from it.
    """

    sequence_length: int = 128
    max_predictions: int = 20
    mask_rate: float = 0.15
    short_sequence_rate: float = 0.1
    random_next_rate: float = 0.5
    whole_word_mask: bool = False
    dupe_factor: int = 10
    lower_case: bool = True
    validation_rate: float = 0.01
    block_documents: int = 64
    blocks_per_shard: int = 1
    seed: int = 12345

    def __post_init__(self):
        _require_positive(
            self, "max_predictions", "dupe_factor", "block_documents", "blocks_per_shard"
        )
        _require_rate(self, "mask_rate", "short_sequence_rate", "random_next_rate")
        _require_rate(self, "validation_rate")
        _require_seed(self)
        if self.sequence_length < 8:
            raise InputError(
                f"sequence_length must be at least 8 to hold two parts and their special tokens. "
                f"Received: sequence_length={self.sequence_length}."
            )
        if self.block_documents < 2:
            raise InputError(
                f"block_documents must be at least 2, because a random next sentence comes from "
                f"another document of the block. Received: {self.block_documents}."
            )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW as in BERT, with a linear warm-up and a linear decay over the whole run.

    Attributes:
        learning_rate: float. Peak, reached at the end of the warm-up.
        end_learning_rate: float. Reached at the last step.
        warmup_steps: int. Steps from zero to the peak.
        beta_1: float. Decay of the first moment.
        beta_2: float. Decay of the second moment.
        epsilon: float. Added to the root of the second moment.
        weight_decay: float. Decoupled decay, not on biases and layer normalization.
        clip_norm: float. Largest global norm of the reduced gradient; 0 turns clipping off.
        bias_correction: bool. False is Google's rule in pre-training.
    """

    learning_rate: float = 1e-4
    end_learning_rate: float = 0.0
    warmup_steps: int = 10_000
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-6
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    bias_correction: bool = False

    def __post_init__(self):
        _require_positive(self, "learning_rate", "epsilon")
        _require_not_negative(
            self, "end_learning_rate", "warmup_steps", "weight_decay", "clip_norm"
        )
        _require_rate(self, "beta_1", "beta_2")


@dataclasses.dataclass(frozen=True)
class PhaseConfig:
    """One stretch of a run at one sequence length.

    Attributes:
        steps: int. Optimizer steps in this phase.
        batch_size: int. Sequences in a step, over all replicas.
        sequence_length: int. Must be that of the records.
        max_predictions: int. Must be that of the records.
        data: str. Folder of this phase's records, below the folder given as --data.
    """

    steps: int = 1_000_000
    batch_size: int = 256
    sequence_length: int = 128
    max_predictions: int = 20
    data: str = "."

    def __post_init__(self):
        _require_positive(self, "steps", "batch_size", "sequence_length", "max_predictions")


@dataclasses.dataclass(frozen=True)
class PretrainingConfig:
    """A whole pre-training run: the model, the optimizer and its phases.

    Attributes:
        encoder: EncoderConfig. In YAML, `preset: mini` may stand for the sizes of a preset.
        optimizer: OptimizerConfig. One schedule over the sum of all phases' steps.
        phases: tuple of PhaseConfig. Gone through in order; weights, optimizer and step go on.
        seed: int. Initial weights, dropout and order of the data derive from it.
        compute_dtype: str. "bfloat16" or "float32"; variables are always float32.
        jit_compile: bool. Compile the step with XLA where the strategy leaves the choice.
        shuffle_window: int. Shards whose records are permuted together.
        steps_per_execution: int. Steps run on the device between two visits of the host.
        log_every: int. Steps between two lines of metrics.jsonl.
        evaluate_every: int. Steps between two evaluations on the held-out documents.
        evaluate_examples: int. Held-out examples used each time; 0 takes all.
        save_every: int. Steps between two checkpoints.
        keep_checkpoints: int. How many of the last checkpoints are kept.
    """

    encoder: EncoderConfig = EncoderConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    phases: tuple[PhaseConfig, ...] = (PhaseConfig(),)
    seed: int = 12345
    compute_dtype: str = "bfloat16"
    jit_compile: bool = False
    shuffle_window: int = 8
    steps_per_execution: int = 1
    log_every: int = 100
    evaluate_every: int = 1000
    evaluate_examples: int = 0
    save_every: int = 1000
    keep_checkpoints: int = 3

    def __post_init__(self):
        _require_positive(
            self, "shuffle_window", "steps_per_execution", "log_every", "evaluate_every"
        )
        _require_positive(self, "save_every", "keep_checkpoints")
        _require_not_negative(self, "evaluate_examples")
        _require_choice(self, "compute_dtype", COMPUTE_DTYPES)
        _require_seed(self)
        if not self.phases:
            raise InputError("phases is empty; a run needs at least one phase with steps.")
        for name in ("log_every", "evaluate_every", "save_every"):
            if getattr(self, name) % self.steps_per_execution:
                raise InputError(
                    f"{name} must be a multiple of steps_per_execution, because the host sees only "
                    f"every steps_per_execution-th step. Received: {name}={getattr(self, name)}, "
                    f"steps_per_execution={self.steps_per_execution}."
                )
        for index, phase in enumerate(self.phases):
            if phase.sequence_length > self.encoder.max_positions:
                raise InputError(
                    f"phases.{index}.sequence_length={phase.sequence_length} is longer than "
                    f"encoder.max_positions={self.encoder.max_positions}; raise max_positions or "
                    f"shorten the sequences."
                )
            if phase.steps % self.steps_per_execution:
                raise InputError(
                    f"phases.{index}.steps={phase.steps} must be a multiple of "
                    f"steps_per_execution={self.steps_per_execution}."
                )

    @property
    def total_steps(self) -> int:
        """Optimizer steps of all phases together."""
        return sum(phase.steps for phase in self.phases)

    @classmethod
    def from_yaml(cls, path: str, overrides: Iterable[str] = ()) -> "PretrainingConfig":
        """Reads a run file.

        Args:
            path: str. Local or gs:// path of a YAML file.
            overrides: Strings `key.subkey=value`, applied in order over the file.

        Raises:
            InputError: If the file, a key or a value is not as it should be.
        """
        return load_yaml(cls, path, overrides)


def load_yaml(cls: type[ConfigType], path: str, overrides: Iterable[str] = ()) -> ConfigType:
    """Reads the dataclass `cls` from a YAML file and applies `key=value` overrides.

    Raises:
        InputError: If the file cannot be read or parsed, or a key or value does not fit.
    """
    import tensorflow as tf  # Only for gs:// paths; the dataclasses must import without it.

    try:
        with tf.io.gfile.GFile(path, "r") as file:
            values = yaml.safe_load(file.read())
    except tf.errors.OpError as error:
        raise InputError(f"The config file {path} cannot be read: {error.message}") from error
    except yaml.YAMLError as error:
        raise InputError(f"The config file {path} is not valid YAML: {error}") from error
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise InputError(
            f"The config file {path} must hold a mapping of keys to values. "
            f"Received: a {type(values).__name__}."
        )
    return from_dict(cls, apply_overrides(cls, values, overrides))


def to_yaml(config: Any) -> str:
    """Returns a config dataclass as YAML text, every field written out."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a config dataclass as nested plain dicts and lists."""
    return {
        field.name: _to_plain(getattr(config, field.name)) for field in dataclasses.fields(config)
    }


def from_dict(cls: type[ConfigType], values: Mapping[str, Any], prefix: str = "") -> ConfigType:
    """Builds the dataclass `cls` from a plain mapping; missing keys keep their defaults.

    Args:
        cls: A dataclass of this module.
        values: Mapping of field names to plain values, nested as the dataclasses are.
        prefix: str. Where `values` stands in the whole config, for messages.

    Raises:
        InputError: If a key does not exist (with the nearest that does) or a type does not fit.
    """
    values = dict(values)
    if cls is EncoderConfig and "preset" in values:
        name = values.pop("preset")
        if name not in PRESETS:
            raise InputError(
                f"{prefix}preset must be one of {', '.join(PRESETS)}. Received: {name!r}."
            )
        values = {**PRESETS[name], **values}
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise InputError(_unknown_key(cls, key, prefix))
    return cls(
        **{key: _convert(hints[key], value, f"{prefix}{key}") for key, value in values.items()}
    )


def apply_overrides(
    cls: type, values: Mapping[str, Any], overrides: Iterable[str]
) -> dict[str, Any]:
    """Returns `values` with each `key.subkey=value` set; list items are named by their index.

    Raises:
        InputError: If an override is not of that form or names a key that does not exist.
    """
    values = _deep_copy(values)
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise InputError(
                f"A setting must be written key=value, for example optimizer.learning_rate=1e-4. "
                f"Received: {override!r}."
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"The value of {override!r} is not valid YAML: {error}") from error
        _set_path(cls, values, path.split("."), value, path)
    return values


def _set_path(cls: Any, values: Any, keys: list[str], value: Any, path: str) -> None:
    key, rest = keys[0], keys[1:]
    prefix = path[: len(path) - len(".".join(keys))]
    if isinstance(values, list):
        if not key.isdigit() or int(key) >= len(values):
            raise InputError(
                f"--set {path}: {prefix.rstrip('.')} has {len(values)} entries, named 0 to "
                f"{len(values) - 1}. Received: {key!r}."
            )
        if rest:
            _set_path(typing.get_args(cls)[0], values[int(key)], rest, value, path)
        else:
            values[int(key)] = value
        return
    hints = typing.get_type_hints(cls)
    if key not in hints and not (cls is EncoderConfig and key == "preset"):
        raise InputError(_unknown_key(cls, key, prefix))
    if not rest:
        values[key] = value
        return
    hint = hints.get(key)
    is_list = typing.get_origin(hint) is tuple
    if not is_list and not dataclasses.is_dataclass(hint):
        raise InputError(f"--set {path}: {prefix}{key} is a single value and has no keys below it.")
    if key not in values:
        # The defaults of the dataclass, so that one field of an entry can be set alone.
        default = {field.name: field.default for field in dataclasses.fields(cls)}[key]
        values[key] = _to_plain(default) if is_list else {}
    _set_path(hint, values[key], rest, value, path)


def _unknown_key(cls: type, key: Any, prefix: str) -> str:
    names = list(typing.get_type_hints(cls))
    nearest = difflib.get_close_matches(str(key), names, n=1, cutoff=0.0)
    return (
        f"There is no config key {prefix}{key}; the nearest is {prefix}{nearest[0]} "
        f"(all: {', '.join(names)})."
    )


def _convert(hint: Any, value: Any, name: str) -> Any:
    """Checks `value` against a field's type; the only conversions are those YAML makes needed."""
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise InputError(f"{name} must be a mapping of keys to values. Received: {value!r}.")
        return from_dict(hint, value, prefix=f"{name}.")
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise InputError(f"{name} must be a list. Received: {value!r}.")
        return tuple(_convert(item, entry, f"{name}.{index}") for index, entry in enumerate(value))
    if hint is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        # YAML 1.1 reads 1e-4, without a dot, as a string.
        try:
            return float(value)
        except ValueError:
            pass
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is int and isinstance(value, bool) or not isinstance(value, hint):
        raise InputError(
            f"{name} must be of type {hint.__name__}. Received: {value!r} of type "
            f"{type(value).__name__}."
        )
    return value


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_to_plain(entry) for entry in value]
    return value


def _deep_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _deep_copy(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_deep_copy(entry) for entry in value]
    return value
