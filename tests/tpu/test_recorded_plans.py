"""Run files for TPU slices are held to plans that `kbt-plan --json` wrote of them.

    kbt-plan --config=gcs_configs/NAME.yaml --topology=... --nolargest --json \
        > gcs_configs/plans/NAME.json

with the topology in the file's comment.
"""

import json
import pathlib

import pytest

from keras_bert_tpu.config import PretrainingConfig
from keras_bert_tpu.tpu.plan import Planner
from keras_bert_tpu.tpu.slices import Slice
from keras_bert_tpu.training.flops import model_flops

GCS_CONFIGS = pathlib.Path(__file__).parents[2] / "gcs_configs"
RUN_FILES = sorted(GCS_CONFIGS.glob("bert_*.yaml"))
README = (GCS_CONFIGS / "README.md").read_text(encoding="utf-8")


def recorded(run_file):
    return json.loads((GCS_CONFIGS / "plans" / f"{run_file.stem}.json").read_text())


def table_row(run_file):
    """What the README there says of a file."""
    report = recorded(run_file)
    cells = [f"[{run_file.name}]({run_file.name})", report["topology"]]
    for plan in report["plans"]:
        slices = f" in {plan['accumulation_steps']}" if plan["accumulation_steps"] > 1 else ""
        cells += [
            f"{plan['batch_size_per_device']:,} x {plan['sequence_length']}{slices}",
            f"{plan['hbm_bytes'] / 2**30:.1f} of {plan['hbm_bytes_of_device'] / 2**30:.1f} GiB",
            f"{plan['estimated_step_ms']:.1f} ms",
            f"{plan['estimated_mfu']:.0%}",
        ]
    cells.append(f"{sum(plan['estimated_hours'] for plan in report['plans']):,.0f}")
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("run_file", RUN_FILES, ids=lambda path: path.stem)
def test_each_run_file_fits_by_its_recorded_plan(run_file):
    config, report = PretrainingConfig.from_yaml(str(run_file)), recorded(run_file)
    topology = Slice.parse(report["topology"])
    assert f"--topology={topology}\n" in run_file.read_text()
    # The name counts cores or chips, as Cloud TPU does.
    assert Slice.parse(run_file.stem.rpartition("_")[2]).chips == topology.chips
    devices = topology.chips * topology.generation.devices
    assert [plan["phase"] for plan in report["plans"]] == [1, 2]
    for plan, phase in zip(report["plans"], config.phases, strict=True):
        assert plan["fits"] and 0 < plan["estimated_mfu"] < 1
        assert plan["hbm_bytes"] < plan["hbm_bytes_of_device"]
        assert plan["devices_per_chip"] == topology.generation.devices
        assert plan["sequence_length"] == phase.sequence_length
        batch = plan["batch_size_per_device"]
        assert plan["global_batch_size"] == batch * devices == phase.batch_size
        assert plan["accumulation_steps"] == phase.accumulation_steps
        assert batch % phase.accumulation_steps == 0
        flops = model_flops(config.encoder, phase.sequence_length, phase.max_predictions)
        assert plan["model_flops"] == pytest.approx(batch * flops)
        hours = phase.steps * plan["estimated_step_ms"] / 3.6e6
        assert plan["estimated_hours"] == pytest.approx(hours)


@pytest.mark.parametrize("run_file", RUN_FILES, ids=lambda path: path.stem)
def test_an_hour_at_most_lies_between_two_checkpoints(run_file):
    save_every = PretrainingConfig.from_yaml(str(run_file)).save_every
    for plan in recorded(run_file)["plans"]:
        assert save_every * plan["estimated_step_ms"] < 3.6e6


@pytest.mark.parametrize("run_file", RUN_FILES, ids=lambda path: path.stem)
def test_the_readme_says_what_was_recorded(run_file):
    assert table_row(run_file) in README


@pytest.mark.slow
@pytest.mark.parametrize("family", ["v2", "v3", "v4", "v5e", "v5p", "v6e"])
def test_what_is_compiled_anew_is_what_was_recorded(family):
    pytest.importorskip("libtpu", reason="libtpu, the TPU compiler, is not installed")
    run_file = GCS_CONFIGS / f"bert_base_{family}-8.yaml"
    report = recorded(run_file)
    config = PretrainingConfig.from_yaml(str(run_file))
    before = report["plans"][0]
    # In the cache of compilations it is found by its content: a step that changed is compiled.
    planner = Planner(config, Slice.parse(report["topology"]))
    plan = planner.plan(1, before["batch_size_per_device"])
    assert plan.hbm_bytes == pytest.approx(before["hbm_bytes"], rel=0.02)
    assert plan.estimated_step_ms == pytest.approx(before["estimated_step_ms"], rel=0.02)
