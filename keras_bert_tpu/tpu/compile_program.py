"""Compiles a program for a TPU on a machine that has none; run as a process of its own.

    python compile_program.py PROGRAM TOPOLOGY RESULT

PROGRAM is a file of StableHLO text, TOPOLOGY the name of a slice of one chip, for example v5e:1x1.
RESULT.json gets what the compiler tells of the program, or its error; RESULT.hlo the compiled
program as text, which has the compiler's own estimates.

Of this package it imports nothing: JAX, which brings the compiler, and TensorFlow need not share a
process then, and where the compiler aborts the process no work but its own is lost. What it takes
of jax and jaxlib beyond their public interface is `_compile`'s.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

# As TensorFlow lowers a program for a CPU, random bits come from Philox with a state of three
# words; for a TPU it asks for the default, the hardware's generator, with two.
_RANDOM_BITS = re.compile(
    r"(%\w+), (%\w+) = stablehlo\.rng_bit_generator (%\w+), algorithm = +PHILOX : "
    r"\(tensor<3xui64>\) -> \(tensor<3xui64>, (tensor<[^>]*>)\)"
)
# The copy of a value that a variable gets, for which StableHLO has no operation.
_COPY = re.compile(r"= mhlo\.copy (%\w+) : (tensor<[^>]*>)")


def as_for_a_tpu(program: str) -> str:
    """Returns a program that TensorFlow lowered for a CPU as it would lower it for a TPU."""
    numbers = iter(range(sys.maxsize))

    def with_default_generator(match: re.Match) -> str:
        state, bits, seed, kind = match.groups()
        own = f"%tpu_rng_{next(numbers)}"
        return "\n".join(
            [
                f"{own}_seed = stablehlo.slice {seed} [0:2] : (tensor<3xui64>) -> tensor<2xui64>",
                f"{own}_state, {bits} = stablehlo.rng_bit_generator {own}_seed, "
                f"algorithm = DEFAULT : (tensor<2xui64>) -> (tensor<2xui64>, {kind})",
                f"{own}_rest = stablehlo.slice {seed} [2:3] : (tensor<3xui64>) -> tensor<1xui64>",
                f"{state} = stablehlo.concatenate {own}_state, {own}_rest, dim = 0 : "
                f"(tensor<2xui64>, tensor<1xui64>) -> tensor<3xui64>",
            ]
        )

    program = _RANDOM_BITS.sub(with_default_generator, program)
    return _COPY.sub(r"= stablehlo.optimization_barrier \1 : \2", program)


def devices_of_chip(topology: str) -> list:
    """Returns what the compiler takes a slice of one chip for, each a device of JAX."""
    # There is no TPU whose metadata could be asked for, and another plan may be made beside this.
    os.environ.update(TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1", JAX_PLATFORMS="cpu")
    from jax.experimental import topologies

    return topologies.get_topology_desc(
        platform="tpu", topology_name=topology, chips_per_host_bounds=(1, 1, 1)
    ).devices


def _compile(program: str, topology: str) -> tuple[dict, str]:
    device, *_ = devices_of_chip(topology)
    import numpy as np
    from jax._src.interpreters import mlir
    from jax._src.lib import _jax, xla_client
    from jaxlib.mlir import ir

    options = xla_client.CompileOptions()
    options.num_replicas = options.num_partitions = 1
    options.device_assignment = xla_client.DeviceAssignment.create(np.array([[device.id]]))
    began = time.perf_counter()
    with mlir.make_ir_context():
        executable = device.client.compile(
            ir.Module.parse(as_for_a_tpu(program)),
            executable_devices=_jax.DeviceList((device,)),
            compile_options=options,
        )
    seconds = time.perf_counter() - began
    memory = executable.get_compiled_memory_stats()
    told = {
        "compile_seconds": seconds,
        "flops": executable.cost_analysis()["flops"],
        # The most that lives at one time, arguments and results among it; where the compiler says
        # that a program does not fit, this is what it compares. Its size of temporary values is
        # more: some have the same place at other times.
        "peak_bytes": memory.peak_memory_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
    }
    return told, executable.hlo_modules()[0].to_string()


def main() -> None:
    """Runs the program."""
    program, topology, result = sys.argv[1:]
    began = time.perf_counter()
    try:
        told, hlo = _compile(Path(program).read_text(), topology)
        Path(f"{result}.hlo").write_text(hlo)
    except Exception as error:  # jaxlib has errors of several kinds; all are told.
        seconds = time.perf_counter() - began
        told = {"error": f"{type(error).__name__}: {error}", "compile_seconds": seconds}
    Path(f"{result}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
