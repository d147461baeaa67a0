"""A class for each word piece: named entities, parts of speech."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.task_model import TaskModel


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertTokenClassifier(TaskModel):
    """Encoder with a dense layer on the output of each piece (arXiv 1810.04805, 5.3).

    Args:
        config: EncoderConfig.
        num_classes: int.
        dtype: Keras dtype policy, for example "mixed_bfloat16". Defaults to Keras' own.
        name: str. Defaults to "token_classifier".
        **kwargs: Those of `keras.Model`.
    """

    length_axis = 1

    def __init__(
        self,
        config: EncoderConfig,
        num_classes: int = 2,
        dtype: Any = None,
        name: str = "token_classifier",
        **kwargs: Any,
    ):
        super().__init__(config, num_classes, "classifier", dtype=dtype, name=name, **kwargs)
        self.num_classes = num_classes
        # It has no part in the scores; what is learned of it already goes with the model.
        self.encoder.pooler.trainable = False

    def call(
        self, inputs: Mapping[str, Any], training: bool | None = None, seed: Any = None
    ) -> Any:
        """Scores the classes of each piece.

        Args:
            inputs: Mapping with those of `BertEncoder`; other keys are ignored.
            training: bool. Whether dropout is on.
            seed: int32 tensor [2], the dropout seed of this step and replica, see `Dropout`.

        Returns:
            float32 tensor [batch, length, num_classes], before a softmax.
        """
        outputs = self.encoder(inputs, training=training, seed=seed)
        return self.score(outputs["sequence_output"], training, seed)

    def head_config(self) -> dict[str, Any]:
        """Returns what the constructor takes beside the config."""
        return {"num_classes": self.num_classes}
