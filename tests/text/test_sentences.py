import gzip
import importlib.metadata
import pathlib
import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_bert_tpu.text.sentences import split_sentences, splitter_version

CORPUS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "corpus"


def without_space(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize(
    "sentences",
    [
        ["It was true, too.", "She had a little thin face.", "Why?", "Because!"],
        ["Dr. Smith went to Washington, D.C., on Jan. 5.", "He arrived at 3 p.m. and left."],
        ["The U.S. Senate voted.", "It failed."],
        ["Mr. and Mrs. Jones of Acme Inc. came.", "They stayed."],
        ["J. R. R. Tolkien wrote it.", "C. S. Lewis did not."],
        ["Pi is 3.14159.", "It costs $2.50 or so.", "See Fig. 3 and Eq. 4."],
        ["Visit www.example.com for more.", "It is free."],
        ["Wait... what is that?", "I do not know."],
        ['"Who are you?" he asked.', '"I am Mary," she said.'],
        ["“Is it you?”", "“Yes.”", "She smiled."],
        ['He said, "It is late."', "Then he left."],
        ["(This is an aside.)", "The story goes on."],
        ["¿Cómo estás?", "¡Muy bien!", "Gracias."],
        ["Привет.", "Как дела?", "Хорошо."],
    ],
)
def test_sentences_separated_by_spaces(sentences):
    assert split_sentences(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences, joint",
    [
        (["他来了。", "我走了！", "为什么？", "谢谢"], ""),
        (["吾輩は猫である。", "名前はまだ無い。"], ""),
        (["他说：“我来了。”", "然后走了。"], ""),
        (["「これは何？！」", "彼は言った。"], ""),
        (["यह एक वाक्य है।", "यह दूसरा है।"], " "),
        (["هل أنت بخير؟", "نعم أنا بخير."], " "),
        (["یہ پہلا جملہ ہے۔", "یہ دوسرا ہے۔"], " "),
        (["他住在 U.S. 附近。", "Dr. Smith came.", "He left."], " "),
    ],
)
def test_full_stops_of_other_scripts_end_sentences(sentences, joint):
    assert split_sentences(joint.join(sentences)) == sentences


def test_line_breaks_end_sentences():
    text = "A title\r\n\r\nFirst one. Second\n  one,  cut \u2028here"
    assert split_sentences(text) == ["A title", "First one.", "Second", "one,  cut", "here"]


@pytest.mark.parametrize("text", ["", " ", "\n \t\r\n"])
def test_text_of_nothing_has_no_sentence(text):
    assert split_sentences(text) == []


@given(st.text(alphabet=st.sampled_from("aB .!?。？」\n\"'(5…\u2028\x85,é世"), max_size=60))
def test_no_character_is_lost_and_no_sentence_is_empty(text):
    sentences = split_sentences(text)
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)
    assert without_space("".join(sentences)) == without_space(text)


@pytest.mark.parametrize("run", ["!", "?!", "!)", "?\u201d"])
def test_long_runs_of_punctuation_take_no_square_of_time(run):
    text = "So much" + run * (200_000 // len(run)) + " and more. The end."
    start = time.process_time()
    sentences = split_sentences(text)
    # In one piece they take a minute and more.
    assert time.process_time() - start < 10
    assert without_space("".join(sentences)) == without_space(text)
    assert sentences[-1] == "The end."


def test_threads_split_as_one_does():
    texts = [f"Dr. No. {i} came at 5 p.m. on Jan. {i}. He left. “So?” Yes." for i in range(300)]
    expected = [split_sentences(text) for text in texts]
    results = [None] * 4

    def split_all(number):
        results[number] = [split_sentences(text) for text in texts]

    threads = [threading.Thread(target=split_all, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


def test_the_version_is_that_of_the_installed_package():
    assert splitter_version() == "nupunkt " + importlib.metadata.version("nupunkt")


@pytest.mark.parametrize(
    "name, documents, least_found, least_right",
    [
        ("novels-05-of-08.txt.gz", 20, 0.97, 0.97),
        ("us-presidential-speeches.txt.gz", 4, 0.95, 0.98),
        ("wikipedia-passages.txt", 20, 0.96, 0.96),
    ],
)
def test_boundaries_of_the_corpus(name, documents, least_found, least_right):
    if not (CORPUS / name).exists():
        pytest.skip(f"no corpus file {CORPUS / name}")
    opener = gzip.open if name.endswith(".gz") else open
    with opener(CORPUS / name, "rt", encoding="utf-8") as file:
        texts = file.read().strip().split("\n\n")[:documents]
    expected = found = both = 0
    for text in texts:
        known, split = (
            boundaries(sentences)
            for sentences in (text.split("\n"), split_sentences(text.replace("\n", " ")))
        )
        expected, found, both = expected + len(known), found + len(split), both + len(known & split)
    assert both / expected >= least_found
    assert both / found >= least_right


def boundaries(sentences: list[str]) -> set[int]:
    """Characters, white space aside, before each sentence but the first."""
    places, place = set(), 0
    for sentence in sentences[:-1]:
        place += len(without_space(sentence))
        places.add(place)
    return places
