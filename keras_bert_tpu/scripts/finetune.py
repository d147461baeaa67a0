"""kbt-finetune: trains a task model on a pre-trained encoder.

The loop is one jump away in `training.finetuning.finetune`, the losses in
`training.finetuning_step`.
"""

import sys
from collections.abc import Sequence

from absl import flags

from keras_bert_tpu.scripts import app

PROGRAM = "kbt-finetune"
TFDS = "tfds:"
FILE_TASKS = ("classification", "regression", "squad", "ner", "swag")

USAGE = """Trains a task model on a pre-trained encoder.

  kbt-finetune --task=MRPC --data=glue/MRPC --checkpoint=run/model --output=mrpc
  kbt-finetune --task=classification --data=train.csv --dev=dev.csv --checkpoint=run/model \\
      --output=reviews --set epochs=2 --set learning_rate=3e-5
  kbt-finetune --task=squad --data=train-v1.1.json --dev=dev-v1.1.json --checkpoint=run/model \\
      --output=squad
  kbt-finetune --task=STS-B --data=glue --checkpoint=run/model --output=sts-b --seeds=5
  kbt-finetune --task=RTE --data=glue --checkpoint=run/model --output=rte --grid=paper
  kbt-finetune --task=RTE --data=glue --checkpoint=run/model --output=rte \\
      --grid learning_rate=2e-5,3e-5 --grid batch_size=16,32
  kbt-finetune --task=classification --data=tfds:imdb_reviews@train --dev=tfds:imdb_reviews@test \\
      --checkpoint=run/model --output=imdb --set sequence_length=256

Tasks are those of GLUE (CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI), whose --data is the
folder of their files, and others, whose --data and --dev are files:

  classification, regression  one or two columns of text in .csv, .tsv or .jsonl, or features of
                              a data set of tensorflow-datasets, tfds:NAME[/CONFIG]@SPLIT
  squad                       questions about passages, SQuAD 1.1 or 2.0 in JSON
  ner                         words and labels in CoNLL columns
  swag                        multiple choice in the columns of SWAG

The output folder holds model/, metrics.json (of the development set), a model card (README.md,
card.json), curves.png, predictions, and for classes confusion.png. The settings' defaults are those
of the paper. With --seeds each run has a folder of its own, seed-N, and metrics.json the means.

With --grid each combination of the values is tried, and the output holds what the best gave, by the
metrics of the development set, and grid.json with all. --grid=paper is that of the paper: batches
of 16 and 32, learning rates 5e-5, 3e-5 and 2e-5, and 2, 3 and 4 epochs.

A fine-tuning that was broken off goes on: give the same command again. SIGTERM, which a machine
that is preempted gets, saves at once and ends with exit status 75."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    for name, text in [
        ("task", f"A task of GLUE, {', '.join(FILE_TASKS[:-1])} or {FILE_TASKS[-1]}."),
        ("data", "Folder of a task of GLUE, file of examples to train on, or tfds:NAME@SPLIT."),
        ("checkpoint", "Model folder, checkpoint or folder of a run, local or gs://."),
        ("output", "Folder of this fine-tuning, local or gs://."),
    ]:
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.mark_flags_as_required(["task", "data", "checkpoint", "output"], flag_values=values)
    flags.DEFINE_string(
        "dev", None, "File of development examples, or tfds:NAME@SPLIT.", flag_values=values
    )
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
        "labels", [], "Names of the classes; by default those in the data.", flag_values=values
    )
    flags.DEFINE_string(
        "label_separator",
        "",
        "What parts the names in a label of several classes; empty for one class each.",
        flag_values=values,
    )
    flags.DEFINE_string("config", None, "Settings in YAML.", flag_values=values)
    flags.DEFINE_multi_string(
        "set", [], "A setting over the file, for example --set epochs=4", flag_values=values
    )
    flags.DEFINE_integer(
        "seeds", 1, "Runs with different seeds, for mean and spread.", 1, flag_values=values
    )
    flags.DEFINE_multi_string(
        "grid",
        [],
        "A setting and the values to try, for example --grid learning_rate=2e-5,3e-5; may be "
        "repeated. 'paper' is the paper's grid.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "tfds_folder", "", "Folder of tensorflow-datasets, local or gs://.", flag_values=values
    )
    app.define_tpu_flags(values)


def main() -> None:
    """Reads the examples, trains, and tells what came out."""
    # Here, because importing TensorFlow takes seconds that --help should not.
    from keras_bert_tpu.config import FinetuningConfig
    from keras_bert_tpu.dataclass_yaml import apply_overrides, from_dict, load_yaml
    from keras_bert_tpu.tasks.grid import run_grid
    from keras_bert_tpu.tasks.run import run_task
    from keras_bert_tpu.training.termination import EXIT_CODE, Terminated

    values = flags.FLAGS
    grid = _grid(values)
    task = _task(values)
    if values.config:
        config = load_yaml(FinetuningConfig, values.config, values.set)
    else:
        settings = apply_overrides(FinetuningConfig, dict(task.settings), values.set)
        config = from_dict(FinetuningConfig, settings)
    connection = app.connect(PROGRAM, (values.checkpoint, values.output))
    arguments = (task, values.checkpoint, values.output, config)
    try:
        if grid:
            metrics = run_grid(*arguments, grid, values.seeds, connection.strategy)
        else:
            metrics = run_task(*arguments, values.seeds, connection.strategy)
    except Terminated as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        sys.exit(EXIT_CODE)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    print(f"Done: {figures}; all is in {values.output}.")


def run() -> None:
    """Entry point of the command."""
    app.run(PROGRAM, USAGE, define_flags, main)


def _grid(values: flags.FlagValues) -> dict:
    from keras_bert_tpu.config import InputError
    from keras_bert_tpu.tasks.grid import read_grid

    grid = read_grid(values.grid)
    for setting in values.set:
        name = setting.partition("=")[0]
        if name in grid:
            raise InputError(
                f"--set {setting}: the values of {name} are those of --grid; leave one of them out."
            )
    return grid


def _task(values: flags.FlagValues):
    from keras_bert_tpu.config import InputError
    from keras_bert_tpu.tasks import ner, squad, swag
    from keras_bert_tpu.tasks.choices import MultipleChoice
    from keras_bert_tpu.tasks.named_entities import NamedEntities
    from keras_bert_tpu.tasks.question_answering import QuestionAnswering
    from keras_bert_tpu.tasks.text_classification import GlueClassification

    if values.task not in FILE_TASKS:
        if values.dev:
            raise InputError(
                f"--dev is of the tasks {', '.join(FILE_TASKS)}; GLUE has its own file names."
            )
        return GlueClassification(values.task, values.data)
    if not values.dev:
        raise InputError(f"--task={values.task} needs --dev, a file to evaluate on.")
    if values.task == "squad":
        return QuestionAnswering(squad.read(values.data), squad.read(values.dev))
    if values.task == "ner":
        return NamedEntities(ner.read(values.data), ner.read(values.dev), values.labels)
    if values.task == "swag":
        return MultipleChoice(swag.read(values.data), swag.read(values.dev))
    return _table_task(values)


def _table_task(values: flags.FlagValues):
    from keras_bert_tpu.tasks import tables
    from keras_bert_tpu.tasks.columns import TableColumns
    from keras_bert_tpu.tasks.text_classification import table_classification

    columns = TableColumns(tuple(values.text_columns), values.label_column)
    is_regression = values.task == "regression"

    def read(source: str, labels: Sequence[str]) -> list[tables.TextExample]:
        how = (columns, labels, is_regression, values.label_separator)
        if not source.startswith(TFDS):
            return tables.read(source, *how)
        return tables.read_data_set(source.removeprefix(TFDS), *how, values.tfds_folder)

    training = read(values.data, values.labels)
    labels = () if is_regression else tuple(values.labels) or tables.label_names(training)
    development = read(values.dev, labels)
    return table_classification(values.task, training, development, labels)


if __name__ == "__main__":
    run()
