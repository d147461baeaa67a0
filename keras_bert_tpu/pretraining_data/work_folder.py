"""The folder of a preparation that has not finished: what is done, and for which input."""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.dataclass_yaml import to_dict
from keras_bert_tpu.pretraining_data import documents
from keras_bert_tpu.pretraining_data.corpora import Corpus, fingerprint
from keras_bert_tpu.pretraining_data.manifest import MANIFEST_FILE, Counts, Shard
from keras_bert_tpu.pretraining_data.plan import CorpusPlan, plan_corpora
from keras_bert_tpu.text.sentences import splitter_version
from keras_bert_tpu.text.vocabulary import Vocabulary

# Beside local records, until they are complete.
WORK_FOLDER = "unfinished"
_PLAN_FILE = "plan.json"
# Of the files in the work folder; one that another version left cannot be gone on with.
_WORK_VERSION = 1


class WorkFolder:
    """The folder of what is not finished yet, and what it says of itself.

    Attributes:
        output: str. Local or gs:// folder of the records.
        folder: str. Local or gs:// folder of what they are made from.
    """

    def __init__(
        self,
        output: str,
        folder: str | None,
        config: DataConfig,
        vocabulary: Vocabulary,
        corpora: tuple[Corpus, ...],
    ):
        self.output = output
        self.folder = folder or _default_work_folder(output)
        self._config = config
        self._corpora = corpora
        # Through JSON, as it will be compared with what was read from there.
        self._identity = json.loads(
            json.dumps(
                {
                    "version": _WORK_VERSION,
                    "output": output,
                    "settings": to_dict(config),
                    "vocabulary": vocabulary.sha256,
                    "sentences": splitter_version(),
                    "corpora": [{**fingerprint(c), "weight": c.weight} for c in corpora],
                }
            )
        )

    def begin(self, overwrite: bool, progress: bool) -> CorpusPlan:
        """Checks both folders, and returns the plan that is there or makes one.

        Raises:
            InputError: If the output holds records, or those of another preparation were begun.
        """
        earlier = earlier_files(self.output)
        begun = None if overwrite else self._read(_PLAN_FILE)
        has_manifest = bool(earlier) and os.path.basename(earlier[0]) == MANIFEST_FILE
        if earlier and not overwrite and (has_manifest or begun is None):
            raise already_prepared(self.output, earlier)
        if begun is not None:
            different = _first_difference(begun["identity"], self._identity)
            if different:
                raise InputError(
                    f"{self.folder!r} holds a preparation that did not finish and that differs in "
                    f"{different}; give the same again to go on with it, or start afresh with "
                    f"--overwrite."
                )
            return CorpusPlan.from_json(begun["plan"], self._corpora, self._config)
        plan = plan_corpora(self._corpora, self._config, progress)
        self.clear()
        tf.io.gfile.makedirs(self.output)
        tf.io.gfile.makedirs(self.folder)
        self.write(_PLAN_FILE, {"identity": self._identity, "plan": plan.to_json()})
        return plan

    def clear(self) -> None:
        """Removes the records, and what there is of them."""
        # The manifest goes first: without it, what is left counts as incomplete.
        for path in earlier_files(self.output):
            tf.io.gfile.remove(path)
        self.end()

    def end(self) -> None:
        """Removes the folder."""
        if tf.io.gfile.isdir(self.folder):
            # The plan goes first: without it, what is left is not gone on with.
            if tf.io.gfile.exists(self._path(_PLAN_FILE)):
                tf.io.gfile.remove(self._path(_PLAN_FILE))
            tf.io.gfile.rmtree(self.folder)

    def unit_file(self, unit: int) -> str:
        """Path of a unit's examples."""
        return self._path(f"unit-{unit:05d}")

    def unit_counts(self, unit: int) -> Counts | None:
        """The counts of a unit whose file is there, or None."""
        values = self._read(f"unit-{unit:05d}.json")
        return None if values is None else Counts(**values)

    def shard(self, name: str) -> Shard | None:
        """The entry of a shard that is complete, or None."""
        values = self._read(f"{name}.json")
        if values is None:
            return None
        path = tf.io.gfile.join(self.output, name)
        if not tf.io.gfile.exists(path) or tf.io.gfile.stat(path).length != values["bytes"]:
            return None
        return Shard(**{**values, "length_counts": tuple(values["length_counts"])})

    def write(self, name: str, values: Any) -> None:
        """Writes a file of JSON that has its name only when it is whole."""
        path = self._path(name)
        with tf.io.gfile.GFile(f"{path}.partial", "w") as file:
            file.write(json.dumps(values))
        tf.io.gfile.rename(f"{path}.partial", path, overwrite=True)

    def _read(self, name: str) -> Any:
        try:
            with tf.io.gfile.GFile(self._path(name), "r") as file:
                return json.loads(file.read())
        except tf.errors.NotFoundError:
            return None

    def _path(self, name: str) -> str:
        return tf.io.gfile.join(self.folder, name)


def earlier_files(output: str) -> list[str]:
    """Records and manifest of an earlier preparation, the manifest first.

    Raises:
        InputError: If the output is a file.
    """
    patterns = [MANIFEST_FILE] + [f"{split}-*-of-*.tfrecord*" for split in documents.SPLITS]
    if tf.io.gfile.exists(output) and not tf.io.gfile.isdir(output):
        raise InputError(f"The output {output!r} is a file; name a folder.")
    if not tf.io.gfile.isdir(output):
        return []
    return [path for name in patterns for path in tf.io.gfile.glob(tf.io.gfile.join(output, name))]


def already_prepared(output: str, earlier: Sequence[str]) -> InputError:
    """The error to raise when a folder holds records, some of which are named."""
    return InputError(
        f"{output!r} already holds records ({os.path.basename(earlier[0])} and "
        f"{len(earlier) - 1} more files); name another folder, or replace them with --overwrite."
    )


def _default_work_folder(output: str) -> str:
    if "://" not in output:
        return os.path.join(output, WORK_FOLDER)
    name = hashlib.sha256(output.encode("utf-8")).hexdigest()[:12]
    return os.path.join(tempfile.gettempdir(), f"kbt-prepare-{name}")


def _first_difference(before: Any, now: Any, name: str = "") -> str:
    """Where two JSON values differ first, and how; empty if they do not."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            inner = f"{name}.{key}" if name else key
            if found := _first_difference(before.get(key), now.get(key), inner):
                return found
        return ""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, values in enumerate(zip(before, now, strict=True)):
            if found := _first_difference(*values, f"{name}.{place}"):
                return found
        return ""
    return "" if before == now else f"{name} ({before!r} then, {now!r} now)"
