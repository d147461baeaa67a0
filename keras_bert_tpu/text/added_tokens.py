"""Tokens found in raw text as they stand, before anything is lower-cased, stripped or split.

Only TensorFlow's own operations are used, as everywhere on the way from strings to ids.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.vocabulary import Vocabulary

# A control character marks where tokens begin and end. One that stands in the text is replaced by
# another, of the same length: the tokenizer drops both.
_MARK, _STAND_IN = "\x01", "\x02"


class SplitText(NamedTuple):
    """Texts cut at their added tokens.

    Attributes:
        parts: string ragged tensor [n, (parts)]. All bytes of each text, in order: what stands
            before the first token (maybe nothing), the token, what stands behind it, and so on.
        is_token: bool [all parts]. Which of the parts are tokens.
        ids: int32 [all tokens]. Their ids.
    """

    parts: tf.RaggedTensor
    is_token: tf.Tensor
    ids: tf.Tensor

    def texts(self) -> tf.Tensor:
        """Returns the parts, string [all parts], with nothing in the place of tokens."""
        return tf.where(self.is_token, "", self.parts.values)

    def join(self, of_texts: tf.RaggedTensor, of_tokens: tf.Tensor) -> tf.RaggedTensor:
        """Puts one value for each token between those of the pieces.

        Args:
            of_texts: Ragged tensor [all parts, (pieces)], empty for tokens.
            of_tokens: [all tokens], of the same type.

        Returns:
            Ragged tensor [n, (pieces)].
        """
        of_tokens = tf.RaggedTensor.from_row_lengths(
            of_tokens, tf.cast(self.is_token, of_texts.row_splits.dtype), validate=False
        )
        return self.parts.with_values(tf.concat([of_texts, of_tokens], axis=1)).merge_dims(1, 2)


class AddedTokens:
    """Finds tokens in text: the leftmost first, and of those that begin there the longest.

    Args:
        tokens: Sequence of str. Pieces of the vocabulary.
        vocabulary: Vocabulary. Gives the ids.

    Raises:
        InputError: If `tokens` is a single string, or if one of them is not in the vocabulary or
            holds U+0001 or U+0002.
    """

    def __init__(self, tokens: Sequence[str], vocabulary: Vocabulary):
        if isinstance(tokens, str | bytes):
            raise InputError(
                f"added_tokens must be a sequence of strings, for example ({tokens!r},). "
                f"Received: {tokens!r}."
            )
        self.tokens = tuple(dict.fromkeys(tokens))
        for token in self.tokens:
            if token not in vocabulary.ids:
                raise InputError(
                    f"The added token {token!r} is not in the vocabulary of {len(vocabulary)} "
                    f"pieces; take one of its pieces, or put {token!r} in the place of an unused "
                    f"one."
                )
            if _MARK in token or _STAND_IN in token:
                raise InputError(
                    f"An added token must not hold U+0001 or U+0002, which mark the places of "
                    f"tokens. Received: {token!r}."
                )
        # Of several alternatives, RE2 takes the first that matches.
        longest_first = sorted(self.tokens, key=len, reverse=True)
        self._pattern = "|".join(map(_literal, longest_first))
        self._tokens = tf.constant(self.tokens, tf.string)
        self._ids = tf.constant([vocabulary.ids[token] for token in self.tokens], tf.int32)

    def split(self, text: tf.Tensor) -> SplitText:
        """Cuts strings [n] at the tokens in them; there must be at least one token to look for."""
        text = tf.strings.regex_replace(text, _MARK, _STAND_IN)
        marked = tf.strings.regex_replace(text, self._pattern, rf"{_MARK}\0{_MARK}")
        parts = tf.strings.split(marked, sep=_MARK)
        # With a mark on both sides of each token, every second part of a text is one.
        is_token = tf.ragged.range(parts.row_lengths()).values % 2 == 1
        found = tf.boolean_mask(parts.values, is_token)
        index = tf.argmax(found[:, tf.newaxis] == self._tokens, axis=1)
        return SplitText(parts, is_token, tf.gather(self._ids, index))


def _literal(token: str) -> str:
    """Returns a pattern of RE2 that matches just this string."""
    return "".join(char if char.isalnum() else rf"\x{{{ord(char):x}}}" for char in token)
