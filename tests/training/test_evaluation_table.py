import dataclasses

import pytest

from keras_bert_tpu.training.evaluation_table import table
from keras_bert_tpu.training.scores import (
    MaskedWordBaseline,
    PretrainingEvaluation,
    Score,
    SentencePairs,
    WordScore,
)

NONE = WordScore(0, 0, 0.0, 0)


@pytest.fixture
def evaluation():
    return PretrainingEvaluation(
        data="records",
        split="validation",
        objective="mlm+nsp",
        compute_dtype="float32",
        examples=1000,
        record_name="example",
        masked_words=WordScore(2000, 500, 8000.0, 1000),
        parts={
            "mask": WordScore(1600, 400, 6400.0, 800),
            "kept": WordScore(400, 100, 1600.0, 200),
            "random": NONE,
        },
        bands={
            "1-10": WordScore(1990, 500, 7960.0, 1000),
            "11-100": NONE,
            "101-1000": NONE,
            "1001-": WordScore(10, 0, 40.0, 0),
        },
        pieces={"start": WordScore(2000, 500, 8000.0, 1000), "continuation": NONE},
        baseline=MaskedWordBaseline("the", 0.0625, 6.5),
        sentence_pairs=SentencePairs(
            Score(1000, 640, 650.0), (Score(400, 200, 300.0), Score(600, 440, 350.0))
        ),
    )


def test_a_row_for_each_kind_of_target_that_there_is(evaluation):
    assert table(evaluation) == (
        """\
1,000 held-out examples of records, mlm+nsp, computed in float32

                            number  accuracy          in top 5   loss  perplexity
masked words                 2,000     25.0%  ± 1.0%     50.0%  4.000        54.6
  knowing only frequencies              6.2%                    6.500
  [MASK] in its place        1,600     25.0%  ± 1.1%     50.0%  4.000        54.6
  kept as it is                400     25.0%  ± 2.2%     50.0%  4.000        54.6
  ranks 1-10                 1,990     25.1%  ± 1.0%     50.3%  4.000        54.6
  ranks 1001 and rarer          10      0.0%  ± 0.0%      0.0%  4.000        54.6
  whole or start of a word   2,000     25.0%  ± 1.0%     50.0%  4.000        54.6
next sentence                1,000     64.0%  ± 1.5%            0.650
  knowing only frequencies             60.0%
  b follows a                  400     50.0%  ± 2.5%            0.750
  b is random                  600     73.3%  ± 1.8%            0.583

knowing only frequencies: those of these very examples (masked words: always 'the'; """
        """next sentence: always 'b is random')
ranks: of the pieces, by how often they are a masked word in these examples
±: standard error, as if all words and pairs were independent"""
    )


def test_pairs_are_called_what_they_are(evaluation):
    text = table(dataclasses.replace(evaluation, objective="mlm+sop", split="train"))
    assert text.startswith("1,000 training examples of records, mlm+sop")
    assert "\nsentence order  " in text and "\n  in order  " in text
    assert "sentence order: always 'swapped'" in text


def test_nothing_is_said_of_pairs_where_there_are_none(evaluation):
    text = table(dataclasses.replace(evaluation, objective="mlm", sentence_pairs=None))
    assert "sentence" not in text
    assert "(masked words: always 'the')" in text
