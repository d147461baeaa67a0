"""kbt-finetune and kbt-predict: what is wrong is one sentence, and nothing is left half written."""

import json
import os
import pathlib
import pickle
import shutil

import keras
import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.models.token_classifier import BertTokenClassifier
from keras_bert_tpu.scripts import finetune, predict
from keras_bert_tpu.tasks.choices import MultipleChoice
from keras_bert_tpu.tasks.swag import ChoiceExample
from keras_bert_tpu.tasks.tables import TextExample
from keras_bert_tpu.tasks.text_classification import table_classification

from programs import call_program, run_program

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
CHECKPOINT = str(GOLDEN / "mini_reference")
CSV = "text,label\na,x\nb,y\n"
SWAG = "sent1,sent2,ending0,ending1,label\na,b,c,d,0\n"


def squad(start=0, **changes):
    answers = [{"text": "Tea", "answer_start": start}]
    asked = {"id": "1", "question": "What?", "answers": answers, **changes}
    return json.dumps({"data": [{"paragraphs": [{"context": "Tea is good.", "qas": [asked]}]}]})


def refused(module, match, folder, *arguments):
    """Checks that a program tells one sentence, and that it leaves the folder as it is."""
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    with pytest.raises(InputError, match=match) as error:
        call_program(module, *arguments)
    assert "\n" not in str(error.value) and len(str(error.value)) < 900
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before


def training(folder, task, name, train, dev, *others):
    (folder / f"train{name}").write_text(train)
    (folder / f"dev{name}").write_text(dev)
    data = [f"--data={folder}/train{name}", f"--dev={folder}/dev{name}"]
    return [
        f"--task={task}",
        f"--output={folder}/out",
        f"--checkpoint={CHECKPOINT}",
        *data,
        *others,
    ]


@pytest.mark.parametrize(
    ("task", "name", "train", "dev", "message"),
    [
        (
            "classification",
            ".csv",
            CSV,
            CSV + "c,z\n",
            "line 4 of .*dev.csv.* one of 'x', 'y'.* 'z'",
        ),
        ("classification", ".csv", CSV + " ,x\n", CSV, "'text' of line 4 of .*train.csv' is empty"),
        ("classification", ".csv", "body,kind\na,x\n", CSV, "its columns are 'body', 'kind'"),
        ("classification", ".csv", CSV + "c,1\n", CSV, "numbers and words: 'x' in line 2 .*'1' in"),
        ("classification", ".csv", CSV[:-4], CSV[:-4], r"two labels or more to learn. .*\['x'\]"),
        (
            "classification",
            ".jsonl",
            '{"text": [1], "label": "x"}',
            "",
            "'text' in line 1 .* string",
        ),
        (
            "classification",
            ".csv",
            CSV + '"c,x\n',
            CSV,
            "row that begins on line 4 .* not sound csv",
        ),
        ("regression", ".csv", CSV, CSV, "line 2 of .*train.csv' must be a finite number.*'x'"),
        ("ner", ".conll", "a B-X\nb\n", "a O\n", "Line 2 of .*train.conll' has 1 columns"),
        ("ner", ".conll", "a O\n", "a O\n", r"labels beside O to learn. Received: \['O'\]"),
        ("ner", ".conll", "a B-X\n", "a B-Y\n", "development set has the label 'B-Y'"),
        ("squad", ".json", "{}", squad(), "The file of .*train.json' has no key 'data'"),
        ("squad", ".json", squad(answers=[]), squad(), r"qas\[0\].answers of .* is empty"),
        ("squad", ".json", squad(99), squad(), "No question to train on has an answer that stands"),
        ("swag", ".csv", SWAG + "a,b,c,d,2\n", SWAG, "line 3 of .* 0 to 1. Received: '2'"),
        ("swag", ".csv", SWAG.replace("ending1", "ending2"), SWAG, "lacks the columns 'ending1'"),
    ],
)
def test_examples_that_are_wrong_are_named_by_file_and_row(
    tmp_path, task, name, train, dev, message
):
    arguments = training(tmp_path, task, name, train, dev)
    refused(finetune, message, tmp_path, *arguments)


def test_texts_without_any_label_are_not_taken_for_a_regression(tmp_path):
    table = "text,labels\na,\nb,\n"
    arguments = training(tmp_path, "classification", ".csv", table, table, "--label_separator=;")
    refused(finetune, r"two labels or more to learn. Received: \[\]", tmp_path, *arguments)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "roberta", "architectures": ["RobertaForMaskedLM"]}, "type 'roberta', and"),
        ({"model_type": "distilbert", "dim": 768, "n_layers": 6}, "type 'distilbert', and only"),
        ({"model_type": "gpt2", "n_embd": 768, "n_layer": 12}, "type 'gpt2', and only 'bert'"),
        ({"model_type": ["bert"]}, r"type \['bert'\], and only 'bert' can be read"),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused(tmp_path, config, message):
    folder = shutil.copytree(GOLDEN / "hugging_face" / "encoder", tmp_path / "encoder")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **config}))
    arguments = training(tmp_path, "classification", ".csv", CSV, CSV, f"--checkpoint={folder}")
    refused(finetune, message, tmp_path, *arguments)


@pytest.mark.parametrize("program", ["finetune", "predict"])
@pytest.mark.parametrize("source", ["mini_reference", "hugging_face/encoder"])
@pytest.mark.parametrize("damage", ["header", "cut"])
def test_weights_that_are_damaged_are_refused(tmp_path, program, source, damage):
    folder = shutil.copytree(GOLDEN / source, tmp_path / "weights")
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(
        (1 << 60).to_bytes(8, "little") + content[8:]
        if damage == "header"
        else content[: len(content) // 2]
    )
    arguments = training(tmp_path, "classification", ".csv", CSV, CSV, f"--checkpoint={folder}")
    if program == "predict":
        arguments = [
            f"--model={folder}",
            f"--input={tmp_path}/dev.csv",
            f"--output={tmp_path}/o.csv",
        ]
    module = {"finetune": finetune, "predict": predict}[program]
    refused(module, "model.safetensors (is damaged|does not have the check)", tmp_path, *arguments)


def test_pickled_weights_are_refused_and_not_run(tmp_path):
    folder = shutil.copytree(GOLDEN / "hugging_face" / "encoder", tmp_path / "encoder")
    (folder / "model.safetensors").unlink()
    content = pickle.dumps(Trap(tmp_path / "caught"))
    (folder / "pytorch_model.bin").write_bytes(content)
    arguments = training(tmp_path, "classification", ".csv", CSV, CSV, f"--checkpoint={folder}")
    refused(finetune, "unpickling runs whatever code is in there", tmp_path, *arguments)
    pickle.loads(content)
    assert (tmp_path / "caught").exists(), "the trap does not work"


def test_an_output_that_is_there_is_not_written_over(tmp_path):
    arguments = training(tmp_path, "classification", ".csv", CSV, CSV)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("{}")
    refused(finetune, "holds a fine-tuning already", tmp_path, *arguments)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--grid=lerning_rate=1e-5"], "no config key lerning_rate; the nearest is learning_rate "),
        (["--grid=batch_size=16,x"], "batch_size must be of type int. Received: 'x'"),
        (["--grid=batch_size=16,0"], "batch_size must be greater than 0. Received: 0"),
        (["--grid=learning_rate=1e-5,"], "learning_rate must be of type float. Received: None"),
        (["--grid=learning_rate"], "'paper' or key=value,value, .*Received: 'learning_rate'"),
        (["--grid=epochs=2,2.0"], "The grid has epochs=2 twice"),
        (["--grid=paper", "--grid=epochs=2"], "epochs is given to the grid twice"),
        (["--grid=seed=1,2"], "seed is nothing that a grid can choose"),
        (["--grid=lora_targets=encoder"], "lora_targets is nothing that a grid can choose"),
        (["--grid=paper", "--set=learning_rate=1e-5"], "the values of learning_rate are those of"),
        (["--grid=lora_rank=0,2", "--set=layer_decay=0.9"], "lora_rank=2 of the grid: layer_decay"),
        # These two are known only once a model is made.
        (["--grid=sequence_length=16,1000"], "sequence_length=1000 is longer than the 512 posi"),
        (["--grid=lora_rank=0,2", "--set=lora_targets=[encoder/layer_9]"], "encoder/layer_9"),
    ],
)
def test_a_grid_is_refused_before_anything_is_trained(tmp_path, flags, message):
    arguments = training(tmp_path, "classification", ".csv", CSV, CSV)
    refused(finetune, message, tmp_path, *arguments, *flags)


def save(model_class, folder, **how):
    keras.utils.set_random_seed(1)
    model = model_class.from_pretrained(CHECKPOINT, sequence_length=16, **how)
    model.save_pretrained(str(folder))
    return model


def test_predictions_end_with_the_first_row_that_is_wrong_and_leave_nothing(tmp_path):
    save(BertTextClassifier, tmp_path / "texts", labels=["x", "y"])
    save(BertTokenClassifier, tmp_path / "words", labels=["O", "B-X"])
    for model, name, content, message in (
        ("texts", "a.csv", b"text\n" + b"a fine day\n" * 200 + b" \n", "line 202 of .* is empty"),
        ("texts", "a.csv", b"text\na\n\xe9\n", "Line 3 of .* is not UTF-8"),
        ("texts", "b.csv", b"body\na\n", "its columns are 'body': say which hold the text"),
        ("texts", "a.jsonl", b'{"text": "a"}\n{"text": ["b"]}\n', "'text' in line 2 of .* string"),
        ("texts", "a.csv.gz", b"text\na\n", "is not sound gzip data"),
        ("words", "a.conll", b"a\nb\n\nc d\n", "Line 4 of .* has 2 columns"),
        ("words", "a.conll", b"PK\x03\x04", "not text but zip data"),
    ):
        (tmp_path / name).write_bytes(content)
        arguments = [f"--model={tmp_path}/{model}", f"--input={tmp_path}/{name}"]
        output = "out.conll" if model == "words" else "out.csv"
        refused(predict, message, tmp_path, *arguments, f"--output={tmp_path}/{output}")


def test_a_row_that_is_wrong_is_one_line_of_the_program(tmp_path):
    save(BertTextClassifier, tmp_path / "texts", labels=["x", "y"])
    (tmp_path / "a.csv").write_text("text\na fine day\n\n \n")
    arguments = [f"--model={tmp_path}/texts", f"--input={tmp_path}/a.csv"]
    done = run_program("predict", *arguments, f"--output={tmp_path}/out.csv")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("kbt-predict: Line 3 of ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "texts"]


def test_texts_longer_than_the_window_are_told(tmp_path, capsys):
    model = save(BertTextClassifier, tmp_path / "texts", labels=["x", "y"])
    examples = [TextExample("0", ("a",), "x"), TextExample("1", ("day " * 30,), "y")]
    task = table_classification("t", examples, [*examples, examples[1]], ("x", "y"))
    assert list(task.encode(model).remarks) == [
        "1 of 2 examples of train are longer than 16 pieces, and trimmed.",
        "2 of 3 examples of dev are longer than 16 pieces, and trimmed.",
    ]
    (tmp_path / "a.csv").write_text("text\na\n" + "day " * 30 + "\n")
    arguments = [f"--model={tmp_path}/texts", f"--input={tmp_path}/a.csv"]
    call_program(predict, *arguments, f"--output={tmp_path}/out.csv")
    assert "1 rows are longer than 16 pieces, and trimmed." in capsys.readouterr().out
    model.sequence_length = 64
    assert not task.encode(model).remarks


def test_choices_longer_than_the_window_are_told():
    choices = MultipleChoice(
        [ChoiceExample("0", "a", ("b", "day " * 30), 0)] * 2,
        [ChoiceExample("0", "a", ("day " * 30, "b"), 0)],
    )
    model = choices.model_class.from_pretrained(CHECKPOINT, sequence_length=16)
    assert list(choices.encode(model).remarks) == [
        "2 choices of train are longer than 16 pieces, and trimmed.",
        "1 choices of dev are longer than 16 pieces, and trimmed.",
    ]
