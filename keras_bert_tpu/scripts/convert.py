"""kbt-convert: weights from one format to another.

Reading is one jump away in `checkpoints.source.read_weights`, and each format in a module beside.
"""

import warnings

from absl import flags

from keras_bert_tpu.config import InputError
from keras_bert_tpu.scripts import app

PROGRAM = "kbt-convert"

FORMATS = ("hf", "google", "keras_hub", "kbt")

USAGE = """Converts the weights of a BERT, its vocabulary and its settings to another format.

  kbt-convert --input=run/model --output=for_transformers --to=hf
  kbt-convert --input=uncased_L-12_H-768_A-12 --output=bert_base --to=kbt
  kbt-convert --input=bert-base-uncased --output=gs://bucket/bert_base --to=google
  kbt-convert --input=run --output=preset --to=keras_hub

The input is a model folder, a checkpoint or the folder of a run; a folder of Hugging Face's, with
model.safetensors; Google's bert_config.json and bert_model.ckpt; a checkpoint of the Model Garden;
a preset of KerasHub, or the name of one (needs the extra keras_hub); or the name of a model on the
Hugging Face hub (needs the extra hub). Its files tell which it is. The weights are the same numbers
on both sides. A table of them is printed, and what the format has no place for is named."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string(
        "input", None, "Folder, local or gs://, or name of weights.", flag_values=values
    )
    flags.DEFINE_string(
        "output", None, "Folder to write, local or gs://; it must be empty.", flag_values=values
    )
    flags.DEFINE_enum(
        "to",
        None,
        FORMATS,
        "hf: Hugging Face's folder. google: Google's BERT (TensorFlow 1). keras_hub: a preset of "
        "BertBackbone. kbt: a model folder of this package.",
        flag_values=values,
    )
    flags.mark_flags_as_required(["input", "output", "to"], flag_values=values)


def main() -> None:
    """Reads the weights, prints a table of them and writes them."""
    # Here, because importing TensorFlow takes seconds that --help should not.
    import tensorflow as tf

    from keras_bert_tpu.checkpoints.folder import write_folder
    from keras_bert_tpu.checkpoints.google import write_google
    from keras_bert_tpu.checkpoints.hugging_face import write_hugging_face
    from keras_bert_tpu.checkpoints.keras_hub import write_keras_hub
    from keras_bert_tpu.checkpoints.loading import table_of
    from keras_bert_tpu.checkpoints.source import read_weights

    values = flags.FLAGS
    if tf.io.gfile.exists(values.output) and (
        not tf.io.gfile.isdir(values.output) or tf.io.gfile.listdir(values.output)
    ):
        raise InputError(f"--output={values.output} is not empty; give a new folder.")
    source = read_weights(values.input)
    print(table_of(source), flush=True)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        if values.to == "hf":
            write_hugging_face(values.output, source)
        elif values.to == "google":
            write_google(values.output, source)
        elif values.to == "keras_hub":
            write_keras_hub(values.output, source)
        else:
            write_folder(values.output, source)
    for note in notes:
        if note.category is UserWarning:
            print(f"Note: {note.message}")
    print(f"Written to {values.output}.")


def run() -> None:
    """Entry point of the command."""
    app.run(PROGRAM, USAGE, define_flags, main)


if __name__ == "__main__":
    run()
