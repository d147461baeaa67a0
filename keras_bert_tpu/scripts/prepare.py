"""kbt-prepare: text files -> shards of pre-training records."""

import dataclasses
import time

from absl import flags

from keras_bert_tpu.config import (
    DUPLICATES,
    MASKS,
    OBJECTIVES,
    REPLACEMENTS,
    DataConfig,
    InputError,
)
from keras_bert_tpu.dataclass_yaml import from_dict
from keras_bert_tpu.scripts import app

PROGRAM = "kbt-prepare"

USAGE = """Makes pre-training records of text, in TFRecord shards as those of Google's BERT.

  kbt-prepare --input='corpus/*.txt.gz' --output=records --vocab=vocab.txt
  kbt-prepare --input='corpus/*.txt.gz' --output=records_512 --vocab=vocab.txt \\
      --sequence_length=512 --max_predictions=76
  kbt-prepare --input='corpus/*.txt.gz' --output=packed_512 --vocab=vocab.txt \\
      --sequence_length=512 --max_predictions=80 --pack
  kbt-prepare --input='wiki/*.jsonl.gz,books/*.jsonl.gz' --weights=1,2 --vocab=vocab.txt \\
      --output=gs://bucket/records --objective=mlm --masks=dynamic --dupe_factor=1

  kbt-prepare --input='gs://bucket/wiki/*.jsonl' --output=gs://bucket/records --vocab=vocab.txt \\
      --runner=DataflowRunner -- --project=P --region=R --temp_location=gs://bucket/tmp \\
      --sdk_container_image=IMAGE

The text has one sentence on a line and a blank line between documents, or see --input_format. The
same text and seed give the same bytes for any number of workers. A preparation that was stopped
goes on when the same command is given again. manifest.json, written last, says what the folder
holds; kbt-inspect shows it.

With --runner the work is a pipeline of Apache Beam (the extra [beam]), which gives the same bytes,
but does not go on after a stop; Beam's own options stand behind --."""

_HELP = {
    "objective": "What the examples are for: masked words and next sentences (mlm+nsp, as BERT), "
    "masked words in full rows of sentences (mlm, as RoBERTa), masked words and the order of two "
    "parts (mlm+sop, as ALBERT).",
    "sequence_length": "Tokens in an example, special tokens included.",
    "max_predictions": "Largest number of masked positions in an example.",
    "mask_rate": "Share of the tokens (specials counted in the length) that are masked.",
    "masks": "Written into the records (static), or drawn anew in each epoch of the training, "
    "which also needs fewer passes over the corpus (dynamic).",
    "whole_word_mask": "Mask all pieces of a word together.",
    "segmented_words": "The text has spaces between words of a script written without (Chinese), "
    "and whole words are those.",
    "max_ngram": "Longest run of words masked together.",
    "replacement": "Draw [MASK], the original or a random piece for each piece (as BERT) or for "
    "each word or run of words (gram, as Model Garden).",
    "random_specials": "Let the random piece be a special token, too, as in BERT.",
    "pack": "Put several examples into a row where they have room in it, so that little of it is "
    "padding: steps of the same size train on more text.",
    "max_sequences": "Largest number of examples in a row, with --pack.",
    "short_sequence_rate": "Share of the documents (of the rows, for mlm) cut to a random, shorter "
    "target length.",
    "random_next_rate": "Share of the pairs whose second part is from another document, or, for "
    "mlm+sop, whose parts are swapped.",
    "dupe_factor": "How often the corpus is gone over, each time with other pairs and masks.",
    "lower_case": "Lower-case, as uncased vocabularies ask for.",
    "strip_accents": "Take away accents. Default: as --lower_case.",
    "added_tokens": "Pieces of the vocabulary that are found in the text as they stand, before it "
    "is split into words.",
    "min_characters": "Drop documents with fewer characters.",
    "max_characters": "Drop documents with more characters; 0 drops none.",
    "min_letter_share": "Drop documents with a smaller share of letters among their characters.",
    "duplicates": "keep all documents, drop those that equal an earlier one (exact), or those that "
    "nearly equal one, too (near; needs the extra [dedup]).",
    "near_threshold": "Jaccard similarity from which on documents are near-duplicates.",
    "validation_rate": "Share of the documents that are held out; 0 holds out none.",
    "block_documents": "Documents in a block, from which random next sentences are drawn.",
    "num_shards": "Files of training records; 0 chooses by the size of the corpus.",
    "seed": "All randomness derives from it.",
}
_CHOICES = {
    "objective": OBJECTIVES,
    "masks": MASKS,
    "replacement": REPLACEMENTS,
    "duplicates": DUPLICATES,
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program, one for each field of `DataConfig` among them."""
    app.define_text_flags(values)
    flags.DEFINE_list(
        "weights",
        [],
        "For each entry of --input, then of --tfds: how often it is gone over, times dupe_factor.",
        flag_values=values,
    )
    flags.DEFINE_string("output", None, "Folder for the records.", flag_values=values)
    flags.DEFINE_string("vocab", None, "Vocabulary, one piece on a line.", flag_values=values)
    flags.mark_flags_as_required(["output", "vocab"], flag_values=values)
    for field in dataclasses.fields(DataConfig):
        if field.name not in values:
            _define_field(field, values)
    flags.DEFINE_integer(
        "workers", None, "Threads. Default: one for each core.", flag_values=values
    )
    flags.DEFINE_string(
        "work_folder",
        None,
        "Folder for unfinished work. Default: below a local output folder, else among the "
        "machine's temporary files.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "runner",
        None,
        "Runner of Apache Beam: DirectRunner (this machine, all in memory), DataflowRunner, "
        "FlinkRunner, SparkRunner. Default: threads on this machine, without Beam.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "beam_options", [], "Options of Beam; or give them behind --.", flag_values=values
    )
    flags.DEFINE_boolean(
        "overwrite", False, "Replace records that are already there.", flag_values=values
    )


def _define_field(field: dataclasses.Field, values: flags.FlagValues) -> None:
    arguments = (field.name, field.default, _HELP[field.name])
    if field.name in _CHOICES:
        flags.DEFINE_enum(
            field.name, field.default, _CHOICES[field.name], _HELP[field.name], flag_values=values
        )
    elif field.type is int:
        flags.DEFINE_integer(*arguments, flag_values=values)
    elif field.type is float:
        flags.DEFINE_float(*arguments, flag_values=values)
    elif field.type is str:
        flags.DEFINE_string(*arguments, flag_values=values)
    elif field.type in (bool, bool | None):
        flags.DEFINE_boolean(*arguments, flag_values=values)
    else:
        flags.DEFINE_list(field.name, list(field.default), _HELP[field.name], flag_values=values)


def main() -> None:
    """Prepares the records, and prints what they are like and what to run next."""
    # Here, because importing TensorFlow takes seconds that --help should not.
    import tensorflow as tf

    from keras_bert_tpu.pretraining_data.prepare import prepare
    from keras_bert_tpu.pretraining_data.summary import next_step, summary

    # Nothing here is for an accelerator, which may be in use by a training run.
    tf.config.set_visible_devices([], "GPU")
    values = flags.FLAGS
    config = from_dict(
        DataConfig,
        {field.name: values[field.name].value for field in dataclasses.fields(DataConfig)},
    )
    for name, is_idle, why in (
        ("random_next_rate", config.objective == "mlm", "--objective=mlm has no second sentence"),
        ("near_threshold", config.duplicates != "near", "it is for --duplicates=near"),
        ("replacement", not config.whole_word_mask, "without --whole_word_mask pieces are alone"),
        ("max_sequences", not config.pack, "without --pack a row has one example"),
        ("tfds_folder", not values.tfds, "no --tfds is given"),
    ):
        if is_idle and values[name].present:
            raise InputError(f"--{name} would have no effect, as {why}; leave it out.")
    start = time.perf_counter()
    settings = {
        "tfds": values.tfds,
        "weights": _weights(values.weights),
        "tfds_folder": values.tfds_folder,
    }
    if values.runner is None:
        if values.beam_options:
            raise InputError(
                f"Options behind -- are Beam's and need --runner. Received: "
                f"{' '.join(values.beam_options)}."
            )
        manifest = prepare(
            values.input,
            values.output,
            values.vocab,
            config,
            values.workers,
            values.overwrite,
            work_folder=values.work_folder,
            **settings,
        )
    else:
        from keras_bert_tpu.pretraining_data.beam import prepare_with_beam

        for name in ("workers", "work_folder"):
            if values[name].present:
                raise InputError(
                    f"--{name} is for work without Beam; leave it out, or --runner, whose own "
                    f"options stand behind --."
                )
        manifest = prepare_with_beam(
            values.input,
            values.output,
            values.vocab,
            config,
            overwrite=values.overwrite,
            options=[f"--runner={values.runner}", *values.beam_options],
            **settings,
        )
    print(summary(manifest, time.perf_counter() - start))
    print(next_step(manifest, values.output))


def _weights(texts: list[str]) -> list[float]:
    try:
        return [float(text) for text in texts]
    except ValueError as error:
        raise InputError(
            f"--weights must be numbers separated by commas, for example 1,2.5. Received: "
            f"{','.join(texts)}."
        ) from error


def run() -> None:
    """Entry of the console script."""
    app.run(PROGRAM, USAGE, define_flags, main, rest="beam_options")


if __name__ == "__main__":
    run()
