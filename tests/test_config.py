import dataclasses
import json
import subprocess
import sys

import pytest

from keras_bert_tpu.config import (
    PRESETS,
    DataConfig,
    EncoderConfig,
    InputError,
    OptimizerConfig,
    PhaseConfig,
    PretrainingConfig,
)
from keras_bert_tpu.dataclass_yaml import apply_overrides, from_dict, to_dict, to_yaml

YAML = """
encoder:
  preset: mini
  vocab_size: 8000
optimizer:
  learning_rate: 5e-4
  warmup_steps: 10
phases:
  - {data: short, steps: 90, batch_size: 32}
  - {data: long, steps: 10, batch_size: 8, sequence_length: 512, max_predictions: 76}
compute_dtype: float32
"""


@pytest.fixture
def run_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(YAML)
    return str(path)


def test_run_file_maps_to_the_dataclasses(run_file):
    config = PretrainingConfig.from_yaml(run_file)
    assert config.encoder == EncoderConfig(
        vocab_size=8000, num_layers=4, hidden_size=256, num_heads=4, intermediate_size=1024
    )
    assert config.optimizer == OptimizerConfig(learning_rate=5e-4, warmup_steps=10)
    assert config.phases[0] == PhaseConfig(data="short", steps=90, batch_size=32)
    assert config.phases[1].sequence_length == 512
    assert config.total_steps == 100


def test_written_yaml_reads_back_as_the_same_config(run_file, tmp_path):
    config = PretrainingConfig.from_yaml(run_file, ["seed=7"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(config))
    assert PretrainingConfig.from_yaml(str(copy)) == config


def _leaves(config, prefix=""):
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            for index, entry in enumerate(value):
                yield from _leaves(entry, f"{prefix}{field.name}.{index}.")
        else:
            yield f"{prefix}{field.name}", value


@pytest.mark.parametrize("key", [key for key, _ in _leaves(PretrainingConfig())])
def test_every_key_can_be_set(key):
    before = dict(_leaves(PretrainingConfig()))[key]
    others = {
        "compute_dtype": "float32",
        "hidden_activation": "relu",
        "num_heads": 6,
        "on_damage": "skip",
        "algorithm": "lamb",
        "schedule": "cosine",
        "bias_correction": True,
        "learning_rate": 2e-4,
        "warmup_steps": 5,
        "best_metric": "mlm_loss",
        "spike_factor": 2.0,
        "mask_rate": 0.2,
        "init_layers": ("encoder",),
        "frozen_layers": ("encoder/layer_0",),
        "length_buckets": (64, 128),
    }
    leaf = key.rsplit(".", 1)[-1]
    if leaf in others:
        value = others[leaf]
    elif isinstance(before, bool):
        value = not before
    elif isinstance(before, int):
        value = before + 12 if leaf in ("hidden_size", "max_positions") else max(before - 1, 1)
    elif isinstance(before, float):
        value = before / 2 or 0.25
    else:
        value = "elsewhere"
    if before == value:
        value = 2
    written = json.dumps(value) if isinstance(value, bool | tuple) else value
    overrides = [f"{key}={written}"]
    if leaf == "steps_per_execution":
        overrides += ["log_every=2", "evaluate_every=2", "save_every=2", "phases.0.steps=2"]
    if leaf == "init_layers":
        overrides += ["init_checkpoint=elsewhere"]
    if leaf == "max_skipped":
        overrides += ["on_damage=skip"]
    if key == "phases.0.warmup_steps":
        overrides += ["phases.0.learning_rate=1e-3"]
    values = apply_overrides(PretrainingConfig, {}, overrides)
    after = dict(_leaves(from_dict(PretrainingConfig, values)))
    assert after[key] == value != before


def test_a_phase_has_a_warmup_of_its_own_only_with_a_rate_of_its_own():
    with pytest.raises(InputError, match="warmup_steps=5 of a phase needs its learning_rate"):
        from_dict(PretrainingConfig, {"phases": [{"warmup_steps": 5}]})


def test_overrides_come_over_the_file_in_order(run_file):
    settings = ["phases.1.steps=20", "optimizer.learning_rate=1e-3", "seed=1", "seed=2"]
    config = PretrainingConfig.from_yaml(run_file, settings)
    assert config.phases[1].steps == 20 and config.phases[1].batch_size == 8
    assert config.optimizer.learning_rate == 1e-3
    assert config.seed == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimiser.learning_rate=1", "no config key optimiser; the nearest is optimizer"),
        ("optimizer.learning_rat=1", "no config key optimizer.learning_rat; the nearest is opt"),
        ("phases.0.batchsize=1", "no config key phases.0.batchsize; the nearest is phases.0.batch"),
        ("encoder.SHORTHANDS=1", "no config key encoder.SHORTHANDS"),
        ("phases.5.steps=1", "phases has 2 entries, named 0 to 1. Received: '5'"),
        ("seed", "must be written key=value"),
        ("seed=abc", "seed must be of type int. Received: 'abc' of type str"),
        ("seed=1.5", "seed must be of type int. Received: 1.5 of type float"),
        ("seed=true", "seed must be of type int. Received: True of type bool"),
        ("seed=[1", "is not valid YAML"),
        ("seed.more=1", "seed is a single value and has no keys below it"),
        ("encoder.hidden_dropout=high", "encoder.hidden_dropout must be of type float"),
        ("encoder.hidden_dropout=1.5", "hidden_dropout must be at least 0 and less than 1"),
        ("encoder.num_heads=5", "hidden_size must be a multiple of num_heads"),
        ("encoder.preset=huge", "encoder.preset must be one of tiny, mini, small"),
        ("encoder=3", "encoder must be a mapping"),
        ("phases=3", "phases must be a list"),
        ("phases=[]", "phases is empty"),
        ("compute_dtype=float16", "compute_dtype must be one of float32, bfloat16"),
        ("phases.0.steps=0", "steps must be greater than 0"),
        ("phases.1.sequence_length=1024", "longer than encoder.max_positions=512"),
        ("steps_per_execution=3", "log_every must be a multiple of steps_per_execution"),
        ("seed=-1", "seed must be from 0"),
    ],
)
def test_bad_settings_are_told_in_a_sentence(run_file, setting, message):
    with pytest.raises(InputError) as error:
        PretrainingConfig.from_yaml(run_file, [setting])
    assert message in str(error.value)
    assert "\n" not in str(error.value) or "valid YAML" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phases: [", "is not valid YAML"),
        ("- 1\n- 2", "must hold a mapping"),
        ("encodr: {}", "the nearest is encoder"),
    ],
)
def test_bad_run_files_are_told_in_a_sentence(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        PretrainingConfig.from_yaml(str(path))


def test_missing_run_file_is_told_with_its_path(tmp_path):
    with pytest.raises(InputError, match="absent.yaml cannot be read"):
        PretrainingConfig.from_yaml(str(tmp_path / "absent.yaml"))


def test_data_config_survives_its_dict_and_checks_itself():
    config = DataConfig(sequence_length=64, dupe_factor=2)
    assert from_dict(DataConfig, to_dict(config)) == config
    for bad in ({"sequence_length": 4}, {"block_documents": 1}, {"mask_rate": 1.0}):
        with pytest.raises(InputError):
            from_dict(DataConfig, bad)


def test_presets_are_the_six_published_sizes():
    assert list(PRESETS) == ["tiny", "mini", "small", "medium", "base", "large"]


def test_importing_the_package_and_its_config_stays_light():
    program = (
        "import sys, keras_bert_tpu; keras_bert_tpu.PretrainingConfig();"
        "assert not {'tensorflow', 'keras'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_public_names_are_all_there():
    import keras_bert_tpu

    assert "pretrain" in dir(keras_bert_tpu)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = keras_bert_tpu.absent
