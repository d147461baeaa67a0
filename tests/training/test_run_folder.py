import json

import pytest

from keras_bert_tpu.config import InputError, PretrainingConfig
from keras_bert_tpu.dataclass_yaml import from_dict
from keras_bert_tpu.training import run_folder


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text("{}")
    return str(path)


@pytest.fixture
def output(tmp_path, manifest):
    """The folder of a run whose training has begun."""
    output = tmp_path / "run"
    run_folder.claim(str(output), config(), [manifest])
    (output / "metrics.jsonl").touch()
    return str(output)


def config(**values):
    return from_dict(PretrainingConfig, {"encoder": {"preset": "tiny"}, **values})


def test_same_run_may_go_on_with_other_logging(output, tmp_path, manifest):
    run_folder.claim(output, config(log_every=7, keep_checkpoints=9), [manifest])
    written = (tmp_path / "run" / "config.yaml").read_text()
    assert "log_every: 7" in written


def test_a_setting_that_came_later_than_the_run_has_its_default(output, tmp_path, manifest):
    path = tmp_path / "run" / "run.json"
    values = json.loads(path.read_text())
    del values["settings"]["optimizer"]["algorithm"]
    path.write_text(json.dumps(values))
    run_folder.claim(output, config(), [manifest])
    with pytest.raises(InputError, match="algorithm is adamw, here it is lamb"):
        run_folder.claim(output, config(optimizer={"algorithm": "lamb"}), [manifest])


def test_a_run_of_another_version_is_told(output, tmp_path, manifest):
    path = tmp_path / "run" / "run.json"
    values = json.loads(path.read_text())
    values["settings"]["sharpness"] = 1
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="run of another version .* no config key sharpness"):
        run_folder.claim(output, config(), [manifest])


def test_another_setting_is_named_with_both_values(output, manifest):
    other = config(optimizer={"learning_rate": 1e-3})
    with pytest.raises(InputError, match="optimizer.learning_rate is 0.0001, here it is 0.001"):
        run_folder.claim(output, other, [manifest])


def test_folder_of_a_run_that_did_not_begin_is_free(tmp_path, manifest):
    output = tmp_path / "run"
    run_folder.claim(str(output), config(), [manifest])
    (output / "damage.json").write_text("{}")
    other = config(optimizer={"learning_rate": 1e-3})
    run_folder.claim(str(output), other, [manifest])
    assert not (output / "damage.json").exists()
    (output / "metrics.jsonl").touch()
    run_folder.claim(str(output), other, [manifest])
    with pytest.raises(InputError, match="optimizer.learning_rate is 0.001, here it is 0.0001"):
        run_folder.claim(str(output), config(), [manifest])


def test_other_records_are_refused(output, tmp_path, manifest):
    (tmp_path / "manifest.json").write_text('{"other": 1}')
    with pytest.raises(InputError, match="holds a run on other records"):
        run_folder.claim(output, config(), [manifest])


def test_checkpoints_of_unknown_origin_are_not_written_over(tmp_path, manifest):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="holds checkpoints but no run.json"):
        run_folder.claim(str(tmp_path / "run"), config(), [manifest])


def test_unreadable_run_file_is_told(tmp_path, manifest):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(InputError, match="is not valid JSON"):
        run_folder.claim(str(tmp_path / "run"), config(), [manifest])


def test_a_list_that_differs_is_told_whole(output, manifest):
    other = config(frozen_layers=["encoder/embeddings", "encoder/layer_0"])
    with pytest.raises(InputError, match=r"frozen_layers is \[\], here it is \['encoder/embed"):
        run_folder.claim(output, other, [manifest])
