"""Texts and pairs of texts as the rows of a model."""

from collections.abc import Sequence

import numpy as np

from keras_bert_tpu.tasks.tables import TextExample
from keras_bert_tpu.text.rows import join_rows
from keras_bert_tpu.text.tokenizer import BertTokenizer

# Texts that are tokenized in one call.
_TEXTS = 2048


def encode(
    examples: Sequence[TextExample], tokenizer: BertTokenizer, sequence_length: int
) -> tuple[dict[str, np.ndarray], int]:
    """Encodes examples of one text, or of two, all alike.

    Args:
        examples: Sequence of TextExample, at least one.
        tokenizer: BertTokenizer.
        sequence_length: int. Length of all rows; longer ones are trimmed as in
            `rows.longest_first_trim`.

    Returns:
        `token_ids`, `segment_ids` and `padding_mask`, each int32 [examples, sequence_length], and
        how many examples were trimmed.
    """
    parts: list[dict[str, np.ndarray]] = []
    trimmed = 0
    for start in range(0, len(examples), _TEXTS):
        texts = zip(*(e.texts for e in examples[start : start + _TEXTS]), strict=True)
        segments = [tokenizer(list(column)) for column in texts]
        pieces = sum(segment.row_lengths().numpy() for segment in segments)
        trimmed += int((pieces + 1 + len(segments) > sequence_length).sum())
        rows = join_rows(segments, tokenizer.vocabulary, sequence_length)
        parts.append({name: row.numpy() for name, row in rows.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, trimmed
