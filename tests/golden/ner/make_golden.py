"""Writes golden.json: the entities and scores that seqeval finds in random sequences of labels.

    pip install seqeval==1.2.2
    python tests/golden/ner/make_golden.py

What stands in `golden.json` is a list of corpora, each made of labels of one scheme or of all
prefixes, sound or not:

    true, predicted   for each sentence its labels, separated by spaces
    entities          for each sentence the entities of `predicted`, as [type, first, last]
    scores            with the keys of our `score`
"""

import json
import pathlib
import random

from seqeval.metrics import accuracy_score, classification_report
from seqeval.metrics.sequence_labeling import get_entities

PREFIXES = {"BIO": "BI", "IO": "I", "BIOES": "BIES", "odd": "EIS"}
TYPES = ("PER", "LOC", "group-name")


def random_labels(chance, prefixes, length):
    kind = chance.choice(TYPES)
    labels = []
    for _ in range(length):
        if chance.random() < 0.3:
            kind = chance.choice(TYPES)
        prefix = "O" if chance.random() < 0.3 else chance.choice(prefixes)
        labels.append("O" if prefix == "O" else f"{prefix}-{kind}")
    return labels


def changed(chance, labels, prefixes):
    other = random_labels(chance, prefixes, len(labels))
    return [b if chance.random() < 0.2 else a for a, b in zip(labels, other, strict=True)]


def scores_of(true, predicted):
    report = classification_report(true, predicted, output_dict=True, zero_division=0)
    scores = {"accuracy": accuracy_score(true, predicted)}
    for name, values in report.items():
        if name in ("macro avg", "weighted avg"):
            continue
        suffix = "" if name == "micro avg" else f"_{name}"
        scores[f"precision{suffix}"] = float(values["precision"])
        scores[f"recall{suffix}"] = float(values["recall"])
        scores[f"f1{suffix}"] = float(values["f1-score"])
    return scores


def main():
    chance = random.Random(11)
    corpora = []
    for prefixes in PREFIXES.values():
        true = [random_labels(chance, prefixes, chance.randint(1, 12)) for _ in range(60)]
        predicted = [changed(chance, labels, prefixes) for labels in true]
        corpora.append((true, predicted))
    nothing = [["O"] * 3, ["O"]]
    corpora.append((nothing, [["O", "B-PER", "O"], ["O"]]))
    corpora.append(([["O", "B-PER", "O"], ["O"]], nothing))
    golden = [
        {
            "true": [" ".join(labels) for labels in true],
            "predicted": [" ".join(labels) for labels in predicted],
            "entities": [get_entities(labels) for labels in predicted],
            "scores": scores_of(true, predicted),
        }
        for true, predicted in corpora
    ]
    path = pathlib.Path(__file__).with_name("golden.json")
    path.write_text(json.dumps(golden) + "\n", "utf-8")


if __name__ == "__main__":
    main()
