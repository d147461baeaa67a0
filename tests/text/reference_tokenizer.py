"""BERT's tokenization in plain Python: slow, and written to be read beside the rules.

The tests compare the graph with it on random text, and itself with what Google's own code gave.
Python's own tables of characters are used. The two rules that Google's code does not have are
Hugging Face's: accents may be stripped or kept whatever becomes of case, in Google's order, and
tokens may be added, which are found in the text as given.
"""

import unicodedata
from collections.abc import Container, Sequence

ASCII_SYMBOLS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
# First and last code points of what counts as CJK ideographs.
IDEOGRAPHS = [
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
]


def clean(text: str | bytes) -> str:
    if isinstance(text, bytes):
        text = text.decode("utf-8", "ignore")
    return "".join(
        char
        for char in text
        if char in "\t\n\r"
        or char not in "\0\ufffd"
        and unicodedata.category(char) not in ("Cc", "Cf")
    )


def normalize(text: str | bytes, lower_case: bool, strip_accents: bool | None = None) -> str:
    text = clean(text)
    if lower_case:
        text = text.lower()
    if lower_case if strip_accents is None else strip_accents:
        decomposed = unicodedata.normalize("NFD", text)
        text = "".join(char for char in decomposed if unicodedata.category(char) != "Mn")
    return text


def is_word_alone(char: str) -> bool:
    return (
        char in ASCII_SYMBOLS
        or unicodedata.category(char)[0] == "P"
        or any(first <= ord(char) <= last for first, last in IDEOGRAPHS)
    )


def split_words(
    text: str | bytes, lower_case: bool, strip_accents: bool | None = None
) -> list[str]:
    text = normalize(text, lower_case, strip_accents)
    # Spaces that come with a character that is a word end the words beside it.
    return "".join(f" {char} " if is_word_alone(char) else char for char in text).split()


def cut_word(word: str, pieces: Container[str]) -> list[str]:
    if len(word) > 200:
        return ["[UNK]"]
    found: list[str] = []
    while word:
        prefix = "##" if found else ""
        length = next((n for n in range(len(word), 0, -1) if prefix + word[:n] in pieces), None)
        if length is None:
            return ["[UNK]"]
        found.append(prefix + word[:length])
        word = word[length:]
    return found


def tokenize(
    text: str | bytes,
    pieces: Container[str],
    lower_case: bool,
    strip_accents: bool | None = None,
    added_tokens: Sequence[str] = (),
) -> list[str]:
    found: list[str] = []
    for part, is_token in split_at_tokens(text, added_tokens):
        if is_token:
            found.append(part.decode("utf-8"))
            continue
        for word in split_words(part, lower_case, strip_accents):
            found += cut_word(word, pieces)
    return found


def split_at_tokens(text: str | bytes, tokens: Sequence[str]) -> list[tuple[bytes, bool]]:
    """The parts of a text in order, and which are tokens: the leftmost, then the longest."""
    text = text.encode("utf-8") if isinstance(text, str) else text
    encoded = sorted((token.encode("utf-8") for token in tokens), key=len, reverse=True)
    parts: list[tuple[bytes, bool]] = []
    begin = place = 0
    while place < len(text):
        token = next((token for token in encoded if text.startswith(token, place)), None)
        if token is None:
            place += 1
            continue
        parts += [(text[begin:place], False), (token, True)]
        begin = place = place + len(token)
    return [*parts, (text[begin:], False)]
