"""What accelerators can do at best, as their makers state it: one table for each kind.

Peaks are of dense matrix products in floating point operations a second, a multiply-add counted as
two. Cloud TPU pages are at docs.cloud.google.com/tpu/docs, read in November 2026.
"""

import os
import re
from typing import NamedTuple

import tensorflow as tf

from keras_bert_tpu.tpu.metadata import machine_metadata

_GIB = 2**30


class TpuGeneration(NamedTuple):
    """A generation of TPUs; all figures are of one chip.

    Attributes:
        peak: float. bfloat16 operations a second. No peak is published for float32, whose operands
            the matrix units round to bfloat16 unless XLA is told to be more precise.
        hbm_bytes: int. Memory.
        hbm_bandwidth: float. Its bytes a second.
        ici_bandwidth: float. Bytes a second between chips, in both directions and over all links
            together.
        axes: int. Of the torus that a whole pod is; a chip has two links along each.
        ring: int. Chips along an axis whose ends are linked, too. On three axes any multiple of it
            is, if all three are.
        cores: int. TensorCores.
        counts_cores: bool. Whether the number in an accelerator type, 8 in "v3-8", is that of
            cores, or else of chips.
        devices: int. What the compiler takes a chip for: one device for each core, or one for both.
        operations_per_cycle: int. Of the matrix units of a device at best, as the compiler counts
            cycles: the power of two above what it estimates for a product of 8,192 x 8,192 matrices
            (libtpu 0.0.42).
    """

    peak: float
    hbm_bytes: int
    hbm_bandwidth: float
    ici_bandwidth: float
    axes: int
    ring: int
    cores: int
    counts_cores: bool
    devices: int
    operations_per_cycle: int

    @property
    def counted_per_chip(self) -> int:
        """What the number in an accelerator type has for a chip."""
        return self.cores if self.counts_cores else 1

    @property
    def device_peak(self) -> float:
        """bfloat16 operations a second of a device."""
        return self.peak / self.devices

    @property
    def device_hbm_bytes(self) -> int:
        """Memory of a device."""
        return self.hbm_bytes // self.devices

    @property
    def clock(self) -> float:
        """Cycles a second at which the matrix units reach the peak."""
        return self.device_peak / self.operations_per_cycle


# A replica of TensorFlow is a core on v2 and v3, a chip on v5e and v6e and either on v4 and v5p.
# In the order of the attributes. Pods of two axes have rings of their whole side, 16 chips on v2,
# v5e and v6e and 32 on v3; those of three axes are made of cubes of 4 x 4 x 4 whose sides optical
# switches link (pages v4 and v5p).
TPUS = {
    # "A Domain-Specific Supercomputer for Training Deep Neural Networks" (CACM 63(7), 2020), to
    # which the page v2 points: four links of 496 Gbit/s each way, a figure that was not looked up
    # again.
    "v2": TpuGeneration(46e12, 16 * _GIB, 700e9, 496e9, 2, 16, 2, True, 2, 2**15),
    # Page v3, of whose 340 TB/s of all-reduce bandwidth a chip of 1,024 has 332 GB/s each way.
    "v3": TpuGeneration(123e12, 32 * _GIB, 900e9, 664e9, 2, 32, 2, True, 2, 2**16),
    # Page v4; ICI from arXiv 2304.01433: six links of 50 GB/s each way.
    "v4": TpuGeneration(275e12, 32 * _GIB, 1200e9, 600e9, 3, 4, 2, True, 2, 2**17),
    # Page v5e.
    "v5e": TpuGeneration(197e12, 16 * _GIB, 819e9, 400e9, 2, 16, 1, False, 1, 2**17),
    # Page v5p.
    "v5p": TpuGeneration(459e12, 95 * _GIB, 2765e9, 1200e9, 3, 4, 2, True, 1, 2**18),
    # Page v6e.
    "v6e": TpuGeneration(918e12, 32 * _GIB, 1638e9, 800e9, 2, 16, 1, False, 1, 2**19),
    # Page tpu7x, which also says that TensorFlow is not supported there.
    "tpu7x": TpuGeneration(2307e12, 192 * _GIB, 7380e9, 1200e9, 3, 4, 2, True, 2, 2**19),
}


class GpuPeak(NamedTuple):
    """Peaks of a GPU.

    Attributes:
        name: str. Regular expression for what CUDA calls it.
        bfloat16: float or None. None if it has no units for it.
        float32: float. Of true float32 products.
        tensor_float_32: float or None. Of float32 products whose operands are rounded to
            TensorFloat-32, TensorFlow's default where the GPU can.
    """

    name: str
    bfloat16: float | None
    float32: float
    tensor_float_32: float | None


# NVIDIA's data sheets. From A100 on they print tensor figures for matrices with 2:4 sparsity as
# well or only; these are the dense ones, half of those.
GPUS = [
    # "NVIDIA V100 Tensor Core GPU" data sheet. Its tensor cores take float16 only.
    GpuPeak(r"V100-SXM2", None, 15.7e12, None),
    GpuPeak(r"V100-PCIE", None, 14e12, None),
    # "NVIDIA T4 Tensor Core GPU" data sheet.
    GpuPeak(r"T4", None, 8.1e12, None),
    # "NVIDIA A100 Tensor Core GPU" data sheet; the same for PCIe and SXM, 40 and 80 GB.
    GpuPeak(r"A100[- ].*", 312e12, 19.5e12, 156e12),
    # "NVIDIA L4 Tensor Core GPU" data sheet: 242 and 120 with sparsity.
    GpuPeak(r"L4", 121e12, 30.3e12, 60e12),
    # "NVIDIA H100 Tensor Core GPU" data sheet: SXM 1,979 and 989, PCIe 1,513 and 756 with sparsity.
    # "80GB HBM3" is what CUDA calls the SXM module.
    GpuPeak(r"H100 80GB HBM3", 989.5e12, 67e12, 494.5e12),
    GpuPeak(r"H100 PCIe", 756.5e12, 51e12, 378e12),
    # "NVIDIA H200 Tensor Core GPU" data sheet, SXM: as the H100 SXM.
    GpuPeak(r"H200", 989.5e12, 67e12, 494.5e12),
]


def device_peak(strategy: tf.distribute.Strategy, compute_dtype: str) -> float | None:
    """Returns what one replica can compute at best.

    Args:
        strategy: What the run's replicas are in, see `connect`.
        compute_dtype: str. "bfloat16" or "float32", in which matrix products are computed. It makes
            no difference on a TPU, see `TpuGeneration`.

    Returns:
        Floating point operations a second of dense matrix products, or None if they are not known:
        on a CPU, on a device that is not in the tables, with several kinds of GPU, and on a TPU
        whose type this machine is not told or of which the run has a part only.
    """
    if isinstance(strategy, tf.distribute.TPUStrategy):
        accelerator_type = _accelerator_type()
        return accelerator_type and tpu_peak(accelerator_type, strategy.num_replicas_in_sync)
    names = {
        tf.config.experimental.get_device_details(gpu).get("device_name", "")
        for gpu in tf.config.get_visible_devices("GPU")
    }
    return gpu_peak(names.pop(), compute_dtype) if len(names) == 1 else None


def generation_name(kind: str) -> str:
    """Returns the key of `TPUS` for the kind that an accelerator type begins with."""
    return {"v5lite": "v5e", "v5litepod": "v5e", "v6": "v6e", "v7x": "tpu7x"}.get(kind, kind)


def tpu_peak(accelerator_type: str, num_replicas: int) -> float | None:
    """Returns the peak of a replica of a TPU that is all in use.

    Args:
        accelerator_type: str. As Cloud TPU has it, for example "v3-8" or "v5litepod-16".
        num_replicas: int. Replicas that share the TPU: one for each chip or for each core.

    Returns:
        Operations a second, or None if the type is unknown or the number does not go with it.
    """
    match = re.fullmatch(r"(\w+)-(\d+)", accelerator_type.strip().lower())
    if match is None:
        return None
    generation = TPUS.get(generation_name(match[1]))
    if generation is None:
        return None
    chips = int(match[2]) / generation.counted_per_chip
    if num_replicas not in (chips, chips * generation.cores):
        return None
    return generation.peak * chips / num_replicas


def gpu_peak(device_name: str, compute_dtype: str) -> float | None:
    """Returns the peak of a GPU.

    Args:
        device_name: str. As CUDA has it, for example "NVIDIA A100-SXM4-40GB".
        compute_dtype: str. "bfloat16" or "float32".

    Returns:
        Operations a second, or None if the GPU is not in the table, is a MIG slice of one, or
        cannot compute in this type.
    """
    for gpu in GPUS:
        # The whole name, and no part of it: an L40 is no L4, and a slice is not the whole.
        if re.fullmatch(rf"(NVIDIA |Tesla )?({gpu.name})(-\d+GB)?", device_name):
            if "MIG" in device_name:
                return None
            if compute_dtype == "bfloat16":
                return gpu.bfloat16
            if gpu.tensor_float_32 and tf.config.experimental.tensor_float_32_execution_enabled():
                return gpu.tensor_float_32
            return gpu.float32
    return None


def _accelerator_type() -> str | None:
    """What this machine is told of its TPU: TensorFlow itself does not know the generation."""
    told = os.environ.get("TPU_ACCELERATOR_TYPE")
    if told:
        return told
    return machine_metadata("attributes/accelerator-type")
