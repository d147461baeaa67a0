"""Record files of Google's BERT and of TensorFlow's Model Garden, read where they are.

Both write `tf.train.Example`s by one rule (`write_instance_to_example_files` in their
create_pretraining_data.py): the seven features of `records`, padded with zeros, in files of any
name. Model Garden's --use_v2_feature_names calls two of them otherwise ("v2"), its --gzip_compress
compresses the files, and its reader can do without next-sentence labels. An index goes over all
records once, checks them, and writes the manifest that such files lack.
"""

import concurrent.futures
import os
from collections.abc import Callable, Sequence

import tensorflow as tf
from tqdm.auto import tqdm

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data.foreign_files import Indexer, find_layout
from keras_bert_tpu.pretraining_data.manifest import (
    MANIFEST_FILE,
    VOCABULARY_FILE,
    CorpusEntry,
    Counts,
    Manifest,
)
from keras_bert_tpu.pretraining_data.work_folder import check_vocabulary_file
from keras_bert_tpu.text.files import expand_globs
from keras_bert_tpu.text.vocabulary import Vocabulary

# Files that are indexed at the same time: hides the latency of gs://.
PARALLEL_FILES = 8


def index_records(
    input: str | Sequence[str],
    output: str,
    vocab: str,
    validation: str | Sequence[str] | None = None,
    *,
    lower_case: bool = True,
    strip_accents: bool | None = None,
    checksums: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Manifest:
    """Makes a folder of records of files that other tools wrote, without copying them.

    Writes `vocab.txt` and, last, `manifest.json`, which names the files by their full paths. Every
    record is read and checked once. What the records do not tell stands in the manifest's settings
    as its default.

    Args:
        input: str or sequence of str. Local or gs:// paths or globs of TFRecord files; those
            compressed with GZIP must have names that end in ".gz".
        output: str. Local or gs:// folder to write to.
        vocab: str. Path of the vocabulary that the records were made with.
        validation: str, sequence of str or None. Files to hold out.
        lower_case: bool. Whether the text was lower-cased, for those who use the model.
        strip_accents: bool or None. Whether accents were taken away; None as `lower_case`.
        checksums: bool. Also take the SHA-256 of each file, which reads it a second time.
        overwrite: bool. Replace an index that is already there.
        progress: bool. Show a progress bar.

    Returns:
        Manifest. As written to the folder.

    Raises:
        InputError: If no file matches, a file is in both splits, the folder has a manifest, there
            is no record, or a record is damaged, does not have the layout of the first one or has
            values that cannot be; the message names the file and the record, counted from 0.
    """
    train_files = _full_paths(input)
    validation_files = _full_paths(validation) if validation else []
    shared = sorted(set(train_files) & set(validation_files))
    if shared:
        raise InputError(
            f"{shared[0]} is named both for training and for validation; let the patterns exclude "
            f"each other."
        )
    vocabulary = Vocabulary.load(vocab)
    if not output or (tf.io.gfile.exists(output) and not tf.io.gfile.isdir(output)):
        raise InputError(f"The output {output!r} is not a folder; name one for the index.")
    if not overwrite:
        check_vocabulary_file(output, vocabulary)
    if tf.io.gfile.exists(tf.io.gfile.join(output, MANIFEST_FILE)) and not overwrite:
        raise InputError(
            f"{output} already holds records or an index; choose another folder, or overwrite it "
            f"with --overwrite."
        )
    files = train_files + validation_files
    layout = find_layout(files)
    sizes = [tf.io.gfile.stat(path).length for path in files]
    indexer = Indexer(layout, vocabulary, checksums)
    with (
        tqdm(
            total=sum(sizes), unit="B", unit_scale=True, desc="Indexing", disable=not progress
        ) as bar,
        concurrent.futures.ThreadPoolExecutor(PARALLEL_FILES) as pool,
    ):
        try:
            indexed = list(
                pool.map(
                    lambda file: indexer.index(*file, bar.update), zip(files, sizes, strict=True)
                )
            )
        except BaseException:
            # Or the files that have not begun would all be gone over before the error is told.
            pool.shutdown(cancel_futures=True)
            raise

    splits = indexed[: len(train_files)], indexed[len(train_files) :]
    shards = [tuple(shard for shard, _ in split) for split in splits]
    counts = [sum((counts for _, counts in split), Counts()) for split in splits]
    if not counts[0].examples:
        raise InputError(f"There is no record in the {len(train_files)} files for training.")
    manifest = Manifest(
        directory=output,
        config=DataConfig(
            objective="mlm+nsp" if layout.has_next_sentence else "mlm",
            sequence_length=layout.sequence_length,
            max_predictions=layout.max_predictions,
            lower_case=lower_case,
            strip_accents=strip_accents,
            validation_rate=counts[1].examples / (counts[0].examples + counts[1].examples),
            num_shards=len(train_files),
        ),
        corpora=tuple(
            CorpusEntry(_name(patterns), 1.0, tuple(paths), 0, 0, 0, {})
            for patterns, paths in ((input, train_files), (validation, validation_files))
            if paths
        ),
        vocabulary_size=len(vocabulary),
        vocabulary_sha256=vocabulary.sha256,
        train=shards[0],
        validation=shards[1],
        train_counts=counts[0],
        validation_counts=counts[1],
        feature_names=layout.feature_names,
    )
    tf.io.gfile.makedirs(output)
    vocabulary.save(tf.io.gfile.join(output, VOCABULARY_FILE))
    manifest.save()
    return manifest


def summary(manifest: Manifest, seconds: float, shuffle_window: int) -> str:
    """Returns a table of what was indexed, for people.

    Args:
        manifest: Manifest.
        seconds: float. What the indexing took.
        shuffle_window: int. Shards whose records will be permuted together.
    """
    config, counts = manifest.config, [manifest.train_counts, manifest.validation_counts]
    shards = [manifest.train, manifest.validation]
    kept = range(2 if manifest.validation else 1)
    rows = [["", *("train", "validation")[: len(kept)]]]

    def add(title: str, value: Callable[[int], str]) -> None:
        rows.append([title, *(value(split) for split in kept)])

    add("files", lambda split: f"{len(shards[split]):,}")
    add("gigabytes", lambda split: f"{sum(s.bytes for s in shards[split]) / 1e9:,.2f}")
    add("examples", lambda split: f"{counts[split].examples:,}")
    add(
        f"mean length (of {config.sequence_length})",
        lambda split: f"{counts[split].mean_length:.1f}",
    )
    add("padding", lambda split: f"{counts[split].padding_share(config.sequence_length):.1%}")
    if config.objective != "mlm":
        add("random next sentence", lambda split: f"{counts[split].random_next_share:.1%}")
    add(
        f"predictions per example (at most {config.max_predictions})",
        lambda split: f"{counts[split].masks_per_example:.1f}",
    )

    def kinds(split: int) -> str:
        count = counts[split]
        parts = count.predictions_masked, count.predictions_kept, count.predictions_random
        return " / ".join(f"{part / max(1, count.predictions):.1%}" for part in parts)

    add("of them [MASK] / kept / random", kinds)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [v.rjust(w) for v, w in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    ]
    names = "Google's" if manifest.feature_names == "v1" else "Model Garden's v2"
    examples = manifest.num_examples + manifest.num_validation_examples
    largest = sorted((shard.bytes for shard in manifest.train), reverse=True)[:shuffle_window]
    lines += [
        f"{names} feature names",
        f"A window of {shuffle_window} files takes up to {sum(largest) / 1e9:.2f} GB of a host's "
        f"memory, and the next one is read meanwhile: see shuffle_window.",
        f"{examples:,} examples in {seconds:.1f} s ({examples / seconds:,.0f} per second)",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _full_paths(patterns: str | Sequence[str]) -> list[str]:
    paths = expand_globs(patterns)
    return sorted({path if "://" in path else os.path.abspath(path) for path in paths})


def _name(patterns: str | Sequence[str]) -> str:
    return patterns if isinstance(patterns, str) else ",".join(patterns)
