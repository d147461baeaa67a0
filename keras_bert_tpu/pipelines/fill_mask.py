"""Masked words filled in: text with [MASK] in, the likeliest pieces out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_bert_tpu.checkpoints.loading import load_weights
from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.text.rows import join_rows
from keras_bert_tpu.text.tokenizer import BertTokenizer


class Guess(NamedTuple):
    """A word piece for a masked place, and the probability the model gives it."""

    piece: str
    probability: float


class FillMask:
    """Fills the [MASK] places of texts.

    Args:
        model: BertPretrainer.
        tokenizer: BertTokenizer of the model.
        sequence_length: int. Length of the rows; at most the model's `max_positions`.

    Example:
        fill = FillMask.from_pretrained("run/model")
        fill(["She opened the [MASK] and went in."])[0][0]  # guesses for the first [MASK]
    """

    def __init__(self, model: BertPretrainer, tokenizer: BertTokenizer, sequence_length: int = 128):
        if sequence_length > model.config.max_positions:
            raise InputError(
                f"sequence_length={sequence_length} is longer than the "
                f"{model.config.max_positions} positions of the model; shorten it."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length

    @classmethod
    def from_pretrained(
        cls, path: str, sequence_length: int = 128, dtype: Any = None
    ) -> "FillMask":
        """Loads model and tokenizer.

        Args:
            path: str. What `BertPretrainer.from_pretrained` reads, with a vocabulary.
            sequence_length: int. Length of the rows.
            dtype: Keras dtype policy, for example "mixed_bfloat16".

        Raises:
            InputError: If the folder is not whole.
        """
        source = read_weights(path)
        model = BertPretrainer(source.encoder, dtype=dtype)
        load_weights(model, source)
        return cls(model, source.tokenizer(), sequence_length)

    def __call__(self, texts: Sequence[str], top_k: int = 5) -> list[list[list[Guess]]]:
        """Guesses each masked place of each text.

        Args:
            texts: Strings with one or more "[MASK]".
            top_k: int. Guesses for a place, the likeliest first; special tokens are never among
                them.

        Returns:
            For each text, for each [MASK] in it, a list of `top_k` guesses.

        Raises:
            InputError: If a text has no [MASK] within the sequence length.
        """
        vocabulary = self.tokenizer.vocabulary
        texts = list(texts)
        rows = join_rows(
            [self.tokenizer.encode_with_masks(texts)], vocabulary, self.sequence_length
        )
        masked = rows["token_ids"].numpy() == vocabulary.mask_id
        counts = masked.sum(axis=1)
        for text, count in zip(texts, counts, strict=True):
            if not count:
                raise InputError(
                    f"There is no [MASK] in the first {self.sequence_length} tokens of {text!r}; "
                    f"write [MASK] for the word to be guessed."
                )
        positions = np.zeros((len(texts), counts.max()), "int32")
        for row, count in enumerate(counts):
            positions[row, :count] = np.flatnonzero(masked[row])
        scores = keras.ops.convert_to_numpy(
            self.model({**rows, "mask_positions": positions})["mlm_logits"]
        )
        probabilities = np.exp(scores - scores.max(axis=-1, keepdims=True))
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
        probabilities[..., list(vocabulary.special_ids)] = 0.0
        best = np.argsort(-probabilities, axis=-1, kind="stable")[..., :top_k]
        return [
            [
                [
                    Guess(vocabulary.pieces[piece], float(probabilities[row, place, piece]))
                    for piece in best[row, place]
                ]
                for place in range(count)
            ]
            for row, count in enumerate(counts)
        ]
