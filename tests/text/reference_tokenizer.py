"""BERT's tokenization in plain Python: slow, and written to be read beside the rules.

The tests compare the graph with it on random text. Python's own tables of characters are used.
"""

import unicodedata
from collections.abc import Container

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


def normalize(text: str | bytes, lower_case: bool) -> str:
    text = clean(text)
    if not lower_case:
        return text
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(char for char in decomposed if unicodedata.category(char) != "Mn")


def is_word_alone(char: str) -> bool:
    return (
        char in ASCII_SYMBOLS
        or unicodedata.category(char)[0] == "P"
        or any(first <= ord(char) <= last for first, last in IDEOGRAPHS)
    )


def split_words(text: str | bytes, lower_case: bool) -> list[str]:
    # Spaces that come with a character that is a word end the words beside it.
    spaced = (f" {char} " if is_word_alone(char) else char for char in normalize(text, lower_case))
    return "".join(spaced).split()


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


def tokenize(text: str | bytes, pieces: Container[str], lower_case: bool) -> list[str]:
    return [piece for word in split_words(text, lower_case) for piece in cut_word(word, pieces)]
