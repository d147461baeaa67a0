import json
import threading

import keras
import numpy as np
import pytest

from keras_bert_tpu.checkpoints.storage import write_arrays
from keras_bert_tpu.config import InputError
from keras_bert_tpu.training.checkpointing import Checkpointer
from keras_bert_tpu.training.optimizers import BertAdamW


def make(directory, width=4, keep=3, **settings):
    model = keras.Sequential(
        [keras.layers.Dense(width, name="dense")], name=f"any_name_{np.random.randint(10**6)}"
    )
    model.build((None, 3))
    optimizer = BertAdamW(0.1)
    optimizer.build(model.trainable_variables)
    return model, optimizer, Checkpointer(str(directory), model, optimizer, keep, **settings)


def train(model, optimizer, steps=1):
    for _ in range(steps):
        gradients = [keras.ops.ones_like(v) * 0.5 for v in model.trainable_variables]
        optimizer.apply(gradients, model.trainable_variables)


def values(model, optimizer):
    return [keras.ops.convert_to_numpy(v) for v in [*model.weights, *optimizer.variables]]


def assert_equal(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def folders(directory):
    return sorted(path.name for path in directory.iterdir())


def test_weights_moments_and_step_come_back_exactly(tmp_path):
    model, optimizer, checkpointer = make(tmp_path)
    train(model, optimizer, 3)
    checkpointer.save(3, {"data_position": {"next_example": 96}})
    other_model, other_optimizer, other = make(tmp_path)
    checkpoint = other.restore_latest()
    assert checkpoint.step == 3
    assert checkpoint.state["data_position"] == {"next_example": 96}
    assert int(other_optimizer.iterations) == 3
    assert_equal(values(model, optimizer), values(other_model, other_optimizer))


def test_no_checkpoint_at_all_is_none(tmp_path):
    assert make(tmp_path / "nothing")[2].restore_latest() is None


def test_only_the_last_are_kept(tmp_path):
    _, _, checkpointer = make(tmp_path, keep=2)
    for step in (5, 10, 15):
        checkpointer.save(step, {})
    assert folders(tmp_path) == ["step-00000010", "step-00000015"]


def test_folder_without_its_marker_does_not_count(tmp_path):
    model, optimizer, checkpointer = make(tmp_path)
    checkpointer.save(1, {})
    train(model, optimizer)
    checkpointer.save(2, {})
    (tmp_path / "step-00000002" / "checkpoint.json").unlink()
    assert make(tmp_path)[2].restore_latest().step == 1


def test_what_is_written_in_the_background_are_the_values_of_its_step(tmp_path, monkeypatch):
    model, optimizer, checkpointer = make(tmp_path, in_background=True)
    train(model, optimizer)
    before, may_write = values(model, optimizer), threading.Event()

    def write(path, variables):
        assert may_write.wait(60)
        return write_arrays(path, variables)

    monkeypatch.setattr("keras_bert_tpu.training.checkpointing.write_arrays", write)
    checkpointer.save(1, {})
    train(model, optimizer)
    may_write.set()
    checkpointer.wait()
    other_model, other_optimizer, other = make(tmp_path)
    assert other.restore_latest().step == 1
    assert_equal(values(other_model, other_optimizer), before)


def test_checkpoint_does_not_count_while_it_is_written_again(tmp_path, monkeypatch):
    model, optimizer, checkpointer = make(tmp_path)
    checkpointer.save(1, {})
    train(model, optimizer)
    checkpointer.save(2, {})

    def killed(path, variables):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_bert_tpu.training.checkpointing.write_arrays", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save(2, {})
    assert make(tmp_path)[2].restore_latest().step == 1


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", lambda content: content[:-1]),
        ("model.safetensors", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        ("optimizer.safetensors", lambda content: b""),
        ("checkpoint.json", lambda content: content[:20]),
    ],
)
def test_damaged_last_checkpoint_falls_back_to_the_one_before(tmp_path, caplog, name, damage):
    model, optimizer, checkpointer = make(tmp_path)
    train(model, optimizer)
    checkpointer.save(1, {})
    expected = values(model, optimizer)
    train(model, optimizer)
    checkpointer.save(2, {})
    file = tmp_path / "step-00000002" / name
    file.write_bytes(damage(file.read_bytes()))
    other_model, other_optimizer, other = make(tmp_path)
    assert other.restore_latest().step == 1
    assert_equal(values(other_model, other_optimizer), expected)


def test_nothing_but_damaged_checkpoints_is_an_error_not_a_fresh_start(tmp_path):
    _, _, checkpointer = make(tmp_path)
    checkpointer.save(1, {})
    (tmp_path / "step-00000001" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="All 1 checkpoints .* are damaged"):
        make(tmp_path)[2].restore_latest()


def test_unknown_format_is_refused(tmp_path):
    _, _, checkpointer = make(tmp_path)
    checkpointer.save(1, {})
    marker = tmp_path / "step-00000001" / "checkpoint.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "format_version": 99}))
    with pytest.raises(InputError, match="checkpoint format 99"):
        make(tmp_path)[2].restore_latest()


def test_checkpoint_of_another_model_is_refused_naming_the_array(tmp_path):
    make(tmp_path)[2].save(1, {})
    with pytest.raises(InputError, match="dense/bias has shape .4,., the model expects .5,."):
        make(tmp_path, width=5)[2].restore_latest()
