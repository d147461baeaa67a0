"""kbt-plan: what a pre-training run will need and take on a TPU, without a TPU.

How, is one jump away in `tpu.plan.Planner`.
"""

import json
import sys
from collections.abc import Sequence

from absl import flags

from keras_bert_tpu.scripts import app

PROGRAM = "kbt-plan"

USAGE = """Plans a pre-training run on a TPU, on any machine with Linux and without a TPU.

  kbt-plan --config=run.yaml --topology=v5e:2x4
  kbt-plan --config=run.yaml --topology=v3-8 --phase=1 --batch_sizes=32,64,128
  kbt-plan --config=run.yaml --topology=v5p:2x2x1 --nolargest --json
  kbt-plan --config=run.yaml --topology=v5e:1x1 --phase=1 --profile

The train step of kbt-pretrain is compiled by the compiler of the TPU itself, which libtpu brings
(pip install 'keras_bert_tpu[plan]'), for one device: a core on v2, v3, v4 and tpu7x, a chip on v5e,
v5p and v6e (TensorFlow itself makes one device of a v4 chip, see gcs_configs/README.md). Shown are,
for each phase and batch size of a device, the memory and whether it fits, the compiler's estimate
of the time of a step, the share of the device's peak that makes (model FLOPs utilization), and from
that sequences and tokens a second of the slice and the hours that a phase takes. FLOP are those of
a device in a step: of the model, and of all that was compiled (slices of accumulation_steps counted
once). Nothing has run:
times are estimates. The gradients' way between chips is estimated from the published bandwidth of
their links.

A compilation takes one to five minutes on two cores; it is kept in ~/.cache/keras_bert_tpu/plans,
so that the same step is compiled once for all slices of a generation."""

_HEADER = ("phase", "batch", "memory", "FLOP of the model", "compiled", "step", "peak")
_HEADER += ("sequences/s", "tokens/s", "hours")
_PROFILED = 20
_UNSUPPORTED = "TensorFlow does not support tpu7x: this is what it would be."


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string("config", None, "Run file in YAML, see gcs_configs/.", flag_values=values)
    flags.DEFINE_string(
        "topology",
        None,
        "Slice, for example v5e:2x4 or v4:2x2x1, or an accelerator type, for example v3-8.",
        flag_values=values,
    )
    flags.mark_flags_as_required(["config", "topology"], flag_values=values)
    flags.DEFINE_multi_string(
        "set",
        [],
        "A setting over the run file, for example --set phases.0.steps=1000",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "phase", None, "One phase, counted from 1; by default all.", 1, flag_values=values
    )
    flags.DEFINE_list(
        "batch_sizes",
        [],
        "Sequences of a device in a step, separated by commas; by default those of the run file.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "largest",
        None,
        "Find the most sequences that fit, too; by default without batch_sizes only.",
        flag_values=values,
    )
    flags.DEFINE_boolean("json", False, "Print one JSON object.", flag_values=values)
    flags.DEFINE(
        _CountParser(),
        "profile",
        None,
        f"Show the {_PROFILED} costliest kinds of operations by source layer, or so many as in "
        f"--profile=50.",
        flag_values=values,
        boolean=True,
    )
    flags.DEFINE_boolean("cache", True, "Take earlier compilations.", flag_values=values)


def main() -> None:
    """Runs the program."""
    from keras_bert_tpu.config import InputError, PretrainingConfig
    from keras_bert_tpu.tpu.plan import Planner
    from keras_bert_tpu.tpu.slices import Slice

    values = flags.FLAGS
    config = PretrainingConfig.from_yaml(values.config, values.set)
    topology = Slice.parse(values.topology)
    batch_sizes = app.whole_numbers("batch_sizes", values.batch_sizes)
    phases = range(1, len(config.phases) + 1)
    if values.phase is not None:
        if values.phase not in phases:
            raise InputError(
                f"--phase must be one of the {len(phases)} phases of {values.config}. Received: "
                f"{values.phase}."
            )
        phases = [values.phase]
    find_largest = not batch_sizes if values.largest is None else values.largest
    planner = Planner(config, topology, _tell, values.cache)
    # All of them before the first compilation, which takes minutes.
    asked = {phase: batch_sizes or [planner.batch_size_of(phase)] for phase in phases}
    for phase, sizes in asked.items():
        for batch_size in sizes:
            planner.check_batch_size(phase, batch_size)
    plans, largest, recipe = [], {}, []
    for phase, sizes in asked.items():
        own = [planner.plan(phase, batch_size) for batch_size in sizes]
        recipe.append(own[0])
        if find_largest:
            found = planner.plan_largest(phase)
            largest[phase] = found.batch_size_per_device if found.fits else None
            if found.batch_size_per_device not in {plan.batch_size_per_device for plan in own}:
                own.append(found)
        plans += own
    hours = None
    if not batch_sizes and values.phase is None and all(plan.fits for plan in recipe):
        hours = sum(plan.estimated_hours for plan in recipe)
    if values.json:
        report = {"topology": str(topology)}
        if topology.name == "tpu7x":
            report["note"] = _UNSUPPORTED
        report["plans"] = [_to_dict(plan, topology, values.profile) for plan in plans]
        if largest:
            report["largest_batch_size_per_device"] = largest
        if hours is not None:
            report["estimated_hours"] = hours
        print(json.dumps(report, indent=2))
        return
    _print_plans(plans, topology)
    if hours is not None and len(recipe) > 1:
        print(f"All phases, at the batches of the run file: {hours:,.1f} hours.")
    for phase, batch_size in largest.items():
        print(
            f"Phase {phase}: not even the smallest batch fits; set recompute=true, or take a "
            f"generation with more memory."
            if batch_size is None
            else f"Phase {phase}: at most {batch_size} sequences of a device fit."
        )
    if values.profile:
        for plan in plans:
            _print_profile(plan, topology, values.profile)


class _CountParser(flags.ArgumentParser):
    """A whole number, or a default for a flag that is given without one."""

    syntactic_help = "a whole number"

    def parse(self, argument: str | int | None) -> int | None:
        """Returns the number; absl says "true" where none stands behind the flag."""
        if argument in ("true", "false"):
            return _PROFILED if argument == "true" else None
        number = int(argument)
        if number < 1:
            raise ValueError("it must be at least 1")
        return number


def _to_dict(plan, topology, number: int | None) -> dict:
    """A plan for JSON, with so many of its costliest kinds of operations if any are asked for."""
    values = plan.to_dict()
    if number and plan.fits:
        values["profile"] = [
            {
                "kind": group.kind,
                "name": group.name,
                "runs": group.runs,
                "estimated_ms": 1e3 * group.cycles / topology.generation.clock,
            }
            for group in _costliest(plan, number)
        ]
    return values


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _print_plans(plans: Sequence, topology) -> None:
    generation = topology.generation
    devices = topology.chips * generation.devices
    print(
        f"{topology}: {topology.chips} chip{'s'[: topology.chips > 1]}, {devices} "
        f"device{'s'[: devices > 1]} of {generation.device_hbm_bytes / 2**30:g} GiB and "
        f"{generation.device_peak / 1e12:g} TFLOP/s. All times are estimates."
    )
    if topology.name == "tpu7x":
        print(_UNSUPPORTED)
    rows = [_HEADER]
    for plan in plans:
        memory = f"{plan.hbm_bytes / 2**30:.1f} of {plan.hbm_bytes_of_device / 2**30:.1f} GiB"
        if not plan.fits:
            row = (memory + ", too much", f"{plan.model_flops:.3g}", *["-"] * 6)
        else:
            row = (
                memory,
                f"{plan.model_flops:.3g}",
                f"{plan.compiled_flops:.3g}",
                f"{plan.estimated_step_ms:.1f} ms",
                f"{100 * plan.estimated_mfu:.0f} %",
                f"{plan.estimated_sequences_per_second:,.0f}",
                f"{plan.estimated_tokens_per_second:,.0f}",
                f"{plan.estimated_hours:,.1f}",
            )
        batch = f"{plan.batch_size_per_device} x {plan.sequence_length}"
        rows.append((str(plan.phase), batch, *row))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    fitting = [plan for plan in plans if plan.fits]
    if topology.chips > 1 and fitting:
        # That of all: the gradients have the size of the weights, whatever the batch.
        print(
            f"Of a step, {fitting[0].estimated_all_reduce_ms:.1f} ms are the gradients' way "
            f"between chips, by the published bandwidth of a chip's links within the slice."
        )


def _costliest(plan, number: int) -> Sequence:
    from keras_bert_tpu.tpu.compiled_program import by_layer

    return by_layer(plan.operations)[:number]


def _print_profile(plan, topology, number: int) -> None:
    if not plan.fits:
        return
    print(f"\nPhase {plan.phase}, {plan.batch_size_per_device} x {plan.sequence_length}: costliest")
    total = sum(operation.cycles for operation in plan.operations)
    for group in _costliest(plan, number):
        milliseconds = 1e3 * group.cycles / topology.generation.clock
        print(
            f"{100 * group.cycles / total:5.1f} %  {milliseconds:8.3f} ms  {group.runs:4d} x  "
            f"{group.kind}  {group.name}"
        )


def run() -> None:
    """Entry point of the command."""
    app.run(PROGRAM, USAGE, define_flags, main)


if __name__ == "__main__":
    run()
