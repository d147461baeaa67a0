"""Files of SQuAD: read whole, and what is wrong said with its key."""

import gzip
import json
import logging
import pathlib

import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import squad
from keras_bert_tpu.tasks.squad import Answer, Question, reading

DATA = pathlib.Path(__file__).parents[4] / "shared" / "data" / "squad"
CONTEXT = "Tea is from China."


def question(key="q1", answers=((11, "from China"),), **others):
    given = [{"text": text, "answer_start": start} for start, text in answers]
    return {"id": key, "question": "Where from?", "answers": given, **others}


def write(path, *questions, context=CONTEXT):
    value = {"data": [{"paragraphs": [{"context": context, "qas": list(questions)}]}]}
    data = json.dumps(value).encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return str(path)


def test_questions_of_both_versions_are_read(tmp_path):
    answerable = question(answers=((7, "from China"), (12, "China")), is_impossible=False)
    none = question(
        "q2", (), is_impossible=True, plausible_answers=[{"text": "Tea", "answer_start": 0}]
    )
    answers = (Answer("from China", 7), Answer("China", 12))
    for name in ("a.json", "a.json.gz"):
        assert squad.read(write(tmp_path / name, answerable, none)) == [
            Question("q1", "Where from?", CONTEXT, answers, False),
            Question("q2", "Where from?", CONTEXT, (), True),
        ]


def test_answers_are_not_needed_to_predict(tmp_path):
    unanswered = {"id": "q1", "question": "Where from?"}
    path = write(tmp_path / "a.json", unanswered)
    assert squad.read(path, needs_answers=False)[0].answers == ()
    with pytest.raises(InputError, match=r"data\[0\].paragraphs\[0\].qas\[0\] of .* 'answers'"):
        squad.read(path)


def test_answers_that_are_not_where_they_should_be_are_told_and_counted(tmp_path, caplog):
    path = write(
        tmp_path / "a.json",
        question("q1", ((7, "from China"),)),
        question("q2", ((8, "from China"),)),
        question("q3", ((-4, "ina"),)),
        question("q4", ((3, " "),)),
        question("q5", (), is_impossible=True),
    )
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert squad.misplaced_answers(squad.read(path)) == ["q2", "q3", "q4"]
    assert "3 of 5 answers do not stand" in caplog.text and "'q2'" in caplog.text


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([question(), question()], r"qas\[1\].id of .* is 'q1', which an earlier question has"),
        ([question(answers=())], r"qas\[0\].answers of .* is empty"),
        ([question(question=" ")], r"The question of data\[0\].paragraphs\[0\].qas\[0\] .* empty"),
        ([question(answers=((1.5, "x"),))], r"answers\[0\].answer_start of .* whole number"),
        ([question(answers=((True, "x"),))], r"answer_start of .* whole number.*'True'"),
        ([question(answers=((1, None),))], r"answers\[0\].text of .* must be a string"),
        ([question(answers=((float("nan"), "x"),))], r"answer_start of .* whole number.*'nan'"),
        ([question(is_impossible="true")], r"qas\[0\].is_impossible of .* 'true'"),
        ([question(is_impossible=1, answers=())], r"is_impossible of .* true or false.*'1'"),
        ([{"id": "a", "question": "Q?", "answers": {"text": ["x"]}}], r"answers of .* a list"),
        ([question(question="\ud800")], r"qas\[0\].question of .* half a surrogate pair"),
        (["x"], r"qas\[0\] of .* must be an object. Received: 'x'"),
        ([{"id": "a"}], r"qas\[0\] of .* has no key 'question'"),
        ([], "has no questions"),
    ],
)
def test_questions_that_are_wrong_are_named_by_key(tmp_path, questions, message):
    with pytest.raises(InputError, match=message):
        squad.read(write(tmp_path / "a.json", *questions))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b'{"data": "x"}', "^data of .* must be a list. Received: 'x'"),
        (b'{"data": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"\0" * 9, "is not JSON"),
        (b"PK\x03\x04\xff", "is not UTF-8"),
        (b"[1]", "The file of .* must be an object"),
        (b'{"a": "\xe9"}', r"is not UTF-8 text \(byte 7\)"),
        (gzip.compress(b'{"data": []}', mtime=0)[:-5], "is cut off or no sound gzip data"),
        (b"\x1f\x8bx", "is cut off or no sound gzip data"),
    ],
)
def test_files_that_are_wrong_are_named(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        squad.read(str(tmp_path / "a.json"))


def test_gzip_that_is_made_to_fill_a_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_SMALL_BYTES", 1 << 20)
    path = tmp_path / "a.json"
    sound = json.dumps({"data": [], "other": "x" * (1 << 19)}).encode()
    path.write_bytes(gzip.compress(sound))
    with pytest.raises(InputError, match="has no questions"):
        squad.read(str(path))
    path.write_bytes(gzip.compress(b" " * (1 << 21)))
    with pytest.raises(InputError, match="unpacks to more than 100 times its size"):
        squad.read(str(path))


def test_an_offset_of_any_size_is_told_as_misplaced(tmp_path):
    path = write(tmp_path / "a.json", question(answers=((10**40, "Tea"),)))
    assert squad.misplaced_answers(squad.read(path)) == ["q1"]


def test_missing_files_and_empty_passages_are_named(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        squad.read(str(tmp_path / "none.json"))
    with pytest.raises(InputError, match=r"The context of .*qas\[0\] of .* is empty"):
        squad.read(write(tmp_path / "a.json", question(), context=" "))


@pytest.mark.skipif(not DATA.exists(), reason="needs the data sets beside the checkout")
@pytest.mark.parametrize(
    ("name", "questions", "impossible"),
    [
        ("dev-v1.1.json.gz", 10570, 0),
        ("dev-v2.0.json.gz", 11873, 5945),
        ("train-v1.1-part.json.gz", 4370, 0),
        ("train-v2.0-part.json.gz", 4242, 348),
        ("xquad.en.json", 1190, 0),
    ],
)
def test_real_files_are_read_whole(name, questions, impossible):
    found = squad.read(str(DATA / name))
    assert len(found) == questions
    assert sum(question.is_impossible for question in found) == impossible
    assert squad.misplaced_answers(found) == []
