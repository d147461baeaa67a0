"""Where words go on in text that came segmented: white space between words of Chinese.

The tokenizer makes every CJK ideograph a word of its own, so its pieces do not tell that two of
them are one word; the text, in which no white space stands between them, does. numpy only.
"""

from collections.abc import Sequence

import numpy as np

# First and last code points of what `_is_chinese_char` in google-research/bert, tokenization.py,
# takes for an ideograph.
CJK_RANGES = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


def find_continuations(
    sentences: Sequence[str | bytes],
    token_ids: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    row_splits: np.ndarray,
    continues_word: np.ndarray,
) -> np.ndarray:
    """Says of each piece whether it continues the word before it.

    It does if it is a "##" piece, or if it and the piece before it are CJK ideographs that touch in
    the text. Whether a piece is an ideograph is seen in the text, so one that the vocabulary lacks
    ([UNK]) counts too. The first piece of a sentence never continues a word.

    Args:
        sentences: Sequence of str or UTF-8 bytes, the text that was tokenized.
        token_ids: int array [pieces]. Pieces of all sentences.
        starts: int array [pieces]. Offset of each piece in its sentence, in bytes.
        ends: int array [pieces]. Offset behind each piece.
        row_splits: int array [sentences + 1]. Where the pieces of each sentence begin and end.
        continues_word: bool array [vocab_size]. Whether a piece is a "##" piece, as in
            `MaskRules.continues_word`.

    Returns:
        bool array [pieces].
    """
    encoded = [s.encode("utf-8") if isinstance(s, str) else s for s in sentences]
    lengths = np.array([len(sentence) for sentence in encoded], np.int64)
    offsets = np.repeat(np.cumsum(lengths) - lengths, np.diff(row_splits))
    # Three bytes more, so that the last character can be read as if it had four.
    text = np.frombuffer(b"".join([*encoded, bytes(3)]), np.uint8)

    is_cjk = _is_cjk(_code_points(text, offsets + starts))
    touches = np.zeros(len(token_ids), bool)
    touches[1:] = is_cjk[1:] & is_cjk[:-1] & (starts[1:] == ends[:-1])
    result = touches | continues_word[token_ids]
    first = np.asarray(row_splits[:-1])
    result[first[first < len(result)]] = False
    return result


def _code_points(text: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Code points of the characters of 3 or 4 bytes at these places of UTF-8 text; 0 for others.

    No shorter one is an ideograph.
    """
    lead, second, third, fourth = (text[places + i].astype(np.int64) for i in range(4))
    second, third, fourth = second & 0x3F, third & 0x3F, fourth & 0x3F
    of_three = (lead & 0x0F) << 12 | second << 6 | third
    of_four = (lead & 0x07) << 18 | second << 12 | third << 6 | fourth
    return np.where(lead >= 0xF0, of_four, np.where(lead >= 0xE0, of_three, 0))


def _is_cjk(code_points: np.ndarray) -> np.ndarray:
    result = np.zeros(code_points.shape, bool)
    for first, last in CJK_RANGES:
        result |= (first <= code_points) & (code_points <= last)
    return result
