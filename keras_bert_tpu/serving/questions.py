"""Questions about passages of any length, answered within a graph.

The rules are those of `tasks.squad`: windows of a passage that is too long, and of all of them the
best stretch, with the probability that it has among the best ones and no answer.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.serving import windows
from keras_bert_tpu.serving.offsets import chars_of_bytes, texts_between
from keras_bert_tpu.serving.signatures import ServableTaskModel, Tensors
from keras_bert_tpu.tasks.squad import (
    DOC_STRIDE,
    MAX_ANSWER_LENGTH,
    MAX_QUERY_LENGTH,
    N_BEST,
    SPECIALS,
)
from keras_bert_tpu.text.rows import join_rows
from keras_bert_tpu.training.task_prediction import NO_SCORE

# Stretches of a passage that are looked at: there may be equal ones among them, of which the best
# counts.
_CANDIDATES = 5 * N_BEST


class ServableQuestionAnswerer(ServableTaskModel):
    """Questions and passages to answers.

    Outputs for texts:
        answer                string [batch]; empty only if the passage has no pieces
        probability           float32 [batch], among the best answers and none
        null_odds             float32 [batch], by how much the score of no answer exceeds its score
        byte_start, byte_end  int32 [batch], where it stands in the passage
        char_start, char_end  int32 [batch], the same in characters
    and for rows of ids `start_logits` and `end_logits`, float32 [batch, length].

    Args:
        model: BertQuestionAnswerer.
        **settings: Those of `Servable`.

    Raises:
        InputError: If its rows leave no room for a passage.
    """

    def __init__(self, model: BertQuestionAnswerer, **settings: Any):
        super().__init__(model, ("question", "context"), 2, of_pieces=True, **settings)
        if self.tokenizer and self.sequence_length <= MAX_QUERY_LENGTH + SPECIALS:
            raise InputError(
                f"Rows of {self.sequence_length} pieces leave no room for a passage behind a "
                f"question of {MAX_QUERY_LENGTH}; make the model with a greater sequence_length."
            )

    def compute(self, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Returns the scores of starts and ends, float32 [rows, length, 2]."""
        return {"scores": tf.transpose(self.model(rows, training=False), [0, 2, 1])}

    def answer(self, found: Tensors, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Returns the outputs for rows of ids."""
        return {"start_logits": found["scores"][..., 0], "end_logits": found["scores"][..., 1]}

    def rows(self, *columns: tf.Tensor) -> Tensors:
        """Returns the rows of all windows, int32 [windows, longest rows]."""
        question, context = columns
        query = self._query(question)
        return self._rows(query, *self._cut(query, self.tokenizer(context)))

    def of_texts(self, *columns: tf.Tensor) -> Tensors:
        """Returns the outputs of questions and passages."""
        question, context = columns
        pieces, starts, ends = self.tokenizer.tokenize_with_offsets(context)
        query = self._query(question)
        cut, ids = self._cut(query, pieces)
        rows = self._rows(query, cut, ids)
        before = tf.cast(tf.gather(query.row_lengths(), cut.owner), tf.int32) + 2
        places = windows.place(cut, before, self.sequence_length, tf.size(pieces.values))
        scores = tf.cast(self.found(rows)["scores"], tf.float64)
        scores = tf.where(rows["padding_mask"][..., tf.newaxis] > 0, scores, NO_SCORE)
        found = self._best(context, scores, places, cut, starts.values, ends.values)
        found["char_start"], found["char_end"] = chars_of_bytes(
            context, tf.range(tf.size(context)), found["byte_start"], found["byte_end"]
        )
        return found

    def pieces_of_inputs(self, pieces: int) -> list[int]:
        """Shares the pieces of a row between a short question and its passage."""
        question = min(pieces // 2, 8)
        return [question, pieces - question]

    def sample_request(self) -> dict[str, list[Any]]:
        """Returns a question that its passage answers."""
        return self.one_request(["Where is the key?", "The key is under the mat."])

    def _query(self, question: tf.Tensor) -> tf.RaggedTensor:
        return self.tokenizer(question)[:, :MAX_QUERY_LENGTH]

    def _cut(
        self, query: tf.RaggedTensor, pieces: tf.RaggedTensor
    ) -> tuple[windows.Windows, tf.RaggedTensor]:
        """Returns the windows of passages, and their ids [windows, (pieces)]."""
        room = self.sequence_length - SPECIALS - query.row_lengths()
        numbers = tf.cast(pieces.row_lengths(), tf.int32)
        cut = windows.cut(numbers, tf.cast(room, tf.int32), DOC_STRIDE)
        return cut, cut.take(pieces.values)

    def _rows(self, query: tf.RaggedTensor, cut: windows.Windows, ids: tf.RaggedTensor) -> Tensors:
        segments = [tf.gather(query, cut.owner), ids]
        return join_rows(segments, self.tokenizer.vocabulary, self.sequence_length)

    def _best(
        self,
        context: tf.Tensor,
        scores: tf.Tensor,
        places: windows.Places,
        cut: windows.Windows,
        starts: tf.Tensor,
        ends: tf.Tensor,
    ) -> Tensors:
        """Finds the best answer to each question, from scores [windows, length, 2]."""
        kept = min(N_BEST, self.sequence_length)
        (start_scores, first), (end_scores, last) = (
            tf.math.top_k(values, kept) for values in tf.unstack(scores, axis=-1)
        )
        may_start = tf.gather(places.has_max_context, first, batch_dims=1)
        may_end = tf.gather(places.is_text, last, batch_dims=1)
        length = last[:, tf.newaxis, :] - first[:, :, tf.newaxis] + 1
        is_answer = (length >= 1) & (length <= MAX_ANSWER_LENGTH)
        is_answer &= may_start[:, :, tf.newaxis] & may_end[:, tf.newaxis, :]
        # Of each window the best ones, which are in order where they are as good.
        paired = start_scores[:, :, tf.newaxis] + end_scores[:, tf.newaxis, :]
        paired = tf.where(is_answer, paired, -float("inf"))
        best = tf.math.top_k(tf.reshape(paired, [-1, kept * kept]), min(_CANDIDATES, kept * kept))
        of_start = tf.gather(first, best.indices // kept, batch_dims=1)
        of_end = tf.gather(last, best.indices % kept, batch_dims=1)
        # Texts may have no pieces at all.
        starts, ends = (tf.pad(values, [[0, 1]]) for values in (starts, ends))
        byte_starts = tf.gather(starts, tf.gather(places.piece, of_start, batch_dims=1))
        byte_ends = tf.gather(ends, tf.gather(places.piece, of_end, batch_dims=1))
        nulls = tf.reduce_sum(scores[:, 0], axis=-1)

        def of_question(index: tf.Tensor) -> Tensors:
            its = slice(cut.splits[index], cut.splits[index + 1])
            return _best_answer(
                context[index],
                best.values[its],
                byte_starts[its],
                byte_ends[its],
                tf.reduce_min(nulls[its]),
            )

        # One after another: each looks at many stretches of its passage.
        specs = {name: tf.TensorSpec([], dtype) for name, dtype in _OUTPUTS.items()}
        return tf.map_fn(of_question, tf.range(tf.size(context)), fn_output_signature=specs)


_OUTPUTS = {
    "answer": tf.string,
    "probability": tf.float32,
    "null_odds": tf.float32,
    "byte_start": tf.int32,
    "byte_end": tf.int32,
}


def _best_answer(
    context: tf.Tensor, scores: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, null: tf.Tensor
) -> Tensors:
    """Finds the best answer to one question.

    Args:
        context: string [].
        scores: float64 [windows, candidates], -inf for what is none.
        starts: int32 [windows, candidates]. Their first bytes.
        ends: int32 [windows, candidates]. The bytes behind their last ones.
        null: float64 []. The score of no answer.

    Returns:
        Outputs of the question.
    """
    flat = tf.reshape(scores, [-1])
    best = tf.math.top_k(flat, tf.minimum(_CANDIDATES, tf.size(flat)))
    is_answer = best.values > -float("inf")
    chosen, scores = best.indices[is_answer], best.values[is_answer]
    starts, ends = (tf.gather(tf.reshape(v, [-1]), chosen) for v in (starts, ends))
    number = tf.size(scores)
    texts = texts_between(context[tf.newaxis], tf.zeros_like(starts), starts, ends)
    # Of equal texts the first one counts.
    unique, same = tf.unique(texts)
    places = tf.range(number)
    is_first = (
        tf.gather(tf.math.unsorted_segment_min(places, same, tf.size(unique)), same) == places
    )
    rank = tf.cumsum(tf.cast(is_first, tf.int32)) - 1
    # No answer is one of the best ones, or comes behind them.
    before_null = tf.reduce_sum(tf.cast(is_first & (scores >= null), tf.int32))
    room = tf.where(before_null >= N_BEST, N_BEST, N_BEST - 1)
    scores_of_best = tf.boolean_mask(scores, is_first & (rank < room))
    total = tf.reduce_logsumexp(tf.concat([scores_of_best, null[tf.newaxis]], axis=0))
    # Where there is no answer, an empty one with the score 0, and nothing beside it.
    top = tf.pad(scores[:1], [[0, 1]])[0]
    probability = tf.where(number > 0, tf.exp(top - total), 1.0)
    return {
        "answer": tf.concat([texts, [""]], axis=0)[0],
        "probability": tf.cast(probability, tf.float32),
        "null_odds": tf.cast(null - top, tf.float32),
        "byte_start": tf.pad(starts[:1], [[0, 1]])[0],
        "byte_end": tf.pad(ends[:1], [[0, 1]])[0],
    }
