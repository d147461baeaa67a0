r"""What happens to text before it is cut into word pieces: Google BERT's rules as graph operations.

The rules are those of `BasicTokenizer` in google-research/bert, tokenization.py:

1. Invalid UTF-8 is dropped; so are U+0000, U+FFFD, control (Cc) and format (Cf) characters, except
   tab, newline and carriage return.
2. If asked for, text is lower-cased; then, if asked for, it is decomposed (NFD) and loses its
   accents (Mn). Uncased vocabularies ask for both, cased ones for neither. That script has one
   setting for both; which one to choose alone is Hugging Face's addition, the order is Google's.
3. Words end at white space; every CJK ideograph and every punctuation character is a word. ASCII
   symbols such as `$`, `^` and `` ` `` count as punctuation.

Step 3 is done by `FastWordpieceTokenizer`, the others here. tensorflow-text's own BERT normalizer
is not used, because it folds by NFKC, which changes ß, ﬁ, ² and full-width characters. All
operations are TensorFlow's, except NFD, so that an exported graph loads in a TF Serving with an old
tensorflow-text.
"""

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

# Text of which nothing is dropped and nothing but ASCII letters is lower-cased. Most lines of
# English are such; sorting them out with one fast match halves the time of normalization.
_PLAIN_TEXT = r"[\t\n\r -~]*"
_DROPPED = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}\p{Cf}\x{FFFD}]+"
_ACCENTS = r"\p{Mn}+"
# The capitals besides I and J that ICU lower-cases in another way under a Turkish or a Lithuanian
# locale, with what Unicode's SpecialCasing.txt and Python make of them anywhere else.
_CAPITALS_OF_LOCALES = {
    "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}": "i\N{COMBINING DOT ABOVE}",
    "\N{LATIN CAPITAL LETTER I WITH GRAVE}": "\N{LATIN SMALL LETTER I WITH GRAVE}",
    "\N{LATIN CAPITAL LETTER I WITH ACUTE}": "\N{LATIN SMALL LETTER I WITH ACUTE}",
    "\N{LATIN CAPITAL LETTER I WITH TILDE}": "\N{LATIN SMALL LETTER I WITH TILDE}",
    "\N{LATIN CAPITAL LETTER I WITH OGONEK}": "\N{LATIN SMALL LETTER I WITH OGONEK}",
}

# `max_input_chars_per_word` of tokenization.py: a longer word is [UNK] as a whole.
MAX_WORD_CHARS = 200
# FastWordpieceTokenizer limits bytes instead. No word of 200 characters is longer than this.
MAX_WORD_BYTES = 4 * MAX_WORD_CHARS


def strips_accents(lower_case: bool, strip_accents: bool | None) -> bool:
    """Returns `strip_accents`, or where that is None what follows from `lower_case`."""
    return lower_case if strip_accents is None else strip_accents


def normalize(text: tf.Tensor, lower_case: bool, strip_accents: bool | None = None) -> tf.Tensor:
    """Applies rules 1 and 2 above to each string.

    Args:
        text: string [n].
        lower_case: bool. Whether to lower-case.
        strip_accents: bool or None. Whether to strip accents; None does so if `lower_case` is set.

    Returns:
        string [n], valid UTF-8.
    """
    strip_accents = strips_accents(lower_case, strip_accents)
    plain = tf.strings.lower(text) if lower_case else text
    others = tf.where(tf.logical_not(tf.strings.regex_full_match(text, _PLAIN_TEXT)))
    normalized = clean(tf.gather_nd(text, others))
    if lower_case:
        normalized = _lower(normalized)
    if strip_accents:
        decomposed = tf_text.normalize_utf8(normalized, "NFD")
        normalized = tf.strings.regex_replace(decomposed, _ACCENTS, "")
    return tf.tensor_scatter_nd_update(plain, others, normalized)


def clean(text: tf.Tensor) -> tf.Tensor:
    """Applies rule 1 to strings of any shape."""
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="ignore")
    return tf.strings.regex_replace(text, _DROPPED, "")


def _lower(text: tf.Tensor) -> tf.Tensor:
    """Lower-cases valid UTF-8 as Python does, whatever the locale of the process.

    TensorFlow's full lower-casing follows the locale: under a Turkish one "I" becomes a dotless i,
    under a Lithuanian one "I" with an accent gets a dot, too. So all such letters are done first.
    """
    text = tf.strings.lower(text)
    for capital, small in _CAPITALS_OF_LOCALES.items():
        text = tf.strings.regex_replace(text, capital, small)
    return tf.strings.lower(text, encoding="utf-8")


class WordSplitter:
    """Splits text into the words that the tokenizer then cuts into pieces.

    A `FastWordpieceTokenizer` that knows no piece gives each word back whole, as unknown. So the
    words that a vocabulary is learned from are split by the very code that will tokenize.

    Args:
        lower_case: bool. Whether to lower-case.
        strip_accents: bool or None. Whether to strip accents; None does so if `lower_case` is set.
    """

    def __init__(self, lower_case: bool, strip_accents: bool | None = None):
        self.lower_case = lower_case
        self.strip_accents = strips_accents(lower_case, strip_accents)
        # A piece besides [UNK] is asked for; normalized text never holds U+FFFD.
        self._splitter = tf_text.FastWordpieceTokenizer(
            ["[UNK]", "\N{REPLACEMENT CHARACTER}"],
            max_bytes_per_word=MAX_WORD_BYTES,
            token_out_type=tf.int32,
        )
        self._split = tf.function(
            self._normalize_and_split, input_signature=[tf.TensorSpec([None], tf.string)]
        )

    def _normalize_and_split(self, lines: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # One text instead of many, so that words are cut out of one bytes object. A newline is a
        # white space to all the rules.
        lines = normalize(lines, self.lower_case, self.strip_accents)
        text = tf.strings.reduce_join(lines, separator="\n")
        _, starts, ends = self._splitter.tokenize_with_offsets(text)
        return text, starts, ends

    def words(self, lines: list[bytes]) -> list[bytes]:
        """Returns the words of all `lines`, normalized, in their order.

        Args:
            lines: List of bytes, UTF-8.
        """
        text, starts, ends = self._split(tf.constant(lines, tf.string, shape=[len(lines)]))
        text = text.numpy()
        bounds = np.stack([starts.numpy(), ends.numpy()], axis=1).tolist()
        return [text[start:end] for start, end in bounds]
