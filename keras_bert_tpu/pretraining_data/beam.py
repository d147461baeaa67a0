"""The preparation as an Apache Beam pipeline, for a corpus that is too large for one machine.

    files ──read──> documents of a block ──make──> examples for a shard ──write──> shards
                 └─ grouped by block              └─ grouped by shard

The machine that starts it goes over the text once, to count and to plan, as `prepare` does, and
writes the vocabulary and the manifest. In between, workers do what the plan says with the same
functions, so the files are those of `prepare`, byte for byte. What they found comes back through
small files of JSON in a folder below the output; a step that the runner repeats or runs twice at
once gives the same files again.

The steps are in `beam_steps`. Beam itself is imported when `prepare_with_beam` is called.
"""

import contextlib
import dataclasses
import difflib
import importlib
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import beam_steps as steps
from keras_bert_tpu.pretraining_data import documents, spill
from keras_bert_tpu.pretraining_data.corpora import Corpus, find_corpora
from keras_bert_tpu.pretraining_data.examples import ExampleMaker
from keras_bert_tpu.pretraining_data.manifest import VOCABULARY_FILE, Counts, Manifest, Shard
from keras_bert_tpu.pretraining_data.plan import CorpusPlan, plan_corpora
from keras_bert_tpu.pretraining_data.prepare import make_manifest, no_example
from keras_bert_tpu.pretraining_data.records import shard_name
from keras_bert_tpu.pretraining_data.work_folder import (
    WORK_FOLDER,
    already_prepared,
    check_vocabulary_file,
    earlier_files,
    unwritable_told,
)
from keras_bert_tpu.text.vocabulary import Vocabulary

LOCAL_RUNNER = "DirectRunner"
# Runners whose options are all known on this machine. Others, as Flink's, ask a server for more.
_RUNNERS_OF_KNOWN_OPTIONS = ("directrunner", "fnapirunner", "dataflowrunner")
# Runners on machines that do not see this one's files.
_RUNNERS_ELSEWHERE = ("dataflowrunner",)
# Where tensorflow-datasets keeps its data.
_TFDS_VARIABLE = "TFDS_DATA_DIR"


def prepare_with_beam(
    input: str | Sequence[str] | None,
    output: str,
    vocab: str,
    config: DataConfig | None = None,
    *,
    tfds: Sequence[str] = (),
    weights: Sequence[float] = (),
    tfds_folder: str = "",
    overwrite: bool = False,
    progress: bool = True,
    options: Sequence[str] = (f"--runner={LOCAL_RUNNER}",),
) -> Manifest:
    """Makes pre-training records of text on the workers of an Apache Beam runner.

    The files are those of `prepare` with the same settings. What failed starts from the beginning.

    The package must be installed where the workers run (on Dataflow: in the image that
    `--sdk_container_image` names, or by `--extra_package`), and they must see all paths. The
    counting that comes first reads the text once on this machine.

    DirectRunner is Beam's FnApiRunner, which needs nothing but this machine but keeps all documents
    and examples in its memory: it is for trying out. Workers in several processes are had with
    `--direct_running_mode=multi_processing` and `--direct_num_workers`.

    Args:
        input: str, sequence of str or None. As `prepare`'s.
        output: str. Local or gs:// folder to write to.
        vocab: str. Path of the vocabulary, one piece on a line.
        config: DataConfig or None. None takes the defaults.
        tfds: Names of sets of tensorflow-datasets to read besides; one worker reads each.
        weights: How often each corpus is gone over, as `prepare`'s.
        tfds_folder: str. Folder of those sets, as `prepare`'s; the workers read it, too.
        overwrite: bool. Replace records, finished or not, that are already there.
        progress: bool. Show a progress bar while the text is counted.
        options: Beam's pipeline options, as on its command line.

    Returns:
        Manifest. As written to the folder.

    Raises:
        InputError: Before the pipeline starts, if apache-beam is not installed, an option is not
            known, the input, the vocabulary or a setting does not fit, or the folder already holds
            records; later, if the text changed or no example comes out.
        Exception: Whatever the runner raises if a worker fails for another reason.
    """
    pipeline_options, runner = _parse_options(options)
    config = config or DataConfig()
    vocabulary = Vocabulary.load(vocab)
    ExampleMaker(vocabulary, config)  # What it does not take shows before the workers start.
    # The variable is that of this machine, and the workers' may have none.
    corpora = find_corpora(input, tfds, weights, tfds_folder or os.environ.get(_TFDS_VARIABLE, ""))
    if _runner_key(runner) in _RUNNERS_ELSEWHERE:
        _check_remote(runner, output, corpora)
    work = tf.io.gfile.join(output, WORK_FOLDER)
    _check_output(output, work, vocabulary, overwrite)
    plan = plan_corpora(corpora, config, progress)
    with unwritable_told(output):
        for path in earlier_files(output):
            tf.io.gfile.remove(path)
        if tf.io.gfile.isdir(work):
            tf.io.gfile.rmtree(work)
        tf.io.gfile.makedirs(work)
        vocabulary.save(tf.io.gfile.join(output, VOCABULARY_FILE))
    try:
        with steps.in_callers_process():
            _run(plan, output, work, vocabulary, pipeline_options, runner)
    except Exception as error:
        told = _input_error(error)
        if told is None:
            raise
        raise told from error
    manifest = make_manifest(output, plan, vocabulary, *_read_results(plan, work))
    if not manifest.num_examples:
        for path in earlier_files(output):
            tf.io.gfile.remove(path)
        tf.io.gfile.rmtree(work)
        raise no_example(plan)
    with unwritable_told(output):
        manifest.save()
        tf.io.gfile.rmtree(work)
    return manifest


def _run(
    plan: CorpusPlan,
    output: str,
    work: str,
    vocabulary: Vocabulary,
    options: Any,
    runner: Any,
) -> None:
    """Builds the pipeline and waits for its end."""
    import apache_beam as beam

    # The types give keys that every worker encodes alike, and a compact encoding of the rest.
    numbered_document = tuple[steps.BlockKey, tuple[int, list[str]]]
    shard_part = tuple[steps.ShardKey, tuple[steps.Origin, bytes]]
    split_counts = tuple[str, list[int]]

    split_documents = tuple(dict(counts.documents) for counts in plan.counts)
    num_shards = dict(plan.num_shards)
    read = steps.ReadDocuments(plan.config, split_documents)
    make = steps.MakeExamples(
        plan.config,
        split_documents,
        num_shards,
        tuple(corpus.weight for corpus in plan.corpora),
        tf.io.gfile.join(output, VOCABULARY_FILE),
        vocabulary.sha256,
    )
    # So that a shard without any example is written, too.
    nothing = [
        ((split, shard), (steps.NO_ORIGIN, spill.EMPTY_PART))
        for split in documents.SPLITS
        for shard in range(num_shards[split])
    ]
    pipeline = beam.Pipeline(runner=runner, options=options)
    made = (
        pipeline
        | "Files" >> beam.Create(steps.file_parts(plan))
        | "SpreadFiles" >> beam.Reshuffle()
        | "ReadDocuments" >> beam.FlatMap(read).with_output_types(numbered_document)
        | "Blocks" >> beam.GroupByKey()
        | "MakeExamples"
        >> beam.FlatMap(make).with_output_types(tuple[split_counts, list[shard_part]])
    )
    _ = (
        made
        | "TakeCounts" >> beam.Map(_first).with_output_types(split_counts)
        | "AddCounts" >> beam.CombinePerKey(_add_counts).with_output_types(split_counts)
        | "WriteCounts" >> beam.Map(steps.WriteCounts(work))
    )
    parts = made | "TakeParts" >> beam.FlatMap(_second).with_output_types(shard_part)
    no_parts = (
        pipeline
        | "Shards" >> beam.Create(nothing, reshuffle=False)
        | "SameType" >> beam.Map(_same).with_output_types(shard_part)
    )
    _ = (
        (parts, no_parts)
        | "Parts" >> beam.Flatten()
        | "ShardContents" >> beam.GroupByKey()
        | "WriteShard" >> beam.Map(steps.WriteShard(output, work, num_shards, plan.config))
    )
    result = pipeline.run()
    state = result.wait_until_finish()
    state = getattr(result, "state", state)
    if state != "DONE":
        raise InputError(
            f"The Beam pipeline ended as {state}, not as DONE, and the records are not complete; "
            f"see the runner's log, and start again with --overwrite."
        )


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def _second(pair: tuple[Any, Any]) -> Any:
    return pair[1]


def _same(element: Any) -> Any:
    return element


def _add_counts(values: Iterable[Sequence[int]]) -> list[int]:
    nothing = dataclasses.astuple(Counts())
    return [sum(numbers) for numbers in zip(nothing, *values, strict=True)]


def _read_results(plan: CorpusPlan, work: str) -> tuple[dict[str, Counts], dict[str, list[Shard]]]:
    """What the workers found: counts and shards of each split."""
    counts = dict.fromkeys(documents.SPLITS, Counts())
    shards: dict[str, list[Shard]] = {}
    for split in documents.SPLITS:
        number = plan.num_shards[split]
        if number:
            counts[split] = Counts(**_read_json(work, steps.counts_result(split)))
        shards[split] = []
        for index in range(number):
            values = _read_json(work, steps.shard_result(shard_name(split, index, number)))
            values["length_counts"] = tuple(values["length_counts"])
            shards[split].append(Shard(**values))
    return counts, shards


def _read_json(folder: str, name: str) -> dict[str, Any]:
    path = tf.io.gfile.join(folder, name)
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            return json.loads(file.read())
    except tf.errors.NotFoundError as error:
        raise InputError(
            f"The pipeline ended, but {path} is not there: the workers write to another place than "
            f"this machine reads from; give an output that all of them see, such as gs://."
        ) from error


def _check_output(output: str, work: str, vocabulary: Vocabulary, overwrite: bool) -> None:
    earlier = earlier_files(output)
    if overwrite:
        return
    if earlier:
        raise already_prepared(output, earlier)
    if tf.io.gfile.isdir(work):
        raise InputError(
            f"{work!r} holds a preparation that did not finish; name another output, or start "
            f"afresh with --overwrite."
        )
    check_vocabulary_file(output, vocabulary)


def _check_remote(runner: str, output: str, corpora: Iterable[Corpus]) -> None:
    corpora = list(corpora)
    local = [path for corpus in corpora for path in corpus.files] + [output]
    local = [path for path in local if "://" not in path]
    if local:
        raise InputError(
            f"{runner} works on other machines, which do not see {local[0]!r}; give gs:// paths."
        )
    for corpus in corpora:
        if corpus.tfds and "://" not in corpus.data_dir:
            raise InputError(
                f"{runner} works on other machines, which do not see the data set {corpus.name!r}; "
                f"name a gs:// folder that holds it by --tfds_folder."
            )


def _parse_options(options: Sequence[str]) -> tuple[Any, Any]:
    """Beam's options, and the runner: a name, or an object where the name would do something else.

    Raises:
        InputError: If apache-beam is not installed, or an option is unknown or has a bad value.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
        from apache_beam.runners.runner import create_runner
    except ImportError as error:
        raise InputError(
            "A Beam runner needs the package apache-beam; install it with `pip install "
            '"keras_bert_tpu[beam]"`, or leave out --runner to work on this machine alone.'
        ) from error
    parsed = PipelineOptions(list(options))
    parsers: list[Any] = []
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            known = parsed.get_all_options(add_extra_args_fn=parsers.append)
            _, unknown = parsers[0].parse_known_args(list(options))
    except SystemExit as error:  # argparse has written its usage and the reason.
        reason = (told.getvalue().strip().splitlines() or [""])[-1].partition("error: ")[2]
        raise InputError(f"Beam does not take these options: {reason}.") from error
    runner = known["runner"] or LOCAL_RUNNER
    short = _runner_key(runner)
    if unknown and short in _RUNNERS_OF_KNOWN_OPTIONS:
        name = unknown[0].partition("=")[0]
        nearest = difflib.get_close_matches(name.lstrip("-"), known, 1)
        hint = f"; the nearest is --{nearest[0]}" if nearest else ""
        raise InputError(f"Beam and {runner} have no option {name!r}{hint}.")
    if short == "directrunner":
        # By its name Beam tries Prism first, a program that it downloads.
        return parsed, FnApiRunner()
    try:
        create_runner(runner)
        if short == "dataflowrunner":
            importlib.import_module("apache_beam.runners.dataflow.internal.apiclient")
    except (ImportError, AttributeError, ValueError) as error:
        extra = '; Dataflow needs `pip install "apache-beam[gcp]"`' * (short == "dataflowrunner")
        reason = str(error).rstrip(".")
        raise InputError(f"Beam cannot use the runner {runner!r}: {reason}{extra}.") from error
    return parsed, runner


def _runner_key(runner: Any) -> str:
    """A runner's name as Beam looks it up."""
    return str(runner).lower().removesuffix("runner") + "runner"


def _input_error(error: Exception) -> InputError | None:
    """The InputError that a worker raised, as far as the runner's error tells of it."""
    text = f"InputError: {error}" if isinstance(error, InputError) else str(error)
    # The last line of the worker's traceback, but for what Beam puts behind it.
    found = re.findall(r"InputError: (.+?)(?= \[while running|\\n|\n|$)", text)
    if found:
        return InputError(found[-1])
    if "No module named 'keras_bert_tpu" in str(error):
        return InputError(
            "The workers lack the package keras_bert_tpu; give an image that has it by "
            "--sdk_container_image, or the package's wheel by --extra_package."
        )
    return None
