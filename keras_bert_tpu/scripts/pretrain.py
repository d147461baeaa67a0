"""kbt-pretrain: trains a BERT on the records that kbt-prepare wrote, or continues a run.

The run itself, and from there the train step, the losses and the learning rate, are one jump
away in `keras_bert_tpu.training.loop.pretrain`.
"""

from absl import flags

from keras_bert_tpu.scripts import app

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string("config", None, "YAML run file, see gcs_configs/.", required=True)
    flags.DEFINE_string("data", None, "Folder that kbt-prepare wrote (or gs://).", required=True)
    flags.DEFINE_string(
        "output",
        None,
        "Folder of this run (or gs://). Given again, the run goes on after its last checkpoint.",
        required=True,
    )
    flags.DEFINE_multi_string(
        "set",
        [],
        "A setting of the config, for example --set optimizer.learning_rate=3e-4 or "
        "--set phases.0.batch_size=64. May be repeated.",
    )
    flags.DEFINE_string(
        "tpu", None, "'local' on a TPU VM, a TPU's name or its grpc:// address; else GPUs or CPU."
    )
    flags.DEFINE_string("zone", None, "Cloud zone of a TPU given by name.")
    flags.DEFINE_string("project", None, "Cloud project of a TPU given by name.")


def main() -> None:
    """Runs the program."""
    from keras_bert_tpu.config import PretrainingConfig
    from keras_bert_tpu.tpu.connect import connect
    from keras_bert_tpu.training.loop import pretrain

    config = PretrainingConfig.from_yaml(FLAGS.config, FLAGS.set)
    connection = connect(FLAGS.tpu, FLAGS.zone, FLAGS.project)
    print(f"Running on {connection.description}.")
    pretrain(config, FLAGS.data, FLAGS.output, connection.strategy)


def run() -> None:
    """Entry point of the command."""
    define_flags()
    app.run("kbt-pretrain", main)


if __name__ == "__main__":
    run()
