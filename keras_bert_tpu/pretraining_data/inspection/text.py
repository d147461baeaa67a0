"""What a folder of records is like, in words: examples with their masks, and a table."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.inspection.examples import (
    DEFAULT_SEED,
    ExampleReader,
    Examples,
)
from keras_bert_tpu.pretraining_data.inspection.report import RecordsReport, SplitReport
from keras_bert_tpu.pretraining_data.manifest import LENGTH_BINS, CorpusEntry, Manifest
from keras_bert_tpu.pretraining_data.masking import KEPT, MASKED, RANDOM
from keras_bert_tpu.text.vocabulary import Vocabulary

# What the next-sentence labels 0 and 1 say.
LABELS = {
    "mlm+nsp": ("b follows a", "b is random"),
    "mlm+sop": ("in order", "swapped"),
}
# Longest bar of the histogram, in characters.
_BAR = 20
# Marks figures that are counted on a sample.
_SAMPLED = "~"


def show_examples(
    manifest: Manifest,
    split: str = "train",
    start: int = 0,
    count: int = 5,
    epoch: int = 0,
    seed: int = DEFAULT_SEED,
) -> str:
    """Returns examples as text, with each masked place and what became of it.

    A place that was replaced by [MASK] is shown as [MASK:original], one that was left as it was as
    [kept:original], and one with a random piece as [original→piece]. Pieces that continue a word
    are joined to it; a masked one keeps its "##".

    Args:
        manifest: Manifest.
        split: str. "train" or "validation".
        start: int. Number of the first example, from 0, counted over the shards.
        count: int. Examples to show; there may be fewer.
        epoch: int. Whose masks are shown, if they are drawn when records are read.
        seed: int. Of the training run, from which these masks derive.

    Returns:
        str. A paragraph for each example: its number, file, label, lengths and predictions, and
        below that its parts, a line for each. Of a packed row the parts, and labels, of each of its
        examples.

    Raises:
        InputError: If there is no example of that number, or the records or the vocabulary cannot
            be read.
    """
    shards = getattr(manifest, split)
    total = sum(shard.num_examples for shard in shards)
    if not 0 <= start < total:
        raise InputError(
            f"There is no example {start} in the {split} records: they are numbered from 0 and "
            f"there are {total}."
        )
    reader = ExampleReader(manifest, split, epoch, seed)
    paragraphs, first = [], 0
    for index, shard in enumerate(shards):
        begin = max(start - first, 0)
        taken = min(shard.num_examples, start + count - first) - begin
        if taken > 0:
            for examples in reader.read(index, begin, taken):
                for row, number in enumerate(examples.numbers.tolist()):
                    place = f"{split} {number} ({shard.file}, record {number - first})"
                    paragraphs.append(_show(examples, row, place, manifest, reader.vocabulary))
        first += shard.num_examples
    return "\n\n".join(paragraphs)


def _show(
    examples: Examples, row: int, place: str, manifest: Manifest, vocabulary: Vocabulary
) -> str:
    config = manifest.config
    is_real = examples.padding_mask[row] == 1
    kinds = np.bincount(examples.mask_kinds[row], minlength=RANDOM + 1)
    parts = [f"{is_real.sum()} tokens of {config.sequence_length}"]
    labels: list[str] = []
    if examples.labels is not None:
        labels = [LABELS[config.objective][label] for label in examples.labels[row] if label >= 0]
    sequences = int(examples.sequence_ids[row].max())
    if config.pack:
        parts.insert(0, f"{sequences} example" + "s" * (sequences > 1))
    elif labels:
        parts.insert(0, labels[0])
    parts.append(
        f"{kinds[1:].sum()} predictions ({kinds[MASKED]} [MASK], {kinds[KEPT]} kept, "
        f"{kinds[RANDOM]} random)"
    )
    lines = [f"{place}: {', '.join(parts)}"]
    for sequence in range(1, sequences + 1):
        is_own = examples.sequence_ids[row] == sequence
        if config.pack:
            label = f", {labels[sequence - 1]}" if labels else ""
            lines.append(f"  example {sequence}: {is_own.sum()} tokens{label}")
        for segment, name in ((0, "a"), (1, "b")):
            positions = np.flatnonzero(is_own & (examples.segment_ids[row] == segment)).tolist()
            if positions:
                lines.append(f"  {name}: {_join_pieces(examples, row, positions, vocabulary)}")
    return "\n".join(lines)


def _join_pieces(examples: Examples, row: int, positions: list[int], vocabulary: Vocabulary) -> str:
    """The pieces at some positions as text, without the [CLS] before and the [SEP] behind them."""
    pieces = vocabulary.pieces
    ids, kinds = examples.token_ids[row], examples.mask_kinds[row]
    if not kinds[positions[0]] and ids[positions[0]] == vocabulary.cls_id:
        positions = positions[1:]
    if positions and not kinds[positions[-1]] and ids[positions[-1]] == vocabulary.sep_id:
        positions = positions[:-1]
    text = ""
    for position in positions:
        original, shown = pieces[examples.original_ids[row, position]], pieces[ids[position]]
        continues = original.startswith("##") and text
        written = {
            MASKED: f"[MASK:{original}]",
            KEPT: f"[kept:{original}]",
            RANDOM: f"[{original}→{shown}]",
        }.get(int(kinds[position]), original.removeprefix("##") if continues else original)
        text += written if continues or not text else f" {written}"
    return text


def table(report: RecordsReport) -> str:
    """Returns the figures as a table for people.

    Args:
        report: RecordsReport.
    """
    manifest, config = report.manifest, report.manifest.config
    lines = [
        f"{manifest.directory}: {config.objective}, {config.masks} masks, "
        f"{config.sequence_length} tokens, at most {config.max_predictions} predictions, "
        f"vocabulary of {manifest.vocabulary_size:,} pieces, feature names "
        f"{manifest.feature_names}",
        *map(_describe_corpus, manifest.corpora),
        "",
    ]
    splits = list(report.splits.values())
    rows = [["", *report.splits]]

    def add(title: str, names: str, value: Callable[[SplitReport], str]) -> None:
        marks = [_SAMPLED * bool({*names.split()} & {*split.sampled}) for split in splits]
        cells = (mark + value(split) for mark, split in zip(marks, splits, strict=True))
        rows.append([title, *cells])

    add("shards", "", lambda s: f"{s.shards:,}")
    if config.pack:
        add("rows", "", lambda s: f"{s.examples:,}")
        add("examples", "", lambda s: f"{s.sequences:,}")
        add("examples per row", "", lambda s: f"{s.sequences / s.examples:.2f}")
    else:
        add("examples", "", lambda s: f"{s.examples:,}")
    add("documents", "", lambda s: "unknown" if s.documents is None else f"{s.documents:,}")
    add("megabytes", "", lambda s: f"{s.megabytes:,.1f}")
    add("mean length", "mean_length", lambda s: f"{s.mean_length:.1f}")
    add("median length", "median_length", lambda s: _number(s.median_length))
    add("at full length", "full_length", lambda s: f"{s.full_length:.1%}")
    if config.pack:
        add("padding before packing", "", lambda s: f"{s.padding_unpacked:.1%}")
    add("padding", "padding", lambda s: f"{s.padding:.1%}")
    add(f"predictions per {config.record_name}", "predictions", lambda s: f"{s.predictions:.1f}")
    add("tokens to be predicted", "masked_tokens", lambda s: f"{s.masked_tokens:.1%}")
    add(
        "of them [MASK] / kept / random",
        "replaced_by_mask kept replaced_at_random",
        lambda s: f"{s.replaced_by_mask:.1%} / {s.kept:.1%} / {s.replaced_at_random:.1%}",
    )
    if config.objective in LABELS:
        add(
            " / ".join(LABELS[config.objective]),
            "label_1",
            lambda s: f"{1 - s.label_1:.1%} / {s.label_1:.1%}",
        )
    add("unknown tokens", "unknown_tokens", lambda s: f"{s.unknown_tokens:.2%}")
    title = f"{config.record_name}s per shard, least / median / most"
    add(title, "", lambda s: _three(s.examples_per_shard))
    add("documents per shard, least / median / most", "", lambda s: _three(s.documents_per_shard))
    lines += _align(rows, str.rjust)
    lines += ["", *_align(_histogram(report), str.ljust), ""]
    for name, split in report.splits.items():
        pieces = "  ".join(f"{piece} {share:.1%}" for piece, share in split.frequent_pieces)
        lines.append(f"predicted most often ({name}): {pieces}")
    if report.epoch is not None:
        lines.append(
            f"masks are drawn when the records are read: those of epoch {report.epoch} were "
            f"counted (validation has the same in all)"
        )
    if any(split.sampled for split in splits):
        read = ", ".join(f"{s.read:,} of {s.examples:,} {n}" for n, s in report.splits.items())
        lines.append(f"{_SAMPLED} counted on a part of the {config.record_name}s: {read}")
    else:
        lines.append(f"all {config.record_name}s were read")
    return "\n".join(line.rstrip() for line in lines)


def length_bins(sequence_length: int) -> list[tuple[int, int]]:
    """Returns the least and the largest length of each bin of `Shard.length_counts`.

    Args:
        sequence_length: int. Bins are empty (the least is above the largest) if it is below 16.
    """
    ends = [sequence_length * k // LENGTH_BINS for k in range(LENGTH_BINS + 1)]
    return [(ends[k] + 1, ends[k + 1]) for k in range(LENGTH_BINS)]


def _histogram(report: RecordsReport) -> list[list[str]]:
    splits = list(report.splits.values())
    marks = [_SAMPLED * ("length_counts" in split.sampled) for split in splits]
    rows = [["lengths", *report.splits]]
    shares = [np.array(split.length_counts) / sum(split.length_counts) for split in splits]
    largest = max(map(max, shares))
    for k, (least, most) in enumerate(length_bins(report.manifest.config.sequence_length)):
        if least <= most:
            row = [f"{least}-{most}".rjust(9) if least < most else f"{most}".rjust(9)]
            for mark, share in zip(marks, shares, strict=True):
                percent = f"{mark}{share[k]:.1%}".rjust(7)
                row.append(f"{percent} {'█' * round(share[k] / largest * _BAR)}")
            rows.append(row)
    return rows


def _describe_corpus(corpus: CorpusEntry) -> str:
    text = f"corpus {corpus.name}: weight {corpus.weight:g}"
    # An index of files that others wrote does not know them.
    if corpus.documents:
        text += (
            f", {corpus.documents:,} documents, {corpus.sentences:,} sentences, "
            f"{corpus.characters:,} characters"
        )
    if corpus.dropped:
        text += "; dropped: "
        text += ", ".join(f"{reason} {count:,}" for reason, count in corpus.dropped.items())
    return text


def _align(rows: list[list[str]], justify: Callable[[str, int], str]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(justify, row[1:], widths[1:])]) for row in rows
    ]


def _three(numbers: tuple[Any, Any, Any] | None) -> str:
    return "unknown" if numbers is None else " / ".join(map(_number, numbers))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
