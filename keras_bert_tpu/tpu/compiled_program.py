"""Reads the text of a program that was compiled for a TPU: what the compiler estimates of it."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_NAME = re.compile(r'op_name="([^"]*)"')
_KIND = re.compile(r"(?:ROOT )?%?([a-zA-Z_\-]+)")
_WHILE = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONSTANT = re.compile(r"%([\w.\-]+) = s32\[\]\S* constant\((\d+)\)")
_LESS = re.compile(r"^ROOT .* compare\(%?[\w.\-]+, %?([\w.\-]+)\), direction=LT")
_CALLED = re.compile(r" call\(.*to_apply=%?([\w.\-]+)")
# What Keras adds to a name that was there before.
_REPEAT = re.compile(r"_\d+(?=/|$)")


class Operation(NamedTuple):
    """An operation as it runs: most are several of the program's that were fused.

    Attributes:
        kind: str. What the compiler made of it, for example "fusion".
        name: str. Name of the source operation that it is named after, or "".
        cycles: int. The compiler's estimate of all its runs in a step.
        runs: int. How often it runs in a step.
    """

    kind: str
    name: str
    cycles: int
    runs: int


def operations(hlo: str) -> list[Operation]:
    """Returns the operations of a compiled program that have an estimate, loops gone through.

    The compiler estimates no cycles for copies between memories, which run beside the others, for
    the drawing of random bits and for scalars.

    Args:
        hlo: str. The program as text.

    Raises:
        ValueError: If it does not say how often a loop runs that has such operations.
    """
    computations: dict[str, list[str]] = {}
    entry = ""
    lines: list[str] = []
    for line in hlo.splitlines():
        if not line.startswith(" "):
            match = _COMPUTATION.match(line)
            if match:
                lines = computations[match[2]] = []
                entry = match[2] if match[1] else entry
        else:
            lines.append(line.strip())
    return list(_of_computation(computations, entry, 1))


def _of_computation(
    computations: dict[str, list[str]], name: str, runs: int
) -> Iterator[Operation]:
    for line in computations.get(name, ()):
        if match := _WHILE.search(line):
            condition, body = match[1], match[2]
            if known := _TRIPS.search(line):
                trips = int(known[1])
            else:
                trips = _counted_to(computations.get(condition, ()))
            inner = list(_of_computation(computations, body, runs * (trips or 1)))
            if inner and trips is None:
                raise ValueError(f"The program does not say how often its loop {body} runs.")
            yield from inner
        elif match := _CALLED.search(line):
            yield from _of_computation(computations, match[1], runs)
        elif match := _CYCLES.search(line):
            source = _NAME.search(line)
            kind = _KIND.match(line)
            yield Operation(
                kind[1].rstrip("-_") if kind else "",
                _REPEAT.sub("", source[1]) if source else "",
                int(match[1]) * runs,
                runs,
            )


def _counted_to(condition: Iterable[str]) -> int | None:
    """The turns of a loop that counts up from 0 while it is less than a constant."""
    constants: dict[str, int] = {}
    for line in condition:
        if match := _CONSTANT.search(line):
            constants[match[1]] = int(match[2])
        elif match := _LESS.search(line):
            return constants.get(match[1])
    return None


def by_layer(found: Iterable[Operation]) -> list[Operation]:
    """Adds up operations of the same kind and name, those of all transformer layers together.

    Returns:
        list of Operation. Costliest first.
    """
    groups: dict[tuple[str, str], Operation] = {}
    for operation in found:
        name = re.sub(r"layer_\d+", "layer_*", operation.name)
        before = groups.get((operation.kind, name), Operation(operation.kind, name, 0, 0))
        groups[operation.kind, name] = before._replace(
            cycles=before.cycles + operation.cycles, runs=before.runs + operation.runs
        )
    return sorted(groups.values(), key=lambda group: -group.cycles)
