"""What a run tells of itself: metrics.jsonl, TensorBoard and trackers."""

import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_tpu.checkpoints.run_layout import METRICS
from keras_bert_tpu.checkpoints.storage import read_bytes, write_atomically
from keras_bert_tpu.training.trackers import Tracker


class MetricsLog:
    """metrics.jsonl and TensorBoard: one line, and one point a curve, for each record.

    Args:
        directory: str. Local or gs:// folder of the run.
        resume_step: int. Records of later steps are dropped: they will be made again.
        writes: bool. Of processes that train together one writes; the others only read.
        trackers: Trackers that are given the same records.
    """

    def __init__(
        self,
        directory: str,
        resume_step: int,
        writes: bool = True,
        trackers: Sequence[Tracker] = (),
    ):
        self.path = posixpath.join(directory, METRICS)
        self._writes = writes
        self._trackers = trackers
        self._boards = {}
        if writes:
            folder = posixpath.join(directory, "tensorboard")
            self._boards = {
                split: tf.summary.create_file_writer(posixpath.join(folder, split))
                for split in ("train", "validation")
            }
        self.drop_after(resume_step)

    def drop_after(self, step: int) -> None:
        """Drops the records of later steps."""
        if self._writes:
            kept = [record for record in self.records() if record["step"] <= step]
            write_atomically(self.path, "".join(f"{json.dumps(r)}\n" for r in kept).encode())

    def write(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Appends a record of the split "train" or "validation"."""
        if not self._writes:
            return
        record = {"split": split, "step": step, **values}
        with tf.io.gfile.GFile(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")
        with self._boards[split].as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)
        self._boards[split].flush()
        for tracker in self._trackers:
            tracker.log(split, step, values)

    def close(self) -> None:
        """Closes the TensorBoard files and the trackers."""
        for board in self._boards.values():
            board.close()
        for tracker in self._trackers:
            tracker.close()

    def records(self) -> list[dict[str, Any]]:
        """Returns all records."""
        if not tf.io.gfile.exists(self.path):
            return []
        return parse_records(read_bytes(self.path))


def parse_records(content: bytes) -> list[dict[str, Any]]:
    """Parses metrics.jsonl; a last line that a crash cut short is left out."""
    lines = content.decode().split("\n")
    return [json.loads(line) for line in lines[:-1]]
