"""Which columns of a table hold texts, label and id: as asked for, or by their usual names."""

import dataclasses
from collections.abc import Sequence

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tasks.row_files import some

# Usual names, looked for in this order and without regard to case.
_PAIRS = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "answer"),
    ("query", "passage"),
    ("sentence_a", "sentence_b"),
    ("sentence_1", "sentence_2"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("#1 string", "#2 string"),
)
_TEXTS = ("sentence", "text", "review", "comment", "tweet", "content", "question")
_LABELS = (
    "label",
    "labels",
    "gold_label",
    "class",
    "category",
    "target",
    "sentiment",
    "is_duplicate",
    "quality",
    "entailment_judgment",
    "score",
    "similarity",
    "relatedness_score",
)
_IDS = ("id", "index", "idx", "guid", "pairid", "pair_id")


@dataclasses.dataclass(frozen=True)
class TableColumns:
    """Which columns of a table mean what.

    Attributes:
        texts: tuple of str. Names of one or two columns; none looks for usual names.
        label: str. Name of the column of labels; empty looks for usual names.
        id: str. Name of the column of ids; empty looks for usual names, and numbers the rows if
            there is none.
    """

    texts: tuple[str, ...] = ()
    label: str = ""
    id: str = ""

    def __post_init__(self):
        if len(self.texts) > 2 or len(set(self.texts)) < len(self.texts):
            raise InputError(
                f"A row of BERT has one or two texts, of different columns. Received: "
                f"{self.texts!r} as columns of text."
            )


def find_columns(
    names: Sequence[str], source: str, wanted: TableColumns | None, needs_label: bool
) -> TableColumns:
    """Finds out which columns hold texts, label and id.

    Args:
        names: Sequence of str. Columns that there are.
        source: str. Name of the file or data set in errors.
        wanted: TableColumns. What was asked for; None, and what it leaves open, is looked for
            under usual names.
        needs_label: bool. Whether there must be a label.

    Returns:
        TableColumns. `label` and `id` are empty if there is none.

    Raises:
        InputError: If a column that was asked for, or that is needed, is not there.
    """
    wanted = wanted or TableColumns()
    asked = [*wanted.texts, *filter(None, (wanted.label if needs_label else "", wanted.id))]
    for name in asked:
        if name not in names:
            raise InputError(
                f"{source!r} has no column {name!r}; its columns are {some(names)}: name one of "
                f"these."
            )
    by_lower = {name.lower(): name for name in reversed(names)}
    texts = wanted.texts or _usual_texts(by_lower)
    if not texts:
        raise InputError(
            f"No column of {source!r} has a usual name for a text, such as 'sentence' or 'text'; "
            f"its columns are {some(names)}: say which hold the text."
        )
    others = {lower: name for lower, name in by_lower.items() if name not in texts}
    label = wanted.label or next((others[name] for name in _LABELS if name in others), "")
    if needs_label and not label:
        raise InputError(
            f"No column of {source!r} has a usual name for a label, such as 'label'; its columns "
            f"are {some(names)}: say which holds the label."
        )
    row_id = wanted.id or next((others[name] for name in _IDS if name in others), "")
    return TableColumns(tuple(texts), label, row_id)


def _usual_texts(by_lower: dict[str, str]) -> tuple[str, ...]:
    for pair in _PAIRS:
        if all(name in by_lower for name in pair):
            return tuple(by_lower[name] for name in pair)
    return next(((by_lower[name],) for name in _TEXTS if name in by_lower), ())
