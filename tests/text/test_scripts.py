"""Scripts of the world: cased, multilingual and Chinese vocabularies, held to Google's rules."""

import collections

import pytest
import reference_tokenizer as reference
import tensorflow as tf

from keras_bert_tpu.text.coverage import measure_coverage
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import (
    SPECIAL_TOKENS,
    Vocabulary,
    count_words,
    learn_vocabulary,
)

CASES = [(True, True), (False, False), (True, False), (False, True)]
# Article 1 of the Universal Declaration of Human Rights, whole or in part, and a line of odd ones.
TEXTS = {
    "Chinese": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待",
    "Japanese": "すべての人間は、生まれながらにして自由であり、かつ尊厳と権利とについて平等である",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "Russian": "Все люди рождаются свободными и равными в своём достоинстве и правах. Ёлка, Йод.",
    "Arabic": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. وقد وُهِبوا عقلاً وضميرًا؟",
    "Hebrew": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. בְּרֵאשִׁית",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "Tamil": "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι. ΟΔΟΣ ΟΔΥΣΣΕΥΣ",
    "Vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền.",
    "Turkish": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İSTANBUL IĞDIR",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. STRAẞE, Straße",
    "French": "Tous les êtres humains naissent libres et égaux en dignité et en droits. ŒUVRE",
    "mixed": "𠀀x𪜀 ＦＵＬＬ，ｗｉｄｔｈ ﬁn ﾊﾟ ㍿ ½ № 👨‍👩‍👧 👍🏽 日本Tokyo東京 한국Korea",
}
LINES = [*TEXTS.values(), *(text.upper() for text in TEXTS.values())]


def script_vocabulary(lower_case: bool, strip_accents: bool) -> Vocabulary:
    """Made as Google's multilingual ones: characters, alone and inside words, and frequent parts.

    Ideographs have forms with "##", too, though no text can reach them. Every ninth letter is left
    out, so that some words are unknown.
    """
    words = [
        word for line in LINES for word in reference.split_words(line, lower_case, strip_accents)
    ]
    letters = sorted({letter for word in words for letter in word})
    letters = [letter for number, letter in enumerate(letters) if number % 9]
    parts = collections.Counter(
        ("##" if start else "") + word[start:end]
        for word in words
        for start in range(len(word))
        for end in range(start + 2, min(len(word), start + 6) + 1)
    )
    pieces = [
        *letters,
        *(f"##{letter}" for letter in letters),
        *(part for part, _ in parts.most_common(900)),
    ]
    return Vocabulary([*SPECIAL_TOKENS, *pieces])


@pytest.mark.parametrize("lower_case, strip_accents", CASES)
def test_ids_in_all_scripts_are_those_of_the_rules(lower_case, strip_accents):
    vocabulary = script_vocabulary(lower_case, strip_accents)
    rows = BertTokenizer(vocabulary, lower_case, strip_accents)(LINES).to_list()
    known = 0
    for line, ids in zip(LINES, rows, strict=True):
        found = [vocabulary.pieces[index] for index in ids]
        assert found == reference.tokenize(line, vocabulary.ids, lower_case, strip_accents), line
        known += sum(piece != "[UNK]" for piece in found)
    # Not all is unknown, and not nothing.
    total = sum(map(len, rows))
    assert 0.6 * total < known < total


# What each word becomes, spelled out by hand: cut into all its letters by the vocabulary below.
@pytest.mark.parametrize(
    "lower_case, strip_accents, expected",
    [
        (
            True,
            True,
            "елка | て ##ん ##き か ##き | हिनदी | ᄀ ##ᅡ ##ᆨ | 中 文 ab 中 | etes | قلم | i",
        ),
        (False, False, "Ёлка | で ##ん ##き が ##き | हिन्दी | 각 | 中 文 AB 中 | étés | قَلَم | İ"),
        (
            True,
            False,
            "ёлка | で ##ん ##き が ##き | हिन्दी | 각 | 中 文 ab 中 | étés | قَلَم | i\u0307",
        ),
        (
            False,
            True,
            "Елка | て ##ん ##き か ##き | हिनदी | ᄀ ##ᅡ ##ᆨ | 中 文 AB 中 | etes | قلم | I",
        ),
    ],
)
def test_what_becomes_of_words_of_some_scripts(lower_case, strip_accents, expected):
    texts = ["Ёлка", "でんき がき", "हिन्दी", "각", "中文AB中", "étés", "قَلَم", "İ"]
    words = [
        *("елка", "Ёлка", "ёлка", "Елка", "हिन्दी", "हिनदी", "각", "AB", "ab", "étés"),
        *("etes", "قَلَم", "قلم", "İ", "I", "i", "i\u0307", "中", "文", "##文", "中文"),
        *("て", "で", "##ん", "##き", "か", "が", "ᄀ", "##ᅡ", "##ᆨ", "##각"),
    ]
    vocabulary = Vocabulary([*SPECIAL_TOKENS, *words])
    tokenizer = BertTokenizer(vocabulary, lower_case, strip_accents)
    rows = tokenizer.id_to_piece(tokenizer(texts)).to_list()
    assert " | ".join(b" ".join(row).decode() for row in rows) == expected


@pytest.mark.parametrize("lower_case, strip_accents", CASES)
def test_a_vocabulary_learned_from_all_scripts_knows_all_words(lower_case, strip_accents):
    # Twice, as a piece must occur more than once.
    dataset = tf.data.Dataset.from_tensor_slices(LINES * 2)
    options = {"lower_case": lower_case, "strip_accents": strip_accents, "progress": False}
    vocabulary = learn_vocabulary(dataset, 1500, **options)
    words = count_words(dataset, **options)
    expected = collections.Counter(
        word
        for line in LINES * 2
        for word in reference.split_words(line, lower_case, strip_accents)
    )
    assert words.counts == expected
    coverage = measure_coverage(BertTokenizer(vocabulary, lower_case, strip_accents), words)
    assert coverage.unknown_words == 0.0
    has_accents = any("é" in piece or "ё" in piece for piece in vocabulary.pieces)
    has_capitals = any(piece.isupper() for piece in vocabulary.pieces[len(SPECIAL_TOKENS) :])
    assert (has_accents, has_capitals) == (not strip_accents, not lower_case)
