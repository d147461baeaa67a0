"""A whole run: learning, phases, evaluation, resume, and what is refused before it starts."""

import dataclasses
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from runs import LONG, PACKED, StopAt, checksums, make_config, read_metrics

from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.checkpoints.storage import weights_by_name
from keras_bert_tpu.config import InputError, PhaseConfig, PretrainingConfig
from keras_bert_tpu.dataclass_yaml import from_dict, to_dict, to_yaml
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.pipeline import validation_dataset
from keras_bert_tpu.training.loop import pretrain
from keras_bert_tpu.training.phases import Stretch, stretches

STEPS_TO_LEARN = 600


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, records, vocabulary):
    output = tmp_path_factory.mktemp("unbroken")
    pretrain(make_config(vocabulary), str(records), str(output))
    return output


def count_targets(folder, vocab_size):
    """How often each piece is a masked target in the training records."""
    counts = np.ones(vocab_size)
    manifest = Manifest.load(folder)
    training = dataclasses.replace(manifest, validation=manifest.train)
    for batch in validation_dataset(training, 16, 32, 5):
        real = batch["mask_weights"].numpy() > 0
        np.add.at(counts, batch["mask_ids"].numpy()[real], 1)
    return counts


def test_model_learns_more_than_how_frequent_each_piece_is(tmp_path, records, vocabulary):
    config = make_config(
        vocabulary,
        steps=STEPS_TO_LEARN,
        encoder={
            "preset": "tiny",
            "vocab_size": len(vocabulary),
            "max_positions": 64,
            "initializer_range": 0.05,
            "hidden_dropout": 0.0,
            "attention_dropout": 0.0,
        },
        optimizer={"learning_rate": 2e-3, "warmup_steps": 40, "bias_correction": True},
        log_every=100,
        evaluate_every=STEPS_TO_LEARN,
        evaluate_examples=0,
        save_every=STEPS_TO_LEARN,
    )
    pretrain(config, str(records), str(tmp_path))
    (last,) = read_metrics(tmp_path, "validation")
    # What a model that sees no context can reach on the same held-out targets.
    folder = str(records / "short")
    frequencies = count_targets(folder, len(vocabulary))
    losses, hits = [], []
    for batch in validation_dataset(folder, 16, 32, 5):
        targets = batch["mask_ids"].numpy()[batch["mask_weights"].numpy() > 0]
        losses.extend(-np.log(frequencies[targets] / frequencies.sum()))
        hits.extend(targets == frequencies.argmax())
    assert last["mlm_loss"] < np.mean(losses) - 0.2
    assert last["mlm_accuracy"] > 1.5 * np.mean(hits)


def test_evaluation_stands_at_each_multiple_and_covers_the_examples(unbroken):
    assert [record["step"] for record in read_metrics(unbroken, "validation")] == [10, 20, 30]
    assert [record["step"] for record in read_metrics(unbroken, "train")] == list(range(5, 31, 5))
    record = read_metrics(unbroken, "train")[-1]
    assert record["sequences_per_second"] > 0
    assert record["tokens_per_second"] == pytest.approx(record["sequences_per_second"] * 32)
    assert 0 <= record["input_wait_share"] <= 1
    assert record["loss"] == pytest.approx(record["mlm_loss"] + record["nsp_loss"], rel=1e-5)


def test_run_leaves_a_model_folder_a_picture_and_tensorboard(unbroken, vocabulary):
    model = BertPretrainer.from_pretrained(str(unbroken / "model"))
    assert model.config.vocab_size == len(vocabulary)
    assert (unbroken / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((unbroken / "tensorboard" / "train").glob("events*"))
    assert PretrainingConfig.from_yaml(str(unbroken / "config.yaml")) == make_config(vocabulary)


def test_same_seed_gives_the_same_run_and_another_seed_another(
    tmp_path, unbroken, records, vocabulary
):
    pretrain(make_config(vocabulary), str(records), str(tmp_path / "same"))
    assert checksums(tmp_path / "same") == checksums(unbroken)
    pretrain(make_config(vocabulary, steps=10, seed=1), str(records), str(tmp_path / "other"))
    assert checksums(tmp_path / "other")[10] != checksums(unbroken)[10]


def test_how_often_is_evaluated_changes_nothing(tmp_path, unbroken, records, vocabulary):
    # Each evaluation ends a stretch of training, and the data must go on behind it.
    pretrain(make_config(vocabulary, evaluate_every=30), str(records), str(tmp_path))
    assert checksums(tmp_path)[30] == checksums(unbroken)[30]


@pytest.mark.parametrize(
    "stopped_at", [13, *(pytest.param(step, marks=pytest.mark.slow) for step in (20, 29))]
)
def test_broken_run_goes_on_bit_equal(tmp_path, unbroken, records, vocabulary, stopped_at, capfd):
    config = make_config(vocabulary)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        pretrain(config, str(records), str(tmp_path), callbacks=[StopAt(stopped_at)])
    pretrain(config, str(records), str(tmp_path))
    assert f"Resuming after step {stopped_at // 10 * 10} of 30" in capfd.readouterr().out
    assert checksums(tmp_path) == checksums(unbroken)
    steps = [record["step"] for record in read_metrics(tmp_path, "train")]
    assert steps == list(range(5, 31, 5)), "records of steps made again must not stand twice"


def test_killed_run_goes_on_bit_equal(tmp_path, unbroken, records, vocabulary):
    (tmp_path / "run.yaml").write_text(to_yaml(make_config(vocabulary)))
    output = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "keras_bert_tpu.scripts.pretrain",
        f"--config={tmp_path / 'run.yaml'}",
        f"--data={records}",
        f"--output={output}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    marker = output / "checkpoints" / "step-00000010" / "checkpoint.json"
    until = time.monotonic() + 240
    while not marker.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Resuming after step" in done.stdout
    assert checksums(output) == checksums(unbroken)


def test_finished_run_given_again_trains_no_further(unbroken, records, vocabulary):
    before = checksums(unbroken)
    pretrain(make_config(vocabulary), str(records), str(unbroken))
    assert checksums(unbroken) == before


def test_phases_follow_each_other_and_may_restate_the_rate(tmp_path, records, vocabulary, capfd):
    config = to_dict(make_config(vocabulary, steps=12, evaluate_every=8, save_every=4, log_every=2))
    config["phases"].append({**LONG, "steps": 8, "learning_rate": 4e-4, "warmup_steps": 4})
    config["optimizer"]["algorithm"] = "lamb"
    config = from_dict(PretrainingConfig, config)
    with pytest.raises(RuntimeError):
        pretrain(config, str(records), str(tmp_path / "broken"), callbacks=[StopAt(17)])
    pretrain(config, str(records), str(tmp_path / "broken"))
    pretrain(config, str(records), str(tmp_path / "whole"))
    assert checksums(tmp_path / "broken") == checksums(tmp_path / "whole")
    marker = tmp_path / "whole" / "checkpoints" / "step-00000016" / "checkpoint.json"
    position = json.loads(marker.read_text())["data_position"]
    assert position == {"phase": 1, "phase_step": 4, "next_example": 32}
    rates = [r["learning_rate"] for r in read_metrics(tmp_path / "whole", "train")]
    # Up to 1e-3 at step 5 and straight down to 0 at step 12; up to 4e-4 at step 16, down at 20.
    first = [4e-4, 8e-4, *(1e-3 * (12 - step) / 7 for step in (6, 8, 10))]
    assert rates == pytest.approx([*first, 0.0, 2e-4, 4e-4, 2e-4, 0.0], rel=1e-5, abs=1e-9)
    said = capfd.readouterr().out
    for line in (
        "Phase 1: steps 1 to 12 of 16 x 32 tokens",
        "  lamb, learning rate 0.001 after a warm-up of 5 steps, then polynomial (power 1) to 0",
        "Phase 2: steps 13 to 20 of",
        "  lamb, learning rate 0.0004 after a warm-up of 4 steps, then polynomial (power 1) to 0",
        "Resuming after step 16 of 20, at a learning rate of 0.0004.",
    ):
        assert line in said


def test_callbacks_see_one_training_with_an_epoch_for_each_evaluation(
    tmp_path, records, vocabulary
):
    calls = []

    class Recorder(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            calls.append("begin")

        def on_epoch_end(self, epoch, logs=None):
            calls.append((epoch, "val_mlm_accuracy" in logs))

        def on_train_end(self, logs=None):
            calls.append("end")

    pretrain(make_config(vocabulary), str(records), str(tmp_path), callbacks=[Recorder()])
    assert calls == ["begin", (0, True), (1, True), (2, True), "end"]


def test_callback_that_stops_training_ends_the_run_with_a_checkpoint(tmp_path, records, vocabulary):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    config = make_config(vocabulary, save_every=1000)
    pretrain(config, str(records), str(tmp_path), callbacks=[Stop()])
    assert list(checksums(tmp_path)) == [10]


@pytest.fixture(scope="module")
def on_one(tmp_path_factory, records, vocabulary):
    """A config without dropout, and the folder of its run on one replica."""
    encoder = {"preset": "tiny", "vocab_size": len(vocabulary), "max_positions": 64}
    encoder |= {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    # 40 held-out examples leave the last batch of 16 half padded.
    config = make_config(vocabulary, steps=20, encoder=encoder, evaluate_examples=40)
    folder = tmp_path_factory.mktemp("replicas") / "one"
    pretrain(config, str(records), str(folder))
    return config, folder


def run_on_two_replicas(config, records, output):
    """Returns what the run said."""
    run_file = output.with_suffix(".yaml")
    run_file.write_text(to_yaml(config))
    program = pathlib.Path(__file__).parent / "replicated_run_program.py"
    arguments = [sys.executable, str(program), str(run_file), str(records), str(output)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_same_figures(one, other):
    for split in ("train", "validation"):
        expected, found = (read_metrics(folder, split) for folder in (one, other))
        assert [record["step"] for record in found] == [record["step"] for record in expected]
        for before, record in zip(expected, found, strict=True):
            for name in ("mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy"):
                assert record[name] == pytest.approx(before[name], rel=1e-4), name


def test_run_on_two_replicas_reports_and_resumes_as_on_one(tmp_path, on_one, records):
    config, one = on_one
    two = tmp_path / "two"
    for said in ("2 replicas", "Resuming after step 10 of 20"):
        assert said in run_on_two_replicas(config, records, two)
        assert_same_figures(one, two)
        shutil.rmtree(two / "checkpoints" / "step-00000020")


@pytest.mark.slow
def test_packed_rows_are_trained_on_by_two_replicas_as_by_one(tmp_path, on_one, records):
    config, _ = on_one
    phase = from_dict(PhaseConfig, {**PACKED, "steps": 40})
    optimizer = dataclasses.replace(config.optimizer, bias_correction=True)
    config = dataclasses.replace(config, phases=(phase,), optimizer=optimizer)
    pretrain(config, str(records), str(tmp_path / "one"))
    losses = [record["mlm_loss"] for record in read_metrics(tmp_path / "one", "train")]
    assert losses[-1] < losses[0] - 0.5
    assert "2 replicas" in run_on_two_replicas(config, records, tmp_path / "two")
    assert_same_figures(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_run_goes_on_on_another_number_of_replicas_with_the_same_data(tmp_path, on_one, records):
    config, one = on_one
    moved = shutil.copytree(one, tmp_path / "moved")
    shutil.rmtree(moved / "checkpoints" / "step-00000020")
    said = run_on_two_replicas(config, records, moved)
    assert "2 replicas" in said and "Resuming after step 10 of 20" in said
    assert_same_figures(one, moved)
    shutil.rmtree(moved / "checkpoints" / "step-00000020")
    model = pretrain(config, str(records), str(moved))
    assert_same_figures(one, moved)
    arrays = read_weights(str(one / "model")).arrays
    for name, weight in weights_by_name(model).items():
        np.testing.assert_allclose(weight.numpy(), arrays[name], rtol=1e-3, atol=2e-5)


def test_bfloat16_run_trains(tmp_path, records, vocabulary):
    config = make_config(vocabulary, compute_dtype="bfloat16")
    model = pretrain(config, str(records), str(tmp_path))
    assert np.isfinite(read_metrics(tmp_path, "train")[-1]["loss"])
    assert {weight.dtype for weight in model.weights} == {"float32"}


def test_stretches_end_at_evaluations_and_phases(vocabulary):
    config = to_dict(make_config(vocabulary, steps=25))
    config["phases"].append({**LONG, "steps": 10})
    config = from_dict(PretrainingConfig, config)
    assert stretches(config, 0) == [
        Stretch(0, 0, 10, 0),
        Stretch(0, 10, 20, 0),
        Stretch(0, 20, 25, 0),
        Stretch(1, 25, 30, 25),
        Stretch(1, 30, 35, 25),
    ]
    assert stretches(config, 13)[0] == Stretch(0, 13, 20, 0)
    assert stretches(config, 25)[0] == Stretch(1, 25, 30, 25)
    assert stretches(config, 35) == []


def refused(vocabulary, records, output, data=None, **changes):
    config = to_dict(make_config(vocabulary))
    for key, value in changes.items():
        target = config["phases"][0] if key in config["phases"][0] else config
        target[key] = value
    with pytest.raises(InputError) as error:
        pretrain(from_dict(PretrainingConfig, config), str(data or records), str(output))
    assert not pathlib.Path(output).exists(), "nothing may be written before the checks"
    return str(error.value)


def test_bad_combinations_are_refused_before_anything_is_written(tmp_path, records, vocabulary):
    output = tmp_path / "run"
    message = refused(vocabulary, records, output, sequence_length=64)
    assert "sequence_length" in message and "32" in message and "64" in message
    message = refused(vocabulary, records, output, max_predictions=6)
    assert "max_predictions" in message
    message = refused(vocabulary, records, output, data=tmp_path)
    assert "manifest.json" in message
    encoder = {"preset": "tiny", "vocab_size": 30522, "max_positions": 64}
    message = refused(vocabulary, records, output, encoder=encoder)
    assert f"set encoder.vocab_size={len(vocabulary)}" in message
    message = refused(vocabulary, records, output, optimizer={"warmup_steps": 30})
    assert "optimizer.warmup_steps=30 must be less than the 30 steps" in message


def test_vocabulary_that_is_not_the_records_is_refused(tmp_path, records, vocabulary):
    copy = tmp_path / "records"
    shutil.copytree(records / "short", copy / "short")
    file = copy / "short" / "vocab.txt"
    file.write_text(file.read_text().replace("garden", "gardens"))
    message = refused(vocabulary, records, tmp_path / "run", data=copy)
    assert "is not the vocabulary that the records beside it were prepared with" in message
    file.unlink()
    assert "vocab.txt" in refused(vocabulary, records, tmp_path / "run", data=copy)


def test_batch_that_replicas_cannot_share_is_refused(tmp_path, records, vocabulary):
    class Five:
        num_replicas_in_sync = 5

    config = make_config(vocabulary)
    with pytest.raises(InputError, match="batch_size=16 cannot be divided among 5 replicas"):
        pretrain(config, str(records), str(tmp_path / "run"), strategy=Five())


def test_folder_of_another_run_is_refused(unbroken, records, vocabulary):
    with pytest.raises(InputError, match="holds another run: there phases.0.steps is 30"):
        pretrain(make_config(vocabulary, steps=40), str(records), str(unbroken))
