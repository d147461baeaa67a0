"""What a folder of records holds, as a table for people."""

import shlex
from collections.abc import Callable

from keras_bert_tpu.pretraining_data.manifest import Counts, Manifest


def summary(manifest: Manifest, seconds: float) -> str:
    """Returns a table of what was prepared, for people.

    Args:
        manifest: Manifest.
        seconds: float. What this run of the preparation took; it may have gone on with another.
    """
    names = ["train", "validation"] if manifest.validation else ["train"]
    splits = [(getattr(manifest, f"{name}_counts"), getattr(manifest, name)) for name in names]
    config = manifest.config
    rows = [["", *names]]

    def add(title: str, value: Callable[[Counts], str]) -> None:
        rows.append([title, *(value(counts) for counts, _ in splits)])

    add("documents", lambda c: f"{c.documents:,}")
    add("sentences", lambda c: f"{c.sentences:,}")
    add(
        "documents / sentences without tokens",
        lambda c: f"{c.dropped_documents} / {c.dropped_sentences}",
    )
    add("tokens", lambda c: f"{c.tokens:,}")
    add("unknown tokens", lambda c: _percent(c.unknown_tokens, c.tokens))
    add(f"examples (dupe_factor {config.dupe_factor})", lambda c: f"{c.examples:,}")
    add(f"mean length (of {config.sequence_length})", lambda c: f"{c.mean_length:.1f}")
    if config.pack:
        row_counts = [manifest.num_rows(name) for name in names]
        per_row = [
            counts.examples / max(1, number)
            for (counts, _), number in zip(splits, row_counts, strict=True)
        ]
        rows += [
            [f"rows (at most {config.max_sequences} examples each)"]
            + [f"{number:,}" for number in row_counts],
            ["examples per row", *(f"{number:.2f}" for number in per_row)],
        ]
        add("padding before packing", lambda c: f"{c.padding_share(config.sequence_length):.1%}")
    rows.append(["padding", *(f"{manifest.padding_share(name):.1%}" for name in names)])
    add("with a short target length", lambda c: _percent(c.short_examples, c.examples))
    if config.objective != "mlm":
        title = "swapped parts" if config.objective == "mlm+sop" else "random next sentence"
        add(title, lambda c: f"{c.random_next_share:.1%}")
    if config.masks == "static":
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
    examples = sum(counts.examples for counts, _ in splits)
    for corpus in manifest.corpora:
        if corpus.dropped:
            reasons = ", ".join(f"{name} {count:,}" for name, count in corpus.dropped.items())
            lines.append(f"dropped of {corpus.name}: {reasons}")
    lines.append(f"{examples:,} examples; this run took {seconds:.1f} s")
    return "\n".join(line.rstrip() for line in lines)


def next_step(manifest: Manifest, output: str) -> str:
    """Returns the command that trains on records, and what its run file must say of them.

    Args:
        manifest: Manifest.
        output: str. Their folder, as the user named it.
    """
    config = manifest.config
    phase = f"sequence_length: {config.sequence_length}, max_predictions: {config.max_predictions}"
    if config.pack:
        phase += f", max_sequences: {config.max_sequences}"
    return (
        f"Next: kbt-pretrain --data={shlex.quote(output)} --config=RUN.yaml --output=RUN\n"
        f"where RUN.yaml has encoder: {{vocab_size: {manifest.vocabulary_size}}} and a phase with "
        f"{phase}"
    )


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
