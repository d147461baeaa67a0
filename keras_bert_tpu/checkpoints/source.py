"""Weights from whatever holds some: what a run left behind, or a folder of another framework."""

import json
import os
import posixpath
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_tpu.checkpoints import bert_config, folder, hub, run_layout
from keras_bert_tpu.checkpoints.google import read_google
from keras_bert_tpu.checkpoints.hugging_face import is_hugging_face, read_hugging_face
from keras_bert_tpu.checkpoints.keras_hub import is_preset_folder, is_preset_name, read_keras_hub
from keras_bert_tpu.checkpoints.model_garden import read_model_garden
from keras_bert_tpu.checkpoints.storage import (
    DamagedFileError,
    list_folder,
    read_arrays,
    read_bytes,
)
from keras_bert_tpu.checkpoints.tensorflow_checkpoint import (
    OBJECT_GRAPH,
    CheckpointFiles,
    find_prefix,
)
from keras_bert_tpu.checkpoints.weights_source import WeightsSource
from keras_bert_tpu.config import EncoderConfig, InputError
from keras_bert_tpu.dataclass_yaml import from_dict
from keras_bert_tpu.text.vocabulary import Vocabulary


def read_weights(path: str) -> WeightsSource:
    """Reads weights; nothing is taken in place of what is damaged.

    Args:
        path: str. A local or gs:// folder, told by its files:

            - a model folder of this package (`run/model`), a checkpoint
              (`run/checkpoints/step-00001000`, in the folder of its run, which has the encoder's
              config), a folder of checkpoints or of a run. Of these last two the newest complete
              checkpoint is taken and, where a run has none left, its `model`. Of a run that keeps
              averages of its weights they are taken, as they are for its evaluations and its model.
              Checksums are verified;
            - a folder of Hugging Face's (`hugging_face.read_hugging_face`);
            - a checkpoint of Google's BERT (`google.read_google`);
            - a checkpoint of the Model Garden (`model_garden.read_model_garden`);
            - a preset of KerasHub (`keras_hub.read_keras_hub`).

            Or the name of a preset of KerasHub (`bert_tiny_en_uncased`, `kaggle://...`), or of a
            model on the Hugging Face hub (`bert-base-uncased`, or `hf://...` as KerasHub writes
            it; what is there is told by its files), where there is no folder of that name.

    Raises:
        InputError: If there are no such weights, or they are damaged, of an unknown format or of
            another architecture.
    """
    if not path or not tf.io.gfile.isdir(path):
        return _from_name(path)
    # A checkpoint is told about by the folders above it.
    path = path.rstrip("/") if "://" in path else os.path.abspath(path)
    names = list_folder(path)
    if run_layout.MARKER in names:
        return _from_checkpoint(path)
    if is_hugging_face(path, names):
        return read_hugging_face(path)
    if is_preset_folder(path, names):
        return read_keras_hub(path)
    if folder.CONFIG in names:
        return _from_model_folder(path)
    if prefix := find_prefix(path, names):
        return _from_tensorflow(path, prefix)
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
        f"({run_layout.MARKER}; {bert_config.CONFIG} and *.index of Google's) and no folder of a "
        f"run ({run_layout.RUN}); give one of these."
    )


def _from_name(name: str) -> WeightsSource:
    if name and is_preset_name(name):
        return read_keras_hub(name)
    if name and hub.is_hub_name(name.removeprefix("hf://")):
        return read_weights(hub.download(name.removeprefix("hf://")))
    raise InputError(
        f"There is no folder {name!r} to read weights from; give a model folder, a checkpoint, "
        f"the folder of a run, or the name of a model on a hub."
    )


def _from_tensorflow(path: str, prefix: str) -> WeightsSource:
    if OBJECT_GRAPH in CheckpointFiles(prefix).shapes:
        return read_model_garden(path, prefix)
    return read_google(path, prefix)


def _from_model_folder(path: str) -> WeightsSource:
    config = folder.read_folder_config(path)
    return WeightsSource(
        path=path,
        arrays=folder.read_folder_arrays(path),
        encoder=config.encoder,
        vocabulary=Vocabulary.load(posixpath.join(path, folder.VOCABULARY)),
        description=f"the model {path}",
        model=config.model,
        lower_case=config.lower_case,
        strip_accents=config.strip_accents,
        added_tokens=config.added_tokens,
        labels=config.labels,
        sequence_length=config.sequence_length,
        multi_label=config.multi_label,
        pairs=config.pairs,
        pooling=config.pooling,
        normalize=config.normalize,
    )


def _from_checkpoint(path: str) -> WeightsSource:
    run = posixpath.dirname(posixpath.dirname(path))
    settings = _settings_of_run(run, path)
    is_averaged = bool(settings.get("optimizer", {}).get("average_decay"))

    def read(file: str) -> dict[str, np.ndarray]:
        return read_arrays(posixpath.join(path, file), checkpoint.state["sha256"][file])

    try:
        checkpoint = run_layout.read_checkpoint(path)
        arrays = read(run_layout.WEIGHTS)
        if is_averaged:
            averages = read(run_layout.OPTIMIZER)
            arrays = {
                name: averages.get(f"{run_layout.AVERAGE_PREFIX}{name}", array)
                for name, array in arrays.items()
            }
    except DamagedFileError as error:
        raise InputError(
            f"{error}; give another checkpoint, such as an earlier one of the run."
        ) from error
    source = WeightsSource(
        path=path,
        arrays=arrays,
        encoder=from_dict(EncoderConfig, settings["encoder"], prefix="encoder."),
        vocabulary=None,
        description="",
    )
    model = posixpath.join(run, run_layout.MODEL)
    # A run has one vocabulary, so that of its end is also that of each checkpoint.
    if tf.io.gfile.exists(posixpath.join(model, folder.CONFIG)):
        config = folder.read_folder_config(model)
        source = source._replace(
            vocabulary=Vocabulary.load(posixpath.join(model, folder.VOCABULARY)),
            lower_case=config.lower_case,
            strip_accents=config.strip_accents,
            added_tokens=config.added_tokens,
        )
    what = "the averaged weights of the checkpoint" if is_averaged else "the checkpoint"
    return source._replace(description=f"{what} of step {checkpoint.step}, {path}")


def _settings_of_run(run: str, checkpoint: str) -> Mapping[str, Any]:
    file = posixpath.join(run, run_layout.RUN)
    try:
        values = json.loads(read_bytes(file))
        version, settings = values["format_version"], values["settings"]
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
    return settings
