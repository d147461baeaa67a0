import gzip
import hashlib
import pathlib
import random
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import hygiene
from keras_bert_tpu.pretraining_data.hygiene import (
    REASONS,
    ExactDuplicates,
    Hygiene,
    NearDuplicates,
    characters_of,
    letter_share,
    unfit_reason,
)

CORPUS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "corpus"


# One document by itself.


@pytest.mark.parametrize(
    "settings, document, reason",
    [
        ({}, [], None),
        ({}, ["1"], None),
        ({"min_characters": 6}, ["abc", "de"], "too_short"),
        ({"min_characters": 5}, ["abc", "de"], None),
        ({"max_characters": 5}, ["abc", "de"], None),
        ({"max_characters": 4}, ["abc", "de"], "too_long"),
        ({"min_characters": 3}, ["日本"], "too_short"),
        ({"max_characters": 2}, ["日本"], None),
        ({"min_letter_share": 0.5}, ["ab 1", "2"], None),
        ({"min_letter_share": 0.5}, ["ab 1", "2."], "few_letters"),
        ({"min_letter_share": 0.1}, [], "few_letters"),
        ({"min_letter_share": 0.9}, ["Äß日 ", "я"], None),
        ({"min_characters": 6, "min_letter_share": 0.9}, ["12345"], "too_short"),
        ({"max_characters": 4, "min_letter_share": 0.9}, ["12345"], "too_long"),
    ],
)
def test_size_and_letters(settings, document, reason):
    config = DataConfig(**settings)
    assert unfit_reason(document, config) == reason
    assert Hygiene(config).drop_reason(document) == reason


@settings(deadline=None)  # The first call makes the tables.
@given(st.lists(st.text()))
def test_the_share_of_letters_is_that_of_pythons_letters(document):
    text = "".join(document)
    dark = [character for character in text if not character.isspace()]
    letters = [character for character in text if character.isalpha()]
    assert letter_share(document) == (len(letters) / len(dark) if dark else 0)
    assert characters_of(document) == len(text)


# Exact duplicates.


@pytest.mark.parametrize(
    "document",
    [
        ["One two.", "Three  four."],
        ["One two. Three four."],
        ["ONE", "two. three", "FOUR."],
        ["One\u00a0two.\u2003Three\tfour. "],
    ],
)
def test_case_white_space_and_sentence_ends_make_no_difference(document):
    seen = ExactDuplicates()
    assert seen.add(["One two.", "Three four."])
    assert not seen.add(document)


@pytest.mark.parametrize(
    "document",
    [["One two.", "Three four"], ["One two.", "Threefour."], ["Three four.", "One two."], []],
)
def test_other_words_order_and_punctuation_make_a_difference(document):
    seen = ExactDuplicates()
    assert seen.add(["One two.", "Three four."])
    assert seen.add(document)
    assert not seen.add(document)


def test_the_first_of_several_stays():
    check = Hygiene(DataConfig(duplicates="exact"))
    documents = [["a"], ["b"], ["A"], ["c"], ["b"], ["a"], ["d"]]
    reasons = [check.drop_reason(document) for document in documents]
    assert reasons == [None, None, "duplicate", None, "duplicate", "duplicate", None]


def test_many_texts_are_told_apart():
    # More than the 65,536 strings of the table, so that most hold several hashes.
    seen = ExactDuplicates()
    assert all(seen.add([f"text {number}"]) for number in range(80_000))
    assert not any(seen.add([f"text {number}"]) for number in range(80_000))


def test_a_hash_is_found_at_the_place_of_an_entry_only():
    table = hygiene._HashTable(key_bytes=4, value_bytes=1)
    table.add(b"\0\0ab", ord("a"))
    table.add(b"\0\0ba", 7)
    # The string is now "ab" "a" "ba" 7: "ba" and "aa" are in it at other places, too.
    assert list(table.find(b"\0\0ba")) == [7]
    assert list(table.find(b"\0\0aa")) == []
    assert list(table.find(b"\1\0ab")) == []
    table.add(b"\0\0ab", 9)
    assert list(table.find(b"\0\0ab")) == [ord("a"), 9]


# Near-duplicates.


def random_words(count: int, key: int) -> list[str]:
    rng = random.Random(key)
    return ["".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(count)]


def jaccard(a: list[str], b: list[str]) -> float:
    sets = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in (a, b)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def with_words_replaced(words: list[str], spacing: int) -> list[str]:
    """Replaces one word of each `spacing`, so that the similarity is known, not drawn."""
    return [
        f"new{place}" if place % spacing == spacing // 2 else word
        for place, word in enumerate(words)
    ]


@pytest.mark.parametrize(
    "spacing, similarity, is_dropped",
    # Every 100th word takes 5 of 100 sequences on both sides: 95 / 105; and so on.
    [(100, 0.905, 1.0), (70, 0.867, 0.95), (32, 0.730, 0.05), (20, 0.6, 0.0)],
)
def test_copies_are_found_above_the_threshold_and_not_below(spacing, similarity, is_dropped):
    trials = 50
    dropped = 0
    near = NearDuplicates(0.8)
    for trial in range(trials):
        words = random_words(1000, trial)
        copy = with_words_replaced(words, spacing)
        assert jaccard(words, copy) == pytest.approx(similarity, abs=0.01)
        assert near.add([" ".join(words)])
        dropped += not near.add([" ".join(copy)])
    # The estimate strays by 0.03, half of the distances here.
    assert dropped / trials == pytest.approx(is_dropped, abs=0.06)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9, 0.97, 1.0])
def test_every_threshold_keeps_strangers_and_drops_copies(threshold):
    near = NearDuplicates(threshold)
    documents = [[" ".join(random_words(200, key))] for key in range(50)]
    assert all(near.add(document) for document in documents)
    assert not any(near.add(document) for document in documents)
    # 0.05 of the sequences in common.
    mixed = [" ".join(random_words(200, 0)[:20] + random_words(180, 99))]
    assert near.add(mixed)


def test_a_threshold_of_one_takes_the_same_sequences_only():
    words = random_words(300, 1)
    near = NearDuplicates(1.0)
    assert near.add([" ".join(words)])
    # Twice the text has four sequences more, of some 300: rarely a smallest value, but for one.
    changed = with_words_replaced(words, 60)
    assert near.add([" ".join(changed)])
    assert not near.add([" ".join(words).upper() + "!"])


def test_punctuation_case_and_sentence_ends_make_no_difference():
    words = random_words(50, 1)
    near = NearDuplicates(1.0)
    assert near.add([" ".join(words)])
    assert not near.add([", ".join(words[:20]) + ".", "“" + " ".join(words[20:]).upper() + "”"])


def test_the_order_of_words_makes_a_difference():
    words = random_words(50, 1)
    near = NearDuplicates(0.5)
    assert near.add([" ".join(words)])
    assert near.add([" ".join(sorted(words))])


@pytest.mark.parametrize(
    "document, other",
    [(["One"], ["two"]), (["a b c d"], ["a b c e"]), (["a b c d"], ["b a c d"]), (["a"], ["a a"])],
)
def test_documents_of_fewer_words_are_compared_as_wholes(document, other):
    near = NearDuplicates(0.8)
    assert near.add(document)
    assert near.add(other)
    assert not near.add([", ".join(document).upper()])


def test_documents_without_a_word_are_like_no_other():
    near = NearDuplicates(0.8)
    assert all(near.add(document) for document in (["..."], ["..."], [], ["!?"]))


def test_characters_are_words_where_scripts_have_no_spaces():
    rng = random.Random(1)
    text = "".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(400))
    near = NearDuplicates(0.8)
    assert near.add([text])
    assert not near.add([text[:200] + "的" + text[201:]])
    assert near.add([text[:100] + text[300:]])


@given(st.text(alphabet=[chr(code) for code in range(128)]))
def test_the_words_of_ascii_text_are_those_of_the_general_rule(text):
    assert hygiene._words(text) == hygiene._WORD.findall(text)


def test_a_copy_of_a_dropped_document_counts_only_if_it_is_like_a_kept_one():
    # b is like a, and c like b, but c is not like a: b goes, so that c stays.
    a = random_words(1000, 1)
    b = with_words_replaced(a, 60)
    c = [word if place % 29 else f"other{place}" for place, word in enumerate(b)]
    assert jaccard(a, b) > 0.83 and jaccard(a, c) < 0.65
    near = NearDuplicates(0.8)
    assert [near.add([" ".join(words)]) for words in (a, b, c)] == [True, False, True]


def test_pages_of_one_template_are_not_all_compared_with_each_other(monkeypatch):
    monkeypatch.setattr(hygiene, "_SHARING_A_BAND", 8)
    # Three quarters of the words in common: a similarity of 0.58.
    template = random_words(300, 0)
    pages = [[" ".join(template + random_words(100, key))] for key in range(1, 201)]
    near = NearDuplicates(0.8)
    assert all(near.add(page) for page in pages)
    numbers = [
        list(near._candidates.find(key))
        for page in pages
        for key in near._band_keys(near._signature(near._shingles(page)))
    ]
    assert max(map(len, numbers)) == 8
    # Each has bands of its own, under which a copy finds it.
    assert sum(near.add(page) for page in pages) <= 10


def test_signatures_are_kept_over_many_blocks(monkeypatch):
    monkeypatch.setattr(hygiene._Rows, "_BLOCK", 4)
    documents = [[" ".join(random_words(100, key))] for key in range(30)]
    near = NearDuplicates(0.8)
    assert all(near.add(document) for document in documents)
    assert not any(near.add([document[0] + " once more"]) for document in documents)


def test_long_documents_have_the_signature_of_all_their_words(monkeypatch):
    document = [" ".join(random_words(3000, 1))]
    near = NearDuplicates(0.8)
    whole = near._signature(near._shingles(document)).copy()
    monkeypatch.setattr(hygiene, "_SHINGLES_AT_ONCE", 700)
    assert np.array_equal(near._signature(near._shingles(document)), whole)


def test_forgotten_words_have_the_same_hashes(monkeypatch):
    document = [" ".join(random_words(500, 1))]
    expected = NearDuplicates(0.8)._shingles(document)
    monkeypatch.setattr(hygiene, "_WORDS_REMEMBERED", 10)
    assert np.array_equal(NearDuplicates(0.8)._shingles(document), expected)


def test_signatures_are_the_same_on_every_machine():
    # The figures were written down once: a change drops other documents than before.
    near = NearDuplicates(0.8)
    signature = near._signature(near._shingles(["The quick brown fox jumps over the lazy dog."]))
    assert signature.dtype == np.uint32
    assert hashlib.sha256(signature.astype("<u4").tobytes()).hexdigest()[:16] == "9eab5df94d4fa136"
    assert (near._bands, near._band_length) == (16, 8)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(InputError, match=r'pip install "keras_bert_tpu\[dedup\]"'):
        Hygiene(DataConfig(duplicates="near"))
    assert Hygiene(DataConfig(duplicates="exact")).drop_reason(["a"]) is None


# All rules together.


def test_reasons_and_counts_in_order():
    config = DataConfig(
        min_characters=3, max_characters=5000, min_letter_share=0.5, duplicates="near"
    )
    words = random_words(300, 1)
    documents = [
        [" ".join(words)],
        ["ab"],
        [" ".join(words)],
        ["ab"],
        ["1234"],
        [" ".join(words) + " and more"],
        ["long " * 1001],
        [" ".join(random_words(300, 2))],
        [" ".join(words) + " and more"],
    ]
    expected = [
        None,
        "too_short",
        "duplicate",
        "too_short",
        "few_letters",
        "near_duplicate",
        "too_long",
        None,
        "duplicate",
    ]
    check = Hygiene(config)
    assert check.counts == dict.fromkeys(REASONS, 0)
    assert [check.drop_reason(document) for document in documents] == expected
    assert check.counts == {
        "too_short": 2,
        "too_long": 1,
        "few_letters": 1,
        "duplicate": 2,
        "near_duplicate": 1,
    }
    again = Hygiene(config)
    assert [again.drop_reason(document) for document in documents] == expected


def test_a_document_that_does_not_fit_is_no_earlier_copy():
    # It was dropped for its size; a setting that lets it in lets in the first of its copies.
    check = Hygiene(DataConfig(min_characters=3, duplicates="exact"))
    assert [check.drop_reason(["a"]), check.drop_reason(["a"])] == ["too_short", "too_short"]


def test_keep_keeps_all():
    check = Hygiene(DataConfig())
    assert [check.drop_reason(["a"]) for _ in range(3)] == [None] * 3


@pytest.fixture(scope="module")
def speeches_and_passages():
    """Documents of 12 sentences."""
    documents = []
    for name in ("us-presidential-speeches.txt.gz", "wikipedia-passages.txt"):
        if not (CORPUS / name).exists():
            pytest.skip(f"no corpus file {CORPUS / name}")
        opener = gzip.open if name.endswith(".gz") else open
        with opener(CORPUS / name, "rt", encoding="utf-8") as file:
            for text in file.read().strip().split("\n\n"):
                lines = text.split("\n")
                documents += [lines[start : start + 12] for start in range(0, len(lines), 12)]
    return documents


def with_words_drawn(document: list[str], share: float, rng: random.Random) -> list[str]:
    return [
        " ".join(
            "planted" + str(rng.randrange(10**6)) if rng.random() < share else word
            for word in sentence.split()
        )
        for sentence in document
    ]


# 0.95 ** 5 = 0.774 of the sequences stay, and the similarity is 0.774 / (2 - 0.774) = 0.63 or, as
# the words are drawn, thereabouts; with one word of a hundred it is 0.91.
@pytest.mark.parametrize(
    "share, threshold, least, most",
    [(0.05, 0.5, 0.9, 1.0), (0.01, 0.8, 0.9, 1.0), (0.05, 0.8, 0.0, 0.05)],
)
def test_planted_copies_in_the_corpus_are_found(
    speeches_and_passages, share, threshold, least, most
):
    rng = random.Random(0)
    documents = speeches_and_passages
    planted = rng.sample([document for document in documents if len(document) == 12], 200)
    check = Hygiene(DataConfig(duplicates="near", near_threshold=threshold))
    reasons = [check.drop_reason(document) for document in documents]
    # Speeches end alike ("God bless you, and God bless America"), and a page's menu comes twice.
    assert sum(map(bool, reasons)) <= 0.002 * len(documents)
    # A copy in which no word was drawn is an exact one.
    found = sum(
        check.drop_reason(with_words_drawn(document, share, rng)) is not None
        for document in planted
    )
    assert least <= found / len(planted) <= most
