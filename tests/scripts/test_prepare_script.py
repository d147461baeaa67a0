import dataclasses
import os

import pytest
from absl import flags

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.scripts.prepare import define_flags

from programs import run_program


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "a.txt").write_text("a wall\na key\n\na garden\na robin\n")
    (tmp_path / "b.txt").write_text("a tree\n\na rose\na wall\na key\n")
    pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] a wall key garden robin tree rose".split()
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    return tmp_path


def test_every_setting_has_a_flag_with_its_default():
    values = flags.FlagValues()
    define_flags(values)
    for field in dataclasses.fields(DataConfig):
        default = values[field.name].default
        assert (tuple(default) if isinstance(default, list) else default) == field.default
        assert values[field.name].help


def test_text_becomes_records_and_a_table(corpus):
    result = run_program(
        "prepare",
        f"--input={corpus}/a.txt,{corpus}/b*",
        f"--output={corpus}/out",
        f"--vocab={corpus}/vocab.txt",
        "--validation_rate=0",
        "--sequence_length=16",
        "--max_predictions=3",
        "--dupe_factor=2",
        "--whole_word_mask",
        "--workers=1",
    )
    assert result.returncode == 0, result.stderr
    manifest = Manifest.load(f"{corpus}/out")
    assert manifest.config == DataConfig(
        validation_rate=0.0,
        sequence_length=16,
        max_predictions=3,
        dupe_factor=2,
        whole_word_mask=True,
    )
    (entry,) = manifest.corpora
    assert [os.path.basename(path) for path in entry.files] == ["a.txt", "b.txt"]
    assert manifest.train_counts.sentences == 8
    assert f"{manifest.num_examples} examples; this run took" in result.stdout
    assert f"Next: kbt-pretrain --data={corpus}/out " in result.stdout
    assert "4/4" in result.stderr  # The progress bar.


def test_bad_input_is_one_sentence_and_status_2(corpus):
    result = run_program(
        "prepare",
        f"--input={corpus}/none*",
        f"--output={corpus}/out",
        f"--vocab={corpus}/vocab.txt",
    )
    assert result.returncode == 2
    assert "kbt-prepare: No file matches" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (corpus / "out").exists()


def test_flags_that_would_do_nothing_are_refused(corpus):
    paths = [f"--input={corpus}/a.txt", f"--output={corpus}/out", f"--vocab={corpus}/vocab.txt"]
    for idle, message in (
        (["--objective=mlm", "--random_next_rate=0.9"], "--random_next_rate would have no effect"),
        (["--near_threshold=0.3"], "it is for --duplicates=near"),
        (["--tfds_folder=/x"], "no --tfds is given"),
        (["--replacement=gram"], "without --whole_word_mask pieces are alone"),
    ):
        result = run_program("prepare", *paths, *idle)
        assert result.returncode == 2 and message in result.stderr


def test_a_pattern_that_the_shell_expanded_is_told(corpus):
    paths = [f"--output={corpus}/out", f"--vocab={corpus}/vocab.txt"]
    result = run_program("prepare", "--input", "a.txt", "b.txt", *paths)
    assert result.returncode == 2 and "Unexpected argument 'b.txt'" in result.stderr


def test_options_behind_two_dashes_go_to_beam(corpus):
    paths = [f"--input={corpus}/a.txt", f"--output={corpus}/out", f"--vocab={corpus}/vocab.txt"]
    result = run_program("prepare", *paths, "--", "--direct_num_workers=2")
    assert result.returncode == 2
    assert "need --runner. Received: --direct_num_workers=2" in result.stderr
    result = run_program("prepare", *paths, "--runner=DirectRunner", "--workers=2")
    assert result.returncode == 2
    assert "--workers is for work without Beam" in result.stderr
    result = run_program("prepare", *paths, "--runner=DirectRunner", "--", "--direct_num_worker=2")
    assert result.returncode == 2
    # Without apache-beam, the extra is named.
    assert "the nearest is --direct_num_workers" in result.stderr or "[beam]" in result.stderr
    assert not (corpus / "out").exists()
