"""Losses that jump: told from the records of a run, answered by going back and around the data."""

import collections
import json
import posixpath
from collections.abc import Sequence

import tensorflow as tf

from keras_bert_tpu.checkpoints.storage import read_bytes, write_atomically
from keras_bert_tpu.config import InputError
from keras_bert_tpu.training.phases import Rewind

REWINDS = "rewinds.json"
FORMAT_VERSION = 1
# Records that a loss is compared with, and how many there must be before one is.
_WINDOW, _LEAST = 10, 3


class LossSpike(Exception):
    """The loss of the last record is a spike.

    Attributes:
        step: int. The step of the record.
        loss: float.
        usual: float. The mean loss of the records before.
    """

    def __init__(self, step: int, loss: float, usual: float):
        super().__init__(f"loss {loss:.4g} at step {step}, {usual:.4g} before")
        self.step, self.loss, self.usual = step, loss, usual


class SpikeRule:
    """Tells a spike: more than `factor` times the mean loss of the ten records before.

    Args:
        factor: float. Above 1; 0 never tells one.
        losses: Of the records of the phase so far, the last ones last.
    """

    def __init__(self, factor: float, losses: Sequence[float] = ()):
        self._factor = factor
        self._losses = collections.deque(losses, maxlen=_WINDOW)

    def begin_phase(self) -> None:
        """Forgets the losses of sequences of another length."""
        self._losses.clear()

    def add(self, step: int, loss: float) -> None:
        """Adds the loss of a record.

        Raises:
            LossSpike: If it is one.
        """
        if self._factor and len(self._losses) >= _LEAST:
            usual = sum(self._losses) / len(self._losses)
            if loss > self._factor * usual:
                raise LossSpike(step, loss, usual)
        self._losses.append(loss)


def read_rewinds(output: str, up_to_step: int | None = None) -> list[Rewind]:
    """Reads the rewinds of a run.

    Args:
        output: str. Folder of the run.
        up_to_step: int or None. Without those to later steps: a run that goes on before them makes
            these steps anew.

    Raises:
        InputError: If their file is damaged.
    """
    path = posixpath.join(output, REWINDS)
    if not tf.io.gfile.exists(path):
        return []
    try:
        values = json.loads(read_bytes(path))
        if values["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"{path} has format version {values['format_version']}, this version reads "
                f"{FORMAT_VERSION}; use the version of keras_bert_tpu that wrote it."
            )
        rewinds = [Rewind(**rewind) for rewind in values["rewinds"]]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is not whole ({error}), and the order of the data depends on it; restore it "
            f"from a backup, or choose another output folder."
        ) from error
    return [r for r in rewinds if up_to_step is None or r.step <= up_to_step]


def write_rewinds(output: str, rewinds: Sequence[Rewind]) -> None:
    """Writes the rewinds of a run."""
    values = {"format_version": FORMAT_VERSION, "rewinds": [vars(rewind) for rewind in rewinds]}
    write_atomically(posixpath.join(output, REWINDS), json.dumps(values, indent=2).encode())
