"""Answers as a model might give them, right and wrong, and the same whoever makes them."""

import hashlib


def perturb(question_id, golds, context):
    """Returns an answer to a question, and the odds that it has none."""
    draws = hashlib.sha256(question_id.encode()).digest()
    kind = draws[0] % 8
    answer = golds[draws[1] % len(golds)] if golds else context[draws[2] : draws[2] + draws[3] % 40]
    if kind == 1:
        answer = ""
    elif kind == 2:
        answer = f"The {answer.upper()}!"
    elif kind == 3:
        answer = answer[: len(answer) // 2]
    elif kind == 4:
        answer = f"{answer} an  a {context[draws[4] : draws[4] + 20]}"
    elif kind == 5:
        answer = context[draws[5] : draws[5] + draws[6] % 60]
    elif kind == 6:
        answer = "\u201cthe\u201d - " + answer
    # Odds in steps, so that there are ties; questions with an answer have lower ones.
    odds = (draws[7] % 41) / 2 - (12 if golds else 8)
    return answer, odds
