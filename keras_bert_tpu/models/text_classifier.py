"""Texts, or pairs of texts, to classes or to a number."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.raw_text import cross_entropy_of_classes
from keras_bert_tpu.models.task_model import TaskModel


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertTextClassifier(TaskModel):
    """Encoder with a dense layer on the pooled output (arXiv 1810.04805, 4.1).

    `fit`, `evaluate` and `predict` take raw text where a model has a tokenizer, as that of
    `from_pretrained` has: a list of strings, or a tuple of two lists for pairs, or a
    `tf.data.Dataset` of such. Labels are numbers, or names that are among the model's labels.

    Args:
        config: EncoderConfig.
        num_classes: int. Classes, or 1 for a regression.
        dtype: Keras dtype policy, for example "mixed_bfloat16". Defaults to Keras' own.
        name: str. Defaults to "text_classifier".
        **kwargs: Those of `keras.Model`.

    Example:
        model = BertTextClassifier.from_pretrained("run/model", labels=["bad", "good"])
        model.fit(["A fine day.", "It rains."], ["good", "bad"], epochs=3)
        model.predict(["The sun shines."])  # scores [1, 2]
        model.save_pretrained("weather")
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

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Trains, see `RawTextModel.fit`; that texts come in pairs is kept with the model."""
        from keras_bert_tpu.text.batches import has_pairs, is_text

        if self.tokenizer is not None and is_text(x):
            self.pairs = has_pairs(x)
        return super().fit(x, y, **kwargs)

    def head_config(self) -> dict[str, Any]:
        """Returns what the constructor takes beside the config."""
        return {"num_classes": self.num_classes}

    def _text_batches(
        self, x: Any, y: Any, sample_weight: Any, batch_size: int, shuffle: bool
    ) -> Any:
        # Text is TensorFlow's business; the model itself builds with any backend.
        from keras_bert_tpu.text.batches import is_text, text_batches

        if not is_text(x):
            return None
        return text_batches(
            x,
            y,
            sample_weight,
            self.tokenizer,
            self.sequence_length,
            batch_size,
            self.labels,
            shuffle,
        )

    def _predict_text(self, x: Any, predict: Callable[[Any], Any]) -> Any:
        from keras_bert_tpu.text.batches import is_text_in_memory

        if not is_text_in_memory(x):
            return None
        from keras_bert_tpu.tasks import raw_text

        return raw_text.predict_texts(self, x if isinstance(x, tuple) else (x,), predict)

    def _default_losses(self) -> dict[str, Any]:
        if self.num_classes == 1:
            return {"loss": "mean_squared_error"}
        if self.multi_label:
            return {
                "loss": keras.losses.BinaryCrossentropy(from_logits=True),
                "metrics": [keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)],
            }
        return cross_entropy_of_classes()
