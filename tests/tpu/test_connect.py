import subprocess
import sys

import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tpu.connect import connect


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
