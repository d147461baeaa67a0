"""Arrays and bytes on local disk or in a bucket: written whole, verified when read."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import safetensors
import safetensors.numpy
import tensorflow as tf

from keras_bert_tpu.config import InputError


class DamagedFileError(Exception):
    """A file that is missing, cannot be parsed or does not have the checksum it should have."""


def weights_by_name(model: keras.Model) -> dict[str, Any]:
    """Returns the weights of a model under their paths, without the name of the model itself."""
    return {weight.path.removeprefix(f"{model.name}/"): weight for weight in model.weights}


def copy_arrays(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the values that variables have now, which later steps do not change."""
    return {
        name: np.array(keras.ops.convert_to_numpy(variable), copy=True)
        for name, variable in variables.items()
    }


def write_arrays(
    path: str, variables: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> str:
    """Writes variables, or arrays, as a safetensors file and returns its sha256 in hex.

    Args:
        path: str. Local or gs://.
        variables: Mapping of names to variables or arrays.
        metadata: Mapping of str to str for the header of the file; None writes none.
    """
    content = safetensors.numpy.save(
        {
            name: value if isinstance(value, np.ndarray) else keras.ops.convert_to_numpy(value)
            for name, value in variables.items()
        },
        metadata=dict(metadata) if metadata else None,
    )
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def read_arrays(path: str, sha256: str | None) -> dict[str, np.ndarray]:
    """Reads a safetensors file.

    Args:
        path: str. Local or gs://.
        sha256: str. The checksum it must have; None does not check.

    Raises:
        DamagedFileError: If the file is missing, differs or cannot be parsed.
    """
    try:
        content = read_bytes(path)
    except tf.errors.NotFoundError as error:
        raise DamagedFileError(f"{path} is missing") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedFileError(f"{path} does not have the checksum of its marker")
    try:
        return safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise DamagedFileError(f"{path} is not a safetensors file: {error}") from error


def check_same_arrays(
    path: str, variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Checks that a file holds just the arrays of a model, each of its shape.

    Raises:
        InputError: Naming the first array that is missing, unexpected or of another shape.
    """
    for name in sorted(variables.keys() | arrays.keys()):
        if name not in arrays:
            raise InputError(f"{path} lacks the array {name}; it is of another model.")
        if name not in variables:
            raise InputError(f"{path} has an unexpected array {name}; it is of another model.")
        if tuple(arrays[name].shape) != tuple(variables[name].shape):
            raise InputError(
                f"{path}: {name} has shape {tuple(arrays[name].shape)}, the model expects "
                f"{tuple(variables[name].shape)}; it is of another model."
            )


def assign_arrays(path: str, model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Assigns all weights of a model.

    Args:
        path: str. Where the arrays are from, for messages.
        model: keras.Model.
        arrays: By the names of `weights_by_name`.

    Raises:
        InputError: If the arrays are not just those of the model.
    """
    variables = weights_by_name(model)
    check_same_arrays(path, variables, arrays)
    for name, variable in variables.items():
        variable.assign(arrays[name])


def read_bytes(path: str) -> bytes:
    """Reads a whole local or gs:// file."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def read_json_object(path: str) -> dict[str, Any]:
    """Reads a local or gs:// file that holds one JSON object.

    Raises:
        InputError: If there is no such file, it cannot be read or holds something else.
    """
    try:
        values = json.loads(read_bytes(path))
    except tf.errors.OpError as error:
        raise InputError(f"{path} cannot be read: {error.message}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON, copy it again: {error}.") from error
    if not isinstance(values, dict):
        raise InputError(
            f"{path} must hold a JSON object. Received: one of type {type(values).__name__}."
        )
    return values


def list_folder(path: str) -> set[str]:
    """Returns the names of what stands in a local or gs:// folder."""
    return {name.rstrip("/") for name in tf.io.gfile.listdir(path)}


def write_atomically(path: str, content: bytes) -> None:
    """Writes a local or gs:// file that is there whole or not at all.

    Locally by way of a temporary name, and on the disk before it has its own: older checkpoints are
    removed once a new one is there. An object in a bucket appears only once it is closed.
    """
    temporary = path if path.startswith("gs://") else f"{path}.tmp"
    with tf.io.gfile.GFile(temporary, "wb") as file:
        file.write(content)
    if temporary != path:
        if "://" not in path:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        tf.io.gfile.rename(temporary, path, overwrite=True)
