"""Questions about a passage: where the answer begins and ends."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.raw_text import cross_entropy_of_classes, is_in_lists
from keras_bert_tpu.models.task_model import TaskModel


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertQuestionAnswerer(TaskModel):
    """Encoder with two scores for each piece, of a start and of an end (arXiv 1810.04805, 4.2).

    Raw text, in `fit`, `evaluate` and `predict` of a model with a tokenizer, is a tuple of a list
    of questions and a list of passages, of any length; the labels are a list of answers, each a
    tuple of its text and the character of the passage that it begins on, or () if there is none.
    Answers in the form of SQuAD's data sets, {"text": [...], "answer_start": [...]}, are taken,
    too. `predict` returns a list of `tasks.raw_text.PredictedAnswer`: text, probability, null_odds.

    Args:
        config: EncoderConfig.
        dtype: Keras dtype policy, for example "mixed_bfloat16". Defaults to Keras' own.
        name: str. Defaults to "question_answerer".
        **kwargs: Those of `keras.Model`.
    """

    length_axis = 2

    def __init__(
        self,
        config: EncoderConfig,
        dtype: Any = None,
        name: str = "question_answerer",
        **kwargs: Any,
    ):
        # No dropout before the head, unlike other tasks: as in Google's run_squad.py.
        super().__init__(
            config, 2, "span_classifier", dtype=dtype, name=name, dropout=0.0, **kwargs
        )
        # It has no part in the scores; what is learned of it already goes with the model.
        self.encoder.pooler.trainable = False

    def call(
        self, inputs: Mapping[str, Any], training: bool | None = None, seed: Any = None
    ) -> Any:
        """Scores each piece as the first and as the last of the answer.

        Args:
            inputs: Mapping with those of `BertEncoder`; other keys are ignored.
            training: bool. Whether dropout is on.
            seed: int32 tensor [2], the dropout seed of this step and replica, see `Dropout`.

        Returns:
            float32 tensor [batch, 2, length]: the starts and the ends, before a softmax over the
            length. [CLS], at 0, stands for "no answer".
        """
        outputs = self.encoder(inputs, training=training, seed=seed)
        return ops.transpose(self.score(outputs["sequence_output"], training, seed), (0, 2, 1))

    def _text_batches(
        self, x: Any, y: Any, sample_weight: Any, batch_size: int, shuffle: bool
    ) -> Any:
        if not is_in_lists(x):
            return None
        # Text is TensorFlow's business; the model itself builds with any backend.
        from keras_bert_tpu.tasks import raw_text

        return raw_text.answer_batches(self, x, y, sample_weight, batch_size, shuffle)

    def _predict_text(self, x: Any, predict: Callable[[Any], Any]) -> Any:
        if not is_in_lists(x):
            return None
        from keras_bert_tpu.tasks import raw_text

        return raw_text.predict_answers(self, x, predict)

    def _default_losses(self) -> dict[str, Any]:
        return cross_entropy_of_classes()
