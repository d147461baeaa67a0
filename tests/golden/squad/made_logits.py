"""Logits as a model might give them, made alike for two programs."""

import numpy as np


def make_logits(segment_ids):
    """Returns start and end logits, float32 [rows, length] each.

    Pieces of the passage have higher ones, so that each question has an answer, and [CLS] about as
    high ones as the best pieces, so that some questions of SQuAD 2.0 have none.
    """
    logits = np.random.default_rng(0).normal(scale=3, size=(2, *segment_ids.shape))
    logits = logits.astype(np.float32) + np.float32(6) * segment_ids.astype(np.float32)
    logits[:, :, 0] += 12
    return logits[0], logits[1]
