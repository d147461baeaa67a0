"""Texts, or pairs of texts, to classes or to a number."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.task_model import TaskModel

_BATCH_SIZE, _LEARNING_RATE = 32, 5e-5


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
        self._is_compiled_by_default = False

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

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Takes what `keras.Model.compile` takes."""
        self._is_compiled_by_default = False
        super().compile(*args, **kwargs)

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Trains on raw text, or on what `keras.Model.fit` takes.

        A model that was not compiled is so, for each call anew, by BERT's rules: AdamW with a peak
        of 5e-5, reached after a tenth of the steps, and down to 0 on a straight line.

        Args:
            x: Texts, see the class.
            y: Labels.
            **kwargs: Those of `keras.Model.fit`; `batch_size` is 32 by default, and
                `validation_data` may be text, too.

        Returns:
            keras.callbacks.History.
        """
        x, y, kwargs = self._batches(x, y, kwargs, shuffle=kwargs.get("shuffle", True))
        if (held_out := kwargs.get("validation_data")) is not None:
            parts = held_out if isinstance(held_out, tuple) else (held_out,)
            inputs, targets, weights = (*parts, None, None)[:3]
            how = {"sample_weight": weights, "batch_size": kwargs.get("validation_batch_size")}
            batches, _, _ = self._batches(inputs, targets, how)
            if batches is not inputs:
                kwargs["validation_data"] = batches
        if not self.compiled or self._is_compiled_by_default:
            self._compile_for(x, y, kwargs)
        return super().fit(x, y, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Judges raw text, or what `keras.Model.evaluate` takes."""
        x, y, kwargs = self._batches(x, y, kwargs)
        return super().evaluate(x, y, **kwargs)

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """Scores raw text, or what `keras.Model.predict` takes; returns [examples, classes]."""
        x, _, kwargs = self._batches(x, None, kwargs)
        return super().predict(x, **kwargs)

    def head_config(self) -> dict[str, Any]:
        """Returns what the constructor takes beside the config."""
        return {"num_classes": self.num_classes}

    def _batches(
        self, x: Any, y: Any, kwargs: dict[str, Any], shuffle: bool | None = None
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Puts batches of rows in the place of text; all else stays as it is."""
        # Text is TensorFlow's business; the model itself builds with any backend.
        if self.tokenizer is None:
            return x, y, kwargs
        from keras_bert_tpu.text.batches import is_text, text_batches

        if not is_text(x):
            return x, y, kwargs
        kwargs = dict(kwargs)
        batches = text_batches(
            x,
            y,
            kwargs.pop("sample_weight", None),
            self.tokenizer,
            self.sequence_length,
            kwargs.pop("batch_size", None) or _BATCH_SIZE,
            self.labels,
            bool(shuffle),
        )
        if shuffle is not None:
            kwargs["shuffle"] = False  # Of the batches; the texts are.
        return batches, None, kwargs

    def _compile_for(self, x: Any, y: Any, kwargs: dict[str, Any]) -> None:
        from keras_bert_tpu.training.optimizers import BertAdamW
        from keras_bert_tpu.training.schedules import WarmupDecay

        steps = kwargs.get("steps_per_epoch")
        if steps is None and y is not None:
            steps = -(-len(y) // (kwargs.get("batch_size") or _BATCH_SIZE))
        steps = (steps or len(x)) * kwargs.get("epochs", 1)
        rate = WarmupDecay(_LEARNING_RATE, steps // 10, steps)
        is_regression = self.num_classes == 1
        self.compile(
            optimizer=BertAdamW(rate, bias_correction=True),
            loss="mean_squared_error"
            if is_regression
            else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[] if is_regression else ["accuracy"],
        )
        self._is_compiled_by_default = True
