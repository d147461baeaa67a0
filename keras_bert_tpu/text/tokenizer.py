"""Strings to word-piece ids inside the graph, with the results of Google's tokenization.py.

The fast path is a normalizer of TensorFlow's string operations (see `normalizer.py`) followed by
tensorflow-text's FastWordpieceTokenizer, which splits words and matches pieces in one pass.

The ids differ from Google's only for characters that are newer than Unicode 13, because that script
takes the classes of characters from the Python it runs in, and TensorFlow's libraries have their
own. Against Python 3.11 (Unicode 14), the capital letters new in Unicode 14 are not lower-cased,
and punctuation, format characters, accents and composed letters new in Unicode 15 and 16 are
treated as such, where Python takes them for letters: 138 characters where text is lower-cased and
loses its accents, 83 where it is only lower-cased, 98 where it only loses its accents, 43 where it
keeps both. tests/text/test_google_parity.py lists them all.
"""

import unicodedata
from collections.abc import Sequence
from typing import Literal

import tensorflow as tf
import tensorflow_text as tf_text

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text import normalizer
from keras_bert_tpu.text.added_tokens import AddedTokens
from keras_bert_tpu.text.vocabulary import MASK, Vocabulary

# True if the text holds so many characters without a space between them: every text with such a
# word, and some without, as words also end at punctuation and at other white space.
_MAY_HOLD_LONG_WORD = rf"(?s).*[^ ]{{{normalizer.MAX_WORD_CHARS + 1}}}.*"

# Categories of characters that end a word or are dropped: control characters and all white space.
_NOT_IN_WORDS = frozenset(("Cc", "Zs", "Zl", "Zp"))

TextLike = tf.Tensor | tf.RaggedTensor | str | bytes | list
IdsLike = tf.Tensor | tf.RaggedTensor | list


class BertTokenizer:
    """BERT's tokenizer as TensorFlow operations: usable eagerly, in tf.data and in SavedModels.

    Text is any UTF-8; text such as "[MASK]" has no special meaning, as in the original, unless it
    is an added token. No special token is put around the text; see `rows.join_rows`.

    Args:
        vocabulary: Vocabulary.
        lower_case: bool. Whether to lower-case, as uncased vocabularies ask for.
        strip_accents: bool or None. Whether to strip accents; None does so if `lower_case` is set.
        added_tokens: Sequence of str. Pieces of the vocabulary, such as "[E1]", that are found in
            the text exactly as they stand before it is normalized or split, the leftmost first and
            then the longest. Each gives its one id; a word ends where a token begins.

    Attributes:
        vocabulary, lower_case: As given.
        strip_accents: bool. Whether accents are stripped.
        added_tokens: tuple of str.

    Raises:
        InputError: If the vocabulary has no piece that text could be made of, or not all of the
            added tokens.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        lower_case: bool = True,
        strip_accents: bool | None = None,
        added_tokens: Sequence[str] = (),
    ):
        self.vocabulary = vocabulary
        self.lower_case = lower_case
        self.strip_accents = normalizer.strips_accents(lower_case, strip_accents)
        self._added = AddedTokens(added_tokens, vocabulary)
        self.added_tokens = self._added.tokens
        self._added_and_mask = AddedTokens((*self.added_tokens, MASK), vocabulary)
        try:
            self._wordpiece = tf_text.FastWordpieceTokenizer(
                _matchable(vocabulary.pieces),
                max_bytes_per_word=normalizer.MAX_WORD_BYTES,
                token_out_type=tf.int32,
            )
        except RuntimeError as error:
            raise InputError(
                f"The vocabulary of {len(vocabulary)} pieces cannot serve to tokenize text "
                f"({error}); it needs pieces besides the special tokens."
            ) from error
        self._pieces = tf.constant(vocabulary.pieces)
        self._is_suffix = tf.constant([piece.startswith("##") for piece in vocabulary.pieces])

    def __call__(self, text: TextLike) -> tf.RaggedTensor | tf.Tensor:
        """Turns strings into ids of word pieces.

        Args:
            text: string tensor or ragged tensor, [...]. Its rank must be known.

        Returns:
            int32 ragged tensor [..., (pieces)]; for a single string a tensor [pieces].
        """
        (ids,) = _map_flat(lambda flat: [self._encode(flat, self._added)], text)
        return ids

    def tokenize_with_offsets(
        self, text: TextLike, unit: Literal["byte", "char"] = "byte"
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Turns strings into ids, and says where in the given text each piece stands.

        The offsets are those of whole characters of the text as given, before lower-casing and
        stripping of accents. Combining marks that were stripped belong to the character before
        them. So the text between them, normalized, is the piece without its "##", but for three
        cases: for [UNK] it is one word; of a character that gives several letters (a Hangul
        syllable may) each piece has the whole; and marks that decomposition puts in another order
        but that are no accents (Mc, such as the tone marks of Hangul) may have each other's place.
        A sigma at its end may have the other small form.

        This is several times slower than `__call__`.

        Args:
            text: string tensor or ragged tensor, [...]. Its rank must be known.
            unit: "byte" or "char". What offsets count. Bytes that are not UTF-8 are no characters.

        Returns:
            ids: int32 ragged tensor [..., (pieces)], the same as from `__call__`.
            starts: int32, of the same shape. Offset of the first character of the piece.
            ends: int32, of the same shape. Offset behind its last character.
            For a single string these are tensors [pieces].
        """
        if unit not in ("byte", "char"):
            raise InputError(f"unit must be 'byte' or 'char'. Received: {unit!r}.")

        return tuple(_map_flat(lambda flat: self._encode_with_offsets(flat, unit), text))

    def encode_with_masks(self, text: TextLike) -> tf.RaggedTensor | tf.Tensor:
        """Turns strings into ids as if "[MASK]" were an added token, too.

        Args:
            text: string tensor or ragged tensor, [...]. Its rank must be known.

        Returns:
            int32 ragged tensor [..., (pieces)]; for a single string a tensor [pieces].
        """
        (ids,) = _map_flat(lambda flat: [self._encode(flat, self._added_and_mask)], text)
        return ids

    def id_to_piece(self, ids: IdsLike) -> tf.Tensor | tf.RaggedTensor:
        """Looks up the pieces of ids.

        Args:
            ids: int tensor or ragged tensor of any shape, each from 0 to the vocabulary's size - 1.

        Returns:
            string, of the same shape.
        """
        return tf.gather(self._pieces, ids)

    def begins_word(self, ids: IdsLike) -> tf.Tensor | tf.RaggedTensor:
        """Tells which pieces begin a word, as all do that have no "##".

        Args:
            ids: int tensor or ragged tensor of any shape, each from 0 to the vocabulary's size - 1.

        Returns:
            bool, of the same shape.
        """
        return tf.logical_not(tf.gather(self._is_suffix, ids))

    def detokenize(self, ids: IdsLike, skip_special_tokens: bool = True) -> tf.Tensor:
        """Joins pieces to text for people to read.

        It cannot restore what normalization took away: case, accents and the original spacing.

        Args:
            ids: int tensor or ragged tensor [..., (pieces)].
            skip_special_tokens: bool. Whether to leave out [PAD], [CLS], [SEP] and so on.

        Returns:
            string [...].
        """
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.convert_to_tensor(ids, tf.int32)
        pieces = self.id_to_piece(ids)
        # A space goes with its piece, so that pieces left out leave no space behind.
        words = _per_value(lambda flat: tf.strings.join([" ", flat]), pieces)
        if skip_special_tokens:
            special = tf.constant(self.vocabulary.special_ids)
            words = _per_value(
                lambda flat, flat_ids: tf.where(
                    tf.reduce_any(flat_ids[..., None] == tf.cast(special, flat_ids.dtype), -1),
                    "",
                    flat,
                ),
                words,
                ids,
            )
        text = tf.strings.reduce_join(words, axis=-1)

        def tidy(flat: tf.Tensor) -> tf.Tensor:
            flat = tf.strings.regex_replace(flat, r" ##", "")
            flat = tf.strings.regex_replace(flat, r" ([.,;:!?%)\]}])", r"\1")
            flat = tf.strings.regex_replace(flat, r"([(\[{]) ", r"\1")
            flat = tf.strings.regex_replace(flat, r"(\w) ' (s|t|m|d|re|ve|ll)\b", r"\1'\2")
            return tf.strings.strip(flat)

        return _per_value(tidy, text)

    def _encode(self, text: tf.Tensor, added: AddedTokens) -> tf.RaggedTensor:
        """Turns strings [n] into ids [n, (pieces)]."""
        if not added.tokens:
            return self._pieces_of(self._normalize(text))[0]
        split = added.split(text)
        return split.join(self._pieces_of(self._normalize(split.texts()))[0], split.ids)

    def _encode_with_offsets(self, text: tf.Tensor, unit: str) -> list[tf.RaggedTensor]:
        """Turns strings [n] into ids, starts and ends [n, (pieces)]."""
        if not self._added.tokens:
            return self._pieces_with_offsets(text, unit)
        split = self._added.split(text)
        parts = split.parts.values
        if unit == "byte":
            sizes = tf.strings.length(parts)
        else:
            sizes = tf.strings.length(
                tf.strings.unicode_transcode(parts, "UTF-8", "UTF-8", errors="ignore"),
                unit="UTF8_CHAR",
            )
        # Where each part begins in its text; all texts have parts.
        before = tf.cumsum(sizes, exclusive=True)
        first = tf.gather(before, split.parts.row_starts())
        before -= tf.repeat(first, tf.cast(split.parts.row_lengths(), tf.int32))
        ids, starts, ends = self._pieces_with_offsets(split.texts(), unit)
        shifts = tf.repeat(before, tf.cast(ids.row_lengths(), tf.int32))
        return [
            split.join(ids, split.ids),
            split.join(
                starts.with_values(starts.values + shifts), tf.boolean_mask(before, split.is_token)
            ),
            split.join(
                ends.with_values(ends.values + shifts),
                tf.boolean_mask(before + sizes, split.is_token),
            ),
        ]

    def _normalize(self, text: tf.Tensor) -> tf.Tensor:
        return normalizer.normalize(text, self.lower_case, self.strip_accents)

    def _pieces_of(
        self, text: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Cuts normalized strings [n] into pieces; offsets are bytes of the normalized text."""
        ids, starts, ends = self._wordpiece.tokenize_with_offsets(text)
        starts, ends = (
            offsets.with_values(tf.cast(offsets.values, tf.int32)) for offsets in (starts, ends)
        )
        pieces = (ids.values, starts.values, ends.values, ids.row_splits)
        *values, row_splits = tf.cond(
            tf.reduce_any(tf.strings.regex_full_match(text, _MAY_HOLD_LONG_WORD)),
            lambda: self._replace_long_words(text, *pieces),
            lambda: pieces,
        )
        return tuple(
            tf.RaggedTensor.from_row_splits(flat, row_splits, validate=False) for flat in values
        )

    def _replace_long_words(
        self,
        text: tf.Tensor,
        ids: tf.Tensor,
        starts: tf.Tensor,
        ends: tf.Tensor,
        row_splits: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Puts one [UNK] for each word of more than 200 characters.

        FastWordpieceTokenizer limits words by bytes, and its limit is where no shorter word is
        caught. Words between the two limits are found here.
        """
        rows = tf.ragged.row_splits_to_segment_ids(row_splits)
        is_suffix = tf.gather(self._is_suffix, ids)
        word_of_piece = tf.cumsum(tf.cast(tf.logical_not(is_suffix), tf.int32)) - 1
        word_starts = tf.math.segment_min(starts, word_of_piece)
        word_ends = tf.math.segment_max(ends, word_of_piece)
        word_rows = tf.math.segment_min(rows, word_of_piece)
        in_bytes = word_ends - word_starts
        suspects = tf.where(in_bytes > normalizer.MAX_WORD_CHARS)
        words = tf.strings.substr(
            tf.gather(text, tf.gather_nd(word_rows, suspects)),
            tf.gather_nd(word_starts, suspects),
            tf.gather_nd(in_bytes, suspects),
        )
        is_long = tf.scatter_nd(
            suspects,
            tf.strings.length(words, unit="UTF8_CHAR") > normalizer.MAX_WORD_CHARS,
            tf.shape(in_bytes, tf.int64),
        )
        is_replaced = tf.gather(is_long, word_of_piece)
        is_kept = tf.logical_not(tf.logical_and(is_replaced, is_suffix))
        ids = tf.where(is_replaced, self.vocabulary.unk_id, ids)
        ends = tf.where(is_replaced, tf.gather(word_ends, word_of_piece), ends)
        kept = tf.RaggedTensor.from_value_rowids(
            tf.where(is_kept)[:, 0],
            tf.boolean_mask(rows, is_kept),
            nrows=tf.size(row_splits, tf.int64) - 1,
            validate=False,
        )
        return (
            tf.gather(ids, kept.values),
            tf.gather(starts, kept.values),
            tf.gather(ends, kept.values),
            kept.row_splits,
        )

    def _pieces_with_offsets(self, text: tf.Tensor, unit: str) -> list[tf.RaggedTensor]:
        """Cuts strings [n] into pieces; offsets are of the strings as given.

        The normalizer is applied a second time, to each character alone. Character by character it
        may choose other letters than for the whole text (the Greek sigma at the end of a word) but
        never of another length in bytes, so the lengths say from which character each byte of the
        normalized text has come.
        """
        ids, starts, ends = self._pieces_of(self._normalize(text))

        chars, char_starts = tf.strings.unicode_split_with_offsets(text, "UTF-8", errors="ignore")
        row_splits = chars.row_splits
        normalized = self._normalize(chars.values)
        lengths = tf.strings.length(normalized)
        if unit == "byte":
            char_starts = tf.cast(char_starts.values, tf.int32)
            char_ends = char_starts + tf.strings.length(chars.values)
        else:
            char_starts = tf.ragged.range(chars.row_lengths(), dtype=tf.int64).values
            char_starts = tf.cast(char_starts, tf.int32)
            char_ends = char_starts + 1

        # A stripped mark ends where the character before it ends. Dropped control characters, of
        # which `clean` leaves nothing, belong to no other; nor does a mark that begins a text.
        is_mark = (lengths == 0) & (tf.strings.length(normalizer.clean(chars.values)) > 0)
        rows = tf.ragged.row_splits_to_segment_ids(row_splits)
        is_row_start = tf.concat([[True], rows[1:] != rows[:-1]], 0)[: tf.size(rows)]
        cluster = tf.cumsum(tf.cast(tf.logical_not(is_mark) | is_row_start, tf.int32)) - 1
        char_ends = tf.gather(tf.math.segment_max(char_ends, cluster), cluster)

        # From bytes of the normalized text, counted through all rows, to characters.
        char_of_byte = tf.repeat(tf.range(tf.size(lengths)), lengths)
        bytes_before = tf.concat([[0], tf.cumsum(lengths)], 0)
        row_bytes = tf.repeat(
            tf.gather(bytes_before, row_splits[:-1]), tf.cast(ids.row_lengths(), tf.int32)
        )
        first = tf.gather(char_of_byte, starts.values + row_bytes)
        last = tf.gather(char_of_byte, ends.values + row_bytes - 1)
        return [
            ids,
            starts.with_values(tf.gather(char_starts, first)),
            ends.with_values(tf.gather(char_ends, last)),
        ]


def _matchable(pieces: Sequence[str]) -> list[str]:
    """Puts pieces that no text can match in the place of those that none should match.

    No normalized word has white space or control characters, so Google's tokenizer never gives a
    piece that has. FastWordpieceTokenizer would give one with white space (the vocabulary of
    bert-base-chinese has two, of U+2028), and cannot be made with some control characters.
    """
    # Normalized text never holds U+FFFD.
    return [
        piece
        if _NOT_IN_WORDS.isdisjoint(map(unicodedata.category, piece))
        else f"\N{REPLACEMENT CHARACTER}{index}"
        for index, piece in enumerate(pieces)
    ]


def _map_flat(function, text: TextLike) -> list[tf.RaggedTensor | tf.Tensor]:
    """Applies `function`, strings [n] to ragged tensors [n, (pieces)], to text of any shape."""
    if isinstance(text, tf.RaggedTensor):
        return [text.with_flat_values(result) for result in _map_flat(function, text.flat_values)]
    text = tf.convert_to_tensor(text, tf.string)
    rank = text.shape.rank
    if rank is None:
        raise InputError(
            "The rank of the text tensor must be known; set its shape with tf.ensure_shape."
        )
    if rank == 0:
        return [result.values for result in function(text[None])]
    if rank == 1:
        return function(text)
    return _map_flat(function, tf.RaggedTensor.from_tensor(text, ragged_rank=rank - 1))


def _per_value(function, first, *others):
    """Applies an elementwise function to tensors or to ragged tensors of equal shape."""
    return tf.ragged.map_flat_values(function, first, *others)
