"""The figures of an evaluation as a table for people."""

from keras_bert_tpu.pretraining_data.inspection.text import LABELS
from keras_bert_tpu.training.scores import PretrainingEvaluation, Score, WordScore

_SPLITS = {"validation": "held-out", "train": "training"}
_PAIRS = {"mlm+nsp": "next sentence", "mlm+sop": "sentence order"}
_PARTS = {"mask": "[MASK] in its place", "kept": "kept as it is", "random": "random piece there"}
_PIECES = {"start": "whole or start of a word", "continuation": "## inside a word"}
_FREQUENCIES = "  knowing only frequencies"


def table(evaluation: PretrainingEvaluation) -> str:
    """Returns the figures as a table; what has no target is left out.

    Args:
        evaluation: PretrainingEvaluation.
    """
    baseline, pairs = evaluation.baseline, evaluation.sentence_pairs
    words = evaluation.masked_words
    rows = [
        ["", "number", "accuracy", "", "in top 5", "loss", "perplexity"],
        _row("masked words", words),
        [_FREQUENCIES, "", f"{baseline.accuracy:.1%}", "", "", f"{baseline.loss:.3f}", ""],
    ]
    bands = {name: f"ranks {name.removesuffix('-')}" for name in evaluation.bands}
    bands[list(bands)[-1]] += " and rarer"
    for scores, titles in (
        (evaluation.parts, _PARTS),
        (evaluation.bands, bands),
        (evaluation.pieces, _PIECES),
    ):
        rows += [_row(f"  {titles[name]}", score) for name, score in scores.items() if score.count]
    if pairs:
        labels = LABELS[evaluation.objective]
        rows += [
            _row(_PAIRS[evaluation.objective], pairs.score),
            [_FREQUENCIES, "", f"{pairs.majority_accuracy:.1%}", "", "", "", ""],
            *(
                _row(f"  {label}", score)
                for label, score in zip(labels, pairs.labels, strict=True)
                if score.count
            ),
        ]
    frequent = f"masked words: always {baseline.piece!r}"
    if pairs:
        frequent += f"; {_PAIRS[evaluation.objective]}: always {labels[pairs.majority_label]!r}"
    lines = [
        f"{evaluation.examples:,} {_SPLITS[evaluation.split]} {evaluation.record_name}s of "
        f"{evaluation.data}, {evaluation.objective}, computed in {evaluation.compute_dtype}",
        "",
        *_align(rows),
        "",
        f"knowing only frequencies: those of these very examples ({frequent})",
        "ranks: of the pieces, by how often they are a masked word in these examples",
        "±: standard error, as if all words and pairs were independent",
    ]
    return "\n".join(lines)


def _row(title: str, score: Score) -> list[str]:
    cells = [title, f"{score.count:,}", f"{score.accuracy:.1%}", f"± {score.standard_error:.1%}"]
    if isinstance(score, WordScore):
        perplexity = f"{score.perplexity:,.1f}"
        return [*cells, f"{score.top_5_accuracy:.1%}", f"{score.loss:.3f}", perplexity]
    return [*cells, "", f"{score.loss:.3f}", ""]


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
