"""Trackers: by stand-ins for their packages, and by the packages themselves where they are."""

import importlib.util
import json
import math
import sys
import threading
import time
import types

import pytest

from keras_bert_tpu.config import InputError, PretrainingConfig
from keras_bert_tpu.dataclass_yaml import to_dict
from keras_bert_tpu.training.trackers import IDS, TRACKERS, Tracker, make_tracker

SETTINGS = {"seed": 7, "phases": [{"steps": 3}, {"steps": 4}], "added_tokens": []}


class Run:
    """A tracker's run that keeps what it is given, and fails at the steps it is told to."""

    id = "r1"

    def __init__(self, fails_at=(), fails_to_end=False):
        self.written = []
        self.ended = None
        self.fails_at = fails_at
        self.fails_to_end = fails_to_end

    def write(self, values, step):
        if step in self.fails_at:
            raise ConnectionError(f"no network at step {step}\nand more of it")
        self.written.append((step, values))

    def finish(self, failed):
        if self.fails_to_end:
            raise ConnectionError("no network at the end")
        self.ended = failed


def stored_ids(folder):
    return json.loads((folder / IDS).read_text())


def test_records_arrive_in_order_under_the_names_of_their_splits():
    run = Run()
    tracker = Tracker("test", run)
    tracker.log("train", 5, {"loss": 2.5, "mlm_accuracy": 0.25})
    tracker.log("validation", 5, {"loss": 2})
    tracker.close()
    assert run.written == [
        (5, {"train/loss": 2.5, "train/mlm_accuracy": 0.25}),
        (5, {"validation/loss": 2.0}),
    ]
    assert run.ended is False


def test_run_that_broke_off_is_told_so():
    run = Run()
    Tracker("test", run).close(failed=True)
    assert run.ended is True


def test_failing_tracker_is_told_once_and_gets_the_records_after(capfd):
    run = Run(fails_at=[2, 3], fails_to_end=True)
    tracker = Tracker("test", run)
    for step in range(1, 5):
        tracker.log("train", step, {"loss": 1.0})
    tracker.close()
    assert [step for step, _ in run.written] == [1, 4]
    assert capfd.readouterr().err.splitlines() == [
        "Tracker test: step 2 was not taken: no network at step 2; metrics.jsonl has all records."
    ]


def test_tracker_that_hangs_holds_up_neither_training_nor_its_end(capfd):
    is_over = threading.Event()
    run = Run()
    run.write = lambda values, step: is_over.wait(60)
    tracker = Tracker("test", run)
    began = time.monotonic()
    tracker.log("train", 1, {"loss": 1.0})
    tracker.log("train", 2, {"loss": 1.0})
    tracker.close(timeout=0.2)
    assert time.monotonic() - began < 30
    is_over.set()
    assert "did not take all records within 0 s; metrics.jsonl has all" in capfd.readouterr().err


def test_unknown_tracker_is_told_with_those_there_are(tmp_path):
    with pytest.raises(InputError, match="one of wandb, mlflow. Received: 'neptune'"):
        make_tracker("neptune", str(tmp_path), SETTINGS)


@pytest.mark.parametrize("name", TRACKERS)
def test_missing_package_is_told_with_its_extra(tmp_path, monkeypatch, name):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    # wandb itself leaves such a folder where it runs, and Python takes it for a package.
    (tmp_path / name).mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        with pytest.raises(InputError, match=rf"pip install 'keras_bert_tpu\[{name}\]'"):
            make_tracker(name, str(tmp_path), SETTINGS)
    finally:
        sys.modules.pop(name, None)  # The folder, for which tests of the package would take it.
    assert not (tmp_path / IDS).exists()


class FakeWandb(types.ModuleType):
    """The part of wandb that is used: a run that remembers what it was given."""

    def __init__(self):
        super().__init__("wandb")
        self.opened, self.axes, self.rows, self.exit_codes = [], {}, [], []

    def init(self, **arguments):
        self.opened.append(arguments)
        return types.SimpleNamespace(
            id=arguments["id"] or "w1",
            define_metric=lambda name, **values: self.axes.update({name: values}),
            log=self.rows.append,
            finish=lambda exit_code: self.exit_codes.append(exit_code),
        )


class FakeClient:
    """The part of an MLflow client that is used."""

    experiments = {"Default": "0"}
    calls = []

    def get_experiment_by_name(self, name):
        found = self.experiments.get(name)
        return found and types.SimpleNamespace(experiment_id=found)

    def create_experiment(self, name):
        self.experiments[name] = str(len(self.experiments))
        return self.experiments[name]

    def create_run(self, experiment_id, run_name):
        self.calls.append(("create", experiment_id, run_name))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="m1"))

    def update_run(self, run_id, status):
        if run_id != "m1":
            raise KeyError(f"no run {run_id}")
        self.calls.append(("update", run_id, status))

    def log_batch(self, run_id, metrics=(), params=()):
        self.calls.append(("log", run_id, [(m[0], m[1], m[3]) for m in metrics], list(params)))

    def set_terminated(self, run_id, status):
        self.calls.append(("end", run_id, status))


@pytest.fixture
def wandb_stand_in(monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb())
    return sys.modules["wandb"]


@pytest.fixture
def mlflow_calls(monkeypatch):
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    module = types.ModuleType("mlflow")
    module.entities = types.ModuleType("mlflow.entities")
    module.MlflowClient = type("Client", (FakeClient,), {"calls": [], "experiments": {}})
    module.entities.Metric = lambda *values: values
    module.entities.Param = lambda *values: values
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", module.entities)
    return module.MlflowClient.calls


def test_wandb_run_goes_on_under_the_id_in_the_folder(tmp_path, wandb_stand_in):
    tracker = make_tracker("wandb", str(tmp_path), SETTINGS, "name")
    tracker.log("train", 5, {"loss": 2.5})
    tracker.close()
    assert stored_ids(tmp_path) == {"wandb": "w1"}
    make_tracker("wandb", str(tmp_path), SETTINGS).close(failed=True)
    first, second = wandb_stand_in.opened
    assert (first["id"], second["id"], second["resume"]) == (None, "w1", "allow")
    assert (first["project"], first["name"]) == ("keras_bert_tpu", "name")
    assert (first["config"], first["dir"]) == (SETTINGS, str(tmp_path))
    assert wandb_stand_in.rows == [{"train/loss": 2.5, "step": 5}]
    assert wandb_stand_in.axes["*"] == {"step_metric": "step"}
    assert wandb_stand_in.exit_codes == [0, 1]


def test_wandb_project_of_the_environment_is_taken(tmp_path, wandb_stand_in, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    make_tracker("wandb", str(tmp_path), SETTINGS).close()
    assert wandb_stand_in.opened[0]["project"] == "mine"


def test_mlflow_run_goes_on_under_the_id_in_the_folder(tmp_path, mlflow_calls):
    tracker = make_tracker("mlflow", str(tmp_path), SETTINGS, "name")
    tracker.log("train", 5, {"loss": 2.5})
    tracker.close()
    assert stored_ids(tmp_path) == {"mlflow": "m1"}
    make_tracker("mlflow", str(tmp_path), SETTINGS).close(failed=True)
    params = [
        ("seed", "7"),
        ("phases.0.steps", "3"),
        ("phases.1.steps", "4"),
        ("added_tokens", "[]"),
    ]
    assert mlflow_calls == [
        ("create", "0", "name"),
        ("log", "m1", [], params),
        ("log", "m1", [("train/loss", 2.5, 5)], []),
        ("end", "m1", "FINISHED"),
        ("update", "m1", "RUNNING"),
        ("end", "m1", "FAILED"),
    ]


def test_both_trackers_keep_their_ids_side_by_side(tmp_path, wandb_stand_in, mlflow_calls):
    for name in TRACKERS:
        make_tracker(name, str(tmp_path), SETTINGS).close()
    assert stored_ids(tmp_path) == {"wandb": "w1", "mlflow": "m1"}


def test_tracker_that_refuses_is_told_before_training(tmp_path, mlflow_calls):
    (tmp_path / IDS).write_text('{"mlflow": "gone"}')
    with pytest.raises(InputError, match="mlflow cannot be started .*no run gone"):
        make_tracker("mlflow", str(tmp_path), SETTINGS)


def track_and_go_on(name, folder):
    """Logs two records, breaks off, and goes on a step before the last with settings changed."""
    settings = to_dict(PretrainingConfig())
    tracker = make_tracker(name, str(folder), settings, "run")
    tracker.log("train", 5, {"loss": 2.5})
    tracker.log("train", 10, {"loss": 2.25})
    tracker.close(failed=True)
    tracker = make_tracker(name, str(folder), {**settings, "log_every": 7}, "run")
    tracker.log("train", 10, {"loss": 2.125})
    tracker.log("validation", 10, {"loss": math.nan})
    tracker.close()


def test_real_wandb_stores_the_records_of_both_parts(tmp_path, monkeypatch, capfd):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    track_and_go_on("wandb", tmp_path)
    run_id = stored_ids(tmp_path)["wandb"]
    first, second = (
        path.read_bytes() for path in sorted(tmp_path.glob(f"wandb/offline-run-*/*{run_id}.wandb"))
    )
    assert b"train/loss" in first and b"2.25" in first and b'"num_layers":12' in first
    assert b"2.125" in second and b"validation/loss" in second
    assert "Tracker" not in capfd.readouterr().err


def test_real_mlflow_stores_the_records_of_both_parts(tmp_path, monkeypatch, capfd):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    track_and_go_on("mlflow", tmp_path)
    client = mlflow.MlflowClient()
    run_id = stored_ids(tmp_path)["mlflow"]
    losses = client.get_metric_history(run_id, "train/loss")
    assert sorted((m.step, m.value) for m in losses) == [(5, 2.5), (10, 2.125), (10, 2.25)]
    (held_out,) = client.get_metric_history(run_id, "validation/loss")
    assert held_out.step == 10 and math.isnan(held_out.value)
    run = client.get_run(run_id)
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["phases.0.sequence_length"] == "128"
    assert client.get_experiment(run.info.experiment_id).name == "keras_bert_tpu"
    assert "Tracker" not in capfd.readouterr().err
