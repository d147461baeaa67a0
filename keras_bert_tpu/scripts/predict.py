"""kbt-predict: a fine-tuned model on a file of any size.

What is done is one jump away in `tasks.prediction.predict_file`.
"""

from absl import flags

from keras_bert_tpu.config import COMPUTE_DTYPES
from keras_bert_tpu.scripts import app

PROGRAM = "kbt-predict"

USAGE = """Predicts with a fine-tuned model on a file of any size.

  kbt-predict --model=reviews/model --input=new.csv --output=answers.csv
  kbt-predict --model=ner/model --input=gs://bucket/words.conll --output=labels.conll
  kbt-predict --model=squad/model --input=questions.json --output=answers

The model tells the task. A text classifier reads a table (.csv, .tsv or .jsonl, plain or .gz) and
writes one with the columns id, prediction and the probability of each class; a model of words reads
and writes CoNLL columns; one of questions reads JSON of SQuAD and writes a folder with
predictions.json, nbest_predictions.json and null_odds.json; one of choices reads the columns of
SWAG. Labels that stand in the file are not looked at."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    for name, text in [
        ("model", "Folder of a fine-tuned model, local or gs://."),
        ("input", "File to predict on, local or gs://."),
        ("output", "File to write, or folder for questions, local or gs://."),
    ]:
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.mark_flags_as_required(["model", "input", "output"], flag_values=values)
    flags.DEFINE_list(
        "text_columns",
        [],
        "One or two columns of text; by default usual names.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "batch_size", 64, "Rows that are computed at once.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_enum(
        "compute_dtype",
        "float32",
        COMPUTE_DTYPES,
        "What the model computes in.",
        flag_values=values,
    )
    app.define_tpu_flags(values)


def main() -> None:
    """Loads the model and predicts."""
    # Here, because importing TensorFlow takes seconds that --help should not.
    from keras_bert_tpu.tasks.columns import TableColumns
    from keras_bert_tpu.tasks.prediction import load_task_model, predict_file

    values = flags.FLAGS
    strategy = app.connect(PROGRAM, (values.input, values.output)).strategy
    policy = "mixed_bfloat16" if values.compute_dtype == "bfloat16" else "float32"
    with strategy.scope():
        model = load_task_model(values.model, policy)
    columns = TableColumns(tuple(values.text_columns))
    number = predict_file(model, values.input, values.output, columns, values.batch_size, strategy)
    print(f"{number:,} predictions are in {values.output}.")


def run() -> None:
    """Entry point of the command."""
    app.run(PROGRAM, USAGE, define_flags, main)


if __name__ == "__main__":
    run()
