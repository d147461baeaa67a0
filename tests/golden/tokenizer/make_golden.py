"""Writes golden.json: what Google's tokenization.py makes of sentences, odd strings, characters.

    python tests/golden/tokenizer/make_golden.py --tokenization=tokenization.py \
        --vocab_dir=data/vocab --corpus=data/corpus/sample.txt

`tokenization.py` is a copy of the file of that name from github.com/google-research/bert (the
committed file was made with commit eedf5716). Only its basic and word-piece tokenizers are used.
`vocab_dir` holds `bert-base-uncased-vocab.txt` and `bert-base-cased-vocab.txt`.

What stands in `golden.json`; `uncased` and `cased` each hold all but the first two:

    python, unicode     versions the file was made with: tokenization.py takes the classes of
                        characters from the running Python
    texts               list of strings; bytes that are not UTF-8 are written as lone surrogates
                        (Python's "surrogateescape"). The first ones are odd, the others sentences
    pieces              a small vocabulary: what the full one makes of the texts, all characters
                        of the texts, and pieces that no text may ever match
    ids                 for each text, its ids in that vocabulary, separated by spaces
    corpus              the sha256 of the corpus file and, for each 50 lines of it, the first 16 hex
                        digits of the sha256 of their ids in the full vocabulary (see `checksums`)
    characters          for each code point c the words of "a" + c + "b", as runs: first code point,
                        and the words joined by spaces, with c written as U+FFFD. Code points whose
                        letters are changed have no run but stand in `changed`
    changed             code point -> words joined by spaces, in which c became something else.
                        Hangul syllables, which are decomposed, are left out
"""

import argparse
import hashlib
import importlib.util
import json
import pathlib
import sys
import unicodedata

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Pieces with punctuation or with what normalization takes away can never be matched.
UNREACHABLE = ["don't", "##.", "...", "##'s", "a-b", "##日", "É", "##É", "##\u0301"]
HANGUL = range(0xAC00, 0xD7A4)
LINES_PER_CHECKSUM = 50
# The lines taken from the corpus are from books in the public domain.
FIRST_LINES, SAMPLED_LINES, LAST_LINE = 300, 100, 6600

ODD_TEXTS: list[str | bytes] = [
    "",
    " ",
    " \t\r\n\u00a0\u3000 ",
    "Hello, World!  It's a test.",
    "a\tb\nc\rd\r\ne",
    "Caf\u00e9 na\u00efve \u00c5ngstr\u00f6m \u0141\u00f3d\u017a",
    "Cafe\u0301 nai\u0308ve A\u030angstro\u0308m",
    "\u0301leading mark and a\u0301\u0302\u0303 stack",
    "Stra\u00dfe STRASSE \u1e9e \ufb01ne \ufb02ow \u0152uvre \u00c6on \ufb03",
    "\uff21\uff22\uff23 \uff41\uff42\uff43 \uff11\uff12\uff0c\uff0e\uff01",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 \u4e2d\u6587abc\u4e2d\u6587",
    "\U00020000x\U0002a6df \U0002b740 \U00030000",
    "\uf900\ufa0e\U0002f800\u3400\u9fff\u2f00\u3007",
    "\ud55c\uad6d\uc5b4 \uac00\uac01 \u1112\u1161\u11ab",
    "\u304c\u304e\u3099 \u30d1\u30d4",
    "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u0651\u0629\u061f \u0623\u0625\u0622",
    "\u05e2\u05b4\u05d1\u05b0\u05e8\u05b4\u05d9\u05ea\u05be\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd\u05f3",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0915\u094d\u0937 \u0929\u0958 \u0964",
    "\u0e44\u0e17\u0e22 \u0e19\u0e49\u0e33 \u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u1018\u102c\u101e\u102c",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea ok",
    "\u2764\ufe0f \u260e\ufe0e 1\ufe0f\u20e3 \u845b\U000e0100",
    "con\x00trol\x01 ch\x7far\x80act\x85er\x9fs \x0b\x0c\x1b[0m",
    "\ufeffbyte\ufffd order\ufeff mark",
    "soft\u00adhyphen zero\u200bwidth\u2060joiner \u200e\u200fmarks\u202a\u202c",
    "no\u00a0break\u202fspaces\u2009thin\u3000wide\u1680ogham\u205fmath",
    "line\u2028separator\u2029paragraph\x1cfile\x1dgroup\x1eunit",
    "a" * 200,
    "a" * 201,
    "\u00e9" * 199,
    "\u00e9" * 200,
    "e\u0301" * 201,
    "\u03c9" * 200 + " " + "\u03c9" * 201 + " end",
    "\U00010400" * 200 + " " + "\U00010400" * 201,
    "b\u200b" * 200 + " " + "b\u200b" * 201,
    "x" * 150 + "-" + "y" * 150 + "\u65e5" * 250,
    "one " + "z" * 1000 + " two " + "z" * 801 + "! three",
    "\u039f\u0394\u039f\u03a3 \u03a3\u0391\u03a3 \u03a3 A\u03a3\u00ad",
    "A\u03a3'B \u0391\u03a3. \u0391\u03a3\u0301",
    "\u0391\u03a3\x00\u0391 \u0391\u03a3\u200b\u0391 \u0391\u03a3\u65e5\u0391",
    "\u0130stanbul I\u0307 D\u0130YARBAKIR \u0131\u0049 \u012e\u0300",
    "[MASK] [SEP]x[CLS] ##ing [UNK] [PAD] [ MASK ]",
    "don't a-b ... x##. ''' O'Neill's e-mail: a.b@c.de/f?g=h&i#j",
    "!!!!????....,,,,----____((((()))))" * 8,
    "$5 ^ ` ~ | < > = + * \\ {x} @y %z &c;",
    "\u2211x\u00b2 \u2264 \u221e \u00b1\u00bd \u2115 \u2192 \u222b \u00d7 \u00f7",
    "a\u2260b \u226e =\u0338",
    "H\u2082O x\u207f \u2460 \u2163 \u2122 \u00a9 \u00ae \u00b0C \u212b \u2126 \u212a",
    "\u00a1\u00bfQu\u00e9? \u201cquoted\u201d \u2018single\u2019 \u2026 \u2013 \u2014",
    "\u00ab\u00bb \u203d \u2116",
    "\u1fef\u037e\u0387 \u00b7 \u00b4 \u00a8 \u02bc \u02c6",
    "\u20ac100 \u00a3\u00a5 10\u2030 \u00a7 \u00b6 \u2020",
    "\U0001d400\U0001d7ce \U00010400\U00010428 \U0001e900",
    "\ue000private\uf8ff \u0378unassigned \U0010fffd",
    "\u0378" * 201,
    b"inv\xffalid \xc3\x28 \xe4\xb8A \xf0\x9f\x98 end\xe4",
    b"\xc0\xaf overlong \xed\xa0\x80 surrogate \xf4\x90\x80\x80 beyond \xfe",
    b"\xce\xa3\xff\xce\x91 \xce\x91\xce\xa3\xff caf\xc3\xc3\xa9",
    "The quick brown fox jumps over the lazy dog. " * 200,
]


def load_tokenization(path: str):
    spec = importlib.util.spec_from_file_location("tokenization", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class GoogleTokenizer:
    """Google's FullTokenizer, without the reading of a file by TensorFlow 1."""

    def __init__(self, tokenization, pieces: list[str], lower_case: bool):
        self.ids = {piece: index for index, piece in enumerate(pieces)}
        self.basic = tokenization.BasicTokenizer(lower_case)
        self.word_piece = tokenization.WordpieceTokenizer(self.ids)

    def pieces_of(self, text: str | bytes) -> list[str]:
        words = self.basic.tokenize(text)
        return [piece for word in words for piece in self.word_piece.tokenize(word)]

    def ids_of(self, text: str | bytes) -> list[int]:
        return [self.ids[piece] for piece in self.pieces_of(text)]


def checksums(ids_of_lines: list[list[int]]) -> list[str]:
    """A hash of each 50 lines: their ids separated by spaces, each line ended by a newline."""
    lines = [" ".join(map(str, ids)) + "\n" for ids in ids_of_lines]
    groups = range(0, len(lines), LINES_PER_CHECKSUM)
    return [
        hashlib.sha256("".join(lines[i : i + LINES_PER_CHECKSUM]).encode()).hexdigest()[:16]
        for i in groups
    ]


def characters(tokenizer: GoogleTokenizer) -> tuple[list, dict[str, str]]:
    runs: list[tuple[int, str]] = []
    changed: dict[str, str] = {}
    for code in range(sys.maxunicode + 1):
        if 0xD800 <= code < 0xE000:
            continue
        words = " ".join(tokenizer.basic.tokenize(f"a{chr(code)}b"))
        pattern = words.replace(chr(code), "\ufffd") if chr(code) not in "ab " else words
        if pattern not in ("ab", "a b", "a\ufffdb", "a \ufffd b"):
            if code not in HANGUL:
                changed[str(code)] = words
        elif not runs or runs[-1][1] != pattern:
            runs.append((code, pattern))
    return runs, changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("tokenization", "vocab_dir", "corpus"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    tokenization = load_tokenization(arguments.tokenization)
    corpus = pathlib.Path(arguments.corpus).read_bytes()
    lines = corpus.decode("utf-8").split("\n")
    step = (LAST_LINE - FIRST_LINES) // SAMPLED_LINES
    texts = [*ODD_TEXTS, *lines[:FIRST_LINES], *lines[FIRST_LINES:LAST_LINE:step]]
    golden = {
        "python": ".".join(map(str, sys.version_info[:2])),
        "unicode": unicodedata.unidata_version,
        "texts": [
            text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")
            for text in texts
        ],
    }
    for case, lower_case in (("uncased", True), ("cased", False)):
        path = pathlib.Path(arguments.vocab_dir) / f"bert-base-{case}-vocab.txt"
        full = path.read_text(encoding="utf-8").split("\n")[:-1]
        tokenizer = GoogleTokenizer(tokenization, full, lower_case)
        used = {piece for text in texts for piece in tokenizer.pieces_of(text)} - {*SPECIALS}
        letters = {
            letter
            for text in texts
            for word in tokenizer.basic.tokenize(text)
            for letter in word
            if letter not in "\u20ac\u2463\u0e44\u05e2"  # Some stay unknown, as some always are.
        }
        pieces = sorted({*used, *letters, *(f"##{letter}" for letter in letters), *UNREACHABLE})
        small = GoogleTokenizer(tokenization, [*SPECIALS, *pieces], lower_case)
        runs, changed = characters(tokenizer)
        golden[case] = {
            "pieces": list(small.ids),
            "ids": [" ".join(map(str, small.ids_of(text))) for text in texts],
            "corpus": {
                "sha256": hashlib.sha256(corpus).hexdigest(),
                "vocab_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "checksums": checksums([tokenizer.ids_of(line) for line in lines]),
            },
            "characters": runs,
            "changed": changed,
        }
    output = pathlib.Path(__file__).parent / "golden.json"
    output.write_text(json.dumps(golden, indent=0, separators=(",", ":")) + "\n")
    print(f"{output}: {output.stat().st_size:,} bytes, {len(texts)} texts")


if __name__ == "__main__":
    main()
