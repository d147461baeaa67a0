"""The graph against what Google's tokenization.py gave (tests/golden/tokenizer)."""

import gzip
import hashlib
import json
import pathlib
import unicodedata

import pytest
import reference_tokenizer as reference
import tensorflow as tf

from keras_bert_tpu.text.normalizer import WordSplitter
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import Vocabulary

TESTS = pathlib.Path(__file__).parents[1]
GOLDEN = json.loads((TESTS / "golden" / "tokenizer" / "golden.json").read_text())
SHARED = TESTS.parents[1] / "shared" / "data"
# Name, whether to lower-case, and whether to strip accents.
CASES = [
    ("uncased", True, True),
    ("cased", False, False),
    ("lower_only", True, False),
    ("strip_only", False, True),
]
LINES_PER_CHECKSUM = 1000

# The whole of what differs. TensorFlow's libraries know other versions of Unicode than the Python
# that tokenization.py ran in (Unicode 14): ICU in TensorFlow 13, ICU in tensorflow-text 16, and RE2
# in TensorFlow 15. All of these characters are younger than BERT's vocabularies.
#   Capital letters new in Unicode 14, which stay capitals:
CAPITALS = [
    *(0x2C2F, 0xA7C0, 0xA7D0, 0xA7D6, 0xA7D8),
    *range(0x10570, 0x1057B),
    *range(0x1057C, 0x1058B),
    *range(0x1058C, 0x10593),
    *(0x10594, 0x10595),
]
#   Characters new in Unicode 15 and 16, which were unassigned and so counted as letters:
#   punctuation,
PUNCTUATION = [
    *(0x1B4E, 0x1B4F, 0x1B7F, 0x10D6E, 0x113D4, 0x113D5, 0x113D7, 0x113D8, 0x11BE1, 0x1E5FF),
    *range(0x11B00, 0x11B0A),
    *range(0x11F43, 0x11F50),
    *range(0x16D6D, 0x16D70),
]
#   format characters,
FORMAT = [*range(0x13439, 0x13440)]
#   accents, and letters that are decomposed.
ACCENTS = [
    *(0xECE, 0x10EFD, 0x10EFE, 0x10EFF, 0x11241, 0x11F00, 0x11F01, 0x1E08F, 0x11F40, 0x11F42),
    *range(0x11F36, 0x11F3B),
    *(0x13440, *range(0x13447, 0x13456)),
    *range(0x1E4EC, 0x1E4F0),
]
DECOMPOSED = [
    *(0x105C9, 0x105E4, 0x11383, 0x11385, 0x1138E, 0x11391, 0x113C5, 0x113C7, 0x113C8),
    *range(0x16121, 0x16129),
    *range(0x16D68, 0x16D6B),
]
VOCABULARY_IS_UNCASED = ("uncased", "lower_only")
KNOWN_DIFFERENCES = {
    "uncased": {*CAPITALS, *PUNCTUATION, *FORMAT, *ACCENTS, *DECOMPOSED},
    "cased": {*PUNCTUATION, *FORMAT},
    "lower_only": {*CAPITALS, *PUNCTUATION, *FORMAT},
    "strip_only": {*PUNCTUATION, *FORMAT, *ACCENTS, *DECOMPOSED},
}


def odd_texts() -> list[bytes]:
    return [text.encode("utf-8", "surrogateescape") for text in GOLDEN["texts"]]


@pytest.mark.parametrize("case, lower_case, strip_accents", CASES)
def test_ids_are_those_of_google(case, lower_case, strip_accents):
    tokenizer = BertTokenizer(Vocabulary(GOLDEN[case]["pieces"]), lower_case, strip_accents)
    texts = odd_texts()
    assert len(texts) == 480
    for text, ids, expected in zip(
        texts, tokenizer(texts).to_list(), GOLDEN[case]["ids"], strict=True
    ):
        assert " ".join(map(str, ids)) == expected, text


@pytest.mark.parametrize("case, lower_case, strip_accents", CASES)
def test_the_reference_in_plain_python_gives_the_same(case, lower_case, strip_accents):
    pieces = {piece: index for index, piece in enumerate(GOLDEN[case]["pieces"])}
    for text, expected in zip(odd_texts(), GOLDEN[case]["ids"], strict=True):
        found = reference.tokenize(text, pieces, lower_case, strip_accents)
        assert " ".join(str(pieces[piece]) for piece in found) == expected, text


def test_accents_are_stripped_with_lower_case_unless_said_otherwise():
    for lower_case in (True, False):
        tokenizer = BertTokenizer(Vocabulary(GOLDEN["cased"]["pieces"]), lower_case)
        assert tokenizer.strip_accents == lower_case
        texts = odd_texts()
        explicit = BertTokenizer(tokenizer.vocabulary, lower_case, strip_accents=lower_case)
        assert tokenizer(texts).to_list() == explicit(texts).to_list()


@pytest.mark.parametrize("case, lower_case, strip_accents", CASES[:2])
def test_ids_of_every_line_of_a_corpus_in_the_full_vocabulary_are_those_of_google(
    case, lower_case, strip_accents
):
    names = list(GOLDEN[case]["corpus"])
    assert compare_corpus(case, lower_case, strip_accents, names) == 353_538


# The three that are not compressed: short ones, one of them with many accents.
@pytest.mark.parametrize("case, lower_case, strip_accents", CASES[2:])
def test_ids_of_three_files_are_those_of_google_with_case_or_accents_alone(
    case, lower_case, strip_accents
):
    names = [name for name in GOLDEN[case]["corpus"] if name.endswith(".txt")]
    assert compare_corpus(case, lower_case, strip_accents, names) == 10_768


@pytest.mark.slow
@pytest.mark.parametrize("case, lower_case, strip_accents", CASES[2:])
def test_ids_of_every_line_are_those_of_google_with_case_or_accents_alone(
    case, lower_case, strip_accents
):
    names = list(GOLDEN[case]["corpus"])
    assert compare_corpus(case, lower_case, strip_accents, names) == 353_538


def compare_corpus(case: str, lower_case: bool, strip_accents: bool, names: list[str]) -> int:
    """Compares the ids of all lines of the files with their checksums; returns how many lines."""
    golden = GOLDEN[case]
    vocab = SHARED / "vocab" / f"bert-base-{'un' * (case in VOCABULARY_IS_UNCASED)}cased-vocab.txt"
    if not vocab.exists() or sha256(vocab.read_bytes()) != golden["vocab_sha256"]:
        pytest.skip(f"needs {vocab} as it was when the golden file was made")
    tokenizer = BertTokenizer(Vocabulary.load(str(vocab)), lower_case, strip_accents)
    compared = 0
    for name in names:
        expected = golden["corpus"][name]
        path = SHARED / "corpus" / name
        data = path.read_bytes() if path.exists() else b""
        data = gzip.decompress(data) if name.endswith(".gz") else data
        if sha256(data) != expected["sha256"]:
            pytest.skip(f"needs {path} as it was when the golden file was made")
        rows = (
            tf.data.Dataset.from_tensor_slices(data.split(b"\n"))
            .batch(LINES_PER_CHECKSUM)
            .map(tokenizer, num_parallel_calls=2)
        )
        for group, checksum in zip(rows, expected["checksums"], strict=True):
            values = [group.values.numpy(), group.row_lengths().numpy()]
            data = b"".join(array.astype("<i4").tobytes() for array in values)
            assert sha256(data)[:16] == checksum, f"{name} near line {compared}"
            compared += len(values[1])
    return compared


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("case, lower_case, strip_accents", CASES)
def test_every_character_is_treated_as_by_google_but_for_a_known_list(
    case, lower_case, strip_accents
):
    # The planes in use, and the ends of the others, where nothing but letters is.
    codes = [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE1000), 0xF0000, 0x10FFFF]
    splitter = WordSplitter(lower_case, strip_accents)
    differing = set()
    runs = iter([*GOLDEN[case]["characters"], [0x110000, ""]])
    pattern, (next_start, next_pattern) = None, next(runs)
    for start in range(0, len(codes), 50_000):
        batch = codes[start : start + 50_000]
        words = splitter.words(
            [line for code in batch for line in (f"a{chr(code)}b".encode(), b"zz")]
        )
        found = b" ".join(words).decode().split(" zz")[:-1]
        assert len(found) == len(batch)
        for code, result in zip(batch, found, strict=True):
            char = chr(code)
            while code >= next_start:
                pattern, (next_start, next_pattern) = next_pattern, next(runs)
            if 0xAC00 <= code < 0xD7A4 and strip_accents:
                expected = f"a{unicodedata.normalize('NFD', char)}b"
            else:
                expected = GOLDEN[case]["changed"].get(str(code)) or pattern.replace("\ufffd", char)
            if result.strip() != expected:
                differing.add(code)
    assert {hex(code) for code in differing - KNOWN_DIFFERENCES[case]} == set()


def test_the_list_of_known_differences_does_not_grow():
    assert {case: len(codes) for case, codes in KNOWN_DIFFERENCES.items()} == {
        "uncased": 138,
        "cased": 43,
        "lower_only": 83,
        "strip_only": 98,
    }
