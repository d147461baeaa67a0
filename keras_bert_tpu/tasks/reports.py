"""What a fine-tuning leaves beside its model: metrics, a model card, pictures."""

import dataclasses
import io
import platform
import posixpath
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from keras_bert_tpu import __version__
from keras_bert_tpu.checkpoints.storage import write_atomically
from keras_bert_tpu.config import FinetuningConfig
from keras_bert_tpu.dataclass_yaml import to_dict, to_yaml
from keras_bert_tpu.tasks.output_files import write_json, write_lines
from keras_bert_tpu.training.finetuning import Evaluation

METRICS, CARD, CARD_VALUES = "metrics.json", "README.md", "card.json"
CURVES, CONFUSION = "curves.png", "confusion.png"
_PACKAGES = ("tensorflow", "tensorflow-text", "keras", "numpy")
# A picture with more classes has no room for their names.
_MOST_CLASSES = 30


@dataclasses.dataclass(frozen=True)
class Report:
    """What there is to say of a fine-tuned model.

    Attributes:
        task: str. Name of the task.
        checkpoint: str. What the encoder was taken from.
        data: Mapping of the names of splits to their numbers of examples.
        labels: Names of the classes; none for a regression.
        config: FinetuningConfig.
        metrics: Those of the best evaluation.
        best_metric: str. The metric by which it is the best.
        evaluations: All of them, in order.
        trained_parameters: int. How many numbers were trained.
        parameters: int. How many the model has.
    """

    task: str
    checkpoint: str
    data: Mapping[str, int]
    labels: Sequence[str]
    config: FinetuningConfig
    metrics: Mapping[str, float]
    best_metric: str
    evaluations: Sequence[Evaluation]
    trained_parameters: int
    parameters: int


def write_report(folder: str, report: Report) -> None:
    """Writes metrics.json, the model card as README.md and card.json, and curves.png.

    metrics.json has the metrics of the development set by their plain names, those of the weights
    that were kept. It is written last, so that it tells that all is there.

    Args:
        folder: str. Local or gs:// folder.
        report: Report.
    """
    write_json(posixpath.join(folder, CARD_VALUES), _card_values(report))
    write_lines(posixpath.join(folder, CARD), _card_lines(report))
    if report.evaluations:
        write_atomically(posixpath.join(folder, CURVES), _curves(report))
    write_json(posixpath.join(folder, METRICS), dict(report.metrics))


def write_confusion(
    folder: str, predictions: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> None:
    """Writes confusion.png: how often which class was taken for which.

    Args:
        folder: str. Local or gs:// folder.
        predictions: Ids of classes [examples].
        labels: Ids of the true classes [examples].
        names: Of the classes. With more than 30 nothing is written.
    """
    if len(names) > _MOST_CLASSES:
        return
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (labels, predictions), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = _figure((1.5 + 0.6 * len(names), 1.5 + 0.6 * len(names)))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)
    write_atomically(posixpath.join(folder, CONFUSION), _png(figure))


def spread(metrics: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Returns the mean of each metric over several runs, and its standard deviation.

    Args:
        metrics: Of the runs, at least two; what not all have is left out.
    """
    # A type of entities, for example, may be in some of the runs only.
    names = [name for name in metrics[0] if all(name in run for run in metrics)]
    values = {name: [run[name] for run in metrics] for name in names}
    return {
        name: {"mean": float(np.mean(found)), "standard_deviation": float(np.std(found, ddof=1))}
        for name, found in values.items()
    }


def _card_values(report: Report) -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in _PACKAGES}
    return {
        "task": report.task,
        "checkpoint": report.checkpoint,
        "data": dict(report.data),
        "labels": list(report.labels),
        "metrics": dict(report.metrics),
        "best_metric": report.best_metric,
        "parameters": {"trained": report.trained_parameters, "model": report.parameters},
        "settings": to_dict(report.config),
        "versions": {
            "keras_bert_tpu": __version__,
            **versions,
            "python": platform.python_version(),
        },
    }


def _card_lines(report: Report) -> list[str]:
    values = _card_values(report)
    lines = [
        f"# {report.task}",
        "",
        f"A BERT, fine-tuned by keras_bert_tpu {__version__} from `{report.checkpoint}`.",
        "",
        "| split | examples |",
        "| --- | --- |",
        *(f"| {name} | {number:,} |" for name, number in report.data.items()),
        "",
        f"Labels: {', '.join(report.labels) or 'numbers'}.",
        "",
        "| metric of the development set | |",
        "| --- | --- |",
        *(f"| {name} | {value:.4f} |" for name, value in report.metrics.items()),
        "",
        f"The weights are those of the evaluation that was best by {report.best_metric}. The model "
        f"has {report.parameters:,} parameters; {report.trained_parameters:,} were trained.",
        "",
        "```yaml",
        *to_yaml(report.config).rstrip().splitlines(),
        "```",
        "",
        ", ".join(f"{name} {version}" for name, version in values["versions"].items()),
    ]
    return lines


def _curves(report: Report) -> bytes:
    figure = _figure((10, 4))
    left, right = figure.subplots(1, 2)
    epochs = [evaluation.epoch for evaluation in report.evaluations]
    left.plot(epochs, [evaluation.loss for evaluation in report.evaluations], marker="o")
    left.set_title("training loss")
    for name in report.metrics:
        values = [evaluation.metrics.get(name, np.nan) for evaluation in report.evaluations]
        right.plot(epochs, values, marker="o", label=name)
    right.set_title("development set")
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    return _png(figure)


def _figure(size: tuple[float, float]) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    return content.getvalue()
