"""Weights, whoever wrote them, under our names, and what is known of the model they are of."""

from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

from keras_bert_tpu.checkpoints.storage import assign_arrays
from keras_bert_tpu.config import EncoderConfig, InputError
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import Vocabulary


class WeightsSource(NamedTuple):
    """The weights of an encoder, those of its heads, and what is known of them.

    Attributes:
        path: str. The folder that holds them, which may lie below the one that was asked for.
        arrays: Mapping of names, those of `storage.weights_by_name`, to arrays. Arrays of other
            frameworks that have no place in our models keep the names they have there.
        encoder: EncoderConfig. Of the model that they belong to.
        vocabulary: Vocabulary of that model; None where it is not beside the weights: a run has it
            in its folder `model` only, which comes at its end.
        description: str. What was taken and from where, for people.
        format: str. "kbt", "hf", "google", "model_garden" or "keras_hub".
        model: str. Name of our class that has such weights, "BertPretrainer" for example.
        lower_case: bool. Of the tokenizer, like the next two.
        strip_accents: bool or None. None does as `lower_case` does.
        added_tokens: tuple of str.
        no_tokenizer: str. Why the tokenizer that there is cannot be read; "" if there is none, or
            it can.
        labels: tuple of str. Names of the classes of a classification head; () if none are known.
        sequence_length: int. Longest rows of a model of texts; 0 if it is not known.
        multi_label: bool. Whether a text may have several of the labels.
        pairs: bool. Whether a text classifier was trained on pairs of texts.
        pooling: str. How a sentence encoder makes one vector of a text; "" if it is of none.
        normalize: bool. Whether its vectors have the length 1.
    """

    path: str
    arrays: Mapping[str, np.ndarray]
    encoder: EncoderConfig
    vocabulary: Vocabulary | None
    description: str
    format: str = "kbt"
    model: str = "BertPretrainer"
    lower_case: bool = True
    strip_accents: bool | None = None
    added_tokens: tuple[str, ...] = ()
    no_tokenizer: str = ""
    labels: tuple[str, ...] = ()
    sequence_length: int = 0
    multi_label: bool = False
    pairs: bool = False
    pooling: str = ""
    normalize: bool = False

    def assign_to(self, model: keras.Model) -> None:
        """Assigns all weights of a model.

        Args:
            model: keras.Model, of the encoder's config.

        Raises:
            InputError: If it has not just these weights.
        """
        assign_arrays(self.path, model, self.arrays)

    def require_vocabulary(self, what: str) -> None:
        """Raises InputError if there is no vocabulary, which `what` must hold."""
        if self.vocabulary is None:
            raise InputError(
                self.no_tokenizer or f"{self.path} has no vocabulary, which {what} must hold."
            )

    def tokenizer(self) -> BertTokenizer:
        """Returns the tokenizer that the weights were trained with.

        Raises:
            InputError: If there is no vocabulary beside the weights, or another tokenizer than
                BERT's.
        """
        if self.no_tokenizer:
            raise InputError(self.no_tokenizer)
        if self.vocabulary is None:
            raise InputError(
                f"There is no vocabulary beside the weights in {self.path}, so that text cannot be "
                f"tokenized for them; put their vocab.txt there."
            )
        return BertTokenizer(
            self.vocabulary, self.lower_case, self.strip_accents, self.added_tokens
        )
