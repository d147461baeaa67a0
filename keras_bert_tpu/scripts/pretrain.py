"""kbt-pretrain: trains a BERT on the records that kbt-prepare wrote, or continues a run.

The run itself, and from there the train step, the losses and the learning rate, are one jump
away in `keras_bert_tpu.training.loop.pretrain`.
"""

import sys

from absl import flags

from keras_bert_tpu.config import TRACKERS
from keras_bert_tpu.scripts import app

PROGRAM = "kbt-pretrain"

USAGE = """Trains a BERT on the records that kbt-prepare wrote, or continues a run.

  kbt-pretrain --config=gcs_configs/mini_cpu.yaml --data=records --output=run
  kbt-pretrain --config=run.yaml --data=gs://bucket/records --output=gs://bucket/run --tpu=local \\
      --set optimizer.learning_rate=2e-4 --set phases.0.batch_size=512

A run that was stopped goes on after its last checkpoint when the same command is given again.
SIGTERM, which a machine that is preempted gets, saves at once and ends with exit status 75. The
output folder holds config.yaml, metrics.jsonl, tensorboard/, curves.png, checkpoints/ and, at the
end, model/.

Several processes of one run, each with its GPUs or CPU, are started with the same command and with
the variable TF_CONFIG of TensorFlow's MultiWorkerMirroredStrategy; a TPU, a pod too, is driven by
one process."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    for name, text in [
        ("config", "Run file in YAML, see gcs_configs/."),
        ("data", "Folder that kbt-prepare wrote, local or gs://."),
        ("output", "Folder of this run, local or gs://."),
    ]:
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.mark_flags_as_required(["config", "data", "output"], flag_values=values)
    flags.DEFINE_multi_string(
        "set",
        [],
        "A setting over the run file, for example --set phases.0.steps=1000",
        flag_values=values,
    )
    app.define_tpu_flags(values)
    flags.DEFINE_string(
        "profile_steps",
        None,
        "First and last step of a profile for TensorBoard, counted from 1, for example 100:110.",
        flag_values=values,
    )
    flags.DEFINE_multi_enum(
        "tracker",
        [],
        TRACKERS,
        "Who is given the lines of metrics.jsonl, too: wandb or mlflow; may be repeated.",
        flag_values=values,
    )


def main() -> None:
    """Runs the program."""
    from keras_bert_tpu.config import PretrainingConfig
    from keras_bert_tpu.tpu.connect import check_data_path
    from keras_bert_tpu.training.loop import pretrain
    from keras_bert_tpu.training.profiling import parse_profile_steps
    from keras_bert_tpu.training.termination import EXIT_CODE, Terminated

    values = flags.FLAGS
    config = PretrainingConfig.from_yaml(values.config, values.set)
    profile_steps = parse_profile_steps(values.profile_steps) if values.profile_steps else None
    check_data_path(values.data, values.tpu)
    connection = app.connect(PROGRAM, (values.data, values.output))
    try:
        pretrain(
            config,
            values.data,
            values.output,
            connection.strategy,
            profile_steps=profile_steps,
            trackers=values.tracker,
        )
    except Terminated as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        sys.exit(EXIT_CODE)


def run() -> None:
    """Entry point of the command."""
    app.run(PROGRAM, USAGE, define_flags, main)


if __name__ == "__main__":
    run()
