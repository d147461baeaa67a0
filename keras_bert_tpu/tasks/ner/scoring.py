"""Precision, recall and F1 of whole entities, as seqeval has them where it is told no scheme."""

import collections
from collections.abc import Sequence

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks.ner.reading import Sentence, check_length
from keras_bert_tpu.tasks.ner.schemes import find_entities


def score(predictions: Sequence[Sequence[str]], sentences: Sequence[Sentence]) -> dict[str, float]:
    """Compares predicted labels with those of the sentences.

    An entity is right if its type and both ends are. What is divided by nothing is 0.

    Args:
        predictions: Labels of the words of each sentence.
        sentences: Sequence of Sentence with labels, at least one.

    Returns:
        Dict with `precision`, `recall` and `f1` of all entities, `accuracy` of the words, and for
        each type that occurs `precision_TYPE`, `recall_TYPE` and `f1_TYPE`; each 0 to 1.

    Raises:
        InputError: If there is no sentence, one has no labels, or there is not one prediction for
            each word.
    """
    if not sentences:
        raise InputError("There are no sentences to score; give at least one.")
    if len(predictions) != len(sentences):
        raise InputError(
            f"Each sentence needs predictions. Received: {len(predictions)} for {len(sentences)} "
            f"sentences."
        )
    right, predicted, true = (collections.Counter() for _ in range(3))
    words = right_words = 0
    for labels, sentence in zip(predictions, sentences, strict=True):
        if not sentence.labels:
            raise InputError(f"Sentence {sentence.id} has no labels to score with.")
        check_length(labels, sentence)
        words += len(labels)
        right_words += sum(map(str.__eq__, labels, sentence.labels))
        found, golden = find_entities(labels), find_entities(sentence.labels)
        predicted.update(entity.type for entity in found)
        true.update(entity.type for entity in golden)
        right.update(entity.type for entity in set(found) & set(golden))
    scores = _ratios(right.total(), predicted.total(), true.total(), "")
    scores["accuracy"] = right_words / words
    for kind in sorted(predicted.keys() | true.keys()):
        scores |= _ratios(right[kind], predicted[kind], true[kind], f"_{kind}")
    return scores


def _ratios(right: int, predicted: int, true: int, suffix: str) -> dict[str, float]:
    precision = right / predicted if predicted else 0.0
    recall = right / true if true else 0.0
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {f"precision{suffix}": precision, f"recall{suffix}": recall, f"f1{suffix}": f1}
