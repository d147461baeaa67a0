"""Exports that a server is given."""

import pytest

from keras_bert_tpu.serving.export import export

from exported import answerer, chooser, classifier, sentence_encoder


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Base paths of exports, and the models."""
    folder = tmp_path_factory.mktemp("bases")
    models = {
        "weather": classifier(),
        "sentences": sentence_encoder(),
        "choices": chooser(),
        "questions": answerer(),
    }
    for name, model in models.items():
        export(model, str(folder / name), buckets=[16])
    return folder, models
