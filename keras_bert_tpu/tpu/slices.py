"""TPU slices by name: their generation, chips and memory."""

import math
import re
from typing import NamedTuple

from keras_bert_tpu.config import InputError
from keras_bert_tpu.tpu.peaks import TPUS, TpuGeneration, generation_name


class Slice(NamedTuple):
    """Chips that work together.

    Attributes:
        name: str. Generation, a key of `peaks.TPUS`.
        shape: tuple of int. Chips along each axis.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def generation(self) -> TpuGeneration:
        """What one chip can do."""
        return TPUS[self.name]

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    @property
    def links(self) -> int:
        """Links of a chip within the slice: along an axis one, or two in a ring."""
        generation = self.generation
        if generation.axes == 3:
            rings = [all(size % generation.ring == 0 for size in self.shape)] * 3
        else:
            rings = [size == generation.ring for size in self.shape]
        return sum(
            (2 if is_ring else 1)
            for size, is_ring in zip(self.shape, rings, strict=True)
            if size > 1
        )

    def all_reduce_seconds(self, num_bytes: int) -> float:
        """Estimates how long the chips take to add up an array that each has, and to share the sum.

        From the published bandwidth: each chip sends and receives 2 (n - 1) / n of the array over
        the links that it has in the slice.

        Args:
            num_bytes: int. Of the array.
        """
        if self.chips == 1:
            return 0.0
        generation = self.generation
        one_way = generation.ici_bandwidth / 2 * self.links / (2 * generation.axes)
        return 2 * (self.chips - 1) / self.chips * num_bytes / one_way

    def __str__(self) -> str:
        return f"{self.name}:{'x'.join(map(str, self.shape))}"

    @classmethod
    def parse(cls, text: str) -> "Slice":
        """Reads a topology such as "v5e:2x4" or an accelerator type such as "v3-8".

        Args:
            text: str. The number in an accelerator type is that of cores on v2, v3, v4, v5p and
                tpu7x, that of chips on v5e and v6e, as Cloud TPU counts them; its chips are taken
                to have the most compact shape, which is the default of Cloud TPU.

        Raises:
            InputError: If it is neither, or has more axes than the generation.
        """
        match = re.fullmatch(r"([a-z0-9]+?)(?::(\d+(?:x\d+)*)|-(\d+))", text.strip().lower())
        name = match and generation_name(match[1])
        if name not in TPUS:
            raise InputError(
                f"A topology is a generation with its chips, for example v5e:2x4 or v4:2x2x1, or "
                f"an accelerator type, for example v3-8; generations are {', '.join(TPUS)}. "
                f"Received: {text!r}."
            )
        if match[2]:
            shape = tuple(map(int, match[2].split("x")))
        else:
            per_chip = TPUS[name].counted_per_chip
            if int(match[3]) % per_chip:
                raise InputError(
                    f"The number in {text!r} is that of TensorCores, of which a {name} chip has "
                    f"{per_chip}; give a multiple of {per_chip}."
                )
            shape = (int(match[3]) // per_chip,)
        if not math.prod(shape):
            raise InputError(f"A slice has at least one chip. Received: {text!r}.")
        axes = TPUS[name].axes
        if len(shape) > axes:
            raise InputError(
                f"The chips of {name} lie along {axes} axes, for example "
                f"{cls(name, _most_compact(8, axes))}. Received: {text!r}."
            )
        if len(shape) == 1:
            shape = _most_compact(shape[0], axes)
        return cls(name, (*shape, *[1] * (axes - len(shape))))


def _most_compact(chips: int, axes: int) -> tuple[int, ...]:
    """The shape of so many chips that has the shortest sides, axes of one chip last."""
    if axes == 1:
        return (chips,)
    shapes = (
        (side, *_most_compact(chips // side, axes - 1))
        for side in range(1, chips + 1)
        if chips % side == 0
    )
    return tuple(sorted(min(shapes, key=sum), key=lambda side: (side == 1, side)))
