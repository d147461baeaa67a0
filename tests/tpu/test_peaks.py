import http.server
import threading
from unittest import mock

import pytest
import tensorflow as tf

from keras_bert_tpu.tpu.peaks import device_peak, gpu_peak, tpu_peak


@pytest.fixture
def tpu_strategy(monkeypatch):
    """A TPU of eight replicas on a machine that is told nothing of it."""
    monkeypatch.delenv("TPU_ACCELERATOR_TYPE", raising=False)
    monkeypatch.setenv("GCE_METADATA_IP", "localhost:1")
    return mock.Mock(spec=tf.distribute.TPUStrategy, num_replicas_in_sync=8)


def see_gpus(monkeypatch, *names):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: list(names))
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda name: {"device_name": name}
    )


def test_cpu_has_no_peak(monkeypatch):
    see_gpus(monkeypatch)
    assert device_peak(tf.distribute.get_strategy(), "float32") is None


def test_replica_of_a_tpu_is_a_core_or_a_chip_by_their_number():
    assert tpu_peak("v3-8", 8) == 61.5e12
    assert tpu_peak("v4-8", 8) == 137.5e12
    assert tpu_peak("v4-8", 4) == 275e12
    assert tpu_peak("v5litepod-16", 16) == tpu_peak("v5e-16", 16) == 197e12
    assert tpu_peak("v6e-1", 1) == 918e12


def test_peak_is_unknown_if_a_part_of_the_tpu_is_used():
    assert tpu_peak("v3-8", 1) is None


@pytest.mark.parametrize("accelerator_type", ["", "v3", "v99-8", "tpu"])
def test_tpu_that_is_not_in_the_table_has_no_peak(accelerator_type):
    assert tpu_peak(accelerator_type, 8) is None


def test_tpu_machine_that_is_told_nothing_knows_no_peak(tpu_strategy):
    assert device_peak(tpu_strategy, "bfloat16") is None


def test_environment_tells_the_type_of_a_tpu(tpu_strategy, monkeypatch):
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v3-8")
    assert device_peak(tpu_strategy, "bfloat16") == 61.5e12


def test_metadata_server_tells_the_type_of_a_tpu(tpu_strategy, monkeypatch):
    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.path, self.headers["Metadata-Flavor"]
            path = "/computeMetadata/v1/instance/attributes/accelerator-type"
            self.send_response(200 if asked == (path, "Google") else 404)
            self.end_headers()
            self.wfile.write(b"v2-8")

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("localhost", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("GCE_METADATA_IP", f"localhost:{server.server_port}")
        try:
            assert device_peak(tpu_strategy, "bfloat16") == 23e12
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("name", "bfloat16", "tensor_float_32", "float32"),
    [
        ("NVIDIA A100-SXM4-40GB", 312e12, 156e12, 19.5e12),
        ("NVIDIA A100 80GB PCIe", 312e12, 156e12, 19.5e12),
        ("NVIDIA H100 80GB HBM3", 989.5e12, 494.5e12, 67e12),
        ("NVIDIA H100 PCIe", 756.5e12, 378e12, 51e12),
        ("NVIDIA H200", 989.5e12, 494.5e12, 67e12),
        ("NVIDIA L4", 121e12, 60e12, 30.3e12),
        ("Tesla V100-SXM2-16GB", None, 15.7e12, 15.7e12),
        ("Tesla T4", None, 8.1e12, 8.1e12),
        ("NVIDIA H200 NVL", None, None, None),
        ("NVIDIA L40", None, None, None),
        ("NVIDIA T400", None, None, None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None, None, None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None, None, None),
    ],
)
def test_gpu_is_known_by_its_whole_name(name, bfloat16, tensor_float_32, float32):
    assert gpu_peak(name, "bfloat16") == bfloat16
    assert gpu_peak(name, "float32") == tensor_float_32
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        assert gpu_peak(name, "float32") == float32
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(True)


def test_gpus_of_this_machine_are_asked_for_their_name(monkeypatch):
    see_gpus(monkeypatch, "NVIDIA L4", "NVIDIA L4")
    assert device_peak(tf.distribute.get_strategy(), "bfloat16") == 121e12


def test_gpus_of_several_kinds_have_no_common_peak(monkeypatch):
    see_gpus(monkeypatch, "NVIDIA L4", "Tesla T4")
    assert device_peak(tf.distribute.get_strategy(), "float32") is None
