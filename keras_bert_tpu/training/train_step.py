"""The train step of pre-training: masked words and next sentences."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.training.global_step import GlobalStep
from keras_bert_tpu.training.losses import (
    Sums,
    masked_language_model_sums,
    next_sentence_sums,
    total_weights,
)


class PretrainingStep(GlobalStep):
    """What `fit` trains: a BertPretrainer with the pre-training losses, see `GlobalStep`.

    Args:
        pretrainer: BertPretrainer.
        clip_norm: float.
        seed: int.
        max_skipped_in_row: int.
    """

    def __init__(
        self, pretrainer: BertPretrainer, clip_norm: float, seed: int, max_skipped_in_row: int = 10
    ):
        losses = ("mlm", "nsp")
        super().__init__(
            pretrainer, losses, clip_norm, seed, max_skipped_in_row, name="pretraining_step"
        )

    @property
    def pretrainer(self) -> BertPretrainer:
        """The model that is trained."""
        return self.trained

    def totals(self, data: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """Returns how many masked words and how many sequences count."""
        return list(total_weights(data))

    def sums(self, data: Mapping[str, tf.Tensor], outputs: Any) -> list[Sums]:
        """Returns the sums of both losses."""
        return [
            masked_language_model_sums(
                outputs["mlm_logits"], data["mask_ids"], data["mask_weights"]
            ),
            next_sentence_sums(
                outputs["nsp_logits"],
                data["next_sentence_label"],
                data.get("next_sentence_weights"),
            ),
        ]
