"""How held-out targets were predicted: counts, and the figures that follow from them."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

# What stands in the place of a masked word.
PARTS = ("mask", "kept", "random")
PIECES = ("start", "continuation")
# Ranks of the most frequent piece of each band.
BAND_STARTS = (1, 11, 101, 1001)
BANDS = ("1-10", "11-100", "101-1000", "1001-")


@dataclasses.dataclass(frozen=True)
class Score:
    """How some targets were predicted; the scores of disjoint sets of targets can be added.

    Attributes:
        count: int. Targets.
        correct: int. Those whose label had the highest score.
        loss_sum: float. Their cross-entropies in nats, added up.
    """

    count: int
    correct: int
    loss_sum: float

    @property
    def loss(self) -> float | None:
        """Mean cross-entropy; None without any target."""
        return self.loss_sum / self.count if self.count else None

    @property
    def accuracy(self) -> float | None:
        """Share of the targets that are correct; None without any."""
        return self.correct / self.count if self.count else None

    @property
    def standard_error(self) -> float | None:
        """Of the accuracy, binomial: as if all targets were independent.

        Those of one example, and those of one document, are not quite, so it is a lower bound.
        """
        if not self.count:
            return None
        return math.sqrt(self.accuracy * (1.0 - self.accuracy) / self.count)

    def to_dict(self) -> dict[str, Any]:
        """Returns counts and ratios as plain JSON data."""
        return {
            "count": self.count,
            "correct": self.correct,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "standard_error": self.standard_error,
        }


@dataclasses.dataclass(frozen=True)
class WordScore(Score):
    """How some masked words were predicted.

    Attributes:
        in_top_5: int. Those whose piece had one of the five highest scores; of pieces with equal
            scores the first ones of the vocabulary count as higher.
    """

    in_top_5: int

    @property
    def top_5_accuracy(self) -> float | None:
        """Share of the words that are in the top five; None without any."""
        return self.in_top_5 / self.count if self.count else None

    @property
    def perplexity(self) -> float | None:
        """Exponential of the loss; None without any word."""
        return math.exp(min(self.loss, 700.0)) if self.count else None

    def to_dict(self) -> dict[str, Any]:
        """Returns counts and ratios as plain JSON data."""
        own = {
            "in_top_5": self.in_top_5,
            "top_5_accuracy": self.top_5_accuracy,
            "perplexity": self.perplexity,
        }
        return {**super().to_dict(), **own}


@dataclasses.dataclass(frozen=True)
class MaskedWordBaseline:
    """What knowing how frequent each piece is among the very same targets would reach.

    Attributes:
        piece: str. The most frequent one; of equally frequent ones the first of the vocabulary.
        accuracy: float. Its share of the targets: that of always answering it.
        loss: float. Entropy of the targets' frequencies. No guess that is the same for all targets
            has a lower loss, and one made from the training records has a higher one: the fewer
            the targets, the more their own frequencies flatter this baseline.
    """

    piece: str
    accuracy: float
    loss: float


@dataclasses.dataclass(frozen=True)
class SentencePairs:
    """How the labels of sentence pairs were predicted.

    Attributes:
        score: Score. Of all pairs.
        labels: tuple of two Scores. Of the pairs with label 0, b follows a (or: in order), and
            with label 1, b is random (or: swapped).
    """

    score: Score
    labels: tuple[Score, Score]

    @property
    def majority_label(self) -> int:
        """The more frequent label."""
        return int(self.labels[1].count > self.labels[0].count)

    @property
    def majority_accuracy(self) -> float:
        """Accuracy of always answering the more frequent label."""
        return self.labels[self.majority_label].count / self.score.count


@dataclasses.dataclass(frozen=True)
class PretrainingEvaluation:
    """What `evaluate_pretraining` found.

    Attributes:
        data: str. Folder of the records.
        split: str. "validation" or "train".
        objective: str. Of the records.
        compute_dtype: str. That the model computed in.
        examples: int. Rows, of records that are packed.
        record_name: str. "example", or "row" of records that are packed.
        masked_words: WordScore. Of all masked words; those of each of the next three add up to it.
        parts: Mapping of PARTS to WordScores, by what the model is shown in place of the word:
            [MASK], the word itself, or another piece. A random replacement cannot be told from
            these in the records: where the word itself was drawn, it counts as kept, and where
            [MASK] was drawn, as [MASK].
        bands: Mapping of BANDS to WordScores, by the rank of the word's piece when all pieces are
            sorted by how often they are a masked word among those evaluated, the most frequent
            first. The manifest has no counts of pieces and a pass over the training records would
            cost more than the evaluation; the ranks are therefore those of this data: compare
            models on the same records, and mind that among a few thousand words the lower bands
            hold what happens to occur once or twice.
        pieces: Mapping of PIECES to WordScores: whether the piece starts a word, or is a whole one,
            or continues one ("##").
        baseline: MaskedWordBaseline.
        sentence_pairs: SentencePairs or None. None for the objective "mlm", which has none.
    """

    data: str
    split: str
    objective: str
    compute_dtype: str
    examples: int
    record_name: str
    masked_words: WordScore
    parts: Mapping[str, WordScore]
    bands: Mapping[str, WordScore]
    pieces: Mapping[str, WordScore]
    baseline: MaskedWordBaseline
    sentence_pairs: SentencePairs | None

    @property
    def loss(self) -> float:
        """Sum of the mean losses, as training minimizes it."""
        pairs = self.sentence_pairs
        return self.masked_words.loss + (pairs.score.loss if pairs else 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Returns all figures as plain JSON data."""
        pairs = self.sentence_pairs
        return {
            "data": self.data,
            "split": self.split,
            "objective": self.objective,
            "compute_dtype": self.compute_dtype,
            "examples": self.examples,
            "loss": self.loss,
            "masked_words": self.masked_words.to_dict(),
            "by_part": {name: score.to_dict() for name, score in self.parts.items()},
            "by_frequency_rank": {name: score.to_dict() for name, score in self.bands.items()},
            "by_piece": {name: score.to_dict() for name, score in self.pieces.items()},
            "baseline": dataclasses.asdict(self.baseline),
            "sentence_pairs": pairs
            and {
                **pairs.score.to_dict(),
                "by_label": [score.to_dict() for score in pairs.labels],
                "majority_label": pairs.majority_label,
                "majority_accuracy": pairs.majority_accuracy,
            },
        }
