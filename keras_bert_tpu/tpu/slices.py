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
        shape: tuple of int. Chips along each axis; (chips,) if only their number is known.
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

    def all_reduce_seconds(self, num_bytes: int) -> float | None:
        """Estimates how long the chips take to add up an array that each has, and to share the sum.

        From the published bandwidth: each chip sends and receives 2 (n - 1) / n of the array over
        all links that an axis of the slice has (one where it has two chips, two where it has more).

        Args:
            num_bytes: int. Of the array.

        Returns:
            Seconds, or None where no bandwidth is published.
        """
        if self.chips == 1:
            return 0.0
        bandwidth = self.generation.ici_bandwidth
        if bandwidth is None:
            return None
        links = sum(min(size - 1, 2) for size in self.shape)
        # A type of which only the number of chips is known is taken for one with all links.
        share = 1.0 if len(self.shape) == 1 else min(1.0, links / self.generation.links)
        one_way = bandwidth / 2 * share
        return 2 * (self.chips - 1) / self.chips * num_bytes / one_way

    def __str__(self) -> str:
        return f"{self.name}:{'x'.join(map(str, self.shape))}"

    @classmethod
    def parse(cls, text: str) -> "Slice":
        """Reads a topology such as "v5e:2x4" or an accelerator type such as "v3-8".

        Args:
            text: str. The number in an accelerator type is that of cores on v2, v3, v4, v5p and
                tpu7x, that of chips on v5e and v6e, as Cloud TPU counts them.

        Raises:
            InputError: If it is neither.
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
        return cls(name, shape)
