"""How much more text a step of packed rows trains on than one of padded rows.

    python tests/benchmarks/packing_speed.py [--preset=mini] [--tpu=v5e:1x1]

The lengths are those of Wikipedia at 512 tokens (arXiv 2107.02027: half of the positions padding, a
mean of 255.8 tokens, 23.4 % of the rows full), the tokens random. The very step of kbt-pretrain is
timed on this machine's CPU, padded and packed batches in turn, and, with --tpu, compiled for that
slice: its times are the compiler's estimates.
"""

import argparse
import statistics
import time

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import (
    DataConfig,
    EncoderConfig,
    OptimizerConfig,
    PhaseConfig,
    PretrainingConfig,
)
from keras_bert_tpu.pretraining_data.masking import num_predictions
from keras_bert_tpu.pretraining_data.packed_records import pack_shard
from keras_bert_tpu.pretraining_data.records import (
    ShardContent,
    parse_examples,
    serialize_examples,
)
from keras_bert_tpu.training.optimizers import make_schedule
from keras_bert_tpu.training.train_step import make_pretrainer, make_step

LENGTH, PREDICTIONS, VOCABULARY = 512, 80, 30_522
DATA = DataConfig(sequence_length=LENGTH, max_predictions=PREDICTIONS, pack=True)


def draw_lengths(number: int, rng: np.random.Generator) -> np.ndarray:
    """Lengths of that share of full rows and that mean."""
    is_full = rng.random(number) < 0.234
    others = np.clip(rng.gamma(1.6, 113.6, number).round().astype(int), 5, LENGTH - 1)
    return np.where(is_full, LENGTH, others)


def make_records(number: int) -> ShardContent:
    """Examples of random tokens."""
    rng = np.random.default_rng(0)
    lengths = draw_lengths(number, rng)
    mask = (np.arange(LENGTH) < lengths[:, None]).astype(np.int64)
    wanted = np.array([num_predictions(n, DATA.mask_rate, PREDICTIONS) for n in lengths])
    weights = (np.arange(PREDICTIONS) < wanted[:, None]).astype(np.float32)
    # The positions themselves do not matter to the speed.
    positions = (np.arange(PREDICTIONS) + 1) * (weights > 0)
    arrays = {
        "token_ids": rng.integers(1000, VOCABULARY, mask.shape) * mask,
        "segment_ids": (np.arange(LENGTH) > lengths[:, None] // 2) * mask,
        "padding_mask": mask,
        "mask_positions": np.minimum(positions, lengths[:, None] - 1),
        "mask_ids": rng.integers(1000, VOCABULARY, weights.shape) * (weights > 0),
        "mask_weights": weights,
        "next_sentence_label": rng.integers(0, 2, (number, 1)),
    }
    return ShardContent(serialize_examples(arrays), 0, lengths)


def batches_of(content: ShardContent, rows: int, sequences: int) -> list[dict[str, tf.Tensor]]:
    """Batches of records, the last rows left out."""
    return [
        parse_examples(
            tf.constant(content.records[start : start + rows]),
            LENGTH,
            PREDICTIONS,
            sequences_per_row=sequences,
        )
        for start in range(0, len(content.records) - rows + 1, rows)
    ]


def make_config(encoder: EncoderConfig, dtype: str, sequences: int) -> PretrainingConfig:
    phase = PhaseConfig(
        steps=1000,
        sequence_length=LENGTH,
        max_predictions=PREDICTIONS,
        max_sequences=sequences,
    )
    return PretrainingConfig(
        encoder=encoder,
        optimizer=OptimizerConfig(warmup_steps=10),
        phases=(phase,),
        compute_dtype=dtype,
    )


def time_steps(
    encoder: EncoderConfig, contents: dict[str, ShardContent], rows: int, repeats: int
) -> dict[str, list[float]]:
    """Seconds of a step, padded and packed in turn."""
    steps, functions, batches = {}, {}, {}
    for name, content in contents.items():
        sequences = DATA.max_sequences if name == "packed" else 1
        config = make_config(encoder, "float32", sequences)
        schedule = make_schedule(config.optimizer, config.phases)
        step = steps[name] = make_step(make_pretrainer(config), config, schedule)
        functions[name] = tf.function(step.train_step, jit_compile=True, autograph=False)
        batches[name] = batches_of(content, rows, sequences)
        functions[name](batches[name][0])
    seconds: dict[str, list[float]] = {name: [] for name in contents}
    for repeat in range(repeats):
        for name, function in functions.items():
            batch = batches[name][repeat % len(batches[name])]
            start = time.perf_counter()
            function(batch)
            int(steps[name].optimizer.iterations)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="mini", help="model of the CPU's steps")
    parser.add_argument("--rows", type=int, default=8, help="rows of a CPU's step")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--tpu", help="slice to compile for, for example v5e:1x1")
    parser.add_argument("--tpu_preset", default="base")
    parser.add_argument("--tpu_rows", type=int, default=24, help="rows of a TPU's step")
    arguments = parser.parse_args()
    padded = make_records(20_000)
    contents = {"padded": padded, "packed": pack_shard(padded, DATA)}
    tokens = {name: float(np.mean(content.lengths)) for name, content in contents.items()}
    for name, mean in tokens.items():
        print(f"{name}: {mean:.1f} real tokens in a row of {LENGTH}, {mean / LENGTH:.1%}")

    def report(machine: str, seconds: dict[str, float], rows: int) -> None:
        speeds = {name: rows * tokens[name] / seconds[name] for name in contents}
        print(
            f"| {machine} | {1e3 * seconds['padded']:.1f} | {1e3 * seconds['packed']:.1f} "
            f"| {speeds['padded']:,.0f} | {speeds['packed']:,.0f} "
            f"| {speeds['packed'] / speeds['padded']:.2f} |"
        )

    print("| | padded ms | packed ms | padded real tokens/s | packed real tokens/s | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    encoder = EncoderConfig.from_preset(arguments.preset, vocab_size=VOCABULARY)
    timed = time_steps(encoder, contents, arguments.rows, arguments.repeats)
    medians = {name: statistics.median(values) for name, values in timed.items()}
    report(f"CPU, {arguments.preset}, {arguments.rows} rows, float32", medians, arguments.rows)
    if arguments.tpu:
        from keras_bert_tpu.tpu.plan import Planner
        from keras_bert_tpu.tpu.slices import Slice

        encoder = EncoderConfig.from_preset(arguments.tpu_preset, vocab_size=VOCABULARY)
        estimates = {}
        for name in contents:
            sequences = DATA.max_sequences if name == "packed" else 1
            config = make_config(encoder, "bfloat16", sequences)
            plan = Planner(config, Slice.parse(arguments.tpu)).plan(1, arguments.tpu_rows)
            estimates[name] = plan.estimated_step_ms / 1e3
        machine = f"{arguments.tpu}, {arguments.tpu_preset}, {arguments.tpu_rows} rows, estimate"
        report(machine, estimates, arguments.tpu_rows)


if __name__ == "__main__":
    main()
