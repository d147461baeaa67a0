"""kbt-finetune as people call it: a data set of tensorflow-datasets, a grid, seeds."""

import json
import pathlib

import pytest

from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.scripts import finetune

from programs import call_program

CHECKPOINT = str(pathlib.Path(__file__).parents[1] / "golden" / "mini_reference")
GOOD, BAD = "What a fine day it is.", "It was a dark and dreadful night."


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """Folder of tensorflow-datasets with a set of 48 texts to train on and 16 to judge by."""
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")

    class Weather(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            label = tfds.features.ClassLabel(names=["bad", "good"])
            features = {"text": tfds.features.Text(), "label": label}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, download_manager):
            return {"train": self._generate_examples(48), "test": self._generate_examples(16)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"text": f"{i} times: {GOOD if i % 2 else BAD}", "label": i % 2}

    Weather(data_dir=str(folder)).download_and_prepare()
    return str(folder)


def test_a_grid_over_a_data_set_of_tensorflow_datasets_finds_what_learns(tmp_path, reviews):
    output = tmp_path / "out"
    call_program(
        finetune,
        "--task=classification",
        "--data=tfds:weather@train",
        "--dev=tfds:weather@test",
        f"--tfds_folder={reviews}",
        f"--checkpoint={CHECKPOINT}",
        f"--output={output}",
        "--grid=learning_rate=1e-9,5e-4",
        "--set=sequence_length=24",
        "--set=batch_size=8",
        "--set=epochs=2",
    )
    grid = json.loads((output / "grid.json").read_text())
    accuracies = {
        entry["settings"]["learning_rate"]: entry["metrics"]["accuracy"] for entry in grid["table"]
    }
    assert accuracies[5e-4] == 1.0 and accuracies[1e-9] < 0.9
    assert grid["best"] == "learning_rate=0.0005"
    assert json.loads((output / "metrics.json").read_text())["accuracy"] == 1.0
    model = BertTextClassifier.from_pretrained(str(output / "model"))
    assert model.labels == ("bad", "good")
    assert model.predict([GOOD, BAD], verbose=0).argmax(axis=1).tolist() == [1, 0]
