"""The TPU compiler on a machine without a TPU: from a program's text to the compiler's estimates.

The wheel libtpu has the compiler of all generations. It compiles in a process of its own, see
`compile_program`; what it tells is kept, so that a program is compiled once for a generation.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tpu import compile_program
from keras_bert_tpu.tpu.compiled_program import Operation, operations

# Raised whenever what is kept, or what is made of a program before it is compiled, changes.
_CACHE_VERSION = 4
_TOPOLOGIES = {"v4": "1x1x1", "v5p": "1x1x1", "tpu7x": "1x1x1"}
# Of two compilers within the compiler; each says the need, and what a program may take.
_USED = re.compile(
    r"(?:Used |required for HLO temporaries \()([\d.]+)([KMGT])"
    r"(?: of |\) exceeds available HBM \()([\d.]+)([KMGT])"
)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# What the compiler takes flags from.
_FLAGS = ("LIBTPU_INIT_ARGS", "XLA_FLAGS")
_SYMBOL = re.compile(r'@(?:"[^"]*"|[\w.$-]+)')
_FUNCTION = re.compile(rf"func\.func (?:\w+ )?({_SYMBOL.pattern})")
_OPERATION = re.compile(r'op_name="([^"]+)"')


class CompileError(Exception):
    """The compiler did not take a program."""


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """What the compiler tells of a program on one device.

    Attributes:
        hbm_bytes: int. Memory that it needs: the most that lives at one time, and its own code.
        hbm_limit: int. Memory that a program may need, or 0 if the compiler did not say.
        fits: bool. If not, it was not compiled to the end, and there are no estimates.
        flops: float. Operations of the compiled program, as the compiler counts them.
        operations: tuple of Operation.
        compile_seconds: float. Also where the compilation is an earlier one that was kept.
    """

    hbm_bytes: int
    hbm_limit: int
    fits: bool
    flops: float
    operations: tuple[Operation, ...]
    compile_seconds: float

    @property
    def cycles(self) -> int:
        """The compiler's estimate of a run."""
        return sum(operation.cycles for operation in self.operations)


def compile_for_tpu(program: str, generation: str, cache: bool = True) -> CompiledStep:
    """Compiles a program for one device of a generation.

    Args:
        program: str. StableHLO text, as TensorFlow lowers a function for a CPU.
        generation: str. A key of `peaks.TPUS`.
        cache: bool. Whether an earlier compilation of the same program counts, and this one is
            kept: in $XDG_CACHE_HOME/keras_bert_tpu/plans, by default below ~/.cache.

    Raises:
        InputError: If the compiler is not installed.
        CompileError: If it fails for another reason than memory.
    """
    told = [*_versions(), *(f"{name}={os.environ[name]}" for name in _FLAGS if name in os.environ)]
    key = "\n".join([str(_CACHE_VERSION), *told, generation, _without_numbers(program)])
    path = _cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if cache and (kept := _read(path)) is not None:
        return kept
    compiled = _compile(program, generation)
    if cache:
        _keep(path, compiled)
    return compiled


def _compile(program: str, generation: str) -> CompiledStep:
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "program.mlir"), Path(folder, "result")
        source.write_text(program)
        command = [
            sys.executable,
            compile_program.__file__,
            str(source),
            one_chip(generation),
            str(result),
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        answer = Path(f"{result}.json")
        if not answer.exists():
            raise CompileError(_end_of(done.returncode, done.stdout))
        told = json.loads(answer.read_text())
        if "error" in told:
            return _out_of_memory(told["error"], told["compile_seconds"])
        hlo = Path(f"{result}.hlo").read_text()
    try:
        found = tuple(operations(hlo))
    except ValueError as error:
        raise CompileError(str(error)) from error
    return CompiledStep(
        hbm_bytes=told["peak_bytes"] + told["code_bytes"],
        hbm_limit=0,
        fits=True,
        flops=told["flops"],
        operations=found,
        compile_seconds=told["compile_seconds"],
    )


def _end_of(status: int, told: str) -> str:
    if status == -signal.SIGKILL:
        return (
            "the TPU compiler was killed, as a system does when its memory is used up; for "
            "BERT-large it took up to 11 GB: end other programs, or plan on a machine with more."
        )
    last = told.strip().splitlines()[-1:] or ["it said nothing"]
    return f"the TPU compiler ended with exit status {status}: {last[0]}"


def one_chip(generation: str) -> str:
    """Returns the compiler's name of a slice of one chip."""
    return f"{generation}:{_TOPOLOGIES.get(generation, '1x1')}"


def _out_of_memory(error: str, seconds: float) -> CompiledStep:
    match = _USED.search(error)
    if match is None:
        operation = _OPERATION.search(error)
        where = f"{operation[1]}: " if operation else ""
        raise CompileError(f"{where}{error.strip().splitlines()[0]}")
    used, limit = (float(match[i]) * _UNITS[match[i + 1]] for i in (1, 3))
    return CompiledStep(int(used), int(limit), False, 0.0, (), seconds)


def _versions() -> list[str]:
    try:
        return [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu")]
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"The TPU compiler is not installed ({error.name} is missing); install it with: pip "
            f"install 'keras_bert_tpu[plan]'."
        ) from error


def _without_numbers(program: str) -> str:
    """A program without what differs between two lowerings of the same function."""
    program = re.sub(r"^#loc.*\n", "", program, flags=re.MULTILINE)
    program = re.sub(r"module @\S+|(?<=\S) loc\(#?\w+\)", "", program)
    # Functions are named by counters of all that was traced in the process.
    names = {name: f"@{number}" for number, name in enumerate(_FUNCTION.findall(program))}
    return _SYMBOL.sub(lambda match: names.get(match[0], match[0]), program)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "keras_bert_tpu/plans")


def _keep(path: Path, compiled: CompiledStep) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(dataclasses.asdict(compiled)))
        partial.replace(path)
    except OSError as error:  # It was made, and would be lost.
        warnings.warn(f"This compilation is not kept for another time: {error}", stacklevel=2)


def _read(path: Path) -> CompiledStep | None:
    try:
        kept = json.loads(path.read_text())
        return CompiledStep(
            **{**kept, "operations": tuple(Operation(*values) for values in kept["operations"])}
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None  # It is not there, or not whole: the program is compiled again.
