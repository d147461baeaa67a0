"""Writes run_squad.json: what run_squad.py of google-research/bert makes of parts of SQuAD.

    python tests/golden/squad/make_run_squad.py --code=FOLDER --data=data/squad \
        --vocab=data/vocab/bert-base-uncased-vocab.txt

FOLDER has `run_squad.py` (sha256 163fd48c...) and `tokenization.py` of that repository; what they
import of TensorFlow 1 is put in by stand-ins here, so this needs nothing but numpy. Takes half
a minute.

What stands in `run_squad.json`, for the first articles of each file:

    dev-v1.1, dev-v2.0              sha256 of the arrays of all rows, and of the answers to the
                                    logits of `made_logits.py`, with one space between words
    train-v1.1-part, train-v2.0-part    first and last piece of the answer in each row
"""

import argparse
import gzip
import hashlib
import json
import pathlib
import sys
import tempfile
import types

import numpy as np

from made_logits import make_logits

ARTICLES = 6


class Anything:
    """Takes any call."""

    def __getattr__(self, name):
        return lambda *arguments, **options: None


class Flags:
    version_2_with_negative = False
    null_score_diff_threshold = 0.0
    verbose_logging = False


def load_code(folder):
    def open_text(path, mode="r"):
        return open(path, mode, encoding="utf-8")

    tensorflow = types.ModuleType("tensorflow")
    tensorflow.gfile = types.SimpleNamespace(Open=open_text, GFile=open_text)
    tensorflow.logging = Anything()
    tensorflow.flags = Anything()
    tensorflow.flags.FLAGS = Flags
    six = types.ModuleType("six")
    six.PY2, six.PY3, six.iteritems = False, True, dict.items
    for module in (tensorflow, six, *map(types.ModuleType, ("modeling", "optimization"))):
        sys.modules[module.__name__] = module
    sys.path.insert(0, str(folder))
    import run_squad
    import tokenization

    return run_squad, tokenization


def sha256(value):
    data = value.tobytes() if isinstance(value, np.ndarray) else json.dumps(value).encode()
    return hashlib.sha256(data).hexdigest()


def rows_of(run_squad, tokenizer, path, is_training):
    examples = run_squad.read_squad_examples(str(path), is_training)
    rows = []
    run_squad.convert_examples_to_features(
        examples, tokenizer, 384, 128, 64, is_training, rows.append
    )
    return examples, rows


def dev(run_squad, tokenizer, path):
    examples, rows = rows_of(run_squad, tokenizer, path, False)
    arrays = {
        "token_ids": np.array([row.input_ids for row in rows], np.int32),
        "segment_ids": np.array([row.segment_ids for row in rows], np.int32),
        "padding_mask": np.array([row.input_mask for row in rows], np.int32),
    }
    has_max_context = np.zeros(arrays["token_ids"].shape, bool)
    for index, row in enumerate(rows):
        for position, value in row.token_is_max_context.items():
            has_max_context[index, position] = value
    start, end = make_logits(arrays["segment_ids"])
    results = [
        run_squad.RawResult(row.unique_id, start[i].tolist(), end[i].tolist())
        for i, row in enumerate(rows)
    ]
    outputs = [str(path.with_suffix(f".{name}")) for name in ("answers", "nbest", "odds")]
    run_squad.write_predictions(examples, rows, results, 20, 30, True, *outputs)
    answers = json.loads(pathlib.Path(outputs[0]).read_text())
    nbest = json.loads(pathlib.Path(outputs[1]).read_text())
    golden = {name: sha256(array) for name, array in arrays.items()}
    golden["has_max_context"] = sha256(has_max_context)
    golden["answers"] = sha256({key: " ".join(text.split()) for key, text in answers.items()})
    golden["nbest"] = sha256(
        {key: [[e["start_logit"], e["end_logit"]] for e in n] for key, n in nbest.items()}
    )
    if Flags.version_2_with_negative:
        golden["null_odds"] = sha256(json.loads(pathlib.Path(outputs[2]).read_text()))
    return golden


def train(run_squad, tokenizer, path):
    _, rows = rows_of(run_squad, tokenizer, path, True)
    # It leaves the positions of questions without an answer open in SQuAD 1.1.
    return {
        "start_position": [row.start_position or 0 for row in rows],
        "end_position": [row.end_position or 0 for row in rows],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--code", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--vocab", required=True)
    options = parser.parse_args()
    run_squad, tokenization = load_code(options.code)
    tokenizer = tokenization.FullTokenizer(options.vocab, do_lower_case=True)
    golden = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("dev-v1.1", "dev-v2.0", "train-v1.1-part", "train-v2.0-part"):
            with gzip.open(options.data / f"{name}.json.gz") as file:
                data = json.load(file)
            data["data"] = data["data"][:ARTICLES]
            path = pathlib.Path(folder, f"{name}.json")
            path.write_text(json.dumps(data))
            Flags.version_2_with_negative = "v2.0" in name
            make = dev if name.startswith("dev") else train
            golden[name] = make(run_squad, tokenizer, path)
    path = pathlib.Path(__file__).with_name("run_squad.json")
    path.write_text(json.dumps(golden) + "\n", "utf-8")


if __name__ == "__main__":
    main()
