"""Settings of fine-tuning: how a task model is trained."""

import dataclasses

from keras_bert_tpu.config.checks import (
    require_choice,
    require_not_negative,
    require_positive,
    require_rate,
    require_seed,
)
from keras_bert_tpu.config.pretraining import COMPUTE_DTYPES, SCHEDULES
from keras_bert_tpu.dataclass_yaml import InputError

CLASS_WEIGHTS = ("none", "balanced")


@dataclasses.dataclass(frozen=True)
class FinetuningConfig:
    """How a task model is trained; the defaults are those of BERT (arXiv 1810.04805, A.3).

    Attributes:
        sequence_length: int. Longest rows; longer texts are trimmed or windowed.
        epochs: int. Times that all examples are gone through.
        batch_size: int. Examples of a step, over all replicas.
        learning_rate: float. Peak, reached at the end of the warm-up.
        warmup_rate: float. Share of the steps that the warm-up takes.
        schedule: str. After the warm-up: "polynomial" (a straight line to 0), "cosine" or
            "constant".
        weight_decay: float. Decoupled decay, not on biases and layer normalization.
        clip_norm: float. Largest global norm of the gradient; 0 turns clipping off.
        layer_decay: float. Each layer below another learns at its rate times this; 1 is BERT's.
        frozen_layers: tuple of str. What stays as it is, see `PretrainingConfig`.
        lora_rank: int. Rank of low-rank updates (LoRA, arXiv 2106.09685), which are trained in the
            place of the encoder and merged into it where it is saved; 0 trains the encoder itself.
            They want a larger learning rate, such as 5e-4.
        lora_alpha: float. The updates count alpha / rank times.
        lora_targets: tuple of str. Whose kernels have updates, see `PretrainingConfig`'s
            `frozen_layers`; "encoder/layer_*" are all.
        class_weights: str. "balanced" weighs each class by the reciprocal of its frequency.
        by_length: bool. Whether batches have examples of like length, which saves padding.
        evaluations_per_epoch: int. Evaluations on the development set.
        patience: int. Evaluations without a better one after which training ends; 0 never ends it.
        save_every: int. Steps between the moments at which a checkpoint may be written, from which
            the same command goes on; evaluations are such moments, too.
        save_seconds: float. It is written where so much time has gone by since the last one.
        seed: int. Head, dropout and order derive from it.
        compute_dtype: str. "bfloat16" or "float32"; variables are always float32.
    """

    sequence_length: int = 128
    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup_rate: float = 0.1
    schedule: str = "polynomial"
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    layer_decay: float = 1.0
    frozen_layers: tuple[str, ...] = ()
    lora_rank: int = 0
    lora_alpha: float = 8.0
    lora_targets: tuple[str, ...] = (
        "encoder/layer_*/attention/query",
        "encoder/layer_*/attention/value",
    )
    class_weights: str = "none"
    by_length: bool = True
    evaluations_per_epoch: int = 1
    patience: int = 0
    save_every: int = 200
    save_seconds: float = 60.0
    seed: int = 12345
    compute_dtype: str = "float32"

    def __post_init__(self):
        require_positive(self, "sequence_length", "epochs", "batch_size", "learning_rate")
        require_positive(self, "evaluations_per_epoch", "layer_decay", "lora_alpha", "save_every")
        require_not_negative(
            self, "weight_decay", "clip_norm", "patience", "lora_rank", "save_seconds"
        )
        require_rate(self, "warmup_rate")
        require_choice(self, "schedule", SCHEDULES)
        require_choice(self, "class_weights", CLASS_WEIGHTS)
        require_choice(self, "compute_dtype", COMPUTE_DTYPES)
        require_seed(self)
        if self.layer_decay > 1:
            raise InputError(f"layer_decay must be at most 1. Received: {self.layer_decay}.")
        if self.lora_rank and self.layer_decay < 1:
            raise InputError(
                f"layer_decay={self.layer_decay} is of an encoder that is trained itself, "
                f"and not with lora_rank={self.lora_rank}; leave one of them out."
            )
