"""kbt-evaluate: measures a model, or a checkpoint of a run, on the records that were held out.

What is measured, and how, is one jump away in `training.evaluation.evaluate_pretraining`.
"""

import json

from absl import flags

from keras_bert_tpu.config import COMPUTE_DTYPES
from keras_bert_tpu.scripts import app

PROGRAM = "kbt-evaluate"

USAGE = """Measures a model, or any checkpoint of a run, on the records that were held out.

  kbt-evaluate --checkpoint=run/model --data=records
  kbt-evaluate --checkpoint=run/checkpoints/step-00001000 --data=records --json=step-1000.json
  kbt-evaluate --checkpoint=gs://bucket/run --data=gs://bucket/records --batch_size=256
  kbt-evaluate --checkpoint=run --data=records --split=train --examples=2000

The checkpoint is a model folder, a checkpoint, or the folder of a run: of that the newest complete
checkpoint, or its model where there is none; which it was is printed. The records are a folder that
kbt-prepare or kbt-index wrote with the model's vocabulary. Accuracies and losses are given for all
masked words, by what the model is shown in their place, by how frequent they are, and by whether
they continue a word; and for the sentence pairs. One device does the work: a GPU, else the CPU."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string(
        "checkpoint",
        None,
        "Model folder, checkpoint or folder of a run, local or gs://.",
        flag_values=values,
    )
    flags.DEFINE_string("data", None, "Folder of records, local or gs://.", flag_values=values)
    flags.mark_flags_as_required(["checkpoint", "data"], flag_values=values)
    flags.DEFINE_enum(
        "split",
        "validation",
        ["validation", "train"],
        "Held-out examples, or those of the training.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "examples",
        0,
        "How many of the first examples to take; 0 takes all.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "batch_size",
        32,
        "Examples that are computed at once; changes the speed and not the figures.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "compute_dtype",
        "float32",
        COMPUTE_DTYPES,
        "What the model computes in. Runs compute in bfloat16 unless told otherwise, and their own "
        "evaluations then differ a little from those in float32.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "json", None, "File to write all figures to, local or gs://.", flag_values=values
    )


def main() -> None:
    """Reads the weights, evaluates them and prints what came out."""
    # Here, because importing TensorFlow takes seconds that --help should not.
    from keras_bert_tpu.checkpoints.source import read_weights
    from keras_bert_tpu.checkpoints.storage import write_atomically
    from keras_bert_tpu.models.pretrainer import BertPretrainer
    from keras_bert_tpu.pretraining_data.manifest import Manifest
    from keras_bert_tpu.text.files import check_writable
    from keras_bert_tpu.training.evaluation import evaluate_pretraining
    from keras_bert_tpu.training.evaluation_table import table

    values = flags.FLAGS
    if values.json is not None:
        check_writable(values.json)
    manifest = Manifest.load(values.data)
    source = read_weights(values.checkpoint)
    print(f"Evaluating {source.description}.", flush=True)
    policy = "mixed_bfloat16" if values.compute_dtype == "bfloat16" else "float32"
    model = BertPretrainer(source.encoder, dtype=policy)
    source.assign_to(model)
    evaluation = evaluate_pretraining(
        model, manifest, source.vocabulary, values.examples, values.batch_size, values.split
    )
    print(table(evaluation))
    if values.json is not None:
        figures = {"checkpoint": source.path, **evaluation.to_dict()}
        write_atomically(values.json, f"{json.dumps(figures, indent=2)}\n".encode())


def run() -> None:
    """Entry point of the command."""
    app.run(PROGRAM, USAGE, define_flags, main)


if __name__ == "__main__":
    run()
