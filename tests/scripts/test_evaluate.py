"""kbt-evaluate gives the figures of the run itself, of any of its checkpoints."""

import dataclasses
import json

import pytest
from absl import flags

from keras_bert_tpu.config import EncoderConfig, PretrainingConfig
from keras_bert_tpu.dataclass_yaml import from_dict
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.scripts.evaluate import define_flags
from keras_bert_tpu.text.vocabulary import Vocabulary
from keras_bert_tpu.training.evaluation import DEFAULT_BATCH_SIZE, SPLITS
from keras_bert_tpu.training.loop import pretrain

from programs import run_program

ENCODER = EncoderConfig(400, 1, 8, 2, 16, max_positions=32)


@pytest.fixture(scope="module")
def run(tmp_path_factory, records, vocabulary):
    """A run of four steps, with a checkpoint and an evaluation after two and after four."""
    config = from_dict(
        PretrainingConfig,
        {
            "encoder": dataclasses.asdict(ENCODER) | {"vocab_size": len(vocabulary)},
            "optimizer": {"learning_rate": 0.1, "warmup_steps": 0},
            "phases": [{"steps": 4, "batch_size": 8, "sequence_length": 32, "max_predictions": 5}],
            "compute_dtype": "float32",
            "log_every": 2,
            "evaluate_every": 2,
            "evaluate_examples": 50,
            "save_every": 2,
        },
    )
    output = tmp_path_factory.mktemp("run")
    pretrain(config, str(records / "short"), str(output))
    return output


def assert_one_sentence(done, *parts):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("kbt-evaluate: ")]
    for part in parts:
        assert part in line, line


def test_help_teaches_commands_and_flags():
    done = run_program("evaluate", "--help")
    assert done.returncode == 0
    assert "  kbt-evaluate --checkpoint=run/model --data=records\n" in done.stdout
    values = flags.FlagValues()
    define_flags(values)
    for flag in values:
        assert f"  --{flag}: " in done.stdout
    assert "tensorflow" not in done.stderr.lower(), "help must not wait for TensorFlow"


def test_defaults_and_choices_are_those_of_the_library():
    values = flags.FlagValues()
    define_flags(values)
    assert values["batch_size"].default == DEFAULT_BATCH_SIZE
    assert values["split"].parser.enum_values == list(SPLITS)
    assert values["split"].default == SPLITS[0]


@pytest.mark.parametrize(("step", "folder"), [(2, "checkpoints/step-00000002"), (4, ".")])
def test_figures_of_a_checkpoint_are_those_of_the_run_at_that_step(
    tmp_path, run, records, step, folder
):
    file = tmp_path / "figures.json"
    done = run_program(
        "evaluate",
        f"--checkpoint={run / folder}",
        f"--data={records / 'short'}",
        "--examples=50",
        "--batch_size=20",
        f"--json={file}",
    )
    assert done.returncode == 0, done.stderr
    path = f"{run}/checkpoints/step-{step:08d}"
    assert done.stdout.startswith(f"Evaluating the checkpoint of step {step}, {path}.\n")
    assert "\n50 held-out examples of " in f"\n{done.stdout}"
    assert "\nmasked words  " in done.stdout and "\nnext sentence  " in done.stdout
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (logged,) = [
        record
        for record in map(json.loads, lines)
        if (record["split"], record["step"]) == ("validation", step)
    ]
    values = json.loads(file.read_text())
    assert values["checkpoint"] == path and values["compute_dtype"] == "float32"
    assert values["examples"] == values["sentence_pairs"]["count"] == 50
    for name, figure in {
        "loss": values["loss"],
        "mlm_loss": values["masked_words"]["loss"],
        "mlm_accuracy": values["masked_words"]["accuracy"],
        "nsp_loss": values["sentence_pairs"]["loss"],
        "nsp_accuracy": values["sentence_pairs"]["accuracy"],
    }.items():
        assert figure == pytest.approx(logged[name], rel=1e-5), name


def test_a_model_on_training_records_in_bfloat16(run, records):
    done = run_program(
        "evaluate",
        f"--checkpoint={run}/model",
        f"--data={records / 'short'}",
        "--split=train",
        "--examples=9",
        "--compute_dtype=bfloat16",
    )
    assert done.returncode == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert first == f"Evaluating the model {run}/model."
    assert second == (f"9 training examples of {records}/short, mlm+nsp, computed in bfloat16")


def test_model_and_records_of_two_vocabularies_of_one_size_are_told(tmp_path, records, vocabulary):
    config = dataclasses.replace(ENCODER, vocab_size=len(vocabulary))
    other = Vocabulary([*vocabulary.pieces[:-1], "xylophone"])
    BertPretrainer(config).save_pretrained(str(tmp_path / "model"), other)
    done = run_program("evaluate", f"--checkpoint={tmp_path}/model", f"--data={records / 'short'}")
    assert_one_sentence(done, "were prepared with another vocabulary of")


def test_what_is_no_checkpoint_and_no_file_to_write_is_told(tmp_path, records):
    data = f"--data={records / 'short'}"
    assert_one_sentence(
        run_program("evaluate", f"--checkpoint={tmp_path}", data), "holds no weights", "run.json"
    )
    assert_one_sentence(
        run_program("evaluate", f"--checkpoint={tmp_path}", data, f"--json={tmp_path}"),
        "is not the path of a file",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data=x"], "--checkpoint must be given"),
        (["--checkpoint=x", "--data=y", "z"], "Unexpected argument 'z'"),
        (["--checkpoint=x", "--data=y", "--batch_size=0"], "--batch_size=0"),
        (["--checkpoint=x", "--data=y", "--split=test"], "--split=test"),
    ],
)
def test_bad_arguments_are_told_in_a_line(arguments, message):
    assert_one_sentence(run_program("evaluate", *arguments), message)
