"""Texts on which tokenizers go wrong, and vocabularies in which next to none of them is unknown.

All characters are in Unicode 3.2 or are treated alike by all later versions, so that every version
of Python agrees about them.
"""

import json
import pathlib
import random
import unicodedata

import reference_tokenizer as reference
from hypothesis import strategies

from keras_bert_tpu.text.vocabulary import SPECIAL_TOKENS, Vocabulary

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "tokenizer" / "golden.json"

ADDED_TOKENS = ("[MASK]", "[E1]", "[E1]]", "<é>", "a.b", "日本", "e\u0301", "[E1] x", "\\d+")

# Put together at random by `texts`, so that what is dangerous stands beside all other of the kind.
_FRAGMENTS = [
    *("a", "b", "the", "Hello", "THE", " ", "  ", "\t", "\n", "\u00a0", "\u3000", "\u2028"),
    *("é", "É", "e\u0301", "E\u0301\u0302\u0323", "\u0301", "\u0344", "å", "\u212b", "\u1ec7", "ø"),
    *("ß", "\u1e9e", "\ufb01", "\ufb03", "\uff21", "\uff11", "\uff0c", "²", "\u01c4", "\u01c5"),
    *("Σ", "ς", "σ", "ΑΣ", "ΑΣ\u0301", "\u1fbc", "İ", "ı", "I\u0307", "\u00cc", "\u012e\u0301"),
    *(
        "日",
        "本",
        "\u3400",
        "\U00020000",
        "\U0002a700",
        "\U0002f800",
        "\uf900",
        "の",
        "が",
        "か\u3099",
    ),
    *("한", "국", "\u1112\u1161\u11ab", "\u3131", "ع", "رَ", "بّ", "؟", "א", "בּ", "\u05be", "\ufb2a"),
    *("ไ", "ท", "น้ำ", "हि", "न्दी", "\u0958", "।", "க்", "ё", "Й", "\u0939\u0964"),
    *("\U0001f468\u200d\U0001f469", "\U0001f44d\U0001f3fd", "\u2764\ufe0f", "1\ufe0f\u20e3"),
    *("\x00", "\x01", "\x02", "\x7f", "\x85", "\u00ad", "\u200b", "\u200d", "\ufeff", "\ufffd"),
    *(".", ",", "'", "$", "^", "`", "[", "]", "-", "\u2014", "\u00ab", "\u037e", "\u1fef"),
    *("[MASK]", "[CLS]", "[E1]", "[E1]]", "[E1", "1] x", "<é>", "<e\u0301>", "a.b", "axb", "日本"),
    *("\\d+", "[mask]", "##a", "\U0001d15e", "\u302e", "\U00010400", "\U0001d400"),
    *("a" * 199, "É" * 200, "e\u0301" * 201, "日" * 201, "\U00010400" * 200, "ж" * 401),
]
_BROKEN_BYTES = [
    *(b"\xff", b"\x80", b"\xc3", b"\xe4\xb8", b"\xf0\x9f\x98", b"\xc0\xaf", b"\xed\xa0\x80"),
    *(b"\xf4\x90\x80\x80", b"\xe0\x80\xaf", b"\xc0\x80"),
]


def odd_texts() -> list[bytes]:
    """The texts of the golden file."""
    texts = json.loads(GOLDEN.read_text())["texts"]
    return [text.encode("utf-8", "surrogateescape") for text in texts]


def texts() -> strategies.SearchStrategy[bytes]:
    """Up to twelve fragments beside one another, one of twelve of them not UTF-8."""
    valid = strategies.sampled_from([fragment.encode() for fragment in _FRAGMENTS])
    fragments = strategies.one_of(*[valid] * 11, strategies.sampled_from(_BROKEN_BYTES))
    return strategies.lists(fragments, max_size=12).map(b"".join)


def fragments() -> list[bytes]:
    """Each fragment, and each after a letter and before another."""
    single = [*(fragment.encode() for fragment in _FRAGMENTS), *_BROKEN_BYTES]
    return [*single, *(b"x" + fragment + b"y" for fragment in single)]


def random_texts(count: int) -> list[bytes]:
    """Texts of characters from a few scripts each, some with bytes that are not UTF-8."""
    generator = random.Random(20180531)
    known = unicodedata.ucd_3_2_0
    scripts = [
        [char for char in map(chr, codes) if known.category(char) not in ("Cn", "Cs")]
        for codes in [
            *(range(0x20, 0x7F), range(0x300), range(0x300, 0x370), range(0x370, 0x600)),
            *(range(0x600, 0x1100), range(0x1100, 0x2000), range(0x2000, 0x2100)),
            *(range(0x2100, 0x3100), range(0x4E00, 0x4E40), range(0xAC00, 0xAC80)),
            *(range(0xF900, 0xFFFE), range(0x10300, 0x10450), range(0x1D000, 0x1D200)),
        ]
    ]
    scripts.append(list("ΣσςAa.\u00ad\u0301\u200d' "))
    found = []
    for _ in range(count):
        chosen = generator.sample(scripts, generator.choice([1, 2, 3]))
        chars = (
            generator.choice(generator.choice(chosen))
            for _ in range(generator.choice([1, 4, 12, 40]))
        )
        text = "".join(chars).encode()
        if generator.random() < 0.1:
            cut = generator.randrange(len(text) + 1)
            text = text[:cut] + generator.randbytes(2) + text[cut:]
        found.append(text)
    return found


def letter_vocabulary(
    texts: list[bytes],
    lower_case: bool,
    strip_accents: bool | None = None,
    added_tokens: tuple[str, ...] = (),
) -> Vocabulary:
    """A vocabulary with which next to nothing is unknown: each letter, each second pair."""
    words = sorted(
        {word for text in texts for word in reference.split_words(text, lower_case, strip_accents)}
    )
    letters = {char for word in words for char in word}
    pairs = {word[i : i + 2] for word in words[::2] for i in range(len(word) - 1)}
    found = sorted(letters | pairs)
    pieces = [*SPECIAL_TOKENS, *added_tokens, *found, *(f"##{piece}" for piece in found)]
    return Vocabulary(list(dict.fromkeys(pieces)))
