"""Plans a pre-training run on TPUs without a TPU: memory, time and hours, before they are paid for.

The very train step of `kbt-pretrain` is compiled by the TPU's own compiler for one device. Times
are that compiler's estimates, and called so: nothing has run. The gradients' way between chips is
estimated from the published bandwidth of their links, as if nothing else ran meanwhile.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import InputError, PhaseConfig, PretrainingConfig
from keras_bert_tpu.tpu.compiled_program import Operation
from keras_bert_tpu.tpu.compiler import CompiledStep, CompileError, compile_for_tpu
from keras_bert_tpu.tpu.slices import Slice
from keras_bert_tpu.training.flops import model_flops
from keras_bert_tpu.training.initialization import freeze
from keras_bert_tpu.training.optimizers import make_schedule
from keras_bert_tpu.training.train_step import PretrainingStep, make_pretrainer, make_step

# Batches of a device are tried in multiples of this: the tiles that a TPU stores arrays in.
BATCH_MULTIPLE = 8
_NODE = re.compile(r"\{\{node ([^}]*)\}\}")
# Variables of fewer elements get their values.
_LARGE = 2**16


@dataclasses.dataclass(frozen=True)
class PhasePlan:
    """One phase at one batch size.

    Attributes:
        phase: int. From 1.
        sequence_length: int.
        batch_size_per_device: int.
        global_batch_size: int. Over the slice.
        accumulation_steps: int. Slices that a device makes of its batch, one after the other.
        devices_per_chip: int. As the compiler counts them.
        hbm_bytes: int. Memory of a device that the step needs.
        hbm_bytes_of_device: int. Memory that a device has.
        fits: bool. What the compiler says, which keeps a little of the memory for itself.
        model_flops: float. Of a device's step, see `training.flops`.
        compiled_flops: float or None. As the compiler counts what it compiled; slices of an
            accumulated batch count once.
        estimated_all_reduce_ms: float or None. Of the gradients; None, as the estimates below, if
            it does not fit.
        estimated_step_ms: float or None. The compiler's cycles at the device's clock, and the
            gradients' way.
        estimated_mfu: float or None. Model FLOPs of that time, of the device's peak.
        estimated_sequences_per_second: float or None. Of the slice.
        estimated_tokens_per_second: float or None. Of the slice, padding counted.
        estimated_hours: float or None. For the sequences of the phase: its steps times its batch
            size in the run file.
        compile_seconds: float. Also where an earlier compilation was kept.
        operations: tuple of Operation. With the compiler's cycles.
    """

    phase: int
    sequence_length: int
    batch_size_per_device: int
    global_batch_size: int
    accumulation_steps: int
    devices_per_chip: int
    hbm_bytes: int
    hbm_bytes_of_device: int
    fits: bool
    model_flops: float
    compiled_flops: float | None
    estimated_all_reduce_ms: float | None
    estimated_step_ms: float | None
    estimated_mfu: float | None
    estimated_sequences_per_second: float | None
    estimated_tokens_per_second: float | None
    estimated_hours: float | None
    compile_seconds: float
    operations: tuple[Operation, ...] = dataclasses.field(repr=False, default=())

    def to_dict(self) -> dict[str, Any]:
        """Returns the plan without its operations, for JSON."""
        values = dataclasses.asdict(self)
        del values["operations"]
        return values


class Planner:
    """Compiles the steps of a run for one slice.

    Args:
        config: PretrainingConfig.
        topology: Slice.
        told: Callable that is given a sentence before each compilation, which takes minutes.
        cache: bool. See `compile_for_tpu`.

    Raises:
        InputError: If the schedule or a frozen layer of the config is not as it should be.
    """

    def __init__(
        self,
        config: PretrainingConfig,
        topology: Slice,
        told: Callable[[str], None] = lambda sentence: None,
        cache: bool = True,
    ):
        self.config, self.topology = config, topology
        self._told, self._cache = told, cache
        with _large_variables_without_values():
            pretrainer = make_pretrainer(config)
            freeze(pretrainer, config.frozen_layers)
            schedule = make_schedule(config.optimizer, config.phases)
            self._step = make_step(pretrainer, config, schedule)

    @property
    def num_devices(self) -> int:
        """Devices of the slice, as the compiler counts them."""
        return self.topology.chips * self.topology.generation.devices

    def batch_size_of(self, phase: int) -> int:
        """The batch of a device that the run file asks for.

        Args:
            phase: int. From 1.

        Raises:
            InputError: If the devices, or the slices of a device's batch, cannot share the batch.
        """
        settings = self.config.phases[phase - 1]
        shares = self.num_devices * settings.accumulation_steps
        if settings.batch_size % shares:
            is_cut = settings.accumulation_steps > 1
            slices = f" with {settings.accumulation_steps} slices each" if is_cut else ""
            raise InputError(
                f"phases.{phase - 1}.batch_size={settings.batch_size} must be a multiple of the "
                f"{self.num_devices} devices of {self.topology}{slices}; set it to a multiple of "
                f"{shares}, or give batch_sizes."
            )
        return settings.batch_size // self.num_devices

    def check_batch_size(self, phase: int, batch_size: int) -> None:
        """Raises InputError if a device's batch cannot be cut into the slices of the phase.

        Args:
            phase: int. From 1.
            batch_size: int. Sequences of a device in a step.
        """
        number = self.config.phases[phase - 1].accumulation_steps
        if batch_size % number:
            raise InputError(
                f"A batch of {batch_size} sequences of a device cannot be cut into the "
                f"accumulation_steps={number} of phase {phase}; take a multiple of {number}."
            )

    def plan(self, phase: int, batch_size: int) -> PhasePlan:
        """Plans one phase at one batch size.

        Args:
            phase: int. From 1.
            batch_size: int. Sequences of a device in a step.

        Raises:
            InputError: If the step cannot be compiled for a TPU, or the batch not be cut into the
                slices of the phase.
        """
        self.check_batch_size(phase, batch_size)
        settings = self.config.phases[phase - 1]
        length = settings.sequence_length
        self._told(
            f"Compiling phase {phase}, {batch_size} x {length} tokens for {self.topology.name}; it "
            f"takes minutes the first time."
        )
        try:
            program = lower_step(self._step, settings, batch_size)
            compiled = compile_for_tpu(program, self.topology.name, self._cache)
        except CompileError as error:
            raise InputError(f"The step of phase {phase} cannot be compiled: {error}") from error
        return self._of_compiled(phase, batch_size, compiled)

    def plan_largest(self, phase: int) -> PhasePlan:
        """Plans a phase at the largest batch that fits, in multiples of 8 sequences.

        The memory of two small batches tells it, and a compilation confirms it, or more of them
        where memory does not grow in a line.

        Args:
            phase: int. From 1.

        Returns:
            PhasePlan. One that does not fit if not even the smallest batch does.
        """
        settings = self.config.phases[phase - 1]
        unit = BATCH_MULTIPLE * settings.accumulation_steps
        small = self.plan(phase, unit)
        if not small.fits:
            return small
        double = self.plan(phase, 2 * unit)
        # The line through the needs of two batches, of which one fits, meets the memory between
        # or beyond them; what does not fit tells its need, and what the compiler leaves, too.
        limit = min(small.hbm_bytes_of_device, double.hbm_bytes_of_device)
        fitting, other = (double, small) if double.fits else (small, double)
        too_many = None if double.fits else 2
        while True:
            slope = (other.hbm_bytes - fitting.hbm_bytes) / (
                other.batch_size_per_device - fitting.batch_size_per_device
            )
            number = fitting.batch_size_per_device // unit
            room = int((limit - fitting.hbm_bytes) / max(slope, 1.0) / unit)
            if too_many is not None:
                room = min(room, too_many - 1 - number)
            if room < 1:
                return fitting
            tried = self.plan(phase, (number + room) * unit)
            if tried.fits:
                fitting, other = tried, fitting
            else:
                too_many, other = number + room, tried
                limit = min(limit, tried.hbm_bytes_of_device)

    def _of_compiled(self, phase: int, batch_size: int, compiled: CompiledStep) -> PhasePlan:
        settings, topology = self.config.phases[phase - 1], self.topology
        generation, length = topology.generation, settings.sequence_length
        flops = batch_size * model_flops(self.config.encoder, length, settings.max_predictions)
        plan = PhasePlan(
            phase=phase,
            sequence_length=length,
            batch_size_per_device=batch_size,
            global_batch_size=batch_size * self.num_devices,
            accumulation_steps=settings.accumulation_steps,
            devices_per_chip=generation.devices,
            hbm_bytes=compiled.hbm_bytes,
            hbm_bytes_of_device=compiled.hbm_limit or generation.device_hbm_bytes,
            fits=compiled.fits,
            model_flops=flops,
            compiled_flops=None,
            estimated_all_reduce_ms=None,
            estimated_step_ms=None,
            estimated_mfu=None,
            estimated_sequences_per_second=None,
            estimated_tokens_per_second=None,
            estimated_hours=None,
            compile_seconds=compiled.compile_seconds,
        )
        if not compiled.fits:
            return plan
        variables = self._step.trainable_variables
        all_reduce = topology.all_reduce_seconds(4 * sum(v.shape.num_elements() for v in variables))
        seconds = compiled.cycles / generation.clock + all_reduce
        speed = plan.global_batch_size / seconds
        return dataclasses.replace(
            plan,
            compiled_flops=compiled.flops,
            estimated_all_reduce_ms=1e3 * all_reduce,
            estimated_step_ms=1e3 * seconds,
            estimated_mfu=flops / seconds / generation.device_peak,
            estimated_sequences_per_second=speed,
            estimated_tokens_per_second=speed * length,
            estimated_hours=settings.steps * settings.batch_size / speed / 3600,
            operations=compiled.operations,
        )


@contextlib.contextmanager
def _large_variables_without_values() -> Iterator[None]:
    """Large variables that are made here have a shape, and memory that nothing is written to.

    To lower a step takes no more of them. Of BERT-large with its optimizer it is 4 GB, which the
    compiler needs.
    """

    def create(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
        initial_value = kwargs["initial_value"]
        if callable(initial_value):
            with tf.Graph().as_default():
                made = initial_value()
            if made.shape.num_elements() >= _LARGE:
                kwargs["initial_value"] = tf.raw_ops.Empty(shape=made.shape, dtype=made.dtype)
        return next_creator(**kwargs)

    with tf.variable_creator_scope(create):
        yield


def lower_step(step: PretrainingStep, phase: PhaseConfig, batch_size: int) -> str:
    """Lowers the train step of one device to StableHLO text, as TensorFlow does for a CPU.

    Args:
        step: PretrainingStep, with its optimizer.
        phase: PhaseConfig.
        batch_size: int. Sequences of the device.

    Raises:
        CompileError: If it cannot be traced, or an operation has no form that XLA compiles.
    """
    step.accumulation_steps = phase.accumulation_steps
    tokens, masks = (batch_size, phase.sequence_length), (batch_size, phase.max_predictions)
    batch = {
        **{name: tf.zeros(tokens, tf.int32) for name in ("token_ids", "segment_ids")},
        **{name: tf.zeros(masks, tf.int32) for name in ("mask_positions", "mask_ids")},
        "padding_mask": tf.ones(tokens, tf.int32),
        "mask_weights": tf.ones(masks, tf.float32),
        "next_sentence_label": tf.zeros((batch_size, phase.max_sequences), tf.int32),
    }
    if phase.max_sequences > 1:
        batch |= {
            **{name: tf.zeros(tokens, tf.int32) for name in ("sequence_ids", "position_ids")},
            "cls_positions": tf.zeros((batch_size, phase.max_sequences), tf.int32),
            "next_sentence_weights": tf.ones((batch_size, phase.max_sequences), tf.float32),
        }
    function = tf.function(step.train_step, jit_compile=True, autograph=False)
    try:
        return function.experimental_get_compiler_ir(batch)(stage="stablehlo")
    except Exception as error:  # Whatever a layer, the user's own one perhaps, may raise.
        node = _NODE.search(str(error))
        where = f"{node[1]}: " if node else ""
        first, *_ = str(error).strip().splitlines() or [type(error).__name__]
        raise CompileError(f"{where}{first}") from error
