"""What a folder of records is like: what its manifest knows, and what is counted in the records."""

import concurrent.futures
import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.damage import SPLITS
from keras_bert_tpu.pretraining_data.inspection.examples import (
    DEFAULT_SEED,
    ExampleReader,
    Examples,
)
from keras_bert_tpu.pretraining_data.manifest import (
    LENGTH_BINS,
    Counts,
    Manifest,
    Shard,
    count_lengths,
)
from keras_bert_tpu.pretraining_data.masking import KEPT, MASKED, RANDOM
from keras_bert_tpu.text.vocabulary import Vocabulary

DEFAULT_SAMPLE = 10_000

# Hides the latency of gs://; on a local disk the cores are the limit.
_SHARDS_AT_ONCE = 8
_FREQUENT_PIECES = 10


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """The figures of a split. Shares are from 0 to 1.

    Attributes:
        shards: int. Files.
        examples: int. Rows, where several are packed into one; so are all examples below.
        sequences: int or None. Examples that were packed into these rows; None if none were.
        documents: int or None. None if that is not known.
        megabytes: float. Millions of bytes of all files.
        read: int. Examples that were read.
        sampled: tuple of str. The attributes that were counted on these and not on all examples.
        mean_length: float. Real tokens in an example.
        median_length: float.
        full_length: float. Share of the examples without padding.
        length_counts: tuple of 16 ints. As in `Shard`, of all examples or those that were read.
        padding: float. Share of the positions that are padding.
        padding_unpacked: float or None. What it would be with a row for each sequence; None if
            none are packed.
        predictions: float. In an example, on average.
        masked_tokens: float. Share of the real tokens that are to be predicted.
        replaced_by_mask: float. Share of the predictions that became [MASK].
        kept: float. Share of them that stayed.
        replaced_at_random: float. Share of them that became another piece.
        label_1: float or None. Share of the sequences with next-sentence label 1; None without
            labels.
        unknown_tokens: float. Share of the pieces that are [UNK].
        examples_per_shard: tuple of 3 numbers. Smallest, median and largest.
        documents_per_shard: tuple of 3 numbers, or None. None if that is not known.
        shard_examples: tuple of int. Of each shard.
        shard_documents: tuple of int. Of each shard; empty if that is not known.
        masked_by_position: tuple of float or None, one for each position. Share of the real tokens
            there that are to be predicted; None where no example has one.
        frequent_pieces: tuple of (str, float). Pieces that are to be predicted most often, and
            their shares of the predictions.
    """

    shards: int
    examples: int
    sequences: int | None
    documents: int | None
    megabytes: float
    read: int
    sampled: tuple[str, ...]
    mean_length: float
    median_length: float
    full_length: float
    length_counts: tuple[int, ...]
    padding: float
    padding_unpacked: float | None
    predictions: float
    masked_tokens: float
    replaced_by_mask: float
    kept: float
    replaced_at_random: float
    label_1: float | None
    unknown_tokens: float
    examples_per_shard: tuple[float, float, float]
    documents_per_shard: tuple[float, float, float] | None
    shard_examples: tuple[int, ...]
    shard_documents: tuple[int, ...]
    masked_by_position: tuple[float | None, ...]
    frequent_pieces: tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True)
class RecordsReport:
    """What a folder of records is like.

    Attributes:
        manifest: Manifest.
        epoch: int or None. Whose masks were counted; None if masks are in the records.
        splits: dict of SplitReport, by "train" and "validation"; one without examples is left out.
    """

    manifest: Manifest
    epoch: int | None
    splits: dict[str, SplitReport]

    def to_dict(self) -> dict[str, Any]:
        """Returns all figures as values of JSON."""
        manifest, config = self.manifest, self.manifest.config
        return {
            "directory": manifest.directory,
            "objective": config.objective,
            "masks": config.masks,
            "epoch": self.epoch,
            "sequence_length": config.sequence_length,
            "max_predictions": config.max_predictions,
            "vocabulary_size": manifest.vocabulary_size,
            "feature_names": manifest.feature_names,
            "corpora": [dataclasses.asdict(corpus) for corpus in manifest.corpora],
            **{
                split: dataclasses.asdict(self.splits[split]) if split in self.splits else None
                for split in SPLITS
            },
        }


def inspect_records(
    manifest: Manifest,
    sample: int = DEFAULT_SAMPLE,
    epoch: int = 0,
    seed: int = DEFAULT_SEED,
    progress: bool = True,
) -> RecordsReport:
    """Says what a folder of records is like.

    What the manifest knows is taken from there; the rest is counted on some records. These are the
    first ones of every shard, in proportion to what it holds, because the records of a shard are
    in random order already.

    Args:
        manifest: Manifest.
        sample: int. Examples of each split to read; 0 reads all.
        epoch: int. Whose masks are drawn, if they are drawn when records are read.
        seed: int. Of the training run, from which these masks derive.
        progress: bool. Show a progress bar if it takes long.

    Returns:
        RecordsReport.

    Raises:
        InputError: If there are no records, or they or the vocabulary cannot be read.
    """
    if sample < 0:
        raise InputError(f"sample must not be negative. Received: {sample}.")
    reports = {}
    for split in SPLITS:
        shards = getattr(manifest, split)
        total = sum(shard.num_examples for shard in shards)
        if total:
            reader = ExampleReader(manifest, split, epoch, seed)
            numbers = spread([shard.num_examples for shard in shards], sample or total)
            tally = _tally_shards(reader, numbers, split, progress)
            reports[split] = _report(manifest, split, tally, reader.vocabulary)
    if not reports:
        raise InputError(
            f"There are no records in {manifest.directory}: its manifest counts 0; prepare them "
            f"again."
        )
    return RecordsReport(manifest, epoch if manifest.config.masks == "dynamic" else None, reports)


def spread(counts: Sequence[int], sample: int) -> list[int]:
    """Divides a sample among shards in proportion to their examples.

    Args:
        counts: Examples of each shard.
        sample: int.

    Returns:
        list of int. They add up to `sample`, or to all examples if there are fewer.
    """
    ends = np.cumsum([0, *counts])
    total = int(ends[-1])
    # Differences of rounded ends: each is the exact share, rounded up or down.
    parts = [int(end) * min(sample, total) // max(total, 1) for end in ends]
    return np.diff(parts).tolist()


@dataclasses.dataclass(frozen=True)
class _Tally:
    """What is counted on records: an int64 array for each count, so that tallies can be added."""

    lengths: np.ndarray  # [length + 1]: examples by their number of real tokens.
    kinds: np.ndarray  # [4]: predictions by mask kind; kind 0 stays 0.
    labels: np.ndarray  # [2]: sequences by next-sentence label.
    tokens: np.ndarray  # [length]: real tokens by position.
    predictions: np.ndarray  # [length]: predictions by position.
    pieces: np.ndarray  # [vocab_size]: original tokens by id.
    predicted: np.ndarray  # [vocab_size]: of them, those to be predicted.

    @classmethod
    def of(cls, examples: Examples, vocab_size: int) -> "_Tally":
        is_real, is_chosen = examples.padding_mask == 1, examples.mask_kinds > 0
        labels = np.zeros(0, np.int64)
        if examples.labels is not None:
            labels = examples.labels[examples.labels >= 0]
        kinds = np.bincount(examples.mask_kinds[is_chosen], minlength=RANDOM + 1)
        return cls(
            lengths=np.bincount(is_real.sum(axis=1), minlength=is_real.shape[1] + 1),
            kinds=kinds,
            labels=np.bincount(labels, minlength=2),
            tokens=is_real.sum(axis=0),
            predictions=is_chosen.sum(axis=0),
            pieces=np.bincount(examples.original_ids[is_real], minlength=vocab_size),
            predicted=np.bincount(examples.original_ids[is_chosen], minlength=vocab_size),
        )

    def __add__(self, other: "_Tally") -> "_Tally":
        return _Tally(
            *(
                getattr(self, field.name) + getattr(other, field.name)
                for field in dataclasses.fields(self)
            )
        )

    @property
    def examples(self) -> int:
        return int(self.lengths.sum())


def _tally_shards(reader: ExampleReader, numbers: list[int], split: str, progress: bool) -> _Tally:
    def tally_shard(index: int) -> _Tally:
        tally = None
        for examples in reader.read(index, 0, numbers[index]):
            part = _Tally.of(examples, len(reader.vocabulary))
            tally = part if tally is None else tally + part
        return tally

    wanted = [index for index, number in enumerate(numbers) if number]
    total = None
    with (
        concurrent.futures.ThreadPoolExecutor(_SHARDS_AT_ONCE) as pool,
        # Shown only where it takes more than two seconds.
        tqdm(
            desc=f"Reading {split}", total=len(wanted), unit="shard", disable=not progress, delay=2
        ) as bar,
    ):
        for tally in pool.map(tally_shard, wanted):
            total = tally if total is None else total + tally
            bar.update()
    return total


def _report(manifest: Manifest, split: str, tally: _Tally, vocabulary: Vocabulary) -> SplitReport:
    config = manifest.config
    shards: tuple[Shard, ...] = getattr(manifest, split)
    counts: Counts = getattr(manifest, f"{split}_counts")
    examples = sum(shard.num_examples for shard in shards)
    # An index of files that others wrote knows nothing of the text they were made of.
    is_packed = config.pack
    knows_examples = (is_packed or counts.examples == examples) and counts.real_tokens > 0
    knows_text = knows_examples and counts.tokens > 0
    knows_masks = knows_examples and counts.predictions > 0
    sampled = []

    def choose(name: str, is_known: bool, known: Any, counted: Any) -> Any:
        if not is_known and tally.examples < examples:
            sampled.append(name)
        return known if is_known else counted

    def share(part: int | float, whole: int | float) -> float:
        return float(part / whole) if whole else 0.0

    length = config.sequence_length
    by_length = np.arange(length + 1)
    real_tokens = int(tally.lengths @ by_length)
    predictions = int(tally.kinds.sum())
    specials = (vocabulary.cls_id, vocabulary.sep_id)
    text_tokens = tally.pieces.sum() - tally.pieces[list(specials)].sum()
    frequent = np.argsort(-tally.predicted, kind="stable")[:_FREQUENT_PIECES]
    shard_documents = tuple(shard.num_documents for shard in shards)
    if not all(shard.num_documents for shard in shards if shard.num_examples):
        shard_documents = ()
    shard_examples = tuple(shard.num_examples for shard in shards)
    labels = None
    if config.objective != "mlm":
        labels = choose(
            "label_1",
            knows_examples,
            counts.random_next_share,
            share(tally.labels[1], tally.labels.sum()),
        )

    def kind_share(name: str, known: int, kind: int) -> float:
        counted = share(tally.kinds[kind], predictions)
        return choose(name, knows_masks, share(known, counts.predictions), counted)

    return SplitReport(
        shards=len(shards),
        examples=examples,
        sequences=counts.examples if is_packed else None,
        documents=counts.documents or None,
        megabytes=sum(shard.bytes for shard in shards) / 1e6,
        read=tally.examples,
        mean_length=choose(
            "mean_length",
            knows_examples,
            share(counts.real_tokens, examples),
            share(real_tokens, tally.examples),
        ),
        median_length=choose("median_length", False, None, _median(tally.lengths)),
        full_length=choose(
            "full_length", False, None, share(tally.lengths[length], tally.examples)
        ),
        length_counts=choose(
            "length_counts",
            all(len(shard.length_counts) == LENGTH_BINS for shard in shards),
            # Of equal lengths where they are known.
            tuple(map(sum, zip(*(shard.length_counts for shard in shards), strict=False))),
            _count_histogram(tally.lengths, length),
        ),
        padding=choose(
            "padding",
            knows_examples,
            manifest.padding_share(split),
            1.0 - share(real_tokens, tally.examples * length),
        ),
        padding_unpacked=counts.padding_share(length) if is_packed else None,
        predictions=choose(
            "predictions",
            knows_masks,
            share(counts.predictions, examples),
            share(predictions, tally.examples),
        ),
        masked_tokens=choose(
            "masked_tokens",
            knows_masks,
            share(counts.predictions, counts.real_tokens),
            share(predictions, real_tokens),
        ),
        replaced_by_mask=kind_share("replaced_by_mask", counts.predictions_masked, MASKED),
        kept=kind_share("kept", counts.predictions_kept, KEPT),
        replaced_at_random=kind_share("replaced_at_random", counts.predictions_random, RANDOM),
        label_1=labels,
        unknown_tokens=choose(
            "unknown_tokens",
            knows_text,
            share(counts.unknown_tokens, counts.tokens),
            share(tally.pieces[vocabulary.unk_id], text_tokens),
        ),
        examples_per_shard=_spread_of(shard_examples),
        documents_per_shard=_spread_of(shard_documents) if shard_documents else None,
        shard_examples=shard_examples,
        shard_documents=shard_documents,
        masked_by_position=choose(
            "masked_by_position",
            False,
            None,
            tuple(
                share(masked, tokens) if tokens else None
                for masked, tokens in zip(tally.predictions, tally.tokens, strict=True)
            ),
        ),
        frequent_pieces=choose(
            "frequent_pieces",
            False,
            None,
            tuple(
                (vocabulary.pieces[piece], share(tally.predicted[piece], predictions))
                for piece in frequent.tolist()
                if tally.predicted[piece]
            ),
        ),
        # Last, when all are chosen.
        sampled=tuple(sampled),
    )


def _count_histogram(histogram: np.ndarray, sequence_length: int) -> tuple[int, ...]:
    """`count_lengths` of lengths that occur as often as the histogram says."""
    counts = np.zeros(LENGTH_BINS, np.int64)
    for length in np.flatnonzero(histogram):
        counts += histogram[length] * np.array(count_lengths([length], sequence_length))
    return tuple(counts.tolist())


def _median(histogram: np.ndarray) -> float:
    """Median of the numbers 0, 1, ... that occur as often as the histogram says."""
    ends = np.cumsum(histogram)
    total = int(ends[-1])
    lower, upper = np.searchsorted(ends, [(total - 1) // 2, total // 2], side="right")
    return float(lower + upper) / 2


def _spread_of(numbers: Sequence[int]) -> tuple[float, float, float]:
    return min(numbers), statistics.median(numbers), max(numbers)
