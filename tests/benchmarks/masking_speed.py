"""Rows that `draw_masks` masks in a second of one core's time, for each way to choose.

Processor time is counted, so that what else runs on the machine matters little.

Run by hand: python tests/benchmarks/masking_speed.py [--rows 1024]
"""

import argparse
import time

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.pretraining_data.keyed_random import fold_in
from keras_bert_tpu.pretraining_data.masking import MaskRules, draw_masks
from keras_bert_tpu.text.vocabulary import SPECIAL_TOKENS, Vocabulary

# Of English text in BERT's uncased vocabulary about one piece in six continues a word.
WHOLE, SUFFIXES = 25_000, 5_000
MODES = {
    "pieces": {},
    "whole words": {"whole_word_mask": True},
    "runs of up to 3 words": {"whole_word_mask": True, "max_ngram": 3, "replacement": "gram"},
}


def random_rows(count: int, length: int) -> np.ndarray:
    """Full rows of two parts, a tenth of them of random length; int32 [count, length]."""
    rng = np.random.default_rng(0)
    rows = rng.integers(5, 5 + WHOLE + SUFFIXES, (count, length)).astype(np.int32)
    ends = np.where(rng.random(count) < 0.1, rng.integers(8, length + 1, count), length)
    rows[:, 0] = 2
    rows[np.arange(count), ends // 2] = 3
    rows[np.arange(count), ends - 1] = 3
    return np.where(np.arange(length) < ends[:, None], rows, 0)


def main() -> None:
    """Prints a line for each mode and length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1024, help="rows in a batch")
    count = parser.parse_args().rows
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    vocabulary = Vocabulary(
        [*SPECIAL_TOKENS, *(f"w{i}" for i in range(WHOLE)), *(f"##s{i}" for i in range(SUFFIXES))]
    )
    for length, predictions in ((128, 20), (512, 77)):
        token_ids = random_rows(count, length)
        padding_mask = (token_ids > 0).astype(np.int32)
        for mode, settings in MODES.items():
            config = DataConfig(sequence_length=length, max_predictions=predictions, **settings)
            rules = MaskRules.from_config(config, vocabulary)
            draw = tf.function(lambda *row, rules=rules: draw_masks(*row, rules))
            inputs = [
                tf.constant(x) for x in (token_ids, padding_mask, fold_in(0, np.arange(count)))
            ]
            draw(*inputs)
            seconds = []
            for _ in range(10):
                start = time.process_time()
                draw(*inputs)
                seconds.append(time.process_time() - start)
            print(f"length {length}, {mode:22}: {count / min(seconds):8,.0f} rows/s", flush=True)


if __name__ == "__main__":
    main()
