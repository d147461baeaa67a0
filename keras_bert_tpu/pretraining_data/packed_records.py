"""The records of a shard -> records whose rows hold several of its examples each.

Features of a packed record are those of a plain one, with `cls_positions` besides: where the [CLS]
of each example stands, 0 behind the last one. `next_sentence_labels` has as many values. What a
model needs beyond that follows from them, see `parse_examples`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.pretraining_data import documents
from keras_bert_tpu.pretraining_data.masking import num_predictions
from keras_bert_tpu.pretraining_data.packing import assign_packs, plan_packs
from keras_bert_tpu.pretraining_data.parsing import stored_features
from keras_bert_tpu.pretraining_data.records import (
    ShardContent,
    parse_examples,
    serialize_examples,
)

# Rows joined at a time: arrays of some megabytes. No result depends on it.
_BATCH_ROWS = 1024


def pack_shard(content: ShardContent, config: DataConfig) -> ShardContent:
    """Packs the examples of a shard, if the configuration says so.

    The rows are in random order, so that the first ones are a random sample: as they are planned,
    those of the longest examples come first.

    Args:
        content: ShardContent. Plain records.
        config: DataConfig. That they were made with.

    Returns:
        ShardContent. Its lengths are those of the rows.
    """
    if not config.pack or not content.records:
        return content
    lengths = np.asarray(content.lengths, np.int64)
    costs = None
    if config.masks == "static":
        # Where whole words are masked an example can have fewer.
        costs = [
            num_predictions(length, config.mask_rate, config.max_predictions)
            for length in range(config.sequence_length + 1)
        ]
    kinds = plan_packs(
        np.bincount(lengths).tolist(),
        config.sequence_length,
        config.max_sequences,
        costs,
        config.max_predictions if costs else None,
    )
    rows = [sorted(row) for row in assign_packs(lengths, kinds)]
    order = documents.keyed_generator(config.seed, documents.PACKS_KEY, len(rows))
    rows = [rows[place] for place in order.permutation(len(rows)).tolist()]
    records: list[bytes] = []
    for start in range(0, len(rows), _BATCH_ROWS):
        some = rows[start : start + _BATCH_ROWS]
        chosen = [place for row in some for place in row]
        parsed = parse_examples(
            tf.constant([content.records[place] for place in chosen]),
            config.sequence_length,
            config.max_predictions,
            **stored_features(config),
        )
        arrays = {name: values.numpy() for name, values in parsed.items()}
        records += serialize_examples(join_rows(arrays, [len(row) for row in some], config))
    return ShardContent(
        records, content.num_documents, np.array([lengths[row].sum() for row in rows])
    )


def join_rows(
    examples: Mapping[str, np.ndarray], sizes: Sequence[int], config: DataConfig
) -> dict[str, np.ndarray]:
    """Puts examples that follow each other into rows.

    Args:
        examples: Mapping of arrays as `parse_examples` returns them; real tokens and predictions
            come first in each row.
        sizes: How many examples each row has. They fit.
        config: DataConfig. Of the examples and the rows.

    Returns:
        dict of arrays, as `serialize_examples` takes them, one row for each size.
    """
    # For each example: its row, its place in it, and the tokens before it.
    row = np.repeat(np.arange(len(sizes)), sizes)
    place = _steps(np.asarray(sizes))
    lengths = examples["padding_mask"].sum(axis=1)
    before = _before(lengths, row)

    def joined(name: str, parts: np.ndarray, width: int) -> np.ndarray:
        """The first `parts` values of each example, one behind the other in its row."""
        source, values = np.repeat(np.arange(len(parts)), parts), examples[name]
        target = np.zeros((len(sizes), width), values.dtype)
        column = np.repeat(_before(parts, row), parts) + _steps(parts)
        target[row[source], column] = values[source, _steps(parts)]
        return target

    rows = {
        name: joined(name, lengths, config.sequence_length)
        for name in ("token_ids", "segment_ids", "padding_mask", "continues_word")
        if name in examples
    }
    if "mask_weights" in examples:
        predictions = np.count_nonzero(examples["mask_weights"], axis=1)
        examples = {**examples, "mask_positions": examples["mask_positions"] + before[:, None]}
        for name in ("mask_positions", "mask_ids", "mask_weights"):
            rows[name] = joined(name, predictions, config.max_predictions)
    by_place = {"cls_positions": before}
    if "next_sentence_label" in examples:
        by_place["next_sentence_label"] = examples["next_sentence_label"][:, 0]
    for name, values in by_place.items():
        rows[name] = np.zeros((len(sizes), config.max_sequences), np.int32)
        rows[name][row, place] = values
    return rows


def _steps(numbers: np.ndarray) -> np.ndarray:
    """0, 1, ... up to each number, one behind the other."""
    return np.arange(numbers.sum()) - np.repeat(np.cumsum(numbers) - numbers, numbers)


def _before(numbers: np.ndarray, row: np.ndarray) -> np.ndarray:
    """For each number the sum of those before it in its row; rows do not descend."""
    before = np.cumsum(numbers) - numbers
    first = np.searchsorted(row, row)
    return before - before[first]
