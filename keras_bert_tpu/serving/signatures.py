"""What an exported model offers: signatures from text, from token ids and from tf.Examples.

    serving_default   strings
    serving_ids       token_ids, segment_ids, padding_mask, int32 [batch, length]
    serving_examples  serialized tf.Examples with the strings

The first and the last give the same outputs, and so does the second where they do not speak of
places in a text. Only operations of TensorFlow and of one tensorflow-text kernel, that of
FastWordpieceTokenizer, are in the graphs, so that released TF Serving images load them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.serving.length_batches import (
    compute_by_length,
    length_buckets,
    static_shapes,
)
from keras_bert_tpu.serving.weights import Kind, StoredWeights, using
from keras_bert_tpu.text.rows import join_rows
from keras_bert_tpu.text.tokenizer import BertTokenizer

DEFAULT, IDS, EXAMPLES = "serving_default", "serving_ids", "serving_examples"
ROWS = ("token_ids", "segment_ids", "padding_mask")
Tensors = dict[str, tf.Tensor]


class Servable:
    """A model with what comes before and behind it: the base of those of all tasks.

    Args:
        model: keras.Model.
        tokenizer: BertTokenizer, or None, with which there is `serving_ids` alone.
        sequence_length: int. Longest rows that are made of text.
        texts: Names of the string inputs.
        buckets: Lengths that rows are cut to; None takes `length_buckets`.
        tokens_at_once: int. Most tokens that go through the model together, padding counted.
        weights: "float32", "bfloat16" or "int8". How they are kept, see `serving.weights`.
        xla: bool. Whether XLA compiles the model, for each of some shapes.

    Raises:
        InputError: If a bucket is longer than its rows, or it cannot be compiled.
    """

    # Whether all shapes follow from those of the rows, as XLA wants it.
    has_static_shapes = True

    def __init__(
        self,
        model: keras.Model,
        tokenizer: BertTokenizer | None,
        sequence_length: int,
        texts: Sequence[str],
        buckets: Sequence[int] | None = None,
        tokens_at_once: int = 512,
        weights: Kind = "float32",
        xla: bool = False,
    ):
        if xla and not self.has_static_shapes:
            raise InputError(
                f"XLA cannot compile what a {type(model).__name__} does here: its shapes depend on "
                f"the texts. Leave xla out."
            )
        self.model, self.tokenizer = model, tokenizer
        self.sequence_length, self.texts = sequence_length, tuple(texts)
        self.buckets = checked_buckets(buckets, sequence_length)
        self.tokens_at_once = tokens_at_once
        self.weights = StoredWeights(model, weights)
        self.xla = xla

    # What each task says of itself.

    def row_outputs(self) -> dict[str, tf.TensorSpec]:
        """Returns what `compute` gives, see `compute_by_length`."""
        raise NotImplementedError

    def compute(self, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Puts a batch of rows, int32 [rows, length], through the model."""
        raise NotImplementedError

    def answer(self, found: Tensors, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Turns what `compute` gave for rows into the outputs of `serving_ids`."""
        raise NotImplementedError

    def of_texts(self, *columns: tf.Tensor) -> Tensors:
        """Returns the outputs of texts, a string tensor for each input."""
        rows = self.rows(*columns)
        return self.answer(self.found(rows), rows)

    def rows(self, *columns: tf.Tensor) -> Tensors:
        """Returns the rows of texts, int32 [rows, longest rows].

        Args:
            *columns: A string tensor [texts] for each of the inputs.
        """
        segments = [self.tokenizer(column) for column in columns]
        return join_rows(segments, self.tokenizer.vocabulary, self.sequence_length)

    def text_specs(self) -> list[tf.TensorSpec]:
        """Returns the inputs of `serving_default`."""
        return [tf.TensorSpec([None], tf.string, name) for name in self.texts]

    def row_specs(self) -> list[tf.TensorSpec]:
        """Returns the inputs of `serving_ids`."""
        return [tf.TensorSpec([None, None], tf.int32, name) for name in ROWS]

    def features(self) -> dict[str, Any]:
        """Returns what is parsed of the tf.Examples of `serving_examples`."""
        return {name: tf.io.FixedLenFeature([], tf.string) for name in self.texts}

    def pieces_of_inputs(self, pieces: int) -> list[int]:
        """Shares the pieces of a row between its texts."""
        return [pieces] if len(self.texts) == 1 else [pieces - pieces // 2, pieces // 2]

    def one_request(self, texts: Sequence[str]) -> dict[str, list[Any]]:
        """Returns the inputs of a request of one: a text for each input."""
        return {name: [text] for name, text in zip(self.texts, texts, strict=True)}

    def sample_request(self) -> dict[str, list[Any]]:
        """Returns a request that shows what is sent."""
        return self.one_request(["A fine day."] * len(self.texts))

    def row_of_length(self, length: int) -> Tensors:
        """Returns a row, as `serving_ids` takes it, where there is no tokenizer to make one."""
        # Of choices it is one choice.
        shape = [1] * (len(self.row_specs()[0].shape) - 1)
        ones = tf.ones([*shape, length], tf.int32)
        return dict(zip(ROWS, (0 * ones, 0 * ones, ones), strict=True))

    # What is the same for all.

    def signatures(self) -> dict[str, Callable[..., Tensors]]:
        """Returns tf.functions by the names of the signatures."""
        examples = tf.TensorSpec([None], tf.string, "examples")
        rows = [tf.TensorSpec([None, None], tf.int32, name) for name in ROWS]
        # One computation, which all signatures share: the graph has the model once.
        self._of_rows = tf.function(self._compute_all, input_signature=rows)
        if self.tokenizer is None:
            return {IDS: tf.function(self.of_ids, input_signature=self.row_specs())}
        return {
            DEFAULT: tf.function(self._of_columns, input_signature=self.text_specs()),
            IDS: tf.function(self.of_ids, input_signature=self.row_specs()),
            EXAMPLES: tf.function(self._of_examples, input_signature=[examples]),
        }

    def found(self, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Returns what `compute` gives for any number of rows, int32 [rows, length]."""
        return self._of_rows(*(rows[name] for name in ROWS))

    def of_ids(self, *values: tf.Tensor) -> Tensors:
        """Returns the outputs of token ids, segment ids and padding mask."""
        rows = dict(zip(ROWS, values, strict=True))
        longest = self.model.config.max_positions
        length = tf.shape(rows["token_ids"])[-1]
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
            return self.answer_rows({name: tf.identity(rows[name]) for name in ROWS})

    def answer_rows(self, rows: Tensors) -> Tensors:
        """Returns the outputs of rows as `serving_ids` takes them."""
        return self.answer(self.found(rows), rows)

    def _of_columns(self, *columns: tf.Tensor) -> Tensors:
        numbers = [tf.shape(column)[0] for column in columns]
        checks = [
            tf.debugging.assert_equal(
                number, numbers[0], f"There must be as many {name} as {self.texts[0]}."
            )
            for name, number in zip(self.texts[1:], numbers[1:], strict=True)
        ]
        with tf.control_dependencies(checks):
            return self.of_texts(*(tf.identity(column) for column in columns))

    def _of_examples(self, examples: tf.Tensor) -> Tensors:
        parsed = tf.io.parse_example(examples, self.features())
        columns = [parsed[name] for name in self.texts]
        return self.of_texts(*(c.to_tensor() if _is_ragged(c) else c for c in columns))

    def shapes(self) -> list[tuple[int, int]]:
        """Returns the numbers of rows, and lengths, that a server should be warm for.

        Rows of any number are computed alike, except where each shape is compiled.
        """
        if self.xla:
            return static_shapes(self.buckets, self.tokens_at_once)
        return [(1, length) for length in self.buckets]

    def _compute_all(self, *values: tf.Tensor) -> Tensors:
        # Rows of ids may be as long as the positions of the encoder.
        longest = self.model.config.max_positions
        buckets = [*self.buckets, longest] if self.buckets[-1] < longest else self.buckets
        restored = self.weights.restored()

        def compute(rows: Mapping[str, tf.Tensor]) -> Tensors:
            with using(restored):
                return self.compute(rows)

        return compute_by_length(
            tf.function(compute, jit_compile=True) if self.xla else compute,
            dict(zip(ROWS, values, strict=True)),
            buckets,
            self.tokens_at_once,
            self.row_outputs(),
            is_static=self.xla,
        )


class ServableTaskModel(Servable):
    """A task model of which each row, or each piece of it, gets some scores.

    Args:
        model: TaskModel.
        texts: Names of the string inputs.
        scores: int. Numbers that the model gives for a row or piece.
        of_pieces: bool. Whether they are of pieces.
        **settings: Those of `Servable`.
    """

    def __init__(
        self,
        model: keras.Model,
        texts: Sequence[str],
        scores: int,
        of_pieces: bool = False,
        **settings: Any,
    ):
        super().__init__(model, model.tokenizer, model.sequence_length, texts, **settings)
        self._shape = [None, None, scores] if of_pieces else [None, scores]

    def row_outputs(self) -> dict[str, tf.TensorSpec]:
        """Returns the scores."""
        return {"scores": tf.TensorSpec(self._shape, tf.float32)}

    def compute(self, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Returns the scores of rows."""
        return {"scores": self.model(rows, training=False)}


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


def _is_ragged(tensor: Any) -> bool:
    return isinstance(tensor, tf.RaggedTensor)
