"""Any value in any file of settings beside weights: they are read, or refused in one sentence."""

import copy
import json
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import yaml

from keras_bert_tpu.checkpoints.google import write_google
from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.config import InputError

from golden_sources import GOLDEN, golden

# The last one removes the value.
ODD = [None, True, -1, 10**30, 0.5, float("nan"), "odd", [], [[1]], {}, {"odd": None}, ...]
FILES = {
    "mini_reference": ["config.json"],
    "hugging_face/texts": ["config.json", "tokenizer.json", "tokenizer_config.json"],
    "hugging_face/tokens": ["tokenizer.json", "tokenizer_config.json"],
    "hugging_face/pretraining": ["model.safetensors.index.json"],
    "google/pretraining": ["bert_config.json", "kbt_settings.json"],
    "model_garden/pretraining": ["params.yaml"],
}
DAMAGES = 60


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The way to each value within a value of JSON; of large objects only to some."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in (list(value) if isinstance(value, dict) else range(len(value)))[:20]:
            yield from places(value[key], (*path, key))


def changed(value: Any, path: tuple, odd: Any) -> Any:
    """The value with another one in a place."""
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if odd is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = odd
    return value


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FILES)
def test_settings_of_any_value_are_read_or_refused_in_one_sentence(tmp_path, name):
    folder = shutil.copytree(GOLDEN / name, tmp_path / "weights")
    if name.startswith("google"):
        write_google(str(folder), golden(name))  # With what Google's settings cannot say.
    sound = {file: (folder / file).read_text() for file in FILES[name]}
    values = {file: yaml.safe_load(text) for file, text in sound.items()}
    ways = [(file, path, odd) for file in sound for path in places(values[file]) for odd in ODD]
    refused = 0
    for index in np.random.default_rng(len(name)).permutation(len(ways))[:DAMAGES]:
        file, path, odd = ways[index]
        text = json.dumps(changed(values[file], path, odd))  # Which YAML reads, too.
        (folder / file).write_text(text)
        try:
            read_weights(str(folder))
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 600, (path, odd)
        except Exception as error:
            raise AssertionError(f"{file} with {odd!r} at {path}") from error
        (folder / file).write_text(sound[file])
    assert refused > 10


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoder", "odd"),
        ("lower_case", "yes"),
        ("strip_accents", 1),
        ("added_tokens", "[E1]"),
        ("labels", [1]),
        ("model", None),
    ],
)
def test_settings_beside_weights_of_others_are_what_was_written(tmp_path, key, value):
    source = golden("google/pretraining")
    write_google(str(tmp_path), source)
    file = tmp_path / "kbt_settings.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(InputError, match=f"kbt_settings.json: {key} must be what was written"):
        read_weights(str(tmp_path))
