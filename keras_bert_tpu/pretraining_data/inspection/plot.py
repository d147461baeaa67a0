"""A picture of what a folder of records is like."""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.inspection.report import RecordsReport, SplitReport
from keras_bert_tpu.pretraining_data.inspection.text import LABELS, length_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPLIT_COLORS = {"train": "C0", "validation": "C1"}
# Not those of the splits, as they stand for parts of a whole.
_PART_COLORS = ("#4c9f70", "#c9c9c9", "#b65fcf")
# From this number of shards on, a dot is drawn in place of a bar for each.
_MANY_SHARDS = 50


def save_picture(report: RecordsReport, path: str) -> None:
    """Draws a report as a PNG.

    Args:
        report: RecordsReport.
        path: str. Local or gs:// path of the picture; an existing one is replaced.

    Raises:
        InputError: If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from keras_bert_tpu.checkpoints.storage import write_atomically

    picture = io.BytesIO()
    FigureCanvasAgg(draw(report)).print_png(picture)
    try:
        write_atomically(path, picture.getvalue())
    except tf.errors.OpError as error:
        raise InputError(
            f"The picture cannot be written to {path!r} ({error.message}); name a file in a folder "
            f"that exists."
        ) from error


def draw(report: RecordsReport) -> "Figure":
    """Draws a report.

    Args:
        report: RecordsReport.

    Returns:
        Figure with eight axes: lengths, positions of predictions, pieces predicted most often,
        padding, what became of predictions, next-sentence labels, and examples and documents of
        each shard.
    """
    # Imported here: it costs half a second. The object-oriented interface leaves the caller's
    # backend, a notebook's for example, as it is.
    from matplotlib.figure import Figure

    config = report.manifest.config
    figure = Figure(figsize=(18, 7.5), layout="constrained")
    figure.suptitle(
        f"{report.manifest.directory}: {config.objective}, {config.masks} masks, "
        f"{config.sequence_length} tokens"
    )
    upper, lower = figure.subplots(2, 4)
    _draw_lengths(upper[0], report)
    _draw_positions(upper[1], report)
    _draw_pieces(upper[2], report)
    title = f"{config.record_name}s per shard"
    _draw_shards(upper[3], report, title, lambda split: split.shard_examples)
    _draw_parts(
        lower[0],
        report,
        "padding",
        ("real tokens", "padding"),
        lambda split: (1 - split.padding, split.padding),
    )
    _draw_parts(
        lower[1],
        report,
        "what became of predictions",
        ("[MASK]", "kept", "random"),
        lambda split: (split.replaced_by_mask, split.kept, split.replaced_at_random),
    )
    if config.objective in LABELS:
        _draw_parts(
            lower[2],
            report,
            "next-sentence labels",
            LABELS[config.objective],
            lambda split: (1 - split.label_1, split.label_1),
        )
    else:
        _say(lower[2], "next-sentence labels", f"none: the objective is {config.objective}")
    if any(split.shard_documents for split in report.splits.values()):
        _draw_shards(lower[3], report, "documents per shard", lambda split: split.shard_documents)
    else:
        _say(lower[3], "documents per shard", "not known")
    return figure


def _draw_lengths(axes: "Axes", report: RecordsReport) -> None:
    config = report.manifest.config
    bins = length_bins(config.sequence_length)
    edges = [bins[0][0] - 0.5, *(most + 0.5 for _, most in bins)]
    for name, split in report.splits.items():
        shares = np.array(split.length_counts) / sum(split.length_counts)
        axes.stairs(shares, edges, fill=True, alpha=0.5, color=_SPLIT_COLORS[name], label=name)
    _finish(axes, "lengths", "real tokens", f"share of the {config.record_name}s")
    axes.legend(loc="upper left")


def _draw_positions(axes: "Axes", report: RecordsReport) -> None:
    # The larger split last, as its line is the smoother one.
    for name, split in reversed(report.splits.items()):
        shares = [np.nan if share is None else share for share in split.masked_by_position]
        style = {"linewidth": 1.2, "alpha": 1.0 if name == "train" else 0.5}
        axes.plot(shares, color=_SPLIT_COLORS[name], label=name, **style)
    axes.set_ylim(bottom=0)
    _finish(axes, "predictions by position", "position", "share of the real tokens")
    axes.legend(loc="lower left")


def _draw_pieces(axes: "Axes", report: RecordsReport) -> None:
    name, split = next(iter(report.splits.items()))
    pieces = [piece for piece, _ in split.frequent_pieces]
    places = range(len(pieces))
    shares = [share for _, share in split.frequent_pieces]
    axes.barh(places, shares, color=_SPLIT_COLORS[name])
    # A "$" would begin a formula.
    axes.set_yticks(
        places, [piece.replace("$", r"\$") for piece in pieces], family="monospace", size=11
    )
    axes.invert_yaxis()
    _finish(axes, f"predicted most often ({name})", "share of the predictions", "")
    axes.grid(axis="y", visible=False)


def _draw_shards(
    axes: "Axes",
    report: RecordsReport,
    title: str,
    numbers_of: Callable[[SplitReport], Sequence[int]],
) -> None:
    first, splits = 0, report.splits.values()
    for name, split in report.splits.items():
        numbers = numbers_of(split)
        places = np.arange(first, first + len(numbers))
        style = {"color": _SPLIT_COLORS[name], "label": name}
        if sum(one.shards for one in splits) >= _MANY_SHARDS:
            axes.plot(places, numbers, ".", **style)
        else:
            axes.bar(places, numbers, **style)
        first += split.shards
    # With room for the legend at the top.
    axes.set_ylim(0, 1.2 * max(max(numbers_of(split), default=1) for split in splits))
    axes.xaxis.get_major_locator().set_params(integer=True)
    _finish(axes, title, "shard", "")
    axes.legend(loc="upper center", ncols=len(splits), frameon=False)


def _draw_parts(
    axes: "Axes",
    report: RecordsReport,
    title: str,
    parts: Sequence[str],
    shares_of: Callable[[SplitReport], Sequence[float]],
) -> None:
    """Parts of a whole as a stacked bar for each split."""
    names = list(report.splits)
    left = np.zeros(len(names))
    shares = np.array([shares_of(split) for split in report.splits.values()])
    for part, share, color in zip(parts, shares.T, _PART_COLORS, strict=False):
        axes.barh(names, share, left=left, height=0.5, color=color, label=part)
        left += share
    for place, share in enumerate(shares):
        # Above the bar, because there is no room in its smaller parts.
        axes.text(0.01, place - 0.3, " / ".join(f"{one:.1%}" for one in share))
    axes.set_xlim(0, 1)
    # From below upwards, with room for the legend at the top.
    axes.set_ylim(len(names) - 0.5, -1.1)
    _finish(axes, title, "share", "")
    axes.grid(visible=False)
    axes.legend(loc="upper center", ncols=len(parts), frameon=False)


def _say(axes: "Axes", title: str, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()
    axes.set_title(title)


def _finish(axes: "Axes", title: str, x_label: str, y_label: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
