"""Writes golden.json: what Google's tokenization.py makes of sentences, odd strings, characters.

    python tests/golden/tokenizer/make_golden.py --tokenization=tokenization.py \
        --vocab_dir=data/vocab --corpus_dir=data/corpus

`tokenization.py` is a copy of the file of that name from github.com/google-research/bert (the
committed file was made with commit eedf5716). Only its basic and word-piece tokenizers are used.
`vocab_dir` holds `bert-base-uncased-vocab.txt` and `bert-base-cased-vocab.txt`, `corpus_dir` text
files, `sample.txt` among them. Takes some minutes for 37 MB of text on two cores.

tokenization.py knows two cases: `uncased` lower-cases and strips accents, `cased` does neither.
`lower_only` and `strip_only` do one of both, by its own methods in their own order.

What stands in `golden.json`; each case holds all but the first two:

    python, unicode     versions the file was made with: tokenization.py takes the classes of
                        characters from the running Python
    texts               list of strings; bytes that are not UTF-8 are written as lone surrogates
                        (Python's "surrogateescape"). The first ones are odd, the others sentences
    pieces              a small vocabulary: what the full one makes of the texts, all characters
                        of the texts, and pieces that no text may ever match
    ids                 for each text, its ids in that vocabulary, separated by spaces
    vocab_sha256        the sha256 of the full vocabulary's file
    corpus              file name -> the sha256 of the text and, for each 1000 lines of it, the
                        first 16 hex digits of a sha256 of their ids in the full vocabulary (see
                        `checksums`)
    characters          for each code point c the words of "a" + c + "b", as runs: first code point,
                        and the words joined by spaces, with c written as U+FFFD. Code points whose
                        letters are changed have no run but stand in `changed`
    changed             code point -> words joined by spaces, in which c became something else.
                        Hangul syllables, which are decomposed, are left out
"""

import argparse
import array
import gzip
import hashlib
import importlib.util
import json
import multiprocessing
import pathlib
import sys
import unicodedata

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Pieces with punctuation, with white space, with an ideograph beside something else or with what
# normalization takes away can never be matched. Real vocabularies have some: that of
# bert-base-chinese has U+2028, alone and inside words.
UNREACHABLE = [
    *("don't", "##.", "...", "##'s", "a-b", "##-b", "##", "É", "##É", "##\u0301"),
    *("##日", "中文", "##文abc", "##c中", "abc中", "日本", "\u2028", "##\u2028", "a b", "##\u3000"),
    *("line\u2028separator", "##e\u2028", "\u00a0", "no\u00a0break", "##\u00adhyphen", "\u200b"),
]
HANGUL = range(0xAC00, 0xD7A4)
LINES_PER_CHECKSUM = 1000
# Name, whether to lower-case, whether to strip accents, and whose vocabulary.
CASES = [
    ("uncased", True, True, "uncased"),
    ("cased", False, False, "cased"),
    ("lower_only", True, False, "uncased"),
    ("strip_only", False, True, "cased"),
]
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
    ""
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
    "a" * 199,
    "\u00c9" * 200 + " " + "\u00c9" * 201,
    "\U00010400" * 199 + " " + "E\u0301" * 199 + "x",
    "\uac00" * 70 + " " + "\ud55c" * 66 + " " + "\ud55c" * 67,
    "\u65e5" * 201 + " " + "\u30c6" * 200 + " " + "\u30c6" * 201,
    "e\u0301\u0302 e\u0302\u0301 \u1ec7 o\u0323\u0302 \u01d8 \u1e69 s\u0307\u0323 \u0344 \u0345",
    "\ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06 \ufb13 \ufb1d\ufb2a\ufb4f \ufefb \ufdfa",
    "\uff28\uff25\uff2c\uff2c\uff2f\u3000\uff3b\uff2d\uff3d \uff76\uff9e \uffe5 \u2102\u210c\u1d00",
    "\U0002a6df\U0002a6e0 \U0002a700x\U0002b73f \U0002b81d\U0002ceb0 \U0002f81a \U00031350",
    "\U0001f469\U0001f3fb\u200d\U0001f91d\u200d\U0001f468\U0001f3ff x\U0001f3fbx "
    "\u00a9\ufe0f \U0001f3f4\U000e0067\U000e007f",
    "\u202eabc\u202c \u2066def\u2069 \u061c\u06dd1 \u180e \u2028x\u2029 \ufff9a\ufffab\ufffb",
    "\u0399\u03a3\u0301 \u03a3\u0399\u03a3\u03a3, \u03a3. 1\u03a3 \u00b7\u03a3 "
    "\u0391\u2019\u03a3 A\u03a3:B \u03c2\u03c3",
    "\u0130\u0130 \u0131\u0131 I\u0307I i\u0307 \u012e\u0301 J\u0301 \u00cc\u00cd\u0128 "
    "\u0130\u0301",
    "\x00 a\x00b \x00\x00 \ufffd a\ufffdb \ufffe \uffff \U0001ffff",
    "\u05d0\u05d1\u05f3 \u05d2\u05f4\u05d3 \u200f(\u05d4) \u0661\u0662\u066b\u0663 "
    "\ufe91\u0640\ufe92 \u06cc\u0670",
    "\u1100\u1161\u11a8\u302e \ua960 \u3131\u314f \uff61\uffa1 \ud7b0 \uac01\u11a8",
    "\u0e01\u0e33\u0e49 \u0e40\u0e01\u0e4b\u0e46 \u0e2f \u0eb3 \u0f40\u0f72\u0f0b\u0f73 "
    "\u1795\u17d2\u179b",
    "\u0915\u093c \u0958 \u0930\u094d\u200d\u092f \u0c95\u0ccb \u0dda \u09cb "
    "\u1b44\u1b35\u1b06 \u0965",
    "a\u0338\u0327\u0300b \u1d15e\U0001d15e\U0001d1bb \U0001d165\u302e \u20dd\u0488 \u200c\u0301",
    "\u01c4\u01c5\u01c6 \u1f88\u1fbc \u0149 \u1e96\u01f0 \u0587 \u10a0\u10d0\u1c90 "
    "\u13a0\uab70 \u212b\u212a\u2126",
    b"\xc0\x80 \xe0\x80\xaf \xf0\x80\x80\xaf \xed\xbf\xbf \xf5\x80\x80\x80 "
    b"a\x80b\xbfc \xf0\x9f\x98",
    b"\xe6\x97 \xe6\x97\xa5\xa5 \xf0\xa0\x80 x\xcc\x81 x\xcc \xef\xbf\xbd \xef\xbf",
]


def load_tokenization(path: str):
    spec = importlib.util.spec_from_file_location("tokenization", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class GoogleTokenizer:
    """Google's FullTokenizer, without the reading of a file by TensorFlow 1."""

    def __init__(self, tokenization, pieces: list[str], lower_case: bool, strip_accents: bool):
        self.ids = {piece: index for index, piece in enumerate(pieces)}
        self.basic = basic = tokenization.BasicTokenizer(lower_case)
        split, strip = basic._run_split_on_punc, basic._run_strip_accents
        # Accents are stripped between lower-casing, if any, and the splitting.
        if lower_case and not strip_accents:
            basic._run_strip_accents = lambda text: text
        elif strip_accents and not lower_case:
            basic._run_split_on_punc = lambda text: split(strip(text))
        self.word_piece = tokenization.WordpieceTokenizer(self.ids)

    def pieces_of(self, text: str | bytes) -> list[str]:
        words = self.basic.tokenize(text)
        return [piece for word in words for piece in self.word_piece.tokenize(word)]

    def ids_of(self, text: str | bytes) -> list[int]:
        return [self.ids[piece] for piece in self.pieces_of(text)]


def checksums(ids_of_lines: list[list[int]]) -> list[str]:
    """A hash of each 1000 lines: all their ids, then how many each has, as little-endian int32."""
    found = []
    for start in range(0, len(ids_of_lines), LINES_PER_CHECKSUM):
        rows = ids_of_lines[start : start + LINES_PER_CHECKSUM]
        values = array.array("i", [value for row in rows for value in row])
        values.extend(map(len, rows))
        if sys.byteorder == "big":
            values.byteswap()
        found.append(hashlib.sha256(values.tobytes()).hexdigest()[:16])
    return found


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


def read_corpus(path: pathlib.Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def golden_case(arguments: argparse.Namespace, texts: list[str | bytes], case: tuple) -> dict:
    _, lower_case, strip_accents, vocabulary = case
    tokenization = load_tokenization(arguments.tokenization)
    path = pathlib.Path(arguments.vocab_dir) / f"bert-base-{vocabulary}-vocab.txt"
    full = path.read_text(encoding="utf-8").split("\n")[:-1]
    tokenizer = GoogleTokenizer(tokenization, full, lower_case, strip_accents)
    used = {piece for text in texts for piece in tokenizer.pieces_of(text)} - {*SPECIALS}
    letters = {
        letter
        for text in texts
        for word in tokenizer.basic.tokenize(text)
        for letter in word
        if letter not in "\u20ac\u2463\u0e44\u05e2"  # Some stay unknown, as some always are.
    }
    pieces = sorted({*used, *letters, *(f"##{letter}" for letter in letters), *UNREACHABLE})
    small = GoogleTokenizer(tokenization, [*SPECIALS, *pieces], lower_case, strip_accents)
    runs, changed = characters(tokenizer)
    corpus = {}
    for file in sorted(pathlib.Path(arguments.corpus_dir).iterdir()):
        if file.name.endswith((".txt", ".txt.gz")):
            data = read_corpus(file)
            corpus[file.name] = {
                "sha256": hashlib.sha256(data).hexdigest(),
                "checksums": checksums([tokenizer.ids_of(line) for line in data.split(b"\n")]),
            }
    return {
        "pieces": list(small.ids),
        "ids": [" ".join(map(str, small.ids_of(text))) for text in texts],
        "vocab_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "corpus": corpus,
        "characters": runs,
        "changed": changed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("tokenization", "vocab_dir", "corpus_dir"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    lines = (pathlib.Path(arguments.corpus_dir) / "sample.txt").read_text("utf-8").split("\n")
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
    with multiprocessing.Pool() as pool:
        found = pool.starmap(golden_case, [(arguments, texts, case) for case in CASES])
    golden |= {name: values for (name, *_), values in zip(CASES, found, strict=True)}
    output = pathlib.Path(__file__).parent / "golden.json"
    output.write_text(json.dumps(golden, indent=0, separators=(",", ":")) + "\n")
    print(f"{output}: {output.stat().st_size:,} bytes, {len(texts)} texts")


if __name__ == "__main__":
    main()
