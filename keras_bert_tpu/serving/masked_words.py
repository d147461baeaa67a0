"""Words for the [MASK] places of texts."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pipelines.fill_mask import FillMask
from keras_bert_tpu.serving.signatures import Servable, Tensors
from keras_bert_tpu.text.rows import join_rows


class ServableFillMask(Servable):
    """Texts with [MASK] in to the likeliest pieces for each.

    Outputs, where behind the last [MASK] of a text there are empty strings and 0:
        masks          int32 [batch], how many each text has within the longest rows
        tokens         string [batch, masks, top_k], the likeliest first, never a special token
        probabilities  float32 [batch, masks, top_k]

    Args:
        fill: FillMask.
        top_k: int. Pieces for each place.
        **settings: Those of `Servable`.

    Raises:
        InputError: If top_k is not from 1 to the number of pieces.
    """

    has_static_shapes = False

    def __init__(self, fill: FillMask, top_k: int = 5, **settings: Any):
        super().__init__(fill.model, fill.tokenizer, fill.sequence_length, ("text",), **settings)
        vocabulary = self.tokenizer.vocabulary
        special = set(vocabulary.special_ids)
        self._allowed = [i for i in range(len(vocabulary)) if i not in special]
        if not 0 < top_k <= len(self._allowed):
            raise InputError(
                f"top_k must be from 1 to {len(self._allowed)}, the pieces of the vocabulary. "
                f"Received: {top_k}."
            )
        self.top_k = top_k

    def row_outputs(self) -> dict[str, tf.TensorSpec]:
        """Returns the best pieces, at the places of [MASK]."""
        shape = [None, None, self.top_k]
        return {"ids": tf.TensorSpec(shape, tf.int32), "scores": tf.TensorSpec(shape, tf.float32)}

    def compute(self, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Returns the best pieces for each [MASK] of rows, and their probabilities."""
        is_mask = self._is_mask(rows)
        places = tf.where(is_mask)
        encoder = self.model.encoder
        sequence = encoder(rows, training=False)["sequence_output"]
        # All places as those of one row: there are as many scores as places.
        flat = tf.reshape(sequence, [1, -1, self.model.config.hidden_size])
        positions = tf.where(tf.reshape(is_mask, [-1]))[tf.newaxis, :, 0]
        logits = self.model.masked_language_model(
            flat, tf.cast(positions, tf.int32), encoder.token_embeddings
        )[0]
        probabilities = tf.gather(tf.nn.softmax(logits), self._allowed, axis=1)
        best = tf.math.top_k(probabilities, self.top_k)
        ids = tf.gather(tf.constant(self._allowed, tf.int32), best.indices)
        shape = tf.concat([tf.shape(is_mask, tf.int64), [self.top_k]], axis=0)
        return {
            "ids": tf.scatter_nd(places, ids, shape),
            "scores": tf.scatter_nd(places, best.values, shape),
        }

    def answer(self, found: Tensors, rows: Mapping[str, tf.Tensor]) -> Tensors:
        """Returns the outputs of the class."""
        is_mask = self._is_mask(rows)
        masks = tf.reduce_sum(tf.cast(is_mask, tf.int32), axis=1)
        splits = tf.concat([[0], tf.cumsum(masks)], axis=0)
        places = tf.where(is_mask)

        def by_text(values: tf.Tensor) -> tf.Tensor:
            ragged = tf.RaggedTensor.from_row_splits(values, splits, validate=False)
            return ragged.to_tensor(shape=[None, None, self.top_k])

        tokens = self.tokenizer.id_to_piece(tf.gather_nd(found["ids"], places))
        return {
            "masks": masks,
            "tokens": by_text(tokens),
            "probabilities": by_text(tf.gather_nd(found["scores"], places)),
        }

    def rows(self, *columns: tf.Tensor) -> Tensors:
        """Returns the rows of texts, in which "[MASK]" is the token."""
        segments = [self.tokenizer.encode_with_masks(columns[0])]
        return join_rows(segments, self.tokenizer.vocabulary, self.sequence_length)

    def one_request(self, texts: list[str]) -> dict[str, list[Any]]:
        """Returns a request of one text, whose first word is masked."""
        return {"text": [" ".join(["[MASK]", *texts[0].split()[1:]])]}

    def sample_request(self) -> dict[str, list[Any]]:
        """Returns a text with a masked word."""
        return {"text": ["It was a [MASK] day."]}

    def _is_mask(self, rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return (rows["token_ids"] == self.tokenizer.vocabulary.mask_id) & (rows["padding_mask"] > 0)
