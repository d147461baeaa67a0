"""kbt-index: record files of Google's BERT or of Model Garden -> a folder to train from."""

import time

from absl import flags

from keras_bert_tpu.config import PretrainingConfig
from keras_bert_tpu.scripts import app

PROGRAM = "kbt-index"

USAGE = """Reads the record files of Google's BERT and of TensorFlow's Model Garden as they are.

  kbt-index --input='gs://bucket/wiki.tfrecord*' --vocab=vocab.txt --output=records
  kbt-index --input='train/*.tfrecord' --validation='dev/*.tfrecord' --vocab=vocab.txt \\
      --output=gs://bucket/records --nolower_case

The files are those that create_pretraining_data.py writes, with or without --use_v2_feature_names
and --gzip_compress (names must end in .gz). They stay where they are; each record is checked once,
and the folder gets the vocabulary and manifest.json, which says what the files hold. After that
kbt-pretrain reads the folder as one that kbt-prepare wrote."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    flags.DEFINE_list("input", None, "Record files: paths or quoted globs.", flag_values=values)
    flags.DEFINE_string("output", None, "Folder for the manifest.", flag_values=values)
    flags.DEFINE_string(
        "vocab", None, "Vocabulary that the records were made with.", flag_values=values
    )
    flags.mark_flags_as_required(["input", "output", "vocab"], flag_values=values)
    flags.DEFINE_list("validation", None, "Record files to hold out.", flag_values=values)
    flags.DEFINE_boolean(
        "lower_case",
        True,
        "The text was lower-cased (uncased vocabulary); the records do not tell.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "strip_accents",
        "auto",
        ["auto", "true", "false"],
        "Accents were taken away; auto: as --lower_case.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "checksums",
        False,
        "Put the SHA-256 of each file into the manifest, which reads it a second time.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "overwrite", False, "Replace an index that is already there.", flag_values=values
    )


def main() -> None:
    """Indexes the files, and prints what they are like and what to run next."""
    # Here, because importing TensorFlow takes seconds that --help should not.
    import tensorflow as tf

    from keras_bert_tpu.pretraining_data.foreign import index_records, summary
    from keras_bert_tpu.pretraining_data.summary import next_step

    # Nothing here is for an accelerator, which may be in use by a training run.
    tf.config.set_visible_devices([], "GPU")
    values = flags.FLAGS
    start = time.perf_counter()
    manifest = index_records(
        values.input,
        values.output,
        values.vocab,
        values.validation,
        lower_case=values.lower_case,
        strip_accents={"auto": None, "true": True, "false": False}[values.strip_accents],
        checksums=values.checksums,
        overwrite=values.overwrite,
    )
    print(summary(manifest, time.perf_counter() - start, PretrainingConfig().shuffle_window))
    print(next_step(manifest, values.output))


def run() -> None:
    """Entry of the console script."""
    app.run(PROGRAM, USAGE, define_flags, main)


if __name__ == "__main__":
    run()
