"""Multiple choice in SWAG's columns."""

import json
import pathlib

import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import swag
from keras_bert_tpu.tasks.swag import ChoiceExample

DATA = pathlib.Path(__file__).parents[3] / "shared" / "data" / "swag"
HEADER = ",video-id,sent1,sent2,ending0,ending1,ending2,label\n"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_choice_is_the_beginning_with_an_ending(tmp_path):
    path = write(tmp_path / "a.csv", f'{HEADER}7,v,"A hen, we see.",It,flies., sits.,"x, y",1\n')
    assert swag.read(path) == [
        ChoiceExample("0", "A hen, we see.", ("It flies.", "It sits.", "It x, y"), 1)
    ]


def test_labels_are_not_needed_to_predict_and_beginnings_may_be_empty(tmp_path):
    path = write(tmp_path / "a.csv", "ending1,ending0,sent1,sent2\nb,a,c,\n")
    assert list(swag.read_unlabelled(path)) == [ChoiceExample("0", "c", ("a", "b"), None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEADER}0,v,c,It,a,b,c,3\n", "line 2 of .* 0 to 2. Received: '3'"),
        (f"{HEADER}0,v,c,It,a,b,c,x\n", "line 2 of .* 0 to 2. Received: 'x'"),
        (f"{HEADER}0,v,c,It,a,b,c,²\n", "line 2 of .* 0 to 2. Received: '²'"),
        (f"{HEADER}0,v,c,It,a,b,c,{'9' * 5000}\n", "0 to 2. Received: '9{80}'..."),
        (f"{HEADER}0,v,c,It,a,b,c,-1\n", "line 2 of .* 0 to 2. Received: '-1'"),
        (f"{HEADER}0,v,c,It,a,b,c,\n", "line 2 of .* 0 to 2. Received: ''"),
        (f"{HEADER}0,v,c,It,a,,c,1\n", "ending in column 'ending1' of line 2 of .* is empty"),
        (f"{HEADER}0,v, ,,a,b,c,1\n", "'sent1' and 'sent2' of line 2 of .* are both empty"),
        (HEADER, "has no rows"),
        ("sent1,sent2,ending0,ending2,label\na,b,c,d,0\n", "lacks the columns 'ending1'"),
        ("sent1,ending0,ending1\na,b,c\n", "lacks the columns 'sent2', 'label'"),
    ],
)
def test_rows_that_are_wrong_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        swag.read(write(tmp_path / "a.csv", text))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ending1": None}, "ending in column 'ending1' of line 1 of .* is empty"),
        ({"ending1": ["b"]}, "'ending1' in line 1 of .* must be a string or a number"),
        ({"sent1": {"a": 1}}, "'sent1' in line 1 of .* must be a string or a number"),
        ({"label": True}, "line 1 of .* 0 to 1. Received: 'true'"),
        ({"label": 1.0}, "line 1 of .* 0 to 1. Received: '1.0'"),
        ({"label": None}, "line 1 of .* 0 to 1. Received: ''"),
    ],
)
def test_values_of_jsonl_that_are_wrong_are_named(tmp_path, changes, message):
    row = {"sent1": "c", "sent2": "It", "ending0": "a", "ending1": "b", "label": 0, **changes}
    with pytest.raises(InputError, match=message):
        swag.read(write(tmp_path / "a.jsonl", json.dumps(row)))


def test_accuracy_and_predictions(tmp_path):
    examples = [ChoiceExample(str(i), "c", ("a", "b"), i % 2) for i in range(4)]
    assert swag.score([0, 1, 1, 1], examples) == {"accuracy": 0.75}
    swag.write_predictions(str(tmp_path / "out.csv"), [0, 1, 1, 1], examples)
    assert (tmp_path / "out.csv").read_text() == "id,label\n0,0\n1,1\n2,1\n3,1\n"


@pytest.mark.skipif(not DATA.exists(), reason="needs the data sets beside the checkout")
def test_real_files_are_read_whole():
    for name, rows in [
        ("codah_train.csv", 1665),
        ("codah_val.csv", 556),
        ("sciq_train.csv.gz", 2150),
        ("sciq_val.csv", 381),
    ]:
        examples = swag.read(str(DATA / name))
        assert len(examples) == rows
        assert {len(example.choices) for example in examples} == {4}
