"""Which documents of a corpus stay: size, share of letters, exact and near-duplicates.

The rules look at one document after another, over all corpora in their order, and the first of
several alike stays. What an answer depends on is the settings and the documents before, and on
nothing of the machine: no hash of Python's, no random state, no threads.

Near-duplicates are found as in "Deduplicating Training Data Makes Language Models Better"
(arXiv 2107.06499): the Jaccard similarity of the documents' sets of 5-word sequences, estimated
from MinHash signatures of `datasketch`, whose locality-sensitive bands name the candidates.

Measured on one core of a busy 2-core x86 server, English text in documents of 2 kB. Speed: letters
75 MB of text a second, exact duplicates 75, near-duplicates 8. Memory for each million documents
kept: exact 23 MB (15 MB in a corpus of eight million), near 0.43 GB at the default threshold. With
`datasketch.MinHashLSH` as the index of the same bands, it would be 6 GB, which is why the bands are
kept here in a table of their own.
"""

import functools
import hashlib
import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_bert_tpu.config import DataConfig, InputError

TOO_SHORT = "too_short"
TOO_LONG = "too_long"
FEW_LETTERS = "few_letters"
DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near_duplicate"
# In the order in which the rules are asked: the cheap ones first.
REASONS = (TOO_SHORT, TOO_LONG, FEW_LETTERS, DUPLICATE, NEAR_DUPLICATE)

# Words in a sequence, as in arXiv 2107.06499, appendix A.
SHINGLE_WORDS = 5
# Values in a signature. The estimate of a similarity of 0.8 has a standard deviation of
# sqrt(0.8 * 0.2 / 128) = 0.035; twice the values would take twice the memory and bring 0.025.
SIGNATURE_LENGTH = 128
# Scripts written without spaces, where each character counts as a word: kana, CJK ideographs and
# their compatibility forms.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")
_ASCII_SPACES = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}


def characters_of(document: Sequence[str]) -> int:
    """Returns the number of characters of a document's sentences, not counting what joins them."""
    return sum(map(len, document))


def letter_share(document: Sequence[str]) -> float:
    """Returns the share of letters (`str.isalpha`) among the characters that are not white space.

    Without any such character, it is 0.
    """
    # Four bytes a character, so that tables answer for all of them at once.
    data = "".join(document).encode("utf-32-le", "surrogatepass")
    code_points = np.frombuffer(data, dtype="<u4")
    is_letter, is_dark = _character_tables()
    letters = int(np.count_nonzero(is_letter[code_points]))
    dark = int(np.count_nonzero(is_dark[code_points]))
    return letters / dark if dark else 0.0


@functools.cache
def _character_tables() -> tuple[np.ndarray, np.ndarray]:
    """Returns, for each code point, whether it is a letter and whether it is no white space."""
    characters = [chr(code_point) for code_point in range(sys.maxunicode + 1)]
    is_letter = np.fromiter(map(str.isalpha, characters), bool, len(characters))
    is_space = np.fromiter(map(str.isspace, characters), bool, len(characters))
    return is_letter, ~is_space


def unfit_reason(document: Sequence[str], config: DataConfig) -> str | None:
    """Returns why a document does not fit by itself, or None if it does.

    Args:
        document: Sentences.
        config: DataConfig. `min_characters`, `max_characters` and `min_letter_share` are the least
            and the most that stays; 0 turns a rule off.

    Returns:
        "too_short", "too_long", "few_letters" or None.
    """
    characters = characters_of(document)
    if characters < config.min_characters:
        return TOO_SHORT
    if config.max_characters and characters > config.max_characters:
        return TOO_LONG
    if config.min_letter_share and letter_share(document) < config.min_letter_share:
        return FEW_LETTERS
    return None


class Hygiene:
    """Decides, document by document in the order of the corpora, which of them stay.

    Attributes:
        counts: Mapping from each of `REASONS` to the number of documents dropped for it so far.
    """

    def __init__(self, config: DataConfig):
        """Initializes with no document seen.

        Args:
            config: DataConfig. `min_characters`, `max_characters`, `min_letter_share`,
                `duplicates` and `near_threshold` count.

        Raises:
            InputError: If near-duplicates are asked for and `datasketch` is not installed.
        """
        self._config = config
        self._exact = ExactDuplicates() if config.duplicates in ("exact", "near") else None
        self._near = NearDuplicates(config.near_threshold) if config.duplicates == "near" else None
        self._counts = dict.fromkeys(REASONS, 0)

    @property
    def counts(self) -> Mapping[str, int]:
        """Documents dropped so far, for each of `REASONS`."""
        return dict(self._counts)

    def drop_reason(self, document: Sequence[str]) -> str | None:
        """Returns why a document is dropped, or None if it stays.

        The same documents in the same order get the same answers.

        Args:
            document: Sentences.

        Returns:
            One of `REASONS`, the first that applies, or None.
        """
        reason = unfit_reason(document, self._config)
        if reason is None and self._exact is not None and not self._exact.add(document):
            reason = DUPLICATE
        if reason is None and self._near is not None and not self._near.add(document):
            reason = NEAR_DUPLICATE
        if reason is not None:
            self._counts[reason] += 1
        return reason


class ExactDuplicates:
    """The texts seen so far, as 128-bit hashes.

    Two documents are equal if their texts are but for case, for the white space between words and
    for where sentences end. That two different ones of a billion share a hash has the probability
    1.5e-21.
    """

    def __init__(self):
        """Initializes with no text."""
        self._seen = _HashTable(key_bytes=16, value_bytes=0)

    def add(self, document: Sequence[str]) -> bool:
        """Adds a document's text; False, and nothing added, if it was there already."""
        text = " ".join(" ".join(document).lower().split())
        key = _digest(text.encode("utf-8", "ignore"), 16)
        if next(self._seen.find(key), None) is not None:
            return False
        self._seen.add(key, 0)
        return True


class NearDuplicates:
    """The documents kept so far, as MinHash signatures.

    A document's set is that of its sequences of 5 words, lower-cased, punctuation left out; one of
    fewer words has one sequence, of them all, and one of none is like no other. A copy with other
    words in the place of a share c of them, here and there, has the similarity J = p / (2 - p) to
    its original, with p = (1 - c) ** 5: 0.8 at 2.3% of the words, 0.63 at 5%.

    A document is dropped if a kept one shares a band of the signature with it and the signatures'
    estimate of J is at least the threshold. Around the threshold that is a matter of chance: of
    pairs right at 0.8 about half are found, at 0.86 more than 90%, at 0.74 fewer than 10%. Of a
    thousand pages made from one template, which are alike but not enough, each is compared with
    the first 64 under each of its bands.
    """

    def __init__(self, threshold: float):
        """Initializes with no document.

        Args:
            threshold: float. Smallest estimated Jaccard similarity of near-duplicates, in (0, 1].

        Raises:
            InputError: If `datasketch` is not installed.
        """
        datasketch = _import_datasketch()
        self._threshold = threshold
        self._minhash = datasketch.MinHash(
            SIGNATURE_LENGTH, seed=1, hashfunc=_same, scheme="affine32"
        )
        # A false candidate costs a comparison, one that is missed is never found: hence the
        # weights. At 0.8 they give 16 bands of 8 values, which name 95% of the pairs at the
        # threshold. Bands are not searched beyond 0.95, where there would be fewer than two.
        lsh = datasketch.MinHashLSH(min(threshold, 0.95), SIGNATURE_LENGTH, weights=(0.05, 0.95))
        self._bands, self._band_length = lsh.b, lsh.r
        self._candidates = _HashTable(key_bytes=8, value_bytes=4)
        self._signatures = _Rows(SIGNATURE_LENGTH)
        self._word_hashes = _WordHashes()

    def add(self, document: Sequence[str]) -> bool:
        """Adds a document; False, and nothing added, if it is a near-duplicate of a kept one."""
        shingles = self._shingles(document)
        if not len(shingles):
            return True
        signature = self._signature(shingles)
        keys = self._band_keys(signature)
        # The lower half of a value tells values apart as well, but for one pair in 65,536.
        stored = signature.astype(np.uint16)
        sharing = [list(self._candidates.find(key)) for key in keys]
        for number in sorted(set(itertools.chain.from_iterable(sharing))):
            equal = int(np.count_nonzero(self._signatures[number] == stored))
            if equal >= self._threshold * SIGNATURE_LENGTH:
                return False
        number = self._signatures.append(stored)
        for key, numbers in zip(keys, sharing, strict=True):
            if len(numbers) < _SHARING_A_BAND:
                self._candidates.add(key, number)
        return True

    def _shingles(self, document: Sequence[str]) -> np.ndarray:
        """Returns the hashes of the word sequences, uint32 [sequences]."""
        words = _words(" ".join(document).lower())
        hashes = np.fromiter(
            map(self._word_hashes.__getitem__, words), dtype=np.uint64, count=len(words)
        )
        length = min(SHINGLE_WORDS, len(words))
        if not length:
            return np.zeros(0, np.uint32)
        total = np.zeros(len(words) - length + 1, np.uint64)
        for position in range(length):
            # A polynomial modulo 2**64, so that the order of the words counts.
            total = total * _MULTIPLIER + hashes[position : position + len(total)]
        return (total >> np.uint64(32)).astype(np.uint32)

    def _signature(self, shingles: np.ndarray) -> np.ndarray:
        """Returns the smallest value of each permutation, uint32 [128]."""
        self._minhash.clear()
        for start in range(0, len(shingles), _SHINGLES_AT_ONCE):
            self._minhash.update_batch(shingles[start : start + _SHINGLES_AT_ONCE].tolist())
        return self._minhash.hashvalues

    def _band_keys(self, signature: np.ndarray) -> list[bytes]:
        """Returns one hash for each band, of its number and its values."""
        data = signature.astype("<u4").tobytes()
        width = 4 * self._band_length
        return [
            _digest(band.to_bytes(1, "little") + data[band * width : (band + 1) * width], 8)
            for band in range(self._bands)
        ]


# Odd, with about as many ones as zeros in its bits: the fraction of the golden ratio.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
# 4,096 x 128 values of 4 bytes are 2 MB, which fit a core's cache; those of a book do not.
_SHINGLES_AT_ONCE = 4096
# Kept documents under one band: without a limit, the time would grow with the square of the number
# of pages made from one template, as those on villages in an encyclopedia.
_SHARING_A_BAND = 64
# Words whose hashes are remembered: those of a language that come again, in about 50 MB.
_WORDS_REMEMBERED = 1 << 18


def _words(text: str) -> list[str]:
    """Returns the runs of letters, digits and underscores; in unspaced scripts, the characters."""
    if text.isascii():
        # The same rule, three times as fast.
        return text.translate(_ASCII_SPACES).split()
    return _WORD.findall(text)


def _same(value: int) -> int:
    return value


def _digest(data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()


def _import_datasketch() -> Any:
    try:
        import datasketch
    except ImportError as error:
        raise InputError(
            'duplicates=near needs the package datasketch; install it with `pip install "'
            'keras_bert_tpu[dedup]"`, or take duplicates=exact.'
        ) from error
    return datasketch


class _WordHashes(dict[str, int]):
    """64-bit hashes of words, computed when first asked for."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _WORDS_REMEMBERED:
            self.clear()
        self[word] = value = int.from_bytes(_digest(word.encode("utf-8", "ignore"), 8), "little")
        return value


class _Rows:
    """Rows of uint16 that grow in blocks, without ever being copied."""

    _BLOCK = 1 << 14

    def __init__(self, width: int):
        self._width = width
        self._blocks: list[np.ndarray] = []
        self._length = 0

    def append(self, row: np.ndarray) -> int:
        """Adds a row and returns its number."""
        if self._length == len(self._blocks) * self._BLOCK:
            self._blocks.append(np.empty((self._BLOCK, self._width), np.uint16))
        number = self._length
        self._blocks[-1][number % self._BLOCK] = row
        self._length += 1
        return number

    def __getitem__(self, number: int) -> np.ndarray:
        return self._blocks[number // self._BLOCK][number % self._BLOCK]


class _HashTable:
    """Numbers under hashes, in little more memory than these take.

    The first two bytes of a hash choose one of 65,536 strings, which holds the rest of the hashes
    and the numbers, one after another, and is searched with `bytes.find`. With ten million entries
    a string has 150 of them, with a hundred million 1,500, some 20 kB, searched in 6 us. A dict
    would take 100 bytes and more for an entry.
    """

    def __init__(self, key_bytes: int, value_bytes: int):
        self._value_bytes = value_bytes
        self._width = key_bytes - 2 + value_bytes
        self._strings = [b""] * (1 << 16)

    def find(self, key: bytes) -> Iterator[int]:
        """Yields the numbers under a hash, in the order in which they were added."""
        string = self._strings[int.from_bytes(key[:2], "little")]
        rest = key[2:]
        start = string.find(rest)
        while start >= 0:
            # What is found across the border of two entries is none.
            if start % self._width == 0:
                value = string[start + len(rest) : start + self._width]
                yield int.from_bytes(value, "little")
            start = string.find(rest, start + 1)

    def add(self, key: bytes, value: int) -> None:
        """Adds a number under a hash, after those that are there."""
        entry = key[2:] + value.to_bytes(self._value_bytes, "little")
        # A new string rather than a bytearray, whose spare room takes 4 bytes more for an entry.
        self._strings[int.from_bytes(key[:2], "little")] += entry
