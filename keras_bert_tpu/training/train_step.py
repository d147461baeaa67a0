"""The train step of pre-training: masked words and next sentences."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import PretrainingConfig
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.training.global_step import GlobalStep
from keras_bert_tpu.training.losses import (
    Sums,
    masked_language_model_sums,
    next_sentence_sums,
    total_weights,
)
from keras_bert_tpu.training.optimizers import make_optimizer
from keras_bert_tpu.training.schedules import PhasedSchedule


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


def make_pretrainer(config: PretrainingConfig) -> BertPretrainer:
    """Returns the model of a run, at random; create it in the scope of the strategy."""
    policy = "mixed_bfloat16" if config.compute_dtype == "bfloat16" else "float32"
    pretrainer = BertPretrainer(config.encoder, dtype=policy)
    pretrainer.encoder.recompute = config.recompute
    return pretrainer


def make_step(
    pretrainer: BertPretrainer, config: PretrainingConfig, schedule: PhasedSchedule
) -> PretrainingStep:
    """Returns the train step of a run with its optimizer; create it in the scope of the strategy.

    Args:
        pretrainer: BertPretrainer. What is frozen of it is so already.
        config: PretrainingConfig.
        schedule: PhasedSchedule, from `make_schedule`.
    """
    step = PretrainingStep(
        pretrainer, config.optimizer.clip_norm, config.seed, config.max_nonfinite_steps
    )
    step.compile(
        optimizer=make_optimizer(config.optimizer, schedule),
        jit_compile=config.jit_compile,
        steps_per_execution=config.steps_per_execution,
    )
    step.optimizer.build(pretrainer.trainable_variables)
    return step
