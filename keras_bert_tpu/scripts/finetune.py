"""kbt-finetune: trains a task model on a pre-trained encoder.

The loop is one jump away in `training.finetuning.finetune`, the losses in
`training.finetuning_step`.
"""

from absl import flags

from keras_bert_tpu.scripts import app

PROGRAM = "kbt-finetune"
TABLE_TASKS = ("classification", "regression")

USAGE = """Trains a task model on a pre-trained encoder.

  kbt-finetune --task=MRPC --data=glue/MRPC --checkpoint=run/model --output=mrpc
  kbt-finetune --task=classification --data=train.csv --dev=dev.csv --checkpoint=run/model \\
      --output=reviews --set epochs=2 --set learning_rate=3e-5
  kbt-finetune --task=STS-B --data=glue --checkpoint=run/model --output=sts-b --seeds=5

Tasks are those of GLUE (CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI), whose --data is the
folder of their files; and classification and regression of one or two columns of text in a table
(.csv, .tsv or .jsonl, plain or .gz), whose --data and --dev are files. The output folder holds
model/, metrics.json (of the development set), a model card (README.md, card.json), curves.png,
confusion.png and, for GLUE, submission/. The settings' defaults are those of BERT."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    for name, text in [
        ("task", "A task of GLUE, classification, or regression."),
        ("data", "Folder of the task's files, or table with the training examples."),
        ("checkpoint", "Model folder, checkpoint or folder of a run, local or gs://."),
        ("output", "Folder of this fine-tuning, local or gs://."),
    ]:
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.mark_flags_as_required(["task", "data", "checkpoint", "output"], flag_values=values)
    flags.DEFINE_string("dev", None, "Table with the development examples.", flag_values=values)
    flags.DEFINE_list(
        "text_columns",
        [],
        "One or two columns of text; by default usual names.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "label_column", "", "Column of labels; by default usual names.", flag_values=values
    )
    flags.DEFINE_list(
        "labels", [], "Names of the classes; by default those in the table.", flag_values=values
    )
    flags.DEFINE_string("config", None, "Settings in YAML.", flag_values=values)
    flags.DEFINE_multi_string(
        "set", [], "A setting over the file, for example --set epochs=4", flag_values=values
    )
    flags.DEFINE_integer(
        "seeds", 1, "Runs with different seeds, for mean and spread.", 1, flag_values=values
    )
    flags.DEFINE_string(
        "tpu",
        None,
        "'local' on a TPU VM, a TPU's name or its grpc:// address. Without it: GPUs, else CPU.",
        flag_values=values,
    )


def main() -> None:
    """Reads the examples, trains, and tells what came out."""
    # Here, because importing TensorFlow takes seconds that --help should not.
    from keras_bert_tpu.config import FinetuningConfig
    from keras_bert_tpu.dataclass_yaml import apply_overrides, from_dict, load_yaml
    from keras_bert_tpu.tasks.text_runs import run_text
    from keras_bert_tpu.tpu.connect import connect

    values = flags.FLAGS
    if values.config:
        config = load_yaml(FinetuningConfig, values.config, values.set)
    else:
        config = from_dict(FinetuningConfig, apply_overrides(FinetuningConfig, {}, values.set))
    run = _run(values)
    connection = connect(values.tpu)
    print(f"Running on {connection.description}.", flush=True)
    metrics = run_text(
        run, values.checkpoint, values.output, config, values.seeds, connection.strategy
    )
    figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    print(f"Done: {figures}; all is in {values.output}.")


def run() -> None:
    """Entry point of the command."""
    app.run(PROGRAM, USAGE, define_flags, main)


def _run(values: flags.FlagValues):
    from keras_bert_tpu.config import InputError
    from keras_bert_tpu.tasks import tables
    from keras_bert_tpu.tasks.columns import TableColumns
    from keras_bert_tpu.tasks.text_runs import glue_run, table_run

    if values.task not in TABLE_TASKS:
        if values.dev:
            raise InputError("--dev is of classification and regression; GLUE names its files.")
        return glue_run(values.task, values.data)
    if not values.dev:
        raise InputError(f"--task={values.task} needs --dev, a table to evaluate on.")
    columns = TableColumns(tuple(values.text_columns), values.label_column)
    is_regression = values.task == "regression"
    training = tables.read(values.data, columns, values.labels, is_regression)
    labels = () if is_regression else tuple(values.labels) or tables.label_names(training)
    development = tables.read(values.dev, columns, labels, is_regression)
    return table_run(training, development, labels, values.task)


if __name__ == "__main__":
    run()
