import os

import pytest

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import work_folder
from keras_bert_tpu.pretraining_data.prepare import prepare
from keras_bert_tpu.text.vocabulary import Vocabulary

from prepared_text import contents, write_corpus


class TestInputErrors:
    CONFIG = DataConfig(sequence_length=32, validation_rate=0.0, dupe_factor=1)

    @pytest.fixture
    def call(self, tmp_path, vocab):
        arguments = {
            "input": write_corpus(tmp_path, 6),
            "output": str(tmp_path / "out"),
            "vocab": vocab,
            "config": self.CONFIG,
            "workers": 1,
            "progress": False,
        }
        return lambda **changes: prepare(**{**arguments, **changes})

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"input": "nowhere/*.txt"}, "No file matches 'nowhere"),
            ({"vocab": "nowhere.txt"}, "nowhere.txt"),
            ({"workers": 0}, "workers must be at least 1. Received: 0"),
            ({"weights": [1.0, 2.0]}, "weights"),
            ({"config": DataConfig(validation_rate=0.01)}, "set validation_rate to 0.3 or"),
        ],
    )
    def test_they_come_before_anything_is_written(self, call, tmp_path, changes, message):
        with pytest.raises(InputError, match=message):
            call(**changes)
        assert not (tmp_path / "out").exists()

    def test_a_vocabulary_without_the_special_tokens(self, call, tmp_path):
        (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n")
        with pytest.raises(InputError, match=r"\[MASK\]"):
            call(vocab=str(tmp_path / "vocab.txt"))

    def test_an_output_that_is_a_file(self, call, tmp_path):
        with pytest.raises(InputError, match="is a file; name a folder"):
            call(output=str(tmp_path / "text.txt"))
        with pytest.raises(InputError, match="cannot be written to"):
            call(output=str(tmp_path / "text.txt" / "below"))

    def test_records_are_replaced_only_when_told_to(self, call, tmp_path):
        manifest = call(config=DataConfig(sequence_length=32, validation_rate=0.5))
        before = contents(tmp_path / "out")
        with pytest.raises(InputError, match="already holds records .*--overwrite"):
            call()
        assert contents(tmp_path / "out") == before
        assert manifest.validation
        (tmp_path / "out" / "notes.txt").write_text("mine")
        call(overwrite=True)
        assert sorted(os.listdir(tmp_path / "out")) == [
            "manifest.json",
            "notes.txt",
            "train-00000-of-00001.tfrecord",
            "vocab.txt",
        ]

    def test_records_without_a_manifest_are_in_the_way_too(self, call, tmp_path):
        call()
        os.remove(tmp_path / "out" / "manifest.json")
        with pytest.raises(InputError, match="without a manifest .*same --work_folder, to go on"):
            call()
        assert call(overwrite=True).num_examples > 0

    def test_what_others_keep_in_the_folder_stays(self, call, tmp_path):
        (tmp_path / "out" / "unfinished").mkdir(parents=True)
        (tmp_path / "out" / "unfinished" / "thesis.txt").write_text("mine")
        call(work_folder=str(tmp_path / "out"))
        call(work_folder=str(tmp_path / "out"), overwrite=True)
        assert (tmp_path / "out" / "unfinished" / "thesis.txt").read_text() == "mine"
        assert (tmp_path / "out" / "manifest.json").exists()
        assert not list((tmp_path / "out").glob("kbt-prepare*"))

    def test_another_vocabulary_file_is_not_lost(self, call, tmp_path, vocab):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "vocab.txt").write_text("notes")
        with pytest.raises(InputError, match="vocab.txt is there and is not the vocabulary"):
            call()
        assert (tmp_path / "out" / "vocab.txt").read_text() == "notes"
        call(overwrite=True)
        assert Vocabulary.load(str(tmp_path / "out" / "vocab.txt")) == Vocabulary.load(vocab)

    def test_characters_of_patterns_in_the_name_of_a_folder_mean_nothing(self, call, tmp_path):
        call(output=str(tmp_path / "g1"))
        call(output=str(tmp_path / "g[1]"), overwrite=True)
        assert (tmp_path / "g1" / "manifest.json").exists()
        with pytest.raises(InputError, match="already holds records"):
            call(output=str(tmp_path / "g[1]"))

    def test_an_output_that_cannot_be_written_is_told_before_the_text_is_read(
        self, call, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(work_folder, "plan_corpora", lambda *arguments: pytest.fail("read"))
        (tmp_path / "file").write_text("")
        for output in ("", str(tmp_path / "file"), str(tmp_path / "file" / "out"), "/proc/none"):
            with pytest.raises(InputError, match="output|cannot be written to"):
                call(output=output)

    def test_bad_input_leaves_no_folder(self, call, tmp_path):
        config = DataConfig(min_characters=10**6)
        with pytest.raises(InputError):
            call(config=config)
        assert not (tmp_path / "out").exists()

    def test_a_corpus_of_which_nothing_is_drawn_is_told(self, call, tmp_path):
        write_corpus(tmp_path, 20)
        with pytest.raises(InputError, match="weight 0.001 and dupe_factor=1,.* came to none"):
            call(config=DataConfig(dupe_factor=1, validation_rate=0.0), weights=[0.001])

    def test_the_vocabulary_may_be_that_of_the_output(self, call, tmp_path, vocab):
        call()
        copy = str(tmp_path / "out" / "vocab.txt")
        manifest = call(vocab=copy, overwrite=True)
        assert Vocabulary.load(copy) == Vocabulary.load(vocab)
        assert manifest.vocabulary_size == len(Vocabulary.load(vocab))

    def test_a_folder_that_cannot_be_written_to_while_working(self, call, tmp_path):
        # A folder in the place of the shard's temporary file, for the rights of a superuser.
        shard = "train-00000-of-00001.tfrecord"
        os.makedirs(tmp_path / "out" / f"{shard}.partial")
        with pytest.raises(InputError, match="cannot be written to: .*run again"):
            call(overwrite=True)
        assert not (tmp_path / "out" / "manifest.json").exists()
