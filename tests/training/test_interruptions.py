"""What a run does when it is told to end, when numbers go wrong, and when it is killed."""

import dataclasses
import json
import os
import signal

import keras
import numpy as np
import pytest
from runs import LONG, StopAt, checksums, make_config, read_metrics, states

from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.checkpoints.storage import read_arrays
from keras_bert_tpu.config import InputError, PretrainingConfig
from keras_bert_tpu.dataclass_yaml import from_dict, to_dict
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.training.evaluation import evaluate_pretraining
from keras_bert_tpu.training.loop import pretrain
from keras_bert_tpu.training.phases import Rewind
from keras_bert_tpu.training.spikes import (
    LossSpike,
    SpikeRule,
    read_rewinds,
    write_rewinds,
)
from keras_bert_tpu.training.termination import Terminated


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, records, vocabulary):
    output = tmp_path_factory.mktemp("unbroken")
    pretrain(make_config(vocabulary), str(records), str(output))
    return output


class Once(keras.callbacks.Callback):
    """Does something behind one step of a run, or before one evaluation, and never again."""

    def __init__(self, action, step=0, evaluation=0):
        super().__init__()
        self.action, self.steps, self.evaluations = action, step, evaluation

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if self.steps == 0:
            self.action(self.model)

    def on_test_begin(self, logs=None):
        self.evaluations -= 1
        if self.evaluations == 0:
            self.action(self.model)


def terminate(model):
    os.kill(os.getpid(), signal.SIGTERM)


def crash(model):
    raise RuntimeError("stopped by the test")


def test_sigterm_saves_at_once_and_the_run_goes_on_bit_equal(
    tmp_path, unbroken, records, vocabulary, capfd
):
    config = make_config(vocabulary)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated, match="step 14 of 30 is saved"):
        pretrain(config, str(records), str(tmp_path), callbacks=[Once(terminate, step=13)])
    assert signal.getsignal(signal.SIGTERM) is before
    assert list(checksums(tmp_path)) == [10, 14]
    pretrain(config, str(records), str(tmp_path))
    assert "Resuming after step 14 of 30" in capfd.readouterr().out
    assert checksums(tmp_path)[30] == checksums(unbroken)[30]


def test_sigterm_within_an_evaluation_saves_the_weights_and_not_their_averages(
    tmp_path, records, vocabulary
):
    optimizer = {"learning_rate": 1e-3, "warmup_steps": 5, "average_decay": 0.9}
    config = make_config(vocabulary, optimizer=optimizer, save_every=1000, best_metric="none")
    pretrain(config, str(records), str(tmp_path / "whole"))
    with pytest.raises(Terminated, match="step 20 of 30 is saved"):
        once = Once(terminate, evaluation=2)
        pretrain(config, str(records), str(tmp_path / "run"), callbacks=[once])
    pretrain(config, str(records), str(tmp_path / "run"))
    assert checksums(tmp_path / "run")[30] == checksums(tmp_path / "whole")[30]
    # The evaluation that was broken off is made by the run that goes on.
    records_of = [read_metrics(tmp_path / name, "validation") for name in ("run", "whole")]
    assert records_of[0] == records_of[1]


def test_averages_are_evaluated_and_are_the_model_of_the_finished_run(
    tmp_path, records, vocabulary
):
    optimizer = {"learning_rate": 1e-3, "warmup_steps": 5, "average_decay": 0.9}
    config = make_config(vocabulary, optimizer=optimizer)
    pretrain(config, str(records), str(tmp_path))
    model = read_weights(str(tmp_path / "model")).arrays
    last = tmp_path / "checkpoints" / "step-00000030"
    moments = read_arrays(str(last / "optimizer.safetensors"), None)
    weights = read_arrays(str(last / "model.safetensors"), None)
    for name, weight in model.items():
        np.testing.assert_array_equal(weight, moments[f"average/{name}"], err_msg=name)
    assert any(np.abs(weights[name] - model[name]).max() > 1e-4 for name in model)
    evaluation = evaluate_pretraining(
        BertPretrainer.from_pretrained(str(tmp_path / "model")),
        Manifest.load(str(records / "short")),
        num_examples=config.evaluate_examples,
        progress=False,
    )
    reported = read_metrics(tmp_path, "validation")[-1]
    assert reported["mlm_loss"] == pytest.approx(evaluation.masked_words.loss, rel=1e-4)


def test_evaluation_that_a_crash_broke_off_is_made_up_for(tmp_path, unbroken, records, vocabulary):
    config = make_config(vocabulary)
    with pytest.raises(RuntimeError):
        pretrain(config, str(records), str(tmp_path), callbacks=[Once(crash, evaluation=2)])
    assert [r["step"] for r in read_metrics(tmp_path, "validation")] == [10]
    pretrain(config, str(records), str(tmp_path))
    expected = read_metrics(unbroken, "validation")
    assert read_metrics(tmp_path, "validation") == expected
    assert checksums(tmp_path) == checksums(unbroken)


def test_checkpoints_written_in_the_background_are_those_of_their_step(
    tmp_path, unbroken, records, vocabulary
):
    config = make_config(vocabulary, background_saves=True)
    pretrain(config, str(records), str(tmp_path))
    assert checksums(tmp_path) == checksums(unbroken)


def test_best_checkpoint_is_kept_beside_the_last_ones(tmp_path, records, vocabulary):
    # The rate is far too high after the first steps, so that the first evaluation is the best.
    optimizer = {"learning_rate": 3.0, "warmup_steps": 29, "clip_norm": 0.0}
    config = make_config(vocabulary, optimizer=optimizer, keep_checkpoints=1, save_every=15)
    pretrain(config, str(records), str(tmp_path))
    losses = {r["step"]: r["loss"] for r in read_metrics(tmp_path, "validation")}
    assert min(losses, key=losses.get) == 10
    # It is at no multiple of save_every.
    assert list(checksums(tmp_path)) == [10, 30]
    best = json.loads((tmp_path / "checkpoints" / "best.json").read_text())
    assert best == {"step": 10, "metric": "loss", "value": losses[10], "phase": 0}


def test_later_phase_has_a_best_of_its_own(tmp_path, records, vocabulary):
    config = to_dict(make_config(vocabulary, steps=10, keep_checkpoints=1))
    config["phases"].append({**LONG, "steps": 20})
    pretrain(from_dict(PretrainingConfig, config), str(records), str(tmp_path))
    best = json.loads((tmp_path / "checkpoints" / "best.json").read_text())
    assert best["phase"] == 1 and best["step"] > 10


def poison(model):
    (bias,) = (w for w in model.pretrainer.weights if w.path.endswith("pooler/bias"))
    bias.assign(np.full(bias.shape, np.nan))


def test_steps_that_are_not_finite_end_the_run_and_leave_the_last_checkpoint(
    tmp_path, unbroken, records, vocabulary
):
    config = make_config(vocabulary, max_nonfinite_steps=3, save_every=2)
    with pytest.raises(InputError, match="not finite in steps 14 to 16, 3 in a row"):
        pretrain(config, str(records), str(tmp_path), callbacks=[Once(poison, step=13)])
    assert max(checksums(tmp_path)) == 14 - 2, "what was saved must be sound"
    pretrain(config, str(records), str(tmp_path))
    assert checksums(tmp_path)[30] == checksums(unbroken)[30]


def test_sigterm_before_a_sound_checkpoint_says_that_none_is_saved(tmp_path, records, vocabulary):
    config = make_config(vocabulary, max_nonfinite_steps=20)
    callbacks = [Once(poison, step=3), Once(terminate, step=5)]
    with pytest.raises(Terminated, match="no step is saved yet; the same command begins anew"):
        pretrain(config, str(records), str(tmp_path), callbacks=callbacks)
    assert not checksums(tmp_path)


def explode(model):
    (table,) = (w for w in model.pretrainer.weights if "token_embedding" in w.path)
    table.assign(table * 30)


def test_loss_that_jumps_sends_the_run_back_and_around_the_data(
    tmp_path, unbroken, records, vocabulary, capfd
):
    config = make_config(vocabulary, spike_factor=1.5, save_every=2)
    once = Once(explode, step=21)
    pretrain(config, str(records), str(tmp_path / "run"), callbacks=[once])
    said = capfd.readouterr().out
    assert "going back to step 20 and leaving out 5 batches" in said
    (rewind,) = read_rewinds(str(tmp_path / "run"))
    assert (rewind.step, rewind.phase, rewind.skipped_steps, rewind.spiked_step) == (20, 0, 5, 25)
    after = states(tmp_path / "run")
    assert after[20]["sha256"] == checksums(unbroken)[20]
    assert after[30]["data_position"]["next_example"] == (30 + 5) * 16
    assert after[30]["sha256"] != checksums(unbroken)[30]
    steps = [r["step"] for r in read_metrics(tmp_path / "run", "train")]
    assert steps == list(range(5, 31, 5)), "records of steps made again must not stand twice"
    assert all(r["loss"] < 10 for r in read_metrics(tmp_path / "run", "train"))

    # A crash right behind the rewind changes nothing: what is left out stays so, and what was saved
    # between, at steps 22 and 24, is gone.
    with pytest.raises(RuntimeError):
        callbacks = [Once(explode, step=21), StopAt(25)]
        pretrain(config, str(records), str(tmp_path / "crashed"), callbacks=callbacks)
    assert max(checksums(tmp_path / "crashed")) == 20
    pretrain(config, str(records), str(tmp_path / "crashed"))
    assert checksums(tmp_path / "crashed")[30] == after[30]["sha256"]


def test_too_many_rewinds_end_the_run(tmp_path, records, vocabulary):
    config = make_config(vocabulary, spike_factor=1.5, max_rewinds=0)
    with pytest.raises(InputError, match="has jumped again .* after 0 rewinds"):
        pretrain(config, str(records), str(tmp_path), callbacks=[Once(explode, step=21)])


def test_spike_is_told_by_the_mean_of_the_records_before():
    rule = SpikeRule(2.0)
    for step, loss in enumerate([1.0, 1000.0, 2.0]):  # Too few to tell.
        rule.add(step, loss)
    rule.begin_phase()
    for step, loss in enumerate([3.0, 2.0, 1.0, 4.0]):
        rule.add(step, loss)
    with pytest.raises(LossSpike) as spike:
        rule.add(5, 5.1)
    assert spike.value.usual == 2.5
    SpikeRule(0.0, [1.0] * 10).add(11, 1e9)  # Off.


def test_rewinds_behind_the_step_that_a_run_goes_on_from_are_left_out(tmp_path):
    rewinds = [Rewind(10, 0, 5, 15, 9.0), Rewind(20, 1, 3, 23, 8.0)]
    write_rewinds(str(tmp_path), rewinds)
    assert read_rewinds(str(tmp_path)) == rewinds
    assert read_rewinds(str(tmp_path), up_to_step=15) == rewinds[:1]
    file = tmp_path / "rewinds.json"
    file.write_text(file.read_text()[:40])
    with pytest.raises(InputError, match="is not whole"):
        read_rewinds(str(tmp_path))


def test_settings_that_cannot_be_are_refused(vocabulary):
    for values, message in [
        ({"spike_factor": 0.5}, "spike_factor must be greater than 1"),
        ({"max_nonfinite_steps": 0}, "max_nonfinite_steps must be greater than 0"),
        ({"best_metric": "f1"}, "best_metric must be one of"),
        ({"init_layers": ["encoder"]}, "are those of an init_checkpoint"),
    ]:
        with pytest.raises(InputError, match=message):
            make_config(vocabulary, **values)
    with pytest.raises(InputError, match="average_decay must be"):
        dataclasses.replace(make_config(vocabulary).optimizer, average_decay=1.0)
