"""kbt-export from a fine-tuned folder to what a server is started with."""

import json
import pathlib
import shlex

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.scripts import export

from programs import call_program, run_program

CHECKPOINT = str(pathlib.Path(__file__).parents[1] / "golden" / "mini_reference")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("reviews") / "model")
    model = BertTextClassifier.from_pretrained(
        CHECKPOINT, labels=["bad", "good"], sequence_length=32
    )
    model.save_pretrained(folder)
    return folder


def test_program_writes_a_model_and_tells_how_it_is_served(model_folder, tmp_path):
    base = tmp_path / "serving" / "reviews"
    done = run_program("export", f"--model={model_folder}", f"--output={base}")
    assert done.returncode == 0, done.stderr
    assert "unfinished" not in done.stderr + done.stdout
    assert sorted(path.name for path in base.iterdir()) == [
        "1",
        "batching_parameters.txt",
        "models.config",
    ]
    docker, curl = (shlex.split(line) for line in done.stdout.splitlines() if line[:2] == "  ")
    assert docker[:3] == ["docker", "run", "--rm"]
    assert docker[docker.index("-v") + 1] == f"{base}:/models/reviews:ro"
    assert "--model_config_file=/models/reviews/models.config" in docker
    assert 'base_path: "/models/reviews"' in (base / "models.config").read_text()
    assert "max_batch_size { value: 16384 }" in (base / "batching_parameters.txt").read_text()
    assert curl[-1] == "http://localhost:8501/v1/models/reviews:predict"
    # What curl sends is what the signature takes.
    inputs = json.loads(curl[curl.index("-d") + 1])["inputs"]
    answer = tf.saved_model.load(str(base / "1")).signatures["serving_default"]
    found = answer(**{name: tf.constant(value) for name, value in inputs.items()})
    model = BertTextClassifier.from_pretrained(model_folder)
    np.testing.assert_allclose(found["logits"], model.predict(inputs["text"]), atol=1e-5)


def test_settings_reach_the_export(model_folder, tmp_path, capsys):
    arguments = [f"--model={model_folder}", f"--output={tmp_path / 'pairs'}", "--nowarmup"]
    call_program(export, *arguments, "--pairs", "--version=5", "--buckets=8,20", "--weights=int8")
    assert json.dumps({"inputs": {"text": ["A fine day."], "text_pair": ["A fine day."]}}) in (
        capsys.readouterr().out
    )
    signatures = tf.saved_model.load(str(tmp_path / "pairs" / "5")).signatures
    found = signatures["serving_default"](text=tf.constant(["a"]), text_pair=tf.constant(["b"]))
    assert found["label"].shape == (1,)
    assert not (tmp_path / "pairs" / "5" / "assets.extra").exists()
    # A byte for each number, where float32 has four.
    kept = tmp_path / "pairs" / "5" / "variables"
    numbers = sum(np.prod(shape) for _, shape in tf.train.list_variables(str(kept / "variables")))
    assert sum(path.stat().st_size for path in kept.iterdir()) < 1.1 * numbers + 100_000


def test_a_pre_trained_folder_fills_masks(tmp_path, capsys):
    call_program(
        export, f"--model={CHECKPOINT}", f"--output={tmp_path / 'out'}", "--nowarmup", "--top_k=3"
    )
    assert json.dumps({"inputs": {"text": ["It was a [MASK] day."]}}) in capsys.readouterr().out
    answer = tf.saved_model.load(str(tmp_path / "out" / "1")).signatures["serving_default"]
    assert answer(text=tf.constant(["It was a [MASK] day."]))["tokens"].shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--buckets=8,x", "--buckets must be whole numbers.*'8,x'"),
        ("--buckets=64", "from 1 to 32"),
        ("--top_k=3", "leave top_k out"),
    ],
)
def test_what_cannot_be_exported_is_told(model_folder, tmp_path, flag, message):
    with pytest.raises(InputError, match=message):
        call_program(
            export, f"--model={model_folder}", f"--output={tmp_path / 'out'}", "--nowarmup", flag
        )
    assert not (tmp_path / "out").exists()
