"""kbt-pretrain: trains a BERT on the records that kbt-prepare wrote, or continues a run.

The run itself, and from there the train step, the losses and the learning rate, are one jump
away in `keras_bert_tpu.training.loop.pretrain`.
"""

from absl import flags

from keras_bert_tpu.scripts import app

PROGRAM = "kbt-pretrain"

USAGE = """Trains a BERT on the records that kbt-prepare wrote, or continues a run.

  kbt-pretrain --config=gcs_configs/mini_cpu.yaml --data=records --output=run
  kbt-pretrain --config=run.yaml --data=gs://bucket/records --output=gs://bucket/run --tpu=local \\
      --set optimizer.learning_rate=2e-4 --set phases.0.batch_size=512

A run that was stopped goes on after its last checkpoint when the same command is given again.
The output folder holds config.yaml, metrics.jsonl, tensorboard/, curves.png, checkpoints/ and,
at the end, model/."""


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
    flags.DEFINE_string(
        "tpu",
        None,
        "'local' on a TPU VM, a TPU's name or its grpc:// address. Without it: GPUs, else CPU.",
        flag_values=values,
    )
    flags.DEFINE_string("zone", None, "Cloud zone of a TPU given by name.", flag_values=values)
    flags.DEFINE_string(
        "project", None, "Cloud project of a TPU given by name.", flag_values=values
    )


def main() -> None:
    """Runs the program."""
    from keras_bert_tpu.config import PretrainingConfig
    from keras_bert_tpu.tpu.connect import connect
    from keras_bert_tpu.training.loop import pretrain

    values = flags.FLAGS
    config = PretrainingConfig.from_yaml(values.config, values.set)
    connection = connect(values.tpu, values.zone, values.project)
    print(f"Running on {connection.description}.")
    pretrain(config, values.data, values.output, connection.strategy)


def run() -> None:
    """Entry point of the command."""
    app.run(PROGRAM, USAGE, define_flags, main)


if __name__ == "__main__":
    run()
