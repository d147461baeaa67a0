"""The examples and the table that kbt-inspect shows, on records made by hand."""

import dataclasses
import json
import re

import numpy as np
import pytest

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.inspection.report import inspect_records
from keras_bert_tpu.pretraining_data.inspection.text import length_bins, show_examples, table
from keras_bert_tpu.pretraining_data.manifest import CorpusEntry, Counts, count_lengths

from inspected_records import DOOR, PIECES, PLAY, SHORT, write_records


class TestExamples:
    def test_each_masked_place_shows_its_original_and_what_became_of_it(self, tmp_path):
        manifest = write_records(tmp_path, [[DOOR, PLAY]])
        assert show_examples(manifest) == (
            "train 0 (train-0.tfrecord, record 0): b follows a, 12 tokens of 16, "
            "3 predictions (1 [MASK], 1 kept, 1 random)\n"
            "  a: she opened the [MASK:door]\n"
            "  b: and went [kept:in] , [garden→gate]\n"
            "\n"
            "train 1 (train-0.tfrecord, record 1): b is random, 16 tokens of 16, "
            "2 predictions (1 [MASK], 0 kept, 1 random)\n"
            "  a: play[MASK:##ing] , door[##s→gate]\n"
            "  b: she playing , the [UNK] thes"
        )

    @pytest.mark.parametrize(
        ("objective", "labels"),
        [("mlm+nsp", ("b follows a, ", "b is random, ")), ("mlm+sop", ("in order, ", "swapped, "))],
    )
    def test_labels_are_words_of_the_objective(self, tmp_path, objective, labels):
        text = show_examples(write_records(tmp_path, [[DOOR, PLAY]], objective=objective))
        headers = [line for line in text.splitlines() if line.startswith("train")]
        assert [label in header for label, header in zip(labels, headers, strict=True)] == [
            True
        ] * 2

    def test_full_rows_have_no_label_and_one_part(self, tmp_path):
        text = show_examples(write_records(tmp_path, [[DOOR]], objective="mlm"))
        assert text == (
            "train 0 (train-0.tfrecord, record 0): 12 tokens of 16, "
            "3 predictions (1 [MASK], 1 kept, 1 random)\n"
            "  a: she opened the [MASK:door] [SEP] and went [kept:in] , [garden→gate]"
        )

    def test_a_masked_separator_and_the_first_piece_of_a_part_stay(self, tmp_path):
        # Part b begins in the middle of a word; a random piece may be a special token.
        rows = [
            ("[CLS] in [SEP] ##s the [SEP] [SEP]", {5: "gate"}),
            ("[CLS] in [SEP] [CLS] the [SEP]", {3: "door", 5: "gate"}),
        ]
        first, second = show_examples(write_records(tmp_path, [rows])).split("\n\n")
        assert first.splitlines()[1:] == ["  a: in", "  b: ##s the [gate→[SEP]]"]
        assert second.splitlines()[1:] == ["  a: in", "  b: [door→[CLS]] the [gate→[SEP]]"]

    def test_examples_are_numbered_over_the_shards(self, tmp_path):
        manifest = write_records(tmp_path, [[DOOR] * 3, [PLAY] * 2], [[SHORT]])

        def places(**arguments):
            text = show_examples(manifest, **arguments)
            return re.findall(r"^(\w+ \d+ \(.*?\)):", text, re.MULTILINE)

        assert places(start=2, count=2) == [
            "train 2 (train-0.tfrecord, record 2)",
            "train 3 (train-1.tfrecord, record 0)",
        ]
        assert places(start=4, count=9) == ["train 4 (train-1.tfrecord, record 1)"]
        assert places(split="validation") == ["validation 0 (validation-0.tfrecord, record 0)"]

    def test_a_number_beyond_the_last_is_told(self, tmp_path):
        manifest = write_records(tmp_path, [[DOOR] * 3])
        with pytest.raises(InputError, match="no example 3 in the train .* there are 3"):
            show_examples(manifest, start=3)
        with pytest.raises(InputError, match="no example 0 in the validation .* there are 0"):
            show_examples(manifest, split="validation")


class TestTable:
    CORPORA = (
        CorpusEntry("wiki", 1.0, ("a.txt",), 1200, 34567, 8901234, {"too_short": 5, "exact": 1001}),
        CorpusEntry("books", 2.5, ("b.txt",), 3, 40, 500, {}),
        # Of an index.
        CorpusEntry("theirs", 1.0, ("c.tfrecord",), 0, 0, 0, {}),
    )

    def test_it_is_exact(self, tmp_path):
        counts = Counts(documents=1234, tokens=1000, unknown_tokens=20, examples=4, real_tokens=56)
        manifest = write_records(
            tmp_path / "records",
            [[DOOR] * 2, [PLAY] * 2],
            [[SHORT] * 3],
            counts=(counts, Counts()),
            corpora=self.CORPORA,
        )
        lines = table(inspect_records(manifest, sample=2)).replace(str(tmp_path), "").splitlines()
        # Columns are set apart by two spaces or more.
        assert [re.sub(" {3,}", "  ", line) for line in lines] == [
            "/records: mlm+nsp, static masks, 16 tokens, at most 4 predictions, vocabulary of 19 "
            "pieces, feature names v1",
            "corpus wiki: weight 1, 1,200 documents, 34,567 sentences, 8,901,234 characters; "
            "dropped: too_short 5, exact 1,001",
            "corpus books: weight 2.5, 3 documents, 40 sentences, 500 characters",
            "corpus theirs: weight 1",
            "",
            "  train  validation",
            "shards  2  1",
            "examples  4  3",
            "documents  1,234  unknown",
            "megabytes  0.0  0.0",
            "mean length  14.0  ~6.0",
            "median length  ~14  ~6",
            "at full length  ~50.0%  ~0.0%",
            "padding  12.5%  ~62.5%",
            "predictions per example  ~2.5  ~1.0",
            "tokens to be predicted  ~17.9%  ~16.7%",
            "of them [MASK] / kept / random  ~40.0% / 20.0% / 40.0%  ~100.0% / 0.0% / 0.0%",
            "b follows a / b is random  100.0% / 0.0%  ~50.0% / 50.0%",
            "unknown tokens  2.00%  ~0.00%",
            "examples per shard, least / median / most  2 / 2 / 2  3 / 3 / 3",
            "documents per shard, least / median / most  3 / 3 / 3  3 / 3 / 3",
            "",
            "lengths  train  validation",
            *(f"  {length}  0.0%  0.0%" for length in range(1, 6)),
            f"  6  0.0%  100.0% {'█' * 20}",
            *(f"  {length}  0.0%  0.0%" for length in range(7, 12)),
            f"  12  50.0% {'█' * 10}  0.0%",
            *(f"  {length}  0.0%  0.0%" for length in range(13, 16)),
            f"  16  50.0% {'█' * 10}  0.0%",
            "",
            "predicted most often (train): door 20.0%  in 20.0%  garden 20.0%  ##ing 20.0%  "
            "##s 20.0%",
            "predicted most often (validation): door 100.0%",
            "~ counted on a part of the examples: 2 of 4 train, 2 of 3 validation",
        ]
        assert len({len(line) for line in lines[5:21]}) == 1, "the columns end at the same place"

    def test_it_says_that_all_were_read(self, tmp_path):
        text = table(inspect_records(write_records(tmp_path, [[DOOR]])))
        assert text.splitlines()[-1] == "all examples were read"
        assert "~" not in text

    @pytest.mark.parametrize("length", [8, 16, 100, 128, 512])
    def test_bins_are_those_of_the_manifest(self, length):
        bins = length_bins(length)
        assert len(bins) == 16
        for number in range(1, length + 1):
            (found,) = [k for k, (least, most) in enumerate(bins) if least <= number <= most]
            assert count_lengths(np.array([number]), length)[found] == 1

    def test_as_json_it_has_all_figures(self, tmp_path):
        manifest = write_records(tmp_path, [[DOOR, SHORT]], corpora=self.CORPORA)
        report = inspect_records(manifest)
        values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert values["directory"] == str(tmp_path)
        assert values["objective"] == "mlm+nsp"
        assert (values["sequence_length"], values["max_predictions"]) == (16, 4)
        assert (values["masks"], values["epoch"]) == ("static", None)
        assert values["vocabulary_size"] == len(PIECES)
        assert values["corpora"][0]["dropped"] == {"too_short": 5, "exact": 1001}
        assert values["validation"] is None
        split = report.splits["train"]
        assert values["train"].keys() == {f.name for f in dataclasses.fields(split)}
        assert values["train"]["mean_length"] == 9
        assert values["train"]["label_1"] == 0.5
        # The longest has 12 tokens.
        assert values["train"]["masked_by_position"][11:13] == [0, None]
