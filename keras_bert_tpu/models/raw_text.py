"""`fit`, `evaluate` and `predict` on raw text, for the models of all tasks."""

from collections.abc import Callable
from typing import Any

import keras

from keras_bert_tpu.config import InputError

_BATCH_SIZE, _LEARNING_RATE = 32, 5e-5


class RawTextModel(keras.Model):
    """A model that takes raw text where it has a tokenizer, and else what any Keras model takes.

    What a text is, and what a label, each model says; see `_text_batches` and `_predict_text`.
    """

    tokenizer: Any = None

    def _text_batches(
        self, x: Any, y: Any, sample_weight: Any, batch_size: int, shuffle: bool
    ) -> Any:
        """Returns a dataset of batches of rows, labels and weights; None if x is no text."""
        raise NotImplementedError

    def _predict_text(self, x: Any, predict: Callable[[Any], Any]) -> Any:
        """Returns what a model says of texts in memory; None if x is no such thing.

        Args:
            x: What `predict` received.
            predict: Callable from TaskArrays to scores, see `Predictor`.
        """
        raise NotImplementedError

    def _default_losses(self) -> dict[str, Any]:
        """Returns loss and metrics as `compile` takes them."""
        raise NotImplementedError

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._is_compiled_by_default = False
        self._predictors: dict[int, Any] = {}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Takes what `keras.Model.compile` takes."""
        self._is_compiled_by_default = False
        super().compile(*args, **kwargs)

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Trains on raw text, or on what `keras.Model.fit` takes.

        A model that was not compiled is so, for each call anew, by BERT's rules: AdamW with a peak
        of 5e-5, reached after a tenth of the steps, and down to 0 on a straight line.

        Args:
            x: Text, see the class.
            y: Labels.
            **kwargs: Those of `keras.Model.fit`; `batch_size` is 32 by default, and
                `validation_data` may be text, too.

        Returns:
            keras.callbacks.History.

        Raises:
            InputError: If a text or label is not as it should be.
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
        """Judges raw text, or what `keras.Model.evaluate` takes.

        Raises:
            InputError: If a text or label is not as it should be.
        """
        x, y, kwargs = self._batches(x, y, kwargs)
        return super().evaluate(x, y, **kwargs)

    def predict(
        self, x: Any, batch_size: int | None = None, verbose: Any = "auto", **kwargs: Any
    ) -> Any:
        """Predicts on raw text, see the class, or on what `keras.Model.predict` takes.

        Texts in memory go through the model in batches of like length, whatever their order.

        Raises:
            InputError: If a text is not as it should be, or texts in memory come with arguments
                that are of datasets.
        """
        size = batch_size or _BATCH_SIZE
        if self.tokenizer is not None:
            found = self._predict_text(x, lambda arrays: self._predictor(size)(arrays, verbose))
            if found is not None:
                if kwargs:
                    raise InputError(
                        f"predict on texts in memory takes batch_size and verbose alone. Received: "
                        f"{', '.join(kwargs)}."
                    )
                return found
        x, _, kwargs = self._batches(x, None, {**kwargs, "batch_size": batch_size})
        return super().predict(x, verbose=verbose, **kwargs)

    def _predictor(self, batch_size: int) -> Any:
        # Kept, because what was traced once serves all later calls.
        from keras_bert_tpu.training.task_prediction import Predictor

        if batch_size not in self._predictors:
            self._predictors[batch_size] = Predictor(
                self, batch_size, strategy=self.distribute_strategy
            )
        return self._predictors[batch_size]

    def _batches(
        self, x: Any, y: Any, kwargs: dict[str, Any], shuffle: bool | None = None
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Puts batches of rows in the place of text; all else stays as it is."""
        if self.tokenizer is None:
            return x, y, kwargs
        weights, size = kwargs.get("sample_weight"), kwargs.get("batch_size") or _BATCH_SIZE
        batches = self._text_batches(x, y, weights, size, bool(shuffle))
        if batches is None:
            return x, y, kwargs
        kwargs = {k: v for k, v in kwargs.items() if k not in ("sample_weight", "batch_size")}
        if shuffle is not None:
            kwargs["shuffle"] = False  # Of the batches; the texts are.
        return batches, None, kwargs

    def _compile_for(self, x: Any, y: Any, kwargs: dict[str, Any]) -> None:
        from keras_bert_tpu.training.optimizers import BertAdamW
        from keras_bert_tpu.training.schedules import WarmupDecay

        steps = kwargs.get("steps_per_epoch")
        if steps is None and y is not None:
            steps = -(-len(y) // (kwargs.get("batch_size") or _BATCH_SIZE))
        try:
            steps = (steps or len(x)) * kwargs.get("epochs", 1)
        except TypeError as error:
            raise InputError(
                "How many steps an epoch has cannot be told of this data; give steps_per_epoch, or "
                "compile the model."
            ) from error
        rate = WarmupDecay(_LEARNING_RATE, steps // 10, steps)
        with self.distribute_strategy.scope():
            self.compile(optimizer=BertAdamW(rate, bias_correction=True), **self._default_losses())
        self._is_compiled_by_default = True


def cross_entropy_of_classes() -> dict[str, Any]:
    """Loss and metric of one class for each target, means over the targets that have a weight."""
    return {
        "loss": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        "weighted_metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    }


def is_in_lists(x: Any) -> bool:
    """Tells raw text in Python's own lists from what Keras takes: mappings, arrays, data sets."""
    return isinstance(x, list | tuple)
