import json
import re
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.pretraining_data.inspection.report import DEFAULT_SAMPLE, DEFAULT_SEED
from keras_bert_tpu.pretraining_data.manifest import Counts, Manifest
from keras_bert_tpu.pretraining_data.records import ShardContent, serialize_examples, write_shard
from keras_bert_tpu.scripts.inspect_records import define_flags
from keras_bert_tpu.text.vocabulary import Vocabulary

from programs import run_program

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] the door went in".split()
#        [CLS] the [MASK] [SEP] went in [SEP], with "door" behind the [MASK] and "in" kept
TOKENS = [2, 5, 4, 3, 7, 8, 3, 0]


@pytest.fixture
def records(tmp_path):
    """A folder with one shard of three examples that are alike."""
    directory = str(tmp_path / "records")
    vocabulary = Vocabulary(PIECES)
    vocabulary.save(f"{directory}/vocab.txt")

    def rows(*values):
        return np.array([values] * 3)

    arrays = {
        "token_ids": rows(*TOKENS),
        "segment_ids": rows(0, 0, 0, 0, 1, 1, 1, 0),
        "padding_mask": rows(1, 1, 1, 1, 1, 1, 1, 0),
        "mask_positions": rows(2, 5, 0),
        "mask_ids": rows(6, 8, 0),
        "mask_weights": rows(1.0, 1.0, 0.0).astype(np.float32),
        "next_sentence_label": rows(1),
    }
    content = ShardContent(serialize_examples(arrays), 2, np.array([7] * 3))
    Manifest(
        directory=directory,
        config=DataConfig(sequence_length=8, max_predictions=3),
        corpora=(),
        vocabulary_size=len(vocabulary),
        vocabulary_sha256=vocabulary.sha256,
        train=(write_shard(directory, "train-0.tfrecord", content, 8),),
        validation=(),
        train_counts=Counts(),
        validation_counts=Counts(),
    ).save()
    return tmp_path / "records"


def test_help_teaches_commands_and_flags():
    done = run_program("inspect_records", "--help")
    assert done.returncode == 0
    assert "  kbt-inspect records --verify\n" in done.stdout
    for flag in ("data", "examples", "split", "start", "sample", "picture", "epoch", "seed"):
        assert f"  --{flag}: " in done.stdout
    for flag in ("json", "verify"):
        assert f"  --[no]{flag}: " in done.stdout
    assert "tensorflow" not in done.stderr.lower(), "help must not wait for TensorFlow"


def test_a_reader_that_has_seen_enough_is_no_error(records):
    program = "from keras_bert_tpu.scripts.inspect_records import run; run()"
    command = f'"{sys.executable}" -c "{program}" {records} --examples=3 2>errors | head -n 1'
    subprocess.run(["bash", "-c", command], cwd=records.parent, check=True, capture_output=True)
    assert "Traceback" not in (records.parent / "errors").read_text()


def test_a_picture_that_cannot_be_written_is_told_first(records):
    done = run_program("inspect_records", str(records), f"--picture={records}")
    assert done.returncode == 2 and "is not the path of a file" in done.stderr
    assert not done.stdout


def test_defaults_are_those_of_the_library():
    values = flags.FlagValues()
    define_flags(values)
    assert values["sample"].default == DEFAULT_SAMPLE
    assert values["seed"].default == DEFAULT_SEED


def test_examples_and_a_table_and_a_picture(records, tmp_path):
    picture = tmp_path / "picture.png"
    # The folder without a name, and flags on both sides of it.
    done = run_program(
        "inspect_records", "--examples=1", str(records), "--start=1", f"--picture={picture}"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "train 1 (train-0.tfrecord, record 1): b is random, 7 tokens of 8, "
        "2 predictions (1 [MASK], 1 kept, 0 random)\n"
        "  a: the [MASK:door]\n"
        "  b: went [kept:in]\n"
        f"\n{records}: mlm+nsp, static masks, 8 tokens, at most 3 predictions"
    )
    assert re.search(r"\nexamples +3\n", done.stdout)
    assert done.stdout.endswith("\nall examples were read\n")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_is_all_that_is_printed(records):
    done = run_program("inspect_records", f"--data={records}", "--json", "--sample=2")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["directory"] == str(records)
    assert values["train"]["examples"] == 3
    assert values["train"]["read"] == 2
    assert values["train"]["mean_length"] == 7
    assert "mean_length" in values["train"]["sampled"]


def test_verify_says_that_all_is_well(records):
    done = run_program("inspect_records", str(records), "--verify")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{records}: all is well (1 shard, 3 records, 0.0 MB)\n"


def test_verify_names_what_is_damaged_and_fails(records):
    path = records / "train-0.tfrecord"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    done = run_program("inspect_records", str(records), "--verify")
    assert done.returncode == 1, done.stderr
    checksum, record, total = done.stdout.splitlines()
    assert checksum.startswith("train-0.tfrecord: has the sha256 ")
    assert record == (
        f"train-0.tfrecord: record 2 at byte offset {len(content) // 3 * 2}: "
        f"its content does not fit its checksum"
    )
    assert total.startswith(f"{records}: 2 problems in 1 file (1 shard, 3 records")
    # Told once.
    assert "byte offset" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--data must be given. See kbt-inspect --help."),
        (["one", "two"], "Unexpected argument 'two'"),
        (["--data=one", "two"], "Unexpected argument 'two'"),
        (["one", "--examples=-1"], "--examples=-1"),
        (["one", "--split=test"], "--split=test"),
        (["one", "--verifi"], "Did you mean: verify"),
    ],
)
def test_bad_arguments_are_told_in_a_line(arguments, message):
    done = run_program("inspect_records", *arguments)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("kbt-inspect: ")]
    assert message in line
    assert "Traceback" not in done.stderr
