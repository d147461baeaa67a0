"""The folder of a preparation that has not finished: what is done, and for which input."""

import contextlib
import dataclasses
import fnmatch
import hashlib
import json
import os
import tempfile
import textwrap
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.dataclass_yaml import to_dict
from keras_bert_tpu.pretraining_data import documents
from keras_bert_tpu.pretraining_data.corpora import Corpus, fingerprint
from keras_bert_tpu.pretraining_data.manifest import MANIFEST_FILE, VOCABULARY_FILE, Counts, Shard
from keras_bert_tpu.pretraining_data.plan import CorpusPlan, plan_corpora
from keras_bert_tpu.text.sentences import splitter_version
from keras_bert_tpu.text.vocabulary import Vocabulary

# Beside local records, until they are complete. It is removed as a whole, so its name is one that
# nobody else gives.
WORK_FOLDER = "kbt-prepare-unfinished"
_PLAN_FILE = "plan.json"
# Of the files in the work folder; one that another version left cannot be gone on with.
_WORK_VERSION = 3
# What reading a file of JSON with other content than was written raises.
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error)


class WorkFolder:
    """The folder of what is not finished yet, and what it says of itself.

    Args:
        output: str. Local or gs:// folder of the records.
        parent: str or None. Local or gs:// folder in which it shall be. None takes a local output
            folder, or else the machine's folder for temporary files.
        config: DataConfig.
        vocabulary: Vocabulary.
        corpora: tuple of Corpus.

    Attributes:
        output: str. Local or gs:// folder of the records.
        folder: str. Local or gs:// folder of what they are made from, and of nothing else.
    """

    def __init__(
        self,
        output: str,
        parent: str | None,
        config: DataConfig,
        vocabulary: Vocabulary,
        corpora: tuple[Corpus, ...],
    ):
        self.output = output
        self.folder = _folder_in(parent, output)
        self._config = config
        self._vocabulary = vocabulary
        self._corpora = corpora
        # Through JSON, as it will be compared with what was read from there.
        self._identity = json.loads(
            json.dumps(
                {
                    "version": _WORK_VERSION,
                    "settings": to_dict(config),
                    "vocabulary": vocabulary.sha256,
                    "sentences": splitter_version(),
                    "corpora": [{**fingerprint(c), "weight": c.weight} for c in corpora],
                }
            )
        )

    def begin(self, overwrite: bool, progress: bool) -> CorpusPlan:
        """Checks both folders, and returns the plan that is there or makes one.

        A preparation of the very same is gone on with, whether or not the records are overwritten.

        Raises:
            InputError: If the output holds records, or those of another preparation were begun.
            tf.errors.OpError: If one of the folders cannot be written to.
        """
        earlier = earlier_files(self.output)
        has_manifest = bool(earlier) and os.path.basename(earlier[0]) == MANIFEST_FILE
        if has_manifest and not overwrite:
            raise already_prepared(self.output, earlier)
        begun = None if has_manifest else self._read_plan(overwrite)
        if begun is not None:
            identity, plan = begun
            different = _first_difference(identity, self._identity)
            if not different:
                return plan
            if not overwrite:
                if identity.get("version") != _WORK_VERSION:
                    raise InputError(
                        f"{self.folder!r} holds a preparation that another version of this "
                        f"package did not finish; finish it with that version, or start afresh "
                        f"with --overwrite."
                    )
                raise InputError(
                    f"{self.folder!r} holds a preparation that did not finish and that differs in "
                    f"{different}; give the same again to go on with it, or start afresh with "
                    f"--overwrite."
                )
        if not overwrite:
            if earlier:
                raise already_prepared(self.output, earlier)
            check_vocabulary_file(self.output, self._vocabulary)
        is_new, is_first = (not tf.io.gfile.isdir(f) for f in (self.output, self.folder))
        self._try_to_write()
        try:
            plan = plan_corpora(self._corpora, self._config, progress)
        except BaseException:
            if is_first:
                self.end()
            if is_new:
                tf.io.gfile.rmtree(self.output)
            raise
        self.clear()
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

    def unit_prefix(self, unit: int) -> str:
        """How the paths of the files of a unit's examples begin."""
        return self._path(_unit_name(unit))

    def finish_unit(self, unit: int, files: Sequence[str], counts: Counts) -> None:
        """Notes that the examples of a unit are there."""
        sizes = {os.path.basename(path): int(tf.io.gfile.stat(path).length) for path in files}
        self.write(
            f"{_unit_name(unit)}.json", {"files": sizes, "counts": dataclasses.asdict(counts)}
        )

    def unit(self, unit: int) -> tuple[list[str], Counts] | None:
        """The files and counts of a unit that is there and whole, or None."""
        try:
            values = self._read(f"{_unit_name(unit)}.json")
            if values is None:
                return None
            sizes, counts = dict(values["files"]), Counts(**values["counts"])
        except _DAMAGE:
            return None
        files = [self._path(name) for name in sizes]
        for path, size in zip(files, sizes.values(), strict=True):
            if not tf.io.gfile.exists(path) or tf.io.gfile.stat(path).length != size:
                return None
        return files, counts

    def shard(self, name: str) -> Shard | None:
        """The entry of a shard that is complete, or None."""
        try:
            values = self._read(f"{name}.json")
            if values is None:
                return None
            shard = Shard(**{**values, "length_counts": tuple(values["length_counts"])})
        except _DAMAGE:
            return None
        path = tf.io.gfile.join(self.output, name)
        if not tf.io.gfile.exists(path) or tf.io.gfile.stat(path).length != shard.bytes:
            return None
        return shard

    def write(self, name: str, values: Any) -> None:
        """Writes a file of JSON that has its name only when it is whole."""
        path = self._path(name)
        with tf.io.gfile.GFile(f"{path}.partial", "w") as file:
            file.write(json.dumps(values))
        tf.io.gfile.rename(f"{path}.partial", path, overwrite=True)

    def _read_plan(self, overwrite: bool) -> tuple[Any, CorpusPlan | None] | None:
        """What a plan that is there was made for, and the plan itself if that is the same."""
        try:
            values = self._read(_PLAN_FILE)
            if values is None:
                return None
            identity, text = values["identity"], values["plan"]
            if _first_difference(identity, self._identity):
                return identity, None
            return identity, CorpusPlan.from_json(text, self._corpora, self._config)
        except _DAMAGE as error:
            if overwrite:
                return None
            raise InputError(
                f"{self._path(_PLAN_FILE)} of a preparation that did not finish cannot be read "
                f"({error!r}); start afresh with --overwrite."
            ) from error

    def _try_to_write(self) -> None:
        """Finds out before the text is read, which may take hours, whether there is a place."""
        for folder in (self.output, self.folder):
            path = tf.io.gfile.join(folder, "kbt-prepare-probe")
            tf.io.gfile.makedirs(folder)
            with tf.io.gfile.GFile(path, "w") as file:
                file.write("A file to see whether this folder can be written to.")
            tf.io.gfile.remove(path)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            with tf.io.gfile.GFile(self._path(name), "r") as file:
                values = json.loads(file.read())
        except tf.errors.NotFoundError:
            return None
        if not isinstance(values, dict):
            raise ValueError("it holds no JSON object")
        return values

    def _path(self, name: str) -> str:
        return tf.io.gfile.join(self.folder, name)


def earlier_files(output: str) -> list[str]:
    """Records and manifest of an earlier preparation, the manifest first.

    Raises:
        InputError: If no output is named, or it is a file.
    """
    if not output:
        raise InputError("The output is empty; name a folder for the records.")
    if tf.io.gfile.exists(output) and not tf.io.gfile.isdir(output):
        raise InputError(f"The output {output!r} is a file; name a folder.")
    if not tf.io.gfile.isdir(output):
        return []
    # Not a pattern for the path, in which characters of the folder's name would mean something.
    names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(output))
    patterns = [MANIFEST_FILE] + [f"{split}-*-of-*.tfrecord*" for split in documents.SPLITS]
    return [
        tf.io.gfile.join(output, name)
        for pattern in patterns
        for name in fnmatch.filter(names, pattern)
    ]


def already_prepared(output: str, earlier: Sequence[str]) -> InputError:
    """The error to raise when a folder holds records, some of which are named."""
    first, others = os.path.basename(earlier[0]), len(earlier) - 1
    if first != MANIFEST_FILE:
        return InputError(
            f"{output!r} holds records without a manifest ({first} and {others} more files), of a "
            f"preparation that did not finish; give its command again, with the same "
            f"--work_folder, to go on with it, name another folder, or replace them with "
            f"--overwrite."
        )
    return InputError(
        f"{output!r} already holds records ({first} and {others} more files); name another folder, "
        f"or replace them with --overwrite."
    )


def check_vocabulary_file(output: str, vocabulary: Vocabulary) -> None:
    """Makes sure that no other file is lost to the vocabulary that goes beside the records.

    Raises:
        InputError: If the folder holds a `vocab.txt` that is not this vocabulary.
    """
    path = tf.io.gfile.join(output, VOCABULARY_FILE)
    if not tf.io.gfile.exists(path):
        return
    try:
        is_same = Vocabulary.load(path).sha256 == vocabulary.sha256
    except InputError:
        is_same = False
    if not is_same:
        raise InputError(
            f"{path} is there and is not the vocabulary that was given, which would take its "
            f"place; name another folder, or replace it with --overwrite."
        )


@contextlib.contextmanager
def unwritable_told(*folders: str) -> Iterator[None]:
    """Turns a failure to write into an InputError that names the folders."""
    try:
        yield
    except tf.errors.OpError as error:
        raise InputError(
            f"{' or '.join(folders)} cannot be written to: {error.message}; see that there is "
            f"space and permission, and run again, which goes on where this ended."
        ) from error


def _folder_in(parent: str | None, output: str) -> str:
    is_local = "://" not in output
    if parent is None and is_local:
        return os.path.join(output, WORK_FOLDER)
    full = os.path.abspath(output) if is_local else output.rstrip("/")
    name = hashlib.sha256(full.encode("utf-8")).hexdigest()[:12]
    return tf.io.gfile.join(parent or tempfile.gettempdir(), f"kbt-prepare-{name}")


def _unit_name(unit: int) -> str:
    return f"unit-{unit:05d}"


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
    return "" if before == now else f"{name} ({_short(before)} then, {_short(now)} now)"


def _short(value: Any) -> str:
    return textwrap.shorten(repr(value), 200, placeholder=" ...")
