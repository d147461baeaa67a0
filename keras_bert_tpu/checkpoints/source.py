"""Weights from whatever a run left behind: its model, one of its checkpoints, or its folder."""

import json
import os
import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_bert_tpu.checkpoints import folder, run_layout
from keras_bert_tpu.checkpoints.storage import (
    DamagedFileError,
    assign_arrays,
    read_arrays,
    read_bytes,
)
from keras_bert_tpu.config import EncoderConfig, InputError
from keras_bert_tpu.dataclass_yaml import from_dict
from keras_bert_tpu.text.vocabulary import Vocabulary


class WeightsSource(NamedTuple):
    """The weights of a BertPretrainer and what is known of them.

    Attributes:
        path: str. The folder that holds them, which may lie below the one that was asked for.
        arrays: Mapping of names, those of `storage.weights_by_name`, to arrays.
        encoder: EncoderConfig. Of the model that they belong to.
        vocabulary: Vocabulary of that model; None where it is not beside the weights: a run has it
            in its folder `model` only, which comes at its end.
        description: str. What was taken and from where, for people.
    """

    path: str
    arrays: Mapping[str, np.ndarray]
    encoder: EncoderConfig
    vocabulary: Vocabulary | None
    description: str

    def assign_to(self, model: keras.Model) -> None:
        """Assigns all weights of a model.

        Args:
            model: keras.Model, a BertPretrainer of the encoder's config.

        Raises:
            InputError: If it has not just these weights.
        """
        assign_arrays(self.path, model, self.arrays)


def read_weights(path: str) -> WeightsSource:
    """Reads weights, their checksum verified; nothing is taken in place of what is damaged.

    Args:
        path: str. Local or gs:// folder: a model folder (`run/model`), a checkpoint
            (`run/checkpoints/step-00001000`, in the folder of its run, which has the encoder's
            config), a folder of checkpoints or of a run. Of these last two the newest complete
            checkpoint is taken and, where a run has none left, its `model`.

    Raises:
        InputError: If there are no such weights, or they are damaged or of an unknown format.
    """
    if not path or not tf.io.gfile.isdir(path):
        raise InputError(
            f"There is no folder {path!r} to read weights from; give a model folder, a checkpoint "
            f"or the folder of a run."
        )
    # A checkpoint is told about by the folders above it.
    path = path.rstrip("/") if "://" in path else os.path.abspath(path)
    names = {name.rstrip("/") for name in tf.io.gfile.listdir(path)}
    if run_layout.MARKER in names:
        return _from_checkpoint(path)
    if folder.CONFIG in names:
        return _from_model_folder(path)
    if folder.WEIGHTS in names:
        raise InputError(
            f"{path} has {folder.WEIGHTS} but neither {folder.CONFIG} nor {run_layout.MARKER}, "
            f"which are written last: it was not written or copied to its end, so give another "
            f"checkpoint."
        )
    is_run = run_layout.RUN in names
    if is_run or any(name.startswith(run_layout.STEP_PREFIX) for name in names):
        directory = posixpath.join(path, run_layout.CHECKPOINTS) if is_run else path
        if checkpoints := run_layout.complete_checkpoints(directory):
            return _from_checkpoint(checkpoints[-1].path)
        model = posixpath.join(path, run_layout.MODEL)
        if is_run and tf.io.gfile.exists(posixpath.join(model, folder.CONFIG)):
            return _from_model_folder(model)
        raise InputError(
            f"{path} has no complete checkpoint yet; wait until kbt-pretrain has written one, or "
            f"give another folder."
        )
    raise InputError(
        f"{path} holds no weights: it is no model folder ({folder.CONFIG}), no checkpoint "
        f"({run_layout.MARKER}) and no folder of a run ({run_layout.RUN}); give one of these."
    )


def _from_model_folder(path: str) -> WeightsSource:
    return WeightsSource(
        path=path,
        arrays=folder.read_folder_arrays(path),
        encoder=folder.read_folder_config(path).encoder,
        vocabulary=Vocabulary.load(posixpath.join(path, folder.VOCABULARY)),
        description=f"the model {path}",
    )


def _from_checkpoint(path: str) -> WeightsSource:
    run = posixpath.dirname(posixpath.dirname(path))
    try:
        checkpoint = run_layout.read_checkpoint(path)
        arrays = read_arrays(
            posixpath.join(path, run_layout.WEIGHTS), checkpoint.state["sha256"][run_layout.WEIGHTS]
        )
    except DamagedFileError as error:
        raise InputError(
            f"{error}; give another checkpoint, such as an earlier one of the run."
        ) from error
    model = posixpath.join(run, run_layout.MODEL)
    vocabulary = None
    # A run has one vocabulary, so that of its end is also that of each checkpoint.
    if tf.io.gfile.exists(posixpath.join(model, folder.CONFIG)):
        vocabulary = Vocabulary.load(posixpath.join(model, folder.VOCABULARY))
    return WeightsSource(
        path=path,
        arrays=arrays,
        encoder=_encoder_of_run(run, path),
        vocabulary=vocabulary,
        description=f"the checkpoint of step {checkpoint.step}, {path}",
    )


def _encoder_of_run(run: str, checkpoint: str) -> EncoderConfig:
    file = posixpath.join(run, run_layout.RUN)
    try:
        values: dict[str, Any] = json.loads(read_bytes(file))
        version = values["format_version"]
    except tf.errors.NotFoundError as error:
        raise InputError(
            f"{checkpoint} is not in the folder of its run: there is no {file}, which has the "
            f"config of its encoder; give it where it was written, or copy that file, too."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is not whole, copy it again: {error}.") from error
    if version != run_layout.RUN_FORMAT_VERSION:
        raise InputError(
            f"{file} has format version {version}, this version reads "
            f"{run_layout.RUN_FORMAT_VERSION}; use the version of keras_bert_tpu that wrote it."
        )
    return from_dict(EncoderConfig, values["settings"]["encoder"], prefix="encoder.")
