"""kbt-plan: a small step is really compiled for a TPU."""

import dataclasses
import importlib.util
import json

import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.dataclass_yaml import to_yaml
from keras_bert_tpu.scripts import plan as plan_script
from keras_bert_tpu.tpu.compiled_program import Operation
from keras_bert_tpu.tpu.plan import PhasePlan, Planner
from keras_bert_tpu.tpu.slices import Slice

from programs import call_program, run_program

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu, the TPU compiler, is not installed"
)

pytestmark = pytest.mark.usefixtures("plan_cache")


@needs_compiler
def test_step_is_compiled_for_a_tpu_and_kept(tmp_path, capsys, plan_config):
    config = tmp_path / "run.yaml"
    config.write_text(to_yaml(plan_config))
    arguments = [f"--config={config}", "--topology=v5e:2x4", "--batch_sizes=8", "--json"]
    reports = []
    for _ in range(2):
        call_program(plan_script, *arguments)
        reports.append(json.loads(capsys.readouterr().out))
    # The second has the first one's compilation: not even the seconds differ.
    assert reports[0] == reports[1]
    assert reports[0]["topology"] == "v5e:2x4"
    (plan,) = reports[0]["plans"]
    assert (plan["phase"], plan["batch_size_per_device"], plan["global_batch_size"]) == (1, 8, 64)
    assert plan["devices_per_chip"] == 1
    assert plan["fits"]
    # Weights and two moments of each are arguments, float32.
    weights = Planner(plan_config, Slice.parse("v5e:1x1"))._step.pretrainer.count_params()
    assert 12 * weights < plan["hbm_bytes"] < 2**30
    assert 0 < plan["estimated_all_reduce_ms"] < plan["estimated_step_ms"] < 10
    assert 0 < plan["estimated_mfu"] < 1
    assert plan["model_flops"] < plan["compiled_flops"] < 2 * plan["model_flops"]
    speed = plan["estimated_sequences_per_second"]
    assert plan["estimated_tokens_per_second"] == pytest.approx(64 * speed)
    assert plan["estimated_hours"] == pytest.approx(100 * 64 / speed / 3600)


@needs_compiler
def test_profile_names_the_layers(tmp_path, capsys, plan_config):
    config = tmp_path / "run.yaml"
    config.write_text(to_yaml(plan_config))
    call_program(
        plan_script,
        *[f"--config={config}", "--topology=v5e:1x1", "--batch_sizes=8", "--profile=100"],
    )
    out = capsys.readouterr().out
    for name in ("layer_*/attention", "layer_*/intermediate", "masked_language_model"):
        assert name in out


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--phase=2", "--phase must be one of the 1 phases"),
        ("--batch_sizes=8,x", "--batch_sizes must be whole numbers"),
        ("--topology=v5e", "A topology is a generation with its chips"),
    ],
)
def test_bad_flag_is_one_sentence(tmp_path, flag, message, plan_config):
    config = tmp_path / "run.yaml"
    config.write_text(to_yaml(plan_config))
    arguments = {"--topology": "--topology=v5e:1x1", flag.split("=")[0]: flag}
    with pytest.raises(InputError, match=message):
        call_program(plan_script, f"--config={config}", *arguments.values())


def test_help_teaches_without_the_compiler():
    done = run_program("plan", "--help")
    assert done.returncode == 0
    assert "  kbt-plan --config=run.yaml --topology=v5e:2x4" in done.stdout
    assert "--batch_sizes: " in done.stdout


def made_plan(batch_size):
    batch = batch_size, 8 * batch_size, 1
    return PhasePlan(1, 64, *batch, 1, 2**30, 2**34, True, 1e9, 1e9, 0.5, 5.0, 0.1, 100, 6400, 1, 1)


@pytest.mark.parametrize(
    ("flags", "batches", "largest"),
    [
        ((), [8, 96], {"1": 96}),
        (("--nolargest",), [8], None),
        (("--batch_sizes=16",), [16], None),
        (("--batch_sizes=16", "--largest"), [16, 96], {"1": 96}),
    ],
)
def test_largest_batch_is_looked_for_unless_others_are_named(
    monkeypatch, tmp_path, capsys, plan_config, flags, batches, largest
):
    config = tmp_path / "run.yaml"
    config.write_text(to_yaml(plan_config))
    monkeypatch.setattr(Planner, "batch_size_of", lambda self, phase: 8)
    monkeypatch.setattr(Planner, "plan", lambda self, phase, batch_size: made_plan(batch_size))
    monkeypatch.setattr(Planner, "plan_largest", lambda self, phase: made_plan(96))
    call_program(plan_script, f"--config={config}", "--topology=v5e:2x4", "--json", *flags)
    report = json.loads(capsys.readouterr().out)
    assert [plan["batch_size_per_device"] for plan in report["plans"]] == batches
    assert report.get("largest_batch_size_per_device") == largest


def test_gradients_way_is_told_though_the_first_batch_does_not_fit(capsys):
    topology = Slice.parse("v5e:2x4")
    fits = made_plan(8)
    plan_script._print_plans([dataclasses.replace(fits, fits=False), fits], topology)
    out = capsys.readouterr().out
    assert "too much" in out
    assert "Of a step, 0.5 ms are the gradients' way" in out


def test_hours_of_the_recipe_and_the_profile_are_in_the_report(
    monkeypatch, tmp_path, capsys, plan_config
):
    config = tmp_path / "run.yaml"
    phases = plan_config.phases * 2
    config.write_text(to_yaml(dataclasses.replace(plan_config, phases=phases)))
    operation = Operation("fusion", "layer_0/attention/dot", 1_500_000, 2)
    plan = dataclasses.replace(made_plan(8), operations=(operation,))
    monkeypatch.setattr(Planner, "plan", lambda self, phase, batch_size: plan)
    arguments = [f"--config={config}", "--topology=tpu7x:2x2x1", "--nolargest", "--profile"]
    call_program(plan_script, *arguments, "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["estimated_hours"] == 2 * plan.estimated_hours
    assert "TensorFlow does not support tpu7x" in report["note"]
    (profiled,) = report["plans"][1]["profile"]
    assert (profiled["name"], profiled["runs"]) == ("layer_*/attention/dot", 2)
    call_program(plan_script, *arguments)
    out = capsys.readouterr().out
    assert "All phases, at the batches of the run file: 2.0 hours." in out
    assert "layer_*/attention/dot" in out and "1e+09" in out


def test_phase_of_which_nothing_fits_does_not_hide_the_others(
    monkeypatch, tmp_path, capsys, plan_config
):
    config = tmp_path / "run.yaml"
    config.write_text(to_yaml(plan_config))
    none = dataclasses.replace(made_plan(8), fits=False)
    monkeypatch.setattr(Planner, "plan", lambda self, phase, batch_size: none)
    monkeypatch.setattr(Planner, "plan_largest", lambda self, phase: none)
    call_program(plan_script, f"--config={config}", "--topology=v5e:1x1", "--json")
    assert json.loads(capsys.readouterr().out)["largest_batch_size_per_device"] == {"1": None}
    call_program(plan_script, f"--config={config}", "--topology=v5e:1x1")
    assert "not even the smallest batch fits" in capsys.readouterr().out
