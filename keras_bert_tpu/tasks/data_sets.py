"""Rows of data sets of tensorflow-datasets, as those of files."""

import json
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.corpora import Corpus, open_data_set
from keras_bert_tpu.tasks.row_files import Row


def read_data_set_rows(name: str, data_dir: str = "") -> Iterator[Row]:
    """Reads a data set example by example: its features that are one string or one number.

    Args:
        name: str. `NAME[/CONFIG][:VERSION]@SPLIT`; the split may be a slice.
        data_dir: str. Folder of tensorflow-datasets; empty takes the variable TFDS_DATA_DIR or
            else ~/tensorflow_datasets.

    Yields:
        Row. Class labels are given by their names, and left empty where the data set has none for
        an example (-1).

    Raises:
        InputError: If there is no such data set or split, or it cannot be read to its end.
    """
    if not name.partition("@")[2]:
        raise InputError(
            f"The data set must be named with its split, for example 'imdb_reviews@train'. "
            f"Received: {name!r}."
        )
    builder, split, _ = open_data_set(Corpus(name, tfds=name, data_dir=data_dir))
    import tensorflow_datasets

    features = {
        key: feature
        for key, feature in builder.info.features.items()
        if feature.shape == () and not isinstance(feature.dtype, dict)
    }
    data = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=tensorflow_datasets.decode.PartialDecoding(dict.fromkeys(features, True)),
        read_config=tensorflow_datasets.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    try:
        for number, example in enumerate(tensorflow_datasets.as_numpy(data)):
            place = f"example {number} of {name!r}"
            yield Row(
                place,
                {key: _as_text(example[key], features[key], key, place) for key in features},
            )
    except tf.errors.OpError as error:
        raise InputError(
            f"The data set {name!r} cannot be read to its end ({error.message}); prepare it again, "
            f"or copy its files anew."
        ) from error


def _as_text(value: Any, feature: Any, key: str, place: str) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"The feature {key!r} of {place} is not UTF-8 text.") from error
    if hasattr(feature, "int2str"):  # A class label.
        return feature.int2str(int(value)) if value >= 0 else ""
    return json.dumps(value.item())
