"""What an exported model offers: signatures from text, from token ids and from tf.Examples.

    serving_default   strings
    serving_ids       token_ids, segment_ids, padding_mask, int32 [batch, length]
    serving_examples  serialized tf.Examples with the strings

All give the same outputs. Only operations of TensorFlow and of one tensorflow-text kernel, that of
FastWordpieceTokenizer, are in the graphs, so that released TF Serving images load them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.serving.length_batches import compute_by_length, length_buckets
from keras_bert_tpu.text.rows import join_rows

DEFAULT, IDS, EXAMPLES = "serving_default", "serving_ids", "serving_examples"
ROWS = ("token_ids", "segment_ids", "padding_mask")


class Servable:
    """A model with what comes before and behind it: the base of those of all tasks.

    Args:
        model: keras.Model with a tokenizer.
        texts: Names of the string inputs, in the order of the segments of a row.
        output_size: int. Numbers that the model gives for a row.
        buckets: Lengths that rows are cut to; None takes `length_buckets`.
        tokens_at_once: int. Most tokens that go through the model together, padding counted.

    Raises:
        InputError: If the model has no tokenizer, or a bucket is longer than its rows.
    """

    def __init__(
        self,
        model: keras.Model,
        texts: Sequence[str],
        output_size: int,
        buckets: Sequence[int] | None = None,
        tokens_at_once: int = 512,
    ):
        if model.tokenizer is None:
            raise InputError(
                f"This {type(model).__name__} has no tokenizer to be exported with; make it by "
                f"from_pretrained, or set its tokenizer."
            )
        self.model, self.texts = model, tuple(texts)
        self.buckets = checked_buckets(buckets, model.sequence_length)
        self.tokens_at_once = tokens_at_once
        self._output_size = output_size

    def signatures(self) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        """Returns tf.functions by the names of the signatures."""
        strings = [tf.TensorSpec([None], tf.string, name) for name in self.texts]
        rows = [tf.TensorSpec([None, None], tf.int32, name) for name in ROWS]
        examples = tf.TensorSpec([None], tf.string, "examples")
        features = {name: tf.io.FixedLenFeature([], tf.string) for name in self.texts}

        def of_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._of_texts(**tf.io.parse_example(examples, features))

        # One computation, which all signatures share: the graph has the model once.
        self._compute = tf.function(self._outputs, input_signature=rows)
        return {
            DEFAULT: tf.function(_named(self._of_texts, self.texts), input_signature=strings),
            IDS: tf.function(_named(self._of_rows, ROWS), input_signature=rows),
            EXAMPLES: tf.function(of_examples, input_signature=[examples]),
        }

    def rows(self, columns: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the rows of texts, int32 [texts, longest rows].

        Args:
            columns: A string tensor [texts] for each of the inputs.
        """
        tokenizer = self.model.tokenizer
        segments = [tokenizer(column) for column in columns]
        return join_rows(segments, tokenizer.vocabulary, self.model.sequence_length)

    def _of_texts(self, **texts: tf.Tensor) -> dict[str, tf.Tensor]:
        columns = [texts[name] for name in self.texts]
        if len(columns) == 2:
            numbers = [tf.shape(column)[0] for column in columns]
            message = f"There must be as many {self.texts[1]} as {self.texts[0]}."
            with tf.control_dependencies([tf.debugging.assert_equal(*numbers, message)]):
                columns = [tf.identity(column) for column in columns]
        rows = self.rows(columns)
        return self._compute(*(rows[name] for name in ROWS))

    def _of_rows(self, **rows: tf.Tensor) -> dict[str, tf.Tensor]:
        longest = self.model.config.max_positions
        length = tf.shape(rows["token_ids"])[1]
        checks = [
            tf.debugging.assert_less_equal(
                length, longest, f"Rows may have at most {longest} tokens."
            ),
            tf.debugging.assert_positive(length, "Rows must have one token at least."),
        ]
        for name in ROWS[1:]:
            shapes = tf.shape(rows[name]), tf.shape(rows["token_ids"])
            message = f"{name} must have the shape of token_ids."
            checks.append(tf.debugging.assert_equal(*shapes, message))
        with tf.control_dependencies(checks):
            return self._compute(*(tf.identity(rows[name]) for name in ROWS))

    def _outputs(
        self, token_ids: tf.Tensor, segment_ids: tf.Tensor, padding_mask: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        rows = {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}
        # Rows of ids may be as long as the positions of the encoder.
        longest = self.model.config.max_positions
        buckets = [*self.buckets, longest] if self.buckets[-1] < longest else self.buckets
        found = compute_by_length(
            functools.partial(self.model, training=False),
            rows,
            buckets,
            self.tokens_at_once,
            tf.TensorSpec([None, self._output_size], tf.float32),
        )
        return self.answer(found)

    def answer(self, found: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turns what the model gives for rows, float32 [rows, output_size], into outputs."""
        raise NotImplementedError


class ServableTextClassifier(Servable):
    """Texts or pairs to classes, to several of them each, or to a number.

    Outputs, with the scores of the model in `logits`, float32 [batch, classes]:
        one class      `label`, string [batch], and `probabilities`, float32 [batch, classes]
        several        `probabilities` of each class by itself, and `classes`, their names, string
                       [batch, classes]
        a number       `value`, float32 [batch], and no logits

    A model without names of labels has their numbers for names.

    Args:
        model: BertTextClassifier.
        pairs: bool or None. Whether texts come in pairs, `text` and `text_pair`; None does as the
            model was trained.
        **settings: Those of `Servable`.
    """

    def __init__(self, model: BertTextClassifier, pairs: bool | None = None, **settings: Any):
        pairs = model.pairs if pairs is None else pairs
        super().__init__(
            model, ("text", "text_pair") if pairs else ("text",), model.num_classes, **settings
        )
        self.labels = model.labels or tuple(map(str, range(model.num_classes)))

    def answer(self, found: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the outputs of the class."""
        if self.model.num_classes == 1:
            return {"value": found[:, 0]}
        labels = tf.constant(self.labels)
        if self.model.multi_label:
            names = tf.repeat(labels[tf.newaxis], tf.shape(found)[0], axis=0)
            return {"logits": found, "probabilities": tf.sigmoid(found), "classes": names}
        return {
            "logits": found,
            "probabilities": tf.nn.softmax(found),
            "label": tf.gather(labels, tf.argmax(found, axis=1)),
        }


class ServableSentenceEncoder(Servable):
    """Texts to vectors: `embedding`, float32 [batch, hidden].

    Args:
        model: BertSentenceEncoder.
        **settings: Those of `Servable`.
    """

    def __init__(self, model: BertSentenceEncoder, **settings: Any):
        super().__init__(model, ("text",), model.config.hidden_size, **settings)

    def answer(self, found: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the outputs of the class."""
        return {"embedding": found}


def checked_buckets(buckets: Sequence[int] | None, longest: int) -> list[int]:
    """Returns buckets that are ascending and end with the longest rows.

    Raises:
        InputError: If they are not numbers from 1 to the longest.
    """
    if buckets is None:
        return length_buckets(longest)
    if not all(isinstance(length, int) and 0 < length <= longest for length in buckets):
        raise InputError(
            f"buckets must be lengths from 1 to {longest}, the longest rows of the model. "
            f"Received: {list(buckets)}."
        )
    return sorted({*buckets, longest})


def _named(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """Has a function of keywords take them by position: so are the inputs of a signature named."""

    def call(*values: tf.Tensor) -> Any:
        return function(**dict(zip(names, values, strict=True)))

    return call


def servable(model: keras.Model, pairs: bool | None = None, **settings: Any) -> Servable:
    """Returns a model with what its task has before and behind it.

    Args:
        model: Model of one of the tasks that can be exported.
        pairs: bool or None. See `ServableTextClassifier`; other models have none.
        **settings: Those of `Servable`.

    Raises:
        InputError: If it is another model, or pairs are asked for where there are none.
    """
    if isinstance(model, BertTextClassifier):
        return ServableTextClassifier(model, pairs, **settings)
    if pairs:
        raise InputError(f"A {type(model).__name__} takes no pairs of texts; leave pairs out.")
    if isinstance(model, BertSentenceEncoder):
        return ServableSentenceEncoder(model, **settings)
    raise InputError(
        f"A {type(model).__name__} cannot be exported; a BertTextClassifier or a "
        f"BertSentenceEncoder can."
    )
