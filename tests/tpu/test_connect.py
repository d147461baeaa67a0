import importlib
import subprocess
import sys

import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tpu.connect import _has_tpu_build, check_data_path, connect

# The package gives its function that name.
connect_module = importlib.import_module("keras_bert_tpu.tpu.connect")


def test_without_accelerators_it_is_the_cpu():
    connection = connect()
    assert connection.strategy is tf.distribute.get_strategy()
    assert connection.description == "the CPU of this machine"


def test_several_logical_cpus_become_replicas():
    program = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_bert_tpu.tpu.connect import connect
connection = connect()
assert connection.strategy.num_replicas_in_sync == 2
assert connection.description == "2 logical CPU devices of this machine"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tpu_that_is_not_there_is_told_in_a_sentence():
    with pytest.raises(InputError, match="TPU 'local' cannot be reached"):
        connect("local")


def test_keras_distribution_is_refused_because_it_would_be_ignored(monkeypatch):
    import keras

    monkeypatch.setattr(keras.distribution, "distribution", lambda: object())
    with pytest.raises(InputError, match="silently ignores"):
        connect()


def test_cluster_that_cannot_be_read_is_told(monkeypatch):
    for text in ("{", "[]", '{"cluster": 3}'):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(InputError, match="TF_CONFIG is not the JSON object of a cluster"):
            connect()


def test_cluster_of_this_process_alone_is_none(monkeypatch):
    cluster = '{"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", cluster)
    assert "CPU" in connect().description


@pytest.mark.skipif(_has_tpu_build(), reason="this is the build of TensorFlow for TPUs")
def test_plain_build_is_told_where_a_tpu_build_is_needed():
    with pytest.raises(InputError, match="build of TensorFlow without TPU support"):
        connect("local")


@pytest.mark.parametrize(
    "reason",
    [
        "ABORTED: The TPU is already in use by process with pid 7.",
        "INTERNAL: failed to open /dev/accel0: Device or resource busy",
    ],
)
def test_tpu_that_another_process_holds_is_told(monkeypatch, reason):
    def held(**_):
        raise RuntimeError(reason)

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", held)
    with pytest.raises(InputError, match="held by another process.*lsof"):
        connect("local")


def test_holder_is_found_though_tensorflow_says_nothing_of_it(monkeypatch, tmp_path):
    def fail(**_):
        raise RuntimeError("No matching devices found for '/device:TPU_SYSTEM:0'")

    lock = tmp_path / "libtpu_lockfile"
    monkeypatch.setattr(connect_module, "_LOCK_FILE", str(lock))
    monkeypatch.setattr(connect_module, "_has_tpu_build", lambda: True)
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", fail)
    with pytest.raises(InputError, match="No TPU was found on this machine"):
        connect("local")
    program = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(lock)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as holder:
        holder.stdout.readline()
        with pytest.raises(InputError, match="held by another process .*remove .*libtpu_lockfile"):
            connect("local")
        holder.stdin.close()
    # The file stays, and means nothing any more.
    with pytest.raises(InputError, match="No TPU was found on this machine"):
        connect("local")


def test_local_records_of_a_remote_tpu_are_refused():
    with pytest.raises(InputError, match="another machine, which cannot read records"):
        check_data_path("records", "our-tpu")
    check_data_path("gs://bucket/records", "our-tpu")
    check_data_path("records", "local")
    check_data_path("records", None)


def test_connect_is_what_the_package_is_asked_for():
    import keras_bert_tpu.tpu

    assert keras_bert_tpu.tpu.connect is connect


def test_reason_is_not_the_frame_around_it(monkeypatch):
    def fail(**_):
        raise RuntimeError(
            "Graph execution error:\n\nDetected at node x defined at (most recent call last):\n"
            "<stack traces unavailable>\nRET_CHECK failure *platform\n\t [[{{node x}}]]"
        )

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", fail)
    with pytest.raises(InputError, match=r"\(RET_CHECK failure \*platform\)"):
        connect("local")
