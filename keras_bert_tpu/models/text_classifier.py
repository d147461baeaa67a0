"""Texts, or pairs of texts, to classes or to a number."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.task_model import TaskModel


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertTextClassifier(TaskModel):
    """Encoder with a dense layer on the pooled output (arXiv 1810.04805, 4.1).

    Args:
        config: EncoderConfig.
        num_classes: int. Classes, or 1 for a regression.
        dtype: Keras dtype policy, for example "mixed_bfloat16". Defaults to Keras' own.
        name: str. Defaults to "text_classifier".
        **kwargs: Those of `keras.Model`.
    """

    def __init__(
        self,
        config: EncoderConfig,
        num_classes: int = 2,
        dtype: Any = None,
        name: str = "text_classifier",
        **kwargs: Any,
    ):
        super().__init__(config, num_classes, "classifier", dtype=dtype, name=name, **kwargs)
        self.num_classes = num_classes

    def call(
        self, inputs: Mapping[str, Any], training: bool | None = None, seed: Any = None
    ) -> Any:
        """Scores the classes.

        Args:
            inputs: Mapping with those of `BertEncoder`; other keys are ignored.
            training: bool. Whether dropout is on.
            seed: int32 tensor [2], the dropout seed of this step and replica, see `Dropout`.

        Returns:
            float32 tensor [batch, num_classes], before a softmax or sigmoid.
        """
        outputs = self.encoder(inputs, training=training, seed=seed)
        return self.score(outputs["pooled_output"], training, seed)

    def head_config(self) -> dict[str, Any]:
        """Returns what the constructor takes beside the config."""
        return {"num_classes": self.num_classes}
