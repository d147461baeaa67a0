"""The best of several continuations or answers."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.raw_text import cross_entropy_of_classes, is_in_lists
from keras_bert_tpu.models.task_model import TaskModel

_TOKEN_INPUTS = ("token_ids", "segment_ids", "padding_mask")


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertMultipleChoice(TaskModel):
    """Encoder with one score for each choice, from its pooled output (arXiv 1810.04805, 4.4).

    Raw text, in `fit`, `evaluate` and `predict` of a model with a tokenizer, is a tuple of a list
    of texts and a list of lists of their choices, as many for each; the labels are numbers of
    choices. `predict` returns the scores [texts, choices].

    Args:
        config: EncoderConfig.
        dtype: Keras dtype policy, for example "mixed_bfloat16". Defaults to Keras' own.
        name: str. Defaults to "multiple_choice".
        **kwargs: Those of `keras.Model`.
    """

    def __init__(
        self, config: EncoderConfig, dtype: Any = None, name: str = "multiple_choice", **kwargs: Any
    ):
        super().__init__(config, 1, "classifier", dtype=dtype, name=name, **kwargs)

    def call(
        self, inputs: Mapping[str, Any], training: bool | None = None, seed: Any = None
    ) -> Any:
        """Scores the choices.

        Args:
            inputs: Mapping with `token_ids`, `segment_ids` and `padding_mask`, int32 tensors
                [batch, choices, length], a row for each choice; other keys are ignored.
            training: bool. Whether dropout is on.
            seed: int32 tensor [2], the dropout seed of this step and replica, see `Dropout`.

        Returns:
            float32 tensor [batch, choices], before a softmax.
        """
        _, choices, length = ops.shape(inputs["token_ids"])
        rows = {name: ops.reshape(inputs[name], (-1, length)) for name in _TOKEN_INPUTS}
        outputs = self.encoder(rows, training=training, seed=seed)
        return ops.reshape(self.score(outputs["pooled_output"], training, seed), (-1, choices))

    def _text_batches(
        self, x: Any, y: Any, sample_weight: Any, batch_size: int, shuffle: bool
    ) -> Any:
        if not is_in_lists(x):
            return None
        # Text is TensorFlow's business; the model itself builds with any backend.
        from keras_bert_tpu.tasks import raw_text

        return raw_text.choice_batches(self, x, y, sample_weight, batch_size, shuffle)

    def _predict_text(self, x: Any, predict: Callable[[Any], Any]) -> Any:
        if not is_in_lists(x):
            return None
        from keras_bert_tpu.tasks import raw_text

        return raw_text.predict_choices(self, x, predict)

    def _default_losses(self) -> dict[str, Any]:
        return cross_entropy_of_classes()
