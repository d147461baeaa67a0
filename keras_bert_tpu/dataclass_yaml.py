"""Dataclasses from YAML and back: every key checked, the nearest named when one does not exist.

Nothing here knows of BERT; the settings themselves are in `config`. A dataclass may have
`SHORTHANDS`, keys that are no fields, and `expand_shorthands`, which turns them into fields.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import yaml

ConfigType = TypeVar("ConfigType")


class InputError(ValueError):
    """Bad input, told in one sentence: what was received, what was expected, what to do.

    The command line programs print the sentence and exit with status 2, without a traceback.
    """


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


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with the keys that `--set` has, such as "phases.0.steps".

    Args:
        values: Mapping, or sequence of mappings. Other sequences are values.
        prefix: str. Before all keys.
    """
    items = values.items() if isinstance(values, Mapping) else enumerate(values)
    flat = {}
    for key, value in items:
        entries = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(entry, Mapping) for entry in entries):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


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
    if hasattr(cls, "expand_shorthands"):
        values = cls.expand_shorthands(values, prefix)
    hints = _field_types(cls)
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
            names = f", named 0 to {len(values) - 1}" if values else "; set the whole list"
            raise InputError(
                f"--set {path}: {prefix.rstrip('.')} has {len(values)} entries{names}. Received: "
                f"{key!r}."
            )
        if rest:
            _set_path(typing.get_args(cls)[0], values[int(key)], rest, value, path)
        else:
            values[int(key)] = value
        return
    hints = _field_types(cls)
    if key not in hints and key not in getattr(cls, "SHORTHANDS", ()):
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


def _field_types(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _unknown_key(cls: type, key: Any, prefix: str) -> str:
    names = list(_field_types(cls))
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
    if isinstance(hint, types.UnionType):  # "X | None" is the only one that configs have.
        if value is None:
            return None
        (hint,) = (member for member in typing.get_args(hint) if member is not types.NoneType)
        return _convert(hint, value, name)
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
