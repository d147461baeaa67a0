"""kbt-prepare: text files -> shards of pre-training records."""

import dataclasses
import shlex
import time

from absl import flags

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.scripts import app

PROGRAM = "kbt-prepare"

USAGE = """Makes pre-training records of text: sentence pairs with masked words, in TFRecord shards.

  kbt-prepare --input='corpus/*.txt.gz' --output=records --vocab=vocab.txt
  kbt-prepare --input='corpus/*.txt.gz' --output=records_512 --vocab=vocab.txt \\
      --sequence_length=512 --max_predictions=76

The text has one sentence on a line and a blank line between documents. The records have the
feature names of Google's BERT. The same text and seed give the same bytes for any number of
workers. manifest.json, written last, says what the folder holds."""

_HELP = {
    "sequence_length": "Tokens in an example, [CLS] and both [SEP] included.",
    "max_predictions": "Largest number of masked positions in an example.",
    "mask_rate": "Share of the tokens (specials counted in the length) that are masked.",
    "short_sequence_rate": "Share of the documents cut to a random, shorter target length.",
    "random_next_rate": "Share of the pairs whose second part is from another document.",
    "whole_word_mask": "Mask all pieces of a word together.",
    "dupe_factor": "How often the corpus is gone over, each time with other pairs and masks.",
    "lower_case": "Lower-case and strip accents, as uncased vocabularies ask for.",
    "validation_rate": "Share of the documents that are held out; 0 holds out none.",
    "block_documents": "Documents in a block, from which random next sentences are drawn.",
    "blocks_per_shard": "Blocks in a shard file; a worker has a whole shard in memory.",
    "seed": "All randomness derives from it.",
}
_DEFINE = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program, one for each field of `DataConfig` among them."""
    flags.DEFINE_list(
        "input", None, "Text files, plain or .gz: paths or quoted globs.", flag_values=values
    )
    flags.DEFINE_string("output", None, "Folder for the records.", flag_values=values)
    flags.DEFINE_string("vocab", None, "Vocabulary, one piece on a line.", flag_values=values)
    flags.mark_flags_as_required(["input", "output", "vocab"], flag_values=values)
    for field in dataclasses.fields(DataConfig):
        _DEFINE[field.type](field.name, field.default, _HELP[field.name], flag_values=values)
    flags.DEFINE_integer(
        "workers",
        None,
        "Worker processes. Default: one for each core, fewer for a small corpus.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "overwrite", False, "Replace records that are already there.", flag_values=values
    )


def main() -> None:
    """Prepares the records, and prints what they are like and what to run next."""
    # Here, because importing TensorFlow takes seconds that --help should not.
    import tensorflow as tf

    from keras_bert_tpu.pretraining_data.prepare import prepare, summary

    # Nothing here is for an accelerator, which may be in use by a training run.
    tf.config.set_visible_devices([], "GPU")
    values = flags.FLAGS
    config = DataConfig(**{f.name: values[f.name].value for f in dataclasses.fields(DataConfig)})
    start = time.perf_counter()
    manifest = prepare(
        values.input, values.output, values.vocab, config, values.workers, values.overwrite
    )
    print(summary(manifest, time.perf_counter() - start))
    print(f"Next: kbt-pretrain --data={shlex.quote(values.output)} --config=RUN.yaml --output=RUN")


def run() -> None:
    """Entry of the console script."""
    app.run(PROGRAM, USAGE, define_flags, main)


if __name__ == "__main__":
    run()
