"""The word pieces and their ids: read, written, checked, and learned from text.

A vocabulary file holds one piece a line; the id of a piece is the number of its line, from 0.
"""

import collections
import dataclasses
import hashlib
import types
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib as learner
from tqdm.auto import tqdm

from keras_bert_tpu.config import InputError
from keras_bert_tpu.text.files import expand_globs, read_lines
from keras_bert_tpu.text.normalizer import MAX_WORD_CHARS, WordSplitter

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# The learner counts all substrings of a word, and leaves out words longer than this. So they are
# cut: in English they are rare (web addresses lose their punctuation first), but scripts that have
# no spaces between words, such as Thai, have little else. No piece of use is that long.
_MAX_LEARNED_CHARS = 50
# The learner's own default: what is rarer than the thousand most frequent characters is [UNK].
_MAX_ALPHABET = 1000
# A threshold that gives up to a tenth more pieces than wanted is good enough: the rarest are cut.
_SURPLUS = 1.1
_BATCH_BYTES = 1 << 20

TextSource = str | Sequence[str] | tf.data.Dataset | Iterator[bytes]


class Vocabulary:
    """Word pieces and their ids; cannot be changed.

    Args:
        pieces: Sequence of str. The piece at index i has the id i. Pieces inside a word begin
            with "##".

    Raises:
        InputError: If a piece is empty, holds a line break or occurs twice, or if one of [PAD],
            [UNK], [CLS], [SEP] and [MASK] is missing.
    """

    def __init__(self, pieces: Sequence[str]):
        self._set(pieces, "the vocabulary")

    @classmethod
    def load(cls, path: str) -> "Vocabulary":
        """Reads a vocab.txt; white space around a piece and line ends of Windows are no part of it.

        Args:
            path: str. Local or gs:// path.

        Raises:
            InputError: If there is no such file or its content is not a vocabulary.
        """
        pieces = []
        for number, line in enumerate(read_lines(path), start=1):
            try:
                pieces.append(line.decode("utf-8").strip(" \t\r"))
            except UnicodeDecodeError as error:
                raise InputError(
                    f"Line {number} of {path} is not UTF-8 text: {line!r}; save the vocabulary as "
                    f"UTF-8."
                ) from error
        vocabulary = cls.__new__(cls)
        vocabulary._set(pieces, path)
        return vocabulary

    def _set(self, pieces: Sequence[str], source: str) -> None:
        ids: dict[str, int] = {}
        for index, piece in enumerate(pieces):
            if not piece or "\n" in piece or piece != piece.strip(" \t\r"):
                raise InputError(
                    f"Line {index + 1} of {source} must hold one piece without white space around "
                    f"it. Received: {piece!r}."
                )
            if piece in ids:
                raise InputError(
                    f"The piece {piece!r} stands twice in {source}, on lines {ids[piece] + 1} and "
                    f"{index + 1}; remove one, as ids must be unique."
                )
            ids[piece] = index
        for token in SPECIAL_TOKENS:
            if token not in ids:
                raise InputError(
                    f"The special token {token} is missing in {source}; a vocabulary has one piece "
                    f"a line, and {' '.join(SPECIAL_TOKENS)} among them."
                )
        self._pieces = tuple(pieces)
        self._ids = types.MappingProxyType(ids)
        self._sha256 = hashlib.sha256("\n".join(pieces).encode("utf-8")).hexdigest()

    def save(self, path: str) -> None:
        """Writes a vocab.txt; an existing file is replaced.

        Args:
            path: str. Local or gs:// path; missing local folders are made.
        """
        folder = path.rpartition("/")[0]
        if folder and not tf.io.gfile.exists(folder):
            tf.io.gfile.makedirs(folder)
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write("".join(f"{piece}\n" for piece in self._pieces).encode("utf-8"))

    @property
    def pieces(self) -> tuple[str, ...]:
        """All pieces in the order of their ids."""
        return self._pieces

    @property
    def ids(self) -> Mapping[str, int]:
        """Read-only mapping of pieces to ids."""
        return self._ids

    @property
    def sha256(self) -> str:
        """Hash, in hex, of the pieces joined by newlines; equal if and only if the pieces are."""
        return self._sha256

    @property
    def pad_id(self) -> int:
        """Id of [PAD]."""
        return self._ids[PAD]

    @property
    def unk_id(self) -> int:
        """Id of [UNK]."""
        return self._ids[UNK]

    @property
    def cls_id(self) -> int:
        """Id of [CLS]."""
        return self._ids[CLS]

    @property
    def sep_id(self) -> int:
        """Id of [SEP]."""
        return self._ids[SEP]

    @property
    def mask_id(self) -> int:
        """Id of [MASK]."""
        return self._ids[MASK]

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of [PAD], [UNK], [CLS], [SEP] and [MASK]."""
        return tuple(self._ids[token] for token in SPECIAL_TOKENS)

    def __len__(self) -> int:
        return len(self._pieces)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._pieces == other._pieces

    def __hash__(self) -> int:
        return hash(self._sha256)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} pieces, sha256 {self._sha256[:8]})"


@dataclasses.dataclass(frozen=True)
class WordCounts:
    """How often each word occurs in a text.

    Attributes:
        lines: int. Lines of the text, empty ones included.
        counts: Mapping of str to int. Words as the tokenizer normalizes and splits them.
    """

    lines: int
    counts: Mapping[str, int]

    @property
    def words(self) -> int:
        """Words of the text, repeated ones included."""
        return sum(self.counts.values())


def learn_vocabulary(
    source: TextSource,
    vocab_size: int,
    lower_case: bool = True,
    progress: bool = True,
    strip_accents: bool | None = None,
) -> Vocabulary:
    """Learns word pieces from text.

    Args:
        source: Paths or globs of .txt and .txt.gz files, local or gs:// (see
            `files.expand_globs`), a dataset of UTF-8 strings, or an iterator of them as bytes.
        vocab_size: int. Pieces wanted, special tokens included. The result has exactly so many,
            or fewer if the text does not hold as many that occur more than once.
        lower_case: bool. Whether the words are lower-cased first.
        progress: bool. Whether to show a progress bar on stderr.
        strip_accents: bool or None. Whether the words lose their accents first; None does so if
            `lower_case` is set.

    Returns:
        Vocabulary, the same for the same words in any order. [PAD] has the id 0; the other
        special tokens follow, then single characters, then longer pieces, most frequent first.

    Raises:
        InputError: If no file matches, the text has no word, or `vocab_size` is too small.
    """
    counts = count_words(source, lower_case, progress, strip_accents)
    return learn_from_counts(counts, vocab_size, progress)


def count_words(
    source: TextSource,
    lower_case: bool = True,
    progress: bool = True,
    strip_accents: bool | None = None,
) -> WordCounts:
    """Counts the words of a text, split and normalized as the tokenizer does it.

    Args:
        source: As for `learn_vocabulary`.
        lower_case: bool. Whether the words are lower-cased first.
        progress: bool. Whether to show a progress bar on stderr.
        strip_accents: bool or None. Whether the words lose their accents first; None does so if
            `lower_case` is set.

    Raises:
        InputError: If no file matches or the text has no word.
    """
    if not isinstance(source, tf.data.Dataset | Iterator):
        source = expand_globs(source)
    splitter = WordSplitter(lower_case, strip_accents)
    counts: collections.Counter[bytes] = collections.Counter()
    lines = 0
    with tqdm(desc="counting words", unit=" lines", unit_scale=True, disable=not progress) as bar:
        for batch in _batches(_lines_of(source, bar)):
            counts.update(splitter.words(batch))
            lines += len(batch)
            bar.update(len(batch))
    if not counts:
        received = f" Received: {source}." if isinstance(source, list) else ""
        raise InputError(
            f"The text has no word in its {lines} lines; give text with words.{received}"
        )
    return WordCounts(lines, {word.decode("utf-8"): count for word, count in counts.items()})


def learn_from_counts(
    word_counts: WordCounts, vocab_size: int, progress: bool = True
) -> Vocabulary:
    """Learns word pieces from words that are counted already; see `learn_vocabulary`.

    tensorflow-text's learner takes a threshold: the count from which on a substring becomes a
    piece. The number of pieces follows from it only roughly, so the largest threshold is looked for
    that gives as many as wanted or a few more; then the rarest are left out.

    Args:
        word_counts: WordCounts.
        vocab_size: int. Pieces wanted, special tokens included.
        progress: bool. Whether to show a progress bar on stderr.

    Raises:
        InputError: If `vocab_size` is too small to hold the special tokens and one character, or
            all words are too long to have pieces.
    """
    # Each character of the alphabet needs two pieces, at the start of a word and inside it.
    alphabet_size = min(_MAX_ALPHABET, (vocab_size - len(SPECIAL_TOKENS)) // 2)
    if alphabet_size < 1:
        raise InputError(
            f"vocab_size must be at least {len(SPECIAL_TOKENS) + 2}, and thousands to be of use. "
            f"Received: {vocab_size}."
        )
    counts = sorted(word_counts.counts.items())
    learned_counts = _cut_long_words(counts)
    if not learned_counts:
        raise InputError(
            f"No word of the text has at most {MAX_WORD_CHARS} characters, and longer ones have no "
            f"pieces; give text with spaces between its words. Received: {len(counts)} words."
        )

    def learn(threshold: int) -> tuple[list[str], list[str]]:
        learned = learner.learn(
            learned_counts,
            # Out of reach, so that the learner's own search ends with the first threshold.
            vocab_size=1 << 40,
            reserved_tokens=list(SPECIAL_TOKENS),
            upper_thresh=threshold,
            lower_thresh=threshold,
            max_token_length=_MAX_LEARNED_CHARS,
            max_unique_chars=alphabet_size,
        )
        return _characters_first(learned, counts)

    # Words of natural text follow Zipf's law: the one of rank r has a share of about 1 / (12 r).
    largest = max([2, *(count for _, count in learned_counts)])
    threshold = min(max(2, word_counts.words // (12 * vocab_size)), largest)
    too_low, too_high = 1, largest + 1
    best: tuple[list[str], list[str]] | None = None
    with tqdm(desc="learning pieces", unit=" thresholds", disable=not progress) as bar:
        while too_low < threshold < too_high:
            found = learn(threshold)
            bar.update()
            room = vocab_size - len(found[0])
            surplus = len(found[1]) / max(room, 1)
            bar.set_postfix(threshold=threshold, pieces=len(found[0]) + len(found[1]))
            if surplus >= 1 or best is None or len(best[1]) < room:
                best = found
            if 1 <= surplus <= _SURPLUS:
                break
            if surplus < 1:
                too_high = threshold
            else:
                too_low = threshold
            # The number of pieces is about inversely proportional to the threshold.
            guess = round(threshold * surplus / (1 + _SURPLUS) * 2)
            if not too_low < guess < too_high:
                guess = round((too_low * too_high) ** 0.5)
            threshold = min(max(guess, too_low + 1), too_high - 1)
    characters, pieces = best
    return Vocabulary([*characters, *pieces[: vocab_size - len(characters)]])


def _cut_long_words(counts: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Cuts words into stretches short enough to be learned, but for those that become [UNK]."""
    cut: collections.Counter[str] = collections.Counter()
    for word, count in counts:
        if len(word) <= MAX_WORD_CHARS:
            for start in range(0, len(word), _MAX_LEARNED_CHARS):
                cut[word[start : start + _MAX_LEARNED_CHARS]] += count
    return sorted(cut.items())


def _characters_first(
    learned: list[str], counts: list[tuple[str, int]]
) -> tuple[list[str], list[str]]:
    """Sorts learned pieces into those that must stay and the others, most frequent first.

    Special tokens and single characters stay, so that every word of known characters has pieces.
    The learner makes each character a piece inside words, too; punctuation never is inside one.
    """
    inside_words = {character for word, _ in counts for character in word[1:MAX_WORD_CHARS]}
    characters = [piece for piece in learned if len(piece) == 1]
    kept = [
        *SPECIAL_TOKENS,
        *characters,
        *(f"##{character}" for character in characters if character in inside_words),
    ]
    single = {*kept, *(f"##{character}" for character in characters)}
    return kept, [piece for piece in learned if piece not in single]


def _lines_of(source: list[str] | tf.data.Dataset | Iterator[bytes], bar: tqdm) -> Iterator[bytes]:
    if isinstance(source, Iterator):
        yield from source
        return
    if isinstance(source, tf.data.Dataset):
        for element in source.as_numpy_iterator():
            yield from np.ravel(element)
        return
    for number, path in enumerate(source, start=1):
        bar.set_postfix(file=f"{number}/{len(source)}")
        yield from read_lines(path)


def _batches(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
