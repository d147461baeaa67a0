"""kbt-inspect: shows what a folder of records holds, or checks that it is whole."""

import json
import logging
import sys

from absl import flags

from keras_bert_tpu.config import PretrainingConfig
from keras_bert_tpu.scripts import app

PROGRAM = "kbt-inspect"

USAGE = """Shows examples, figures and a picture of a folder of records, or checks that it is whole.

  kbt-inspect records
  kbt-inspect records --examples=20 --start=1000 --split=validation
  kbt-inspect gs://bucket/records --sample=0 --picture=gs://bucket/records/inspect.png
  kbt-inspect records --json | jq .train.padding
  kbt-inspect records --verify
  kbt-inspect --data=records --epoch=3 --seed=12345

The folder is one that kbt-prepare or kbt-index wrote. A masked place is shown as [MASK:door], one
that was left as it is as [kept:door], one with a random piece as [door→gate]. Figures with a ~ are
counted on a part of the examples, the others are exact. With --verify nothing but the check is
done: the exit status is 1, and each problem is on a line, if a file is not as its manifest says."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string(
        "data",
        None,
        "Folder of records, local or gs://; may be given without --data=.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "examples", 5, "Examples to show; 0 shows none.", lower_bound=0, flag_values=values
    )
    flags.DEFINE_enum(
        "split", "train", ["train", "validation"], "Which examples to show.", flag_values=values
    )
    flags.DEFINE_integer(
        "start",
        0,
        "Number of the first example to show, counted over the shards.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "sample",
        10_000,
        "Examples of each split to count on what the manifest does not know; 0 takes all.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_string(
        "picture",
        None,
        "PNG to draw the figures in, local or gs://. Without it, none is drawn.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "json",
        False,
        "Print one JSON object with all figures, and nothing else.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "verify",
        False,
        "Check size, sha256 and every record of all shards against the manifest.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "epoch",
        0,
        "Whose masks are shown and counted, for records with dynamic masks.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "seed",
        PretrainingConfig().seed,
        "Seed of the training run, from which dynamic masks derive.",
        lower_bound=0,
        upper_bound=2**31 - 1,
        flag_values=values,
    )


def main() -> None:
    """Shows or checks the records."""
    # Here, because importing TensorFlow takes seconds that --help should not.
    import tensorflow as tf

    from keras_bert_tpu.pretraining_data.inspection.plot import save_picture
    from keras_bert_tpu.pretraining_data.inspection.report import inspect_records
    from keras_bert_tpu.pretraining_data.inspection.text import show_examples, table
    from keras_bert_tpu.pretraining_data.manifest import Manifest
    from keras_bert_tpu.text.files import check_writable

    # Nothing here is for an accelerator, which may be in use by a training run.
    tf.config.set_visible_devices([], "GPU")
    values = flags.FLAGS
    if values.verify:
        _verify(values.data, values.json)
        return
    if values.picture is not None:
        check_writable(values.picture)
    manifest = Manifest.load(values.data)
    # Before the counting, which may take long.
    if values.examples and not values.json:
        text = show_examples(
            manifest, values.split, values.start, values.examples, values.epoch, values.seed
        )
        print(text, end="\n\n", flush=True)
    report = inspect_records(manifest, values.sample, values.epoch, values.seed)
    print(json.dumps(report.to_dict(), indent=2) if values.json else table(report))
    if values.picture is not None:
        save_picture(report, values.picture)


def _verify(directory: str, as_json: bool) -> None:
    from keras_bert_tpu.pretraining_data import damage
    from keras_bert_tpu.pretraining_data.inspection.verify import verify_records

    # What it warns of is printed below, with the rest.
    logging.getLogger(damage.__name__).setLevel(logging.ERROR)
    found = verify_records(directory)
    print(json.dumps(found.to_dict(), indent=2) if as_json else found)
    if found.problems:
        sys.exit(1)


def run() -> None:
    """Entry of the console script."""
    app.run(PROGRAM, USAGE, define_flags, main, argument="data")


if __name__ == "__main__":
    run()
