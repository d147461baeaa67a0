"""The train step compiled for a TPU, beside KerasHub's: the compiler's estimate, and its own time.

    python tests/benchmarks/tpu_step_speed.py [--tpu=v5e] [--rounds=2]

Nothing runs on a TPU. Both steps have AdamW, clipping, dropout and the heads of BERT; KerasHub's
GELU is the cheaper one with tanh. They are compiled in turn, each alone on this machine, for one
device of the generation. `keras_hub` is no dependency of this package: pip install keras-hub
"""

import argparse
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "train_step_workers"))

import keras_hub_bert
import protocol
import tensorflow as tf
from sizes import encoder_of

from keras_bert_tpu.config import OptimizerConfig, PhaseConfig, PretrainingConfig
from keras_bert_tpu.tpu.compiler import CompiledStep, compile_for_tpu
from keras_bert_tpu.tpu.peaks import TPUS
from keras_bert_tpu.tpu.plan import lower_step
from keras_bert_tpu.training.flops import model_flops
from keras_bert_tpu.training.optimizers import make_schedule
from keras_bert_tpu.training.train_step import make_pretrainer, make_step


def lower_ours(arguments: argparse.Namespace) -> str:
    """Lowers the step of kbt-pretrain."""
    phase = PhaseConfig(
        steps=1000, sequence_length=arguments.length, max_predictions=arguments.predictions
    )
    config = PretrainingConfig(
        encoder=encoder_of(arguments),
        optimizer=OptimizerConfig(warmup_steps=10),
        phases=(phase,),
        compute_dtype=arguments.dtype,
    )
    schedule = make_schedule(config.optimizer, config.phases)
    return lower_step(make_step(make_pretrainer(config), config, schedule), phase, arguments.batch)


def lower_keras_hub(arguments: argparse.Namespace) -> str:
    """Lowers the step of Keras' own `fit` with KerasHub's model."""
    model = keras_hub_bert.make_model(arguments, jit_compile=False)
    data = keras_hub_bert.make_data(arguments)
    # The optimizer and the metrics make their variables in a first step.
    row = tf.nest.map_structure(lambda values: values[:1], data)
    model.fit(tf.data.Dataset.from_tensors(row), verbose=0)
    function = tf.function(model.train_step, jit_compile=True, autograph=False)
    return function.experimental_get_compiler_ir(data)(stage="stablehlo")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    protocol.add_shapes(parser)
    parser.set_defaults(layers=12, hidden=768, heads=12, batch=64, dtype="bfloat16")
    parser.add_argument("--tpu", default="v5e", help="generation (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="compilations of each (%(default)s)")
    arguments = parser.parse_args()
    generation = TPUS[arguments.tpu]
    programs = {"keras_bert_tpu": lower_ours(arguments), "KerasHub": lower_keras_hub(arguments)}
    compiled: dict[str, list[CompiledStep]] = {name: [] for name in programs}
    for _ in range(arguments.rounds):
        for name, program in programs.items():
            compiled[name].append(compile_for_tpu(program, arguments.tpu, cache=False))
    flops = arguments.batch * model_flops(
        encoder_of(arguments), arguments.length, arguments.predictions
    )
    print("| | step, estimate | of the peak | memory | compiled in |")
    print("| --- | --- | --- | --- | --- |")
    for name, (first, *_) in compiled.items():
        seconds = first.cycles / generation.clock
        times = [step.compile_seconds for step in compiled[name]]
        print(
            f"| {name} | {1e3 * seconds:.1f} ms | {flops / seconds / generation.device_peak:.0%} "
            f"| {first.hbm_bytes / 2**30:.1f} GiB | {statistics.median(times):.0f} s "
            f"({min(times):.0f} to {max(times):.0f}) |"
        )


if __name__ == "__main__":
    main()
