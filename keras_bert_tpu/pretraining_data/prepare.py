"""Documents -> shards of pre-training examples, on all cores, in memory that does not grow.

    text ──plan──> blocks, units ──workers──> examples of a unit, sorted by shard ──> unit files
    unit files ──workers──> shards in their random order ──> manifest

What a unit and a shard hold follows from the plan and the seed alone (see `documents`), so the
files are the same, byte for byte, whoever writes them and in whatever order; a preparation that was
killed and is started again makes only what is missing. Workers are threads: nearly all of the time
goes to TensorFlow and numpy, which run beside each other, and a process that imports TensorFlow
takes more memory than all the data in flight.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import tensorflow as tf
from tqdm.auto import tqdm

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.dataclass_yaml import to_dict
from keras_bert_tpu.pretraining_data import documents, spill
from keras_bert_tpu.pretraining_data.corpora import Corpus, find_corpora, fingerprint
from keras_bert_tpu.pretraining_data.examples import ExampleMaker
from keras_bert_tpu.pretraining_data.manifest import (
    MANIFEST_FILE,
    VOCABULARY_FILE,
    CorpusEntry,
    Counts,
    Manifest,
    Shard,
)
from keras_bert_tpu.pretraining_data.records import shard_name, write_shard
from keras_bert_tpu.text.sentences import splitter_version
from keras_bert_tpu.text.vocabulary import Vocabulary

# Beside local records, until they are complete.
WORK_FOLDER = "unfinished"
_PLAN_FILE = "plan.json"
# Of the files in the work folder; one that another version left cannot be gone on with.
_WORK_VERSION = 1

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def prepare(
    input: str | Sequence[str] | None,
    output: str,
    vocab: str,
    config: DataConfig | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
    *,
    tfds: Sequence[str] = (),
    weights: Sequence[float] = (),
    tfds_folder: str = "",
    work_folder: str | None = None,
) -> Manifest:
    """Makes pre-training records of text.

    Writes `train-*.tfrecord`, `validation-*.tfrecord`, `vocab.txt` and, last, `manifest.json`. The
    files are the same for any number of workers. Called again after it was killed, with the same
    arguments and the same text, it makes what is missing.

    Args:
        input: str, sequence of str or None. Local or gs:// paths or globs of text files, plain or
            gzip, in the format that `config.input_format` says. A string may hold several,
            separated by commas.
        output: str. Local or gs:// folder to write to.
        vocab: str. Path of the vocabulary, one piece on a line.
        config: DataConfig or None. None takes the defaults.
        workers: int or None. Threads that make examples; None takes one for each core.
        overwrite: bool. Replace records, finished or not, that are already there.
        progress: bool. Show progress bars.
        tfds: Sets of tensorflow-datasets to read besides, each `NAME[/CONFIG][:VERSION][@SPLIT]`.
        weights: How often each entry of `input`, and then of `tfds`, is gone over, times
            `config.dupe_factor`. None given is 1 for all.
        tfds_folder: str. Local or gs:// folder of those sets. Empty takes the variable
            TFDS_DATA_DIR or else ~/tensorflow_datasets.
        work_folder: str or None. Folder, of this preparation alone, for about as many bytes as the
            records have. None takes `unfinished` in a local output folder, else one in the
            machine's folder for temporary files.

    Returns:
        Manifest. As written to the folder.

    Raises:
        InputError: Before the work starts, if the input, the vocabulary or a setting does not fit,
            or if the folder already holds records; later, if a folder cannot be written to or no
            example comes out.
    """
    config = config or DataConfig()
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1. Received: {workers}.")
    workers = workers or _num_cores()
    vocabulary = Vocabulary.load(vocab)
    maker = ExampleMaker(vocabulary, config)
    corpora = find_corpora(input, tfds, weights, tfds_folder)
    work = _Work(output, work_folder, config, vocabulary, corpora)
    try:
        plan = work.begin(overwrite, progress)
        vocabulary.save(tf.io.gfile.join(output, VOCABULARY_FILE))
        counts = _make_units(plan, maker, work, workers, progress)
        shards = _make_shards(plan, work, workers, progress)
    except tf.errors.OpError as error:
        raise InputError(
            f"{output} or {work.folder} cannot be written to: {error.message}; see that there is "
            f"space and permission, and run again, which goes on where this ended."
        ) from error
    manifest = make_manifest(output, plan, vocabulary, counts, shards)
    if not manifest.num_examples:
        work.clear()
        raise no_example(plan)
    manifest.save()
    work.end()
    return manifest


class _Work:
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

    def begin(self, overwrite: bool, progress: bool) -> documents.CorpusPlan:
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
            return documents.CorpusPlan.from_json(begun["plan"], self._corpora, self._config)
        plan = documents.plan_corpora(self._corpora, self._config, progress)
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


def _make_units(
    plan: documents.CorpusPlan, maker: ExampleMaker, work: _Work, workers: int, progress: bool
) -> dict[str, Counts]:
    """Makes the unit files that are missing; returns the counts of each split."""
    counts = {number: work.unit_counts(number) for number in range(len(plan.units))}
    done = {number for number, found in counts.items() if found is not None}

    def make(
        task: tuple[int, list[documents.Block]], should_stop: Callable[[], bool]
    ) -> tuple[int, Counts]:
        number, blocks = task
        batches = [batch for block in blocks for batch in maker.make(block, should_stop)]
        spill.write_unit(work.unit_file(number), batches, plan.num_shards[plan.units[number].split])
        total = sum((batch.counts for batch in batches), Counts())
        work.write(f"unit-{number:05d}.json", dataclasses.asdict(total))
        return number, total

    def size(number: int) -> int:
        unit = plan.units[number]
        return plan.end_document(unit) - plan.first_document(unit)

    with tqdm(
        total=sum(map(plan.num_documents, documents.SPLITS)),
        initial=sum(map(size, done)),
        desc=f"Making examples with {workers} worker{'s'[: workers > 1]}",
        unit="doc",
        disable=not progress,
    ) as bar:
        if len(done) < len(plan.units):
            for number, found in _in_threads(make, documents.read_units(plan, done), workers):
                counts[number] = found
                bar.update(size(number))
    totals = dict.fromkeys(documents.SPLITS, Counts())
    for number, unit in enumerate(plan.units):
        totals[unit.split] += counts[number]
    return totals


def _make_shards(
    plan: documents.CorpusPlan, work: _Work, workers: int, progress: bool
) -> dict[str, list[Shard]]:
    """Makes the shards that are missing; returns the entries of all."""
    tasks = [
        (split, index) for split in documents.SPLITS for index in range(plan.num_shards[split])
    ]

    def make(
        task: tuple[str, int], should_stop: Callable[[], bool]
    ) -> tuple[tuple[str, int], Shard]:
        split, index = task
        name = shard_name(split, index, plan.num_shards[split])
        shard = work.shard(name)
        if shard is None and not should_stop():
            units = [n for n, unit in enumerate(plan.units) if unit.split == split]
            content = spill.read_shard([work.unit_file(number) for number in units], index)
            shard = write_shard(work.output, name, content, plan.config.sequence_length)
            work.write(f"{name}.json", dataclasses.asdict(shard))
        return task, shard

    shards: dict[tuple[str, int], Shard] = {}
    with tqdm(
        total=len(tasks), desc="Shuffling into shards", unit="shard", disable=not progress
    ) as bar:
        for task, shard in _in_threads(make, tasks, workers):
            shards[task] = shard
            bar.update()
    return {
        split: [shards[split, index] for index in range(plan.num_shards[split])]
        for split in documents.SPLITS
    }


def _in_threads(
    function: Callable[[_Task, Callable[[], bool]], _Result],
    tasks: Iterable[_Task],
    workers: int,
) -> Iterator[_Result]:
    """Calls `function` with each task, and yields what it returns as it comes.

    One task more than there are workers is in memory, so that none waits. The second argument of
    `function` tells it when to give up.
    """
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(workers) as executor:
        pending: set[concurrent.futures.Future] = set()
        try:
            for task in tasks:
                pending.add(executor.submit(function, task, stop.is_set))
                if len(pending) > workers:
                    done, pending = concurrent.futures.wait(
                        pending, return_when=concurrent.futures.FIRST_COMPLETED
                    )
                    yield from (future.result() for future in done)
            yield from (future.result() for future in concurrent.futures.as_completed(pending))
        except BaseException:
            stop.set()
            executor.shutdown(cancel_futures=True)
            raise


def _num_cores() -> int:
    # Where a process may use some of the cores only, as in a container, those are what counts.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _default_work_folder(output: str) -> str:
    if "://" not in output:
        return os.path.join(output, WORK_FOLDER)
    name = hashlib.sha256(output.encode("utf-8")).hexdigest()[:12]
    return os.path.join(tempfile.gettempdir(), f"kbt-prepare-{name}")


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


def no_example(plan: documents.CorpusPlan) -> InputError:
    """The error to raise when no record came out of a text."""
    total = sum(map(plan.num_documents, documents.SPLITS))
    return InputError(
        f"No training example came out of the {total} documents: their text has no tokens; see "
        f"that it is in UTF-8 and that input_format is its format."
    )


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


def make_manifest(
    output: str,
    plan: documents.CorpusPlan,
    vocabulary: Vocabulary,
    counts: Mapping[str, Counts],
    shards: Mapping[str, Sequence[Shard]],
) -> Manifest:
    """The manifest of what was made from a plan, given counts and shards of each split."""
    return Manifest(
        directory=output,
        config=plan.config,
        corpora=tuple(
            CorpusEntry(
                corpus.name,
                corpus.weight,
                corpus.files,
                sum(found.documents.values()),
                found.sentences,
                found.characters,
                found.dropped,
            )
            for corpus, found in zip(plan.corpora, plan.counts, strict=True)
        ),
        vocabulary_size=len(vocabulary),
        vocabulary_sha256=vocabulary.sha256,
        train=tuple(shards[documents.TRAIN]),
        validation=tuple(shards[documents.VALIDATION]),
        train_counts=counts[documents.TRAIN],
        validation_counts=counts[documents.VALIDATION],
    )
