"""A class for each word piece: named entities, parts of speech."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.raw_text import cross_entropy_of_classes, is_in_lists
from keras_bert_tpu.models.task_model import TaskModel


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertTokenClassifier(TaskModel):
    """Encoder with a dense layer on the output of each piece (arXiv 1810.04805, 5.3).

    Raw text, in `fit`, `evaluate` and `predict` of a model with a tokenizer, is a list of
    sentences, each a list of words; the labels are a list of lists of numbers, or of names that are
    among the model's labels. `predict` returns a list with an array [words, classes] for each
    sentence: the scores of the words' first pieces, those of long sentences from several windows.

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

    def _text_batches(
        self, x: Any, y: Any, sample_weight: Any, batch_size: int, shuffle: bool
    ) -> Any:
        if not is_in_lists(x):
            return None
        # Text is TensorFlow's business; the model itself builds with any backend.
        from keras_bert_tpu.tasks import raw_text

        return raw_text.word_batches(self, x, y, sample_weight, batch_size, shuffle)

    def _predict_text(self, x: Any, predict: Callable[[Any], Any]) -> Any:
        if not is_in_lists(x):
            return None
        from keras_bert_tpu.tasks import raw_text

        return raw_text.predict_words(self, x, predict)

    def _default_losses(self) -> dict[str, Any]:
        return cross_entropy_of_classes()
