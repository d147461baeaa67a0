"""A picture of a run: losses and accuracies against steps."""

import io

from keras_bert_tpu.checkpoints.storage import read_bytes, write_atomically
from keras_bert_tpu.training.metrics_log import parse_records


def plot_curves(metrics_path: str, picture_path: str) -> None:
    """Draws what metrics.jsonl holds as a PNG.

    Args:
        metrics_path: str. Local or gs:// path of metrics.jsonl.
        picture_path: str. Local or gs:// path of the picture.
    """
    # Imported here: it costs half a second, and only a finished run draws. The object-oriented
    # interface leaves the caller's backend, a notebook's for example, as it is.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = parse_records(read_bytes(metrics_path))
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = [
        ("mlm_loss", "masked words: loss"),
        ("mlm_accuracy", "masked words: accuracy"),
        ("nsp_accuracy", "next sentence: accuracy"),
    ]
    for axes, (name, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for split, label, style in [
            ("train", "training", {"linewidth": 1, "alpha": 0.6}),
            ("validation", "held-out documents", {"linewidth": 2, "marker": "o", "markersize": 3}),
        ]:
            points = [(r["step"], r[name]) for r in records if r["split"] == split]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, **style)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_atomically(picture_path, picture.getvalue())
