import keras
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.training.profiling import ProfileSteps, parse_profile_steps


class Steps(keras.callbacks.Callback):
    """Counts the steps of a run that goes on after `first`; breaks it off at `fails_at`."""

    def __init__(self, first=0, fails_at=None):
        super().__init__()
        self.first = self.made = first
        self.fails_at = fails_at

    def on_train_batch_end(self, batch, logs=None):
        self.made = self.first + batch + 1
        if self.fails_at is not None and self.made >= self.fails_at:
            raise RuntimeError("stopped by the test")


def fit(counter, profile, steps=12, steps_per_execution=1):
    model = keras.Sequential([keras.layers.Input([3]), keras.layers.Dense(2)])
    model.compile("sgd", "mse", steps_per_execution=steps_per_execution)
    data = tf.data.Dataset.from_tensors((tf.ones([2, 3]), tf.ones([2, 2]))).repeat(steps)
    model.fit(data, callbacks=[counter, profile], shuffle=False, verbose=0)


def traces(folder):
    return list(folder.glob("plugins/profile/*/*.xplane.pb"))


def traced_steps(folder):
    """The steps that the one trace holds."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (path,) = traces(folder)
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    found = set()
    for plane in space.planes:
        names = {number: stat.name for number, stat in plane.stat_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                if plane.event_metadata[event.metadata_id].name == "train":
                    found |= {
                        stat.int64_value
                        for stat in event.stats
                        if names[stat.metadata_id] == "step_num"
                    }
    return sorted(found)


def test_first_and_last_step_are_parsed():
    assert parse_profile_steps("100:110") == (100, 110)
    assert parse_profile_steps("7:7") == (7, 7)


@pytest.mark.parametrize("text", ["", "5", "5:", ":5", "a:b", "1:2:3", "-1:5", "1.5:2"])
def test_what_is_no_pair_of_steps_is_told_with_an_example(text):
    with pytest.raises(InputError, match="for example 100:110"):
        parse_profile_steps(text)


@pytest.mark.parametrize("text", ["0:5", "9:8"])
def test_pair_without_steps_is_refused(text):
    with pytest.raises(InputError, match="counts from 1, and its last step"):
        parse_profile_steps(text)


def test_trace_of_the_steps_is_written(tmp_path, capfd):
    counter = Steps()
    fit(counter, ProfileSteps(str(tmp_path), 5, 7, lambda: counter.made))
    assert traced_steps(tmp_path) == [5, 6, 7]
    assert f"Profile of steps 5 to 7 written below {tmp_path}." in capfd.readouterr().out


def test_visits_that_hold_the_steps_are_profiled_whole(tmp_path, capfd):
    counter = Steps()
    profile = ProfileSteps(str(tmp_path), 6, 9, lambda: counter.made)
    fit(counter, profile, steps_per_execution=4)
    assert traced_steps(tmp_path) == [5, 9]
    assert "Profile of steps 5 to 12 written" in capfd.readouterr().out


def test_run_that_goes_on_behind_the_first_step_says_that_there_is_no_profile(tmp_path, capfd):
    counter = Steps(first=20)
    fit(counter, ProfileSteps(str(tmp_path), 20, 25, lambda: counter.made))
    assert not traces(tmp_path)
    message = "Steps 20 to 25 are not profiled: the run goes on after step 20."
    assert capfd.readouterr().out.count(message) == 1


def test_run_that_goes_on_just_before_the_first_step_is_profiled(tmp_path):
    counter = Steps(first=19)
    fit(counter, ProfileSteps(str(tmp_path), 20, 21, lambda: counter.made))
    assert traced_steps(tmp_path) == [20, 21]


def test_run_that_ends_within_the_steps_writes_what_there_is(tmp_path, capfd):
    counter = Steps()
    fit(counter, ProfileSteps(str(tmp_path), 10, 100, lambda: counter.made))
    assert traced_steps(tmp_path) == [10, 11, 12]
    assert "Profile of steps 10 to 12 written" in capfd.readouterr().out


def test_run_that_ends_before_the_steps_says_that_there_is_no_profile(tmp_path, capfd):
    counter = Steps()
    fit(counter, ProfileSteps(str(tmp_path), 100, 110, lambda: counter.made))
    assert not traces(tmp_path)
    assert "are not profiled: the run ended after step 12." in capfd.readouterr().out


def test_run_that_breaks_off_leaves_its_profile_and_a_free_profiler(tmp_path):
    counter = Steps(fails_at=6)
    profile = ProfileSteps(str(tmp_path / "broken"), 5, 9, lambda: counter.made)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        fit(counter, profile)
    profile.close()
    assert traces(tmp_path / "broken")
    counter = Steps()
    fit(counter, ProfileSteps(str(tmp_path / "next"), 5, 6, lambda: counter.made))
    assert traced_steps(tmp_path / "next") == [5, 6]


def test_profile_that_somebody_else_makes_is_left_alone(tmp_path, capfd):
    tf.profiler.experimental.start(str(tmp_path / "other"))
    try:
        counter = Steps()
        fit(counter, ProfileSteps(str(tmp_path / "ours"), 5, 6, lambda: counter.made))
    finally:
        tf.profiler.experimental.stop()
    assert not traces(tmp_path / "ours")
    assert traces(tmp_path / "other")
    assert "another profile is being made" in capfd.readouterr().out
