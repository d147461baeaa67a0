"""How labels of words mark entities: the schemes, told apart, and the entities they mark.

A label is `O`, outside of all entities, or a prefix, a hyphen and the type of an entity. The
schemes (with a word each of two neighbouring entities of one type, then one of three words):

    BIO     B B  B I I      the first word of an entity has B
    IOB1    I B  I I I      B only where an entity of the same type stands right before
    IO      I I  I I I      neighbours of one type cannot be told apart
    BIOES   S S  B I E      entities of one word, and last words, have marks of their own
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from keras_bert_tpu.config import InputError

OUTSIDE = "O"
Scheme = Literal["BIO", "IOB1", "IO", "BIOES"]
SCHEMES: tuple[Scheme, ...] = ("BIO", "IOB1", "IO", "BIOES")
_PREFIXES = ("B", "I", "E", "S")


class Entity(NamedTuple):
    """An entity in a sentence.

    Attributes:
        type: str.
        first, last: int. Its first and last word.
    """

    type: str
    first: int
    last: int


def split_label(label: str) -> tuple[str, str]:
    """Returns the prefix and the type of a label; `O` has an empty type.

    Args:
        label: str.

    Raises:
        InputError: If it is neither `O` nor one of B-, I-, E- and S- with a type.
    """
    if label == OUTSIDE:
        return OUTSIDE, ""
    prefix, hyphen, kind = label.partition("-")
    if prefix not in _PREFIXES or not hyphen or not kind:
        raise InputError(
            f"A label must be O, or B-, I-, E- or S- and a type, such as B-PER. Received: "
            f"{label[:80]!r}."
        )
    return prefix, kind


def find_entities(labels: Sequence[str]) -> list[Entity]:
    """Finds the entities of a sentence, whatever the scheme, however faulty.

    The rules are those of conlleval, and of seqeval where it is not told a scheme: an entity ends
    behind E and S, before B, S and O, and where the type changes; whatever else follows an entity
    of its own type belongs to it, unless that has ended.

    Args:
        labels: Sequence of str, one for each word.

    Returns:
        List of Entity in their order.

    Raises:
        InputError: If a label is not one.
    """
    found = []
    first = 0
    previous = OUTSIDE
    for position, label in enumerate((*labels, OUTSIDE)):
        same = goes_on(previous, label)
        if previous != OUTSIDE and not same:
            found.append(Entity(split_label(previous)[1], first, position - 1))
        if not same:
            first = position
        previous = label
    return found


def goes_on(before: str, label: str) -> bool:
    """Tells whether a word belongs to the entity of the word before it, as in `find_entities`.

    Args:
        before: str. Label of the word before.
        label: str. Label of the word.

    Raises:
        InputError: If one of them is no label.
    """
    (previous, previous_type), (prefix, kind) = split_label(before), split_label(label)
    return previous in ("B", "I") and prefix in ("I", "E") and kind == previous_type


def scheme_of(sentences: Sequence[Sequence[str]]) -> Scheme:
    """Tells the scheme from labels.

    Args:
        sentences: Sequence of sequences of str. The labels of each sentence.

    Returns:
        "BIOES" if E or S occurs, "IO" if B does not, "IOB1" if B stands only, and "BIO" if it
        stands also, where no entity of the same type is right before.

    Raises:
        InputError: If a label is not one.
    """
    prefixes = {split_label(label)[0] for labels in sentences for label in labels}
    if prefixes & {"E", "S"}:
        return "BIOES"
    if "B" not in prefixes:
        return "IO" if "I" in prefixes else "BIO"
    needless = any(
        prefix == "B" and kind != before
        for labels in sentences
        for prefix, kind, before in _with_type_before(labels)
    )
    return "BIO" if needless else "IOB1"


def first_break(labels: Sequence[str], scheme: Scheme) -> int | None:
    """Finds the first label that breaks a scheme.

    Args:
        labels: Sequence of str, those of one sentence.
        scheme: "BIO", "IOB1", "IO" or "BIOES".

    Returns:
        int. Its place; None if there is none.

    Raises:
        InputError: If a label is not one, or the scheme is not known.
    """
    if scheme not in SCHEMES:
        raise InputError(f"The scheme must be one of {', '.join(SCHEMES)}. Received: {scheme!r}.")
    allowed = {"BIO": "BIO", "IOB1": "BIO", "IO": "IO", "BIOES": "BIOES"}[scheme]
    previous, previous_type = OUTSIDE, ""
    for position, label in enumerate((*labels, OUTSIDE)):
        prefix, kind = split_label(label)
        # Whether an entity has begun before this word that may go on; in BIOES it must.
        is_open = previous in ("B", "I")
        same = is_open and kind == previous_type
        broken = (
            prefix not in allowed
            or (scheme == "BIO" and prefix == "I" and not same)
            or (scheme == "IOB1" and prefix == "B" and not same)
            or (scheme == "BIOES" and is_open != (prefix in ("I", "E")))
            or (scheme == "BIOES" and is_open and not same)
        )
        if broken:
            return min(position, len(labels) - 1)
        previous, previous_type = prefix, kind
    return None


def _with_type_before(labels: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yields the prefix and type of each label, and the type of the label before it."""
    before = ""
    for label in labels:
        prefix, kind = split_label(label)
        yield prefix, kind, before
        before = kind
