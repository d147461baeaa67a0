"""What a run costs beside its bare train step: input, logging, progress bar, metrics, callbacks.

    python tests/benchmarks/training_loop_speed.py
    python tests/benchmarks/training_loop_speed.py --preset=tiny --steps=200

Prepares the text that the package ships, without --data, and calls `pretrain` on it. A callback
stops the run each --steps steps to make as many with the same compiled step on one fixed batch,
which is in memory; so both share what else the machine does. The overhead is the median, over
--rounds, of the time of the run's steps over that of the bare ones, less 1; once by the clock, and
once in the seconds of all cores, which depend less on what else the machine does, and in which
input that was made while a step waited counts. A line of metrics.jsonl is written each --log_every
steps. Evaluations and checkpoints are left out.
"""

import argparse
import importlib.resources
import os
import tempfile
import time
from collections.abc import Mapping

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import (
    PRESETS,
    DataConfig,
    EncoderConfig,
    OptimizerConfig,
    PhaseConfig,
    PretrainingConfig,
)
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.prepare import prepare
from keras_bert_tpu.text.vocabulary import Vocabulary, learn_vocabulary
from keras_bert_tpu.training.loop import pretrain

WARM_UP_ROUNDS = 1


class BareSteps(keras.callbacks.Callback):
    """Times a window of the run's own steps, then one of bare steps, and so on.

    Args:
        batch: The fixed batch.
        steps: int. Of a window.
    """

    def __init__(self, batch: Mapping[str, tf.Tensor], steps: int):
        super().__init__()
        self.own: list[np.ndarray] = []
        self.bare: list[np.ndarray] = []
        self._steps = steps
        self._iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())
        self._left = steps
        self._began = clocks()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._left -= 1
        if self._left:
            return
        self.own.append(clocks() - self._began)
        began = clocks()
        for _ in range(self._steps):
            self.model.train_function(self._iterator)
        self.bare.append(clocks() - began)
        # What these steps left behind does not belong to the run.
        self.model.take_input_wait()
        self.model.take_length()
        self.model.reset_metrics()
        self._left, self._began = self._steps, clocks()


def clocks() -> np.ndarray:
    """Returns the seconds of the clock and those of all cores that this process had."""
    return np.array([time.perf_counter(), time.process_time()])


def prepare_sample(folder: str, length: int, predictions: int, pieces: int) -> str:
    """Prepares the package's own text, with a vocabulary that is filled up with unused pieces."""
    sample = importlib.resources.files("keras_bert_tpu.sample")
    texts = [str(sample / name) for name in ("speeches.txt", "the_secret_garden.txt")]
    learned = learn_vocabulary(texts, 4000, progress=False).pieces
    filled = [f"[unused{number}]" for number in range(pieces - len(learned))]
    Vocabulary([*learned, *filled]).save(os.path.join(folder, "vocab.txt"))
    config = DataConfig(
        sequence_length=length, max_predictions=predictions, validation_rate=0.0, block_documents=8
    )
    records = os.path.join(folder, "records")
    prepare(texts, records, os.path.join(folder, "vocab.txt"), config, progress=False)
    return records


def fixed_batch(batch_size: int, length: int, predictions: int) -> dict[str, tf.Tensor]:
    """Returns a batch that is in memory."""
    return {
        "token_ids": tf.random.stateless_uniform([batch_size, length], [0, 1], 5, 4000, tf.int32),
        "segment_ids": tf.zeros([batch_size, length], tf.int32),
        "padding_mask": tf.ones([batch_size, length], tf.int32),
        "mask_positions": tf.tile(tf.range(1, predictions + 1)[None], [batch_size, 1]),
        "mask_ids": tf.ones([batch_size, predictions], tf.int32),
        "mask_weights": tf.ones([batch_size, predictions]),
        "next_sentence_label": tf.zeros([batch_size, 1], tf.int32),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of records; the package's text without it")
    parser.add_argument("--preset", default="small", choices=sorted(PRESETS), help="(%(default)s)")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--batch", type=int, default=16, help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="of a window (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="that count (%(default)s)")
    parser.add_argument("--log_every", type=int, default=10, help="steps (%(default)s)")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or prepare_sample(folder, 128, 20, 30522)
        manifest = Manifest.load(data)
        length = manifest.config.sequence_length
        predictions = manifest.config.max_predictions
        windows = arguments.rounds + WARM_UP_ROUNDS
        steps = windows * arguments.steps
        config = PretrainingConfig(
            encoder=EncoderConfig.from_preset(
                arguments.preset, vocab_size=manifest.vocabulary_size
            ),
            # Its schedule goes on for the bare steps, too.
            optimizer=OptimizerConfig(warmup_steps=steps // 2),
            phases=(
                PhaseConfig(
                    steps=steps,
                    batch_size=arguments.batch,
                    sequence_length=length,
                    max_predictions=predictions,
                ),
            ),
            compute_dtype=arguments.dtype,
            log_every=arguments.log_every,
            evaluate_every=steps,
            save_every=steps,
        )
        timer = BareSteps(fixed_batch(arguments.batch, length, predictions), arguments.steps)
        pretrain(config, data, os.path.join(folder, "run"), callbacks=[timer])

    own, bare = (
        np.array(times[WARM_UP_ROUNDS:]) / arguments.steps for times in (timer.own, timer.bare)
    )
    overheads = own / bare - 1.0
    print(
        f"\n{arguments.preset}, {arguments.dtype}, {arguments.batch} x {length} tokens; "
        f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.1f}; medians of "
        f"{arguments.rounds} rounds of {arguments.steps} steps"
    )
    print(f"{'':10}{'steps/s':>10}{'ms a step':>12}{'core ms a step':>16}")
    for name, times in {"run": own, "bare step": bare}.items():
        seconds, core_seconds = np.median(times, axis=0)
        print(f"{name:10}{1.0 / seconds:10.3f}{seconds * 1e3:12.1f}{core_seconds * 1e3:16.1f}")
    for column, name in enumerate(("by the clock", "in core seconds")):
        values = overheads[:, column]
        print(
            f"overhead of the run {name}: {np.median(values):.2%} ({values.min():.2%} to "
            f"{values.max():.2%})"
        )


if __name__ == "__main__":
    main()
