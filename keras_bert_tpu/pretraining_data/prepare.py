"""Documents -> shards of pre-training examples, with any number of worker processes.

A shard is the unit of work. Its text and the keys of its random numbers follow from the plan of the
corpus, so that the files are the same, byte for byte, whoever writes them and in whatever order:

    documents ──plan──> blocks ──> shard text ──worker──> pairs, masks, shuffled records ──> file
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import TypeVar

import tensorflow as tf
from tqdm.auto import tqdm

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import documents
from keras_bert_tpu.pretraining_data.manifest import (
    MANIFEST_FILE,
    VOCABULARY_FILE,
    Counts,
    Manifest,
)
from keras_bert_tpu.pretraining_data.sentence_pairs import NUM_SPECIALS
from keras_bert_tpu.pretraining_data.shard_writer import ShardWriter, WrittenShard
from keras_bert_tpu.text.files import expand_globs
from keras_bert_tpu.text.vocabulary import Vocabulary

# A worker takes seconds to start, as it imports TensorFlow; with less text than this to go over
# (characters times passes, some 10 s of work) a further one is not worth it.
CHARACTERS_PER_WORKER = 50_000_000

_Result = TypeVar("_Result")


def prepare(
    input: str | Sequence[str],
    output: str,
    vocab: str,
    config: DataConfig | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Manifest:
    """Makes pre-training records of text files.

    Writes `train-*.tfrecord`, `validation-*.tfrecord`, `vocab.txt` and, last, `manifest.json`. The
    files are the same for any number of workers. A worker has one shard in memory.

    Args:
        input: str or sequence of str. Local or gs:// paths or globs of text files, plain or gzip,
            one sentence on a line and a blank line between documents. A string may hold several,
            separated by commas.
        output: str. Local or gs:// folder to write to.
        vocab: str. Path of the vocabulary, one piece on a line.
        config: DataConfig or None. None takes the defaults.
        workers: int or None. Processes; 1 works in this one. None takes a process for each core,
            and fewer for a small corpus. Processes are started with "spawn", so that a script which
            calls this must do so under `if __name__ == "__main__":`.
        overwrite: bool. Replace records that are already there.
        progress: bool. Show a progress bar.

    Returns:
        Manifest. As written to the folder.

    Raises:
        InputError: Before the work starts, if the input, the vocabulary or a setting does not fit,
            or if the folder already holds records; later, if the folder cannot be written to, no
            example comes out or a worker process dies.
    """
    config = config or DataConfig()
    _check_settings(config, workers)
    vocabulary = Vocabulary.load(vocab)
    paths = expand_globs(input)
    _check_output(output, overwrite)
    plan = documents.plan_corpus(paths, config)

    _clear(output)
    copy = tf.io.gfile.join(output, VOCABULARY_FILE)
    vocabulary.save(copy)
    num_workers = _num_workers(plan, workers)
    if num_workers == 1:
        results = map(ShardWriter(vocabulary, config, output).write, documents.read_shards(plan))
    else:
        shards = documents.read_shards(plan)
        results = _in_processes(shards, num_workers, (copy, config, output))
    written: list[WrittenShard] = []
    with contextlib.ExitStack() as stack:
        if num_workers > 1:
            # An interrupt can arrive out here, between two results: the workers must end then, too.
            stack.callback(results.close)
        bar = stack.enter_context(
            tqdm(
                total=sum(plan.documents.values()),
                unit="doc",
                desc=f"Preparing with {num_workers} worker{'s'[: num_workers > 1]}",
                disable=not progress,
            )
        )
        for result in results:
            written.append(result)
            bar.update(result.num_documents)
    manifest = _manifest(output, plan, vocabulary, written)
    if not manifest.num_examples:
        raise InputError(
            f"No training example came out of the {sum(plan.documents.values())} documents: their "
            f"text has no tokens; see that the files are text in UTF-8."
        )
    manifest.save()
    return manifest


def summary(manifest: Manifest, seconds: float) -> str:
    """Returns a table of what was prepared, for people.

    Args:
        manifest: Manifest.
        seconds: float. What the preparation took.
    """
    splits = [(manifest.train_counts, manifest.train)]
    titles = ["", "train"]
    if manifest.validation:
        splits.append((manifest.validation_counts, manifest.validation))
        titles.append("validation")
    config = manifest.config
    rows = [titles]

    def add(title: str, value: Callable[[Counts], str]) -> None:
        rows.append([title, *(value(counts) for counts, _ in splits)])

    add("documents", lambda c: f"{c.documents:,}")
    add("sentences", lambda c: f"{c.sentences:,}")
    add("dropped documents / sentences", lambda c: f"{c.dropped_documents} / {c.dropped_sentences}")
    add("tokens", lambda c: f"{c.tokens:,}")
    add("unknown tokens", lambda c: _percent(c.unknown_tokens, c.tokens))
    add(f"examples ({config.dupe_factor} passes)", lambda c: f"{c.examples:,}")
    add(f"mean length (of {config.sequence_length})", lambda c: f"{c.mean_length:.1f}")
    add("padding", lambda c: f"{c.padding_share(config.sequence_length):.1%}")
    add("with a short target length", lambda c: _percent(c.short_examples, c.examples))
    add("random next sentence", lambda c: f"{c.random_next_share:.1%}")
    add(
        f"predictions per example (at most {config.max_predictions})",
        lambda c: f"{c.masks_per_example:.1f}",
    )
    add(
        "of them [MASK] / kept / random",
        lambda c: " / ".join(
            _percent(part, c.predictions)
            for part in (c.predictions_masked, c.predictions_kept, c.predictions_random)
        ),
    )
    rows.append(["shards", *(f"{len(shards):,}" for _, shards in splits)])
    rows.append(
        ["megabytes", *(f"{sum(s.bytes for s in shards) / 1e6:,.1f}" for _, shards in splits)]
    )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            value.rjust(width) if column else value.ljust(width)
            for column, (value, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    examples = manifest.num_examples + manifest.num_validation_examples
    lines.append(f"{examples:,} examples in {seconds:.1f} s ({examples / seconds:,.0f} per second)")
    return "\n".join(line.rstrip() for line in lines)


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _check_settings(config: DataConfig, workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1. Received: {workers}.")
    maskable = config.sequence_length - NUM_SPECIALS
    if config.max_predictions > maskable:
        raise InputError(
            f"max_predictions must be at most {maskable}, the tokens that sequence_length="
            f"{config.sequence_length} leaves beside the {NUM_SPECIALS} special ones. Received: "
            f"{config.max_predictions}."
        )


def _earlier_files(output: str) -> list[str]:
    """Records and manifest of an earlier preparation, the manifest first."""
    patterns = [MANIFEST_FILE] + [f"{split}-*-of-*.tfrecord*" for split in documents.SPLITS]
    if not tf.io.gfile.isdir(output):
        return []
    return [path for name in patterns for path in tf.io.gfile.glob(tf.io.gfile.join(output, name))]


def _check_output(output: str, overwrite: bool) -> None:
    if tf.io.gfile.exists(output) and not tf.io.gfile.isdir(output):
        raise InputError(f"The output {output!r} is a file; name a folder.")
    earlier = _earlier_files(output)
    if earlier and not overwrite:
        raise InputError(
            f"{output!r} already holds records ({os.path.basename(earlier[0])} and "
            f"{len(earlier) - 1} more files); name another folder, or replace them with "
            f"--overwrite."
        )


def _clear(output: str) -> None:
    try:
        tf.io.gfile.makedirs(output)
        # The manifest goes first: without it, what is left counts as incomplete.
        for path in _earlier_files(output):
            tf.io.gfile.remove(path)
    except tf.errors.OpError as error:
        raise InputError(
            f"The output folder {output!r} cannot be written to: {error.message}"
        ) from error


def _num_workers(plan: documents.CorpusPlan, workers: int | None) -> int:
    shards = sum(plan.num_shards(split) for split in documents.SPLITS)
    if workers is not None:
        return min(workers, shards)
    # Where a process may use some of the cores only, as in a container, those are what counts.
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    worthwhile = plan.characters * plan.config.dupe_factor // CHARACTERS_PER_WORKER
    return max(1, min(cores, shards, worthwhile))


def _manifest(
    output: str,
    plan: documents.CorpusPlan,
    vocabulary: Vocabulary,
    written: list[WrittenShard],
) -> Manifest:
    by_split = {
        split: sorted((w for w in written if w.split == split), key=lambda w: w.index)
        for split in documents.SPLITS
    }
    shards = {split: tuple(w.shard for w in results) for split, results in by_split.items()}
    counts = {
        split: sum((w.counts for w in results), Counts()) for split, results in by_split.items()
    }
    return Manifest(
        directory=output,
        config=plan.config,
        input_files=plan.paths,
        vocabulary_size=len(vocabulary),
        vocabulary_sha256=vocabulary.sha256,
        train=shards[documents.TRAIN],
        validation=shards[documents.VALIDATION],
        train_counts=counts[documents.TRAIN],
        validation_counts=counts[documents.VALIDATION],
    )


def _in_processes(
    shards: Iterator[documents.ShardText], workers: int, arguments: tuple[str, DataConfig, str]
) -> Iterator[WrittenShard]:
    """Yields results as they come, with at most two shards for each worker handed out."""
    # TensorFlow's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with concurrent.futures.ProcessPoolExecutor(
        workers, context, _start_worker, (stop, *arguments)
    ) as executor:
        pending: set[concurrent.futures.Future] = set()
        try:
            for shard in shards:
                pending.add(_without_interrupts(lambda s=shard: executor.submit(_work, s)))
                if len(pending) == 2 * workers:
                    done, pending = concurrent.futures.wait(
                        pending, return_when=concurrent.futures.FIRST_COMPLETED
                    )
                    yield from (future.result() for future in done)
            yield from (future.result() for future in concurrent.futures.as_completed(pending))
        except BrokenProcessPool as error:
            raise InputError(
                "A worker process ended without an answer, perhaps for lack of memory; run again "
                "with fewer --workers, a smaller blocks_per_shard or, from a script of your own, "
                'under `if __name__ == "__main__":`.'
            ) from error
        except BaseException:
            stop.set()
            executor.shutdown(cancel_futures=True)
            raise


def _without_interrupts(call: Callable[[], _Result]) -> _Result:
    """Calls with Ctrl-C held back, which a process started meanwhile inherits for its whole life.

    Ctrl-C goes to all processes of a terminal; the workers would each end with a traceback, while
    it is for the main process to end them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return call()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(stop: Event, vocab: str, config: DataConfig, output: str) -> None:
    def follow_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    # A parent that is killed cannot end its workers, which would wait for work for ever.
    threading.Thread(target=follow_parent, daemon=True).start()
    # The processes are the parallelism; and an accelerator is not for them to claim.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")
    global _worker
    _worker = ShardWriter(Vocabulary.load(vocab), config, output, stop.is_set)


_worker: ShardWriter | None = None


def _work(text: documents.ShardText) -> WrittenShard:
    return _worker.write(text)
