"""Writes golden.json: what the official evaluators of SQuAD say of answers, right and wrong.

    python tests/golden/squad/make_golden.py --evaluators=FOLDER --data=data/squad

FOLDER has `evaluate-v1.1.py` and `evaluate-v2.0.py` as they were published with SQuAD (sha256
07b2d305... and fa4f1ab0...); `data/squad` has `dev-v1.1.json.gz` and `dev-v2.0.json.gz`. Needs
nothing but numpy.

What stands in `golden.json`:

    made    questions of invented words: `questions`, each [id, answers, prediction, null odds], and
            the scores of `v1` (of those with answers) and `v2`
    dev     the scores `v1` and `v2` of the answers of `perturbed_answers.py` to the dev sets

The scores have the keys of our `score`. Those of v2 with null odds are of `find_all_best_thresh`.
"""

import argparse
import gzip
import importlib.util
import json
import pathlib
import random

from perturbed_answers import perturb

WORDS = (
    "the a an The A.N. An, and thé theatre ana 1,000 1000 U.S. us $5 5 well-known wellknown New "
    "York new-york \u201cquoted\u201d 'quoted' \u2014 - . , \u00a0 \u00c9cole \u00e9cole STRASSE "
    "stra\u00dfe \u0130stanbul istanbul \u4e2d\u56fd \u3002 !? (brackets) a.m. the. x_y x y"
).split(" ")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem.replace("-", "_"), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_questions():
    chance = random.Random(5)

    def phrase(most):
        return chance.choice((" ", "  ")).join(chance.choices(WORDS, k=chance.randint(1, most)))

    questions = []
    for number in range(400):
        golds = [phrase(4) for _ in range(chance.choice((0, 1, 2, 3)))]
        prediction = chance.choice([*golds, phrase(4), phrase(2), ""])
        if golds and chance.random() < 0.3:
            prediction = f"{chance.choice(golds)} {phrase(2)}"
        odds = chance.randint(-20, 20) / 4
        questions.append([f"q{number}", golds, prediction, odds])
    return questions


def as_data(questions):
    qas = [
        {"id": key, "answers": [{"text": gold} for gold in golds]} for key, golds, _, _ in questions
    ]
    return [{"paragraphs": [{"qas": qas}]}]


def score_v1(module, data, predictions):
    return module.evaluate(data, predictions)


def score_v2(module, data, predictions, odds):
    has_answer = module.make_qid_to_has_ans(data)
    exact, f1 = module.get_raw_scores(data, predictions)
    names = {"exact": "exact_match", "f1": "f1"}
    scores = {}
    groups = {
        "": None,
        "has_answer_": [key for key, value in has_answer.items() if value],
        "no_answer_": [key for key, value in has_answer.items() if not value],
    }
    for prefix, keys in groups.items():
        for name, value in module.make_eval_dict(exact, f1, keys).items():
            if name in names:
                scores[prefix + names[name]] = value
    found = {}
    module.find_all_best_thresh(found, predictions, exact, f1, odds, has_answer)
    scores["best_exact_match"] = found["best_exact"]
    scores["best_exact_match_threshold"] = found["best_exact_thresh"]
    scores["best_f1"] = found["best_f1"]
    scores["best_f1_threshold"] = found["best_f1_thresh"]
    return scores


def dev_answers(data):
    answers = {}
    for article in data:
        for passage in article["paragraphs"]:
            for question in passage["qas"]:
                golds = [answer["text"] for answer in question["answers"]]
                answers[question["id"]] = perturb(question["id"], golds, passage["context"])
    return (
        {key: answer for key, (answer, _) in answers.items()},
        {key: odds for key, (_, odds) in answers.items()},
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--evaluators", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    options = parser.parse_args()
    v1 = load(options.evaluators / "evaluate-v1.1.py")
    v2 = load(options.evaluators / "evaluate-v2.0.py")
    questions = made_questions()
    answered = [question for question in questions if question[1]]
    made = {
        "questions": questions,
        "v1": score_v1(v1, as_data(answered), {key: text for key, _, text, _ in answered}),
        "v2": score_v2(
            v2,
            as_data(questions),
            {key: text for key, _, text, _ in questions},
            {key: odds for key, _, _, odds in questions},
        ),
    }
    dev = {}
    for name, version in (("dev-v1.1.json.gz", "v1"), ("dev-v2.0.json.gz", "v2")):
        with gzip.open(options.data / name) as file:
            data = json.load(file)["data"]
        predictions, odds = dev_answers(data)
        if version == "v1":
            dev[version] = score_v1(v1, data, predictions)
        else:
            dev[version] = score_v2(v2, data, predictions, odds)
    path = pathlib.Path(__file__).with_name("golden.json")
    path.write_text(json.dumps({"made": made, "dev": dev}, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
