"""A batch of serialized records -> the tensors that a model is given, masks drawn if need be."""

from collections.abc import Callable

import tensorflow as tf

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.pretraining_data.keyed_random import fold_in
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.masking import MaskRules, draw_masks
from keras_bert_tpu.pretraining_data.records import parse_examples

# Folded into the seed, so that the masks of the splits share no keys with each other.
_MASK_STREAMS = {"train": 1, "validation": 2}


def mask_keys(split: str, seed: int, epoch: int | tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """Returns the keys that the masks of examples are drawn with.

    Args:
        split: str. "train" or "validation".
        seed: int. Of the run; for held-out examples that of the preparation.
        epoch: int or int64 tensor []. 0 for held-out examples.
        numbers: int64 tensor [n]. Record numbers, counted over all shards of the split.

    Returns:
        uint64 tensor [n].
    """
    return fold_in(seed, _MASK_STREAMS[split], epoch, numbers)


def stored_features(config: DataConfig) -> dict[str, bool]:
    """Returns what records of these settings have, as arguments of `parse_examples`."""
    is_dynamic = config.masks == "dynamic"
    return {
        "has_masks": not is_dynamic,
        "has_next_sentence": config.objective != "mlm",
        "has_words": is_dynamic and config.segmented_words,
    }


def batch_parser(
    manifest: Manifest,
) -> Callable[[tf.Tensor, tf.Tensor | None], dict[str, tf.Tensor]]:
    """Returns what makes batches of the records of a manifest.

    It takes serialized records [batch] and, for masks that are drawn here, their keys [batch], and
    returns the tensors that `training_dataset` describes.

    Args:
        manifest: Manifest.

    Raises:
        InputError: If masks are to be drawn and the vocabulary in the folder is another one.
    """
    config = manifest.config
    is_dynamic = config.masks == "dynamic"
    rules = MaskRules.from_config(config, manifest.load_vocabulary()) if is_dynamic else None

    def parse(serialized: tf.Tensor, keys: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        batch = parse_examples(
            serialized,
            config.sequence_length,
            config.max_predictions,
            feature_names=manifest.feature_names,
            **stored_features(config),
            sequences_per_row=config.sequences_per_row,
        )
        if is_dynamic:
            words = batch.pop("continues_word", None)
            masks = draw_masks(
                batch["token_ids"],
                batch["padding_mask"],
                keys,
                rules,
                words,
                batch.get("position_ids"),
            )
            for name in ("token_ids", "mask_positions", "mask_ids", "mask_weights"):
                batch[name] = getattr(masks, name)
        if config.objective == "mlm":
            like = batch["cls_positions"] if config.pack else batch["token_ids"][:, :1]
            batch["next_sentence_label"] = tf.zeros_like(like)
            batch["next_sentence_weights"] = tf.zeros_like(like, tf.float32)
        return batch

    return parse
