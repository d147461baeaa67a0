"""Documents -> shards of pre-training examples, on all cores, in memory that does not grow.

    text ──plan──> blocks, units ──workers──> examples of a unit, sorted by shard ──> unit files
    unit files ──workers──> shards in their random order ──> manifest

What a unit and a shard hold follows from the plan and the seed alone (see `plan`), so the
files are the same, byte for byte, whoever writes them and in whatever order; a preparation that was
killed and is started again makes only what is missing. Workers are threads: nearly all of the time
goes to TensorFlow and numpy, which run beside each other, and a process that imports TensorFlow
takes more memory than all the data in flight.
"""

import concurrent.futures
import dataclasses
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import tensorflow as tf
from tqdm.auto import tqdm

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import documents, spill
from keras_bert_tpu.pretraining_data.corpora import find_corpora
from keras_bert_tpu.pretraining_data.examples import ExampleBatch, ExampleMaker
from keras_bert_tpu.pretraining_data.manifest import (
    VOCABULARY_FILE,
    CorpusEntry,
    Counts,
    Manifest,
    Shard,
)
from keras_bert_tpu.pretraining_data.packed_records import pack_shard
from keras_bert_tpu.pretraining_data.plan import ChangedTextError, CorpusPlan, read_units
from keras_bert_tpu.pretraining_data.records import shard_name, write_shard
from keras_bert_tpu.pretraining_data.work_folder import WorkFolder, unwritable_told
from keras_bert_tpu.text.vocabulary import Vocabulary

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
        work_folder: str or None. Folder in which a folder of this preparation alone is made, for
            about as many bytes as the records have. None takes a local output folder, else the
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
    work = WorkFolder(output, work_folder, config, vocabulary, corpora)
    with unwritable_told(output, work.folder):
        plan = work.begin(overwrite, progress)
        vocabulary.save(tf.io.gfile.join(output, VOCABULARY_FILE))
        try:
            counts = _make_units(plan, maker, work, workers, progress)
        except ChangedTextError:
            work.end()  # The plan is of another text.
            raise
        shards = _make_shards(plan, work, workers, progress)
        manifest = make_manifest(output, plan, vocabulary, counts, shards)
        if not manifest.num_examples:
            work.clear()
            raise no_example(plan)
        manifest.save()
        work.end()
    return manifest


def _make_units(
    plan: CorpusPlan, maker: ExampleMaker, work: WorkFolder, workers: int, progress: bool
) -> dict[str, Counts]:
    """Makes the unit files that are missing; returns the counts of each split."""
    counts = {}
    for number in range(len(plan.units)):
        found = work.unit(number)
        if found is not None:
            _, counts[number] = found
    done = set(counts)

    def make(
        task: tuple[int, list[documents.Block]], should_stop: Callable[[], bool]
    ) -> tuple[int, Counts]:
        number, blocks = task
        total = Counts()

        def batches() -> Iterator[ExampleBatch]:
            nonlocal total
            for block in blocks:
                for batch in maker.make(block, should_stop):
                    total += batch.counts
                    yield batch

        num_shards = plan.num_shards[plan.units[number].split]
        files = spill.write_unit(work.unit_prefix(number), batches(), num_shards)
        work.finish_unit(number, files, total)
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
            for number, found in _in_threads(make, read_units(plan, done), workers):
                counts[number] = found
                bar.update(size(number))
    totals = dict.fromkeys(documents.SPLITS, Counts())
    for number, unit in enumerate(plan.units):
        totals[unit.split] += counts[number]
    return totals


def _make_shards(
    plan: CorpusPlan, work: WorkFolder, workers: int, progress: bool
) -> dict[str, list[Shard]]:
    """Makes the shards that are missing; returns the entries of all."""
    tasks = [
        (split, index) for split in documents.SPLITS for index in range(plan.num_shards[split])
    ]

    files: dict[str, list[str]] = {split: [] for split in documents.SPLITS}
    for number, unit in enumerate(plan.units):
        own, _ = work.unit(number)
        files[unit.split] += own

    def make(
        task: tuple[str, int], should_stop: Callable[[], bool]
    ) -> tuple[tuple[str, int], Shard]:
        split, index = task
        name = shard_name(split, index, plan.num_shards[split])
        shard = work.shard(name)
        if shard is None and not should_stop():
            content = pack_shard(spill.read_shard(files[split], index), plan.config)
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


def no_example(plan: CorpusPlan) -> InputError:
    """The error to raise when no record came out of a text."""
    total = sum(map(plan.num_documents, documents.SPLITS))
    return InputError(
        f"No training example came out of the {total} documents: their text has no tokens; see "
        f"that it is in UTF-8 and that input_format is its format."
    )


def make_manifest(
    output: str,
    plan: CorpusPlan,
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
