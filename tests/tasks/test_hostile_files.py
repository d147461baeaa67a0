"""Damaged files of every task: read, or refused with one sentence, and nothing else."""

import gzip
import json

import numpy as np
import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks import glue, ner, squad, swag, tables

SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "Tea is from China.",
                    "qas": [
                        {
                            "id": "1",
                            "question": "What?",
                            "answers": [{"text": "Tea", "answer_start": 0}],
                        },
                        {"id": "2", "question": "Who?", "answers": [], "is_impossible": True},
                    ],
                }
            ]
        }
    ]
}
TSV = "index\tsentence1\tsentence2\tlabel\n0\ta \u00e9\tb\tentailment\n1\tc\td\tnot_entailment\n"
CSV = 'id,text,label\n0,"a, ""b""\nc",x\n1,d,y\n'
JSONL = '{"text": "a", "label": ["x"], "n": 1.5}\n{"text": "\\u00e9", "label": ["y"], "n": null}\n'
SWAG = ",sent1,sent2,ending0,ending1,label\n0,a,b,c,d,0\n1,e,f,g,h,1\n"
CONLL = "-DOCSTART- O\n\na B-X\nb I-X\n\nc O\n"
# Bytes that mean something to one of the formats, and some that are no UTF-8.
BYTES = b"\x00\t\n\r \"',[]{}:\\\x1f\x8b\xff\xc3\xed\xa0\x80-0O"

CASES = {
    "rte/train.tsv": (TSV, lambda path: glue.read(path[: -len("/train.tsv")], glue.RTE, "train")),
    "a.csv": (CSV, tables.read),
    "b.csv": (CSV, lambda path: list(tables.read_unlabelled(path))),
    "a.jsonl": (JSONL, lambda path: tables.read(path, separator=",")),
    "swag.csv": (SWAG, swag.read),
    "a.conll": (CONLL, ner.read),
    "a.conll.gz": (CONLL, ner.read),
    "a.json": (json.dumps(SQUAD), squad.read),
    "a.json.gz": (json.dumps(SQUAD), squad.read),
}


def damaged(data, chance):
    """Cuts, changes, repeats or removes bytes."""
    data = bytearray(data)
    for _ in range(chance.integers(1, 4)):
        place = int(chance.integers(len(data) + 1))
        kind = chance.integers(5)
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            data[place : place + 1] = bytes([BYTES[chance.integers(len(BYTES))]])
        elif kind == 2:
            data[place:place] = data[: int(chance.integers(len(data) + 1))]
        elif kind == 3:
            del data[place : place + int(chance.integers(1, 20))]
        else:
            data[place:place] = bytes(chance.integers(0, 256, 3).tolist())
    return bytes(data)


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_read_or_refused_in_one_sentence(tmp_path, name):
    content, read = CASES[name]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    sound = gzip.compress(content.encode()) if name.endswith(".gz") else content.encode()
    path.write_bytes(sound)
    assert read(str(path))
    chance = np.random.default_rng(len(name))
    refused = 0
    for _ in range(300):
        path.write_bytes(damaged(sound, chance))
        try:
            read(str(path))
        except InputError as error:
            refused += 1
            assert str(tmp_path) in str(error) and str(error).endswith("."), error
            assert len(str(error)) < 600
    assert refused > 50
