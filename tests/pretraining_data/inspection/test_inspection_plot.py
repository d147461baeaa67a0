"""The picture that kbt-inspect draws."""

import os

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.inspection.plot import draw, save_picture
from keras_bert_tpu.pretraining_data.inspection.report import inspect_records

from inspected_records import DOOR, PLAY, SHORT, write_records


class TestPicture:
    TITLES = [
        "lengths",
        "predictions by position",
        "predicted most often (train)",
        "examples per shard",
        "padding",
        "what became of predictions",
        "next-sentence labels",
        "documents per shard",
    ]

    def report(self, tmp_path, **config):
        return inspect_records(
            write_records(tmp_path, [[DOOR, PLAY], [SHORT]], [[SHORT, SHORT]], **config)
        )

    def test_it_shows_all_there_is_to_see(self, tmp_path):
        report = self.report(tmp_path)
        axes = dict(zip(self.TITLES, draw(report).axes, strict=True))
        assert [ax.get_title() for ax in axes.values()] == self.TITLES

        def widths(title):
            return [patch.get_width() for patch in axes[title].patches]

        # Lengths 12, 16 and 6 of 16; a bar for each part, train before validation.
        assert widths("padding") == pytest.approx([34 / 48, 6 / 16, 14 / 48, 10 / 16])
        starts = [patch.get_x() for patch in axes["padding"].patches]
        assert starts == pytest.approx([0, 0, 34 / 48, 6 / 16])
        assert widths("what became of predictions") == pytest.approx([3 / 6, 1, 1 / 6, 0, 2 / 6, 0])
        assert widths("next-sentence labels") == pytest.approx([2 / 3, 1 / 2, 1 / 3, 1 / 2])
        labels = [text.get_text() for text in axes["next-sentence labels"].get_legend().texts]
        assert labels == ["b follows a", "b is random"]
        heights = [patch.get_height() for patch in axes["examples per shard"].patches]
        assert heights == [2, 1, 2]
        heights = [patch.get_height() for patch in axes["documents per shard"].patches]
        assert heights == [3, 3, 3]
        validation, train = axes["predictions by position"].lines
        assert train.get_ydata()[2] == 2 / 3
        assert np.isnan(validation.get_ydata()[6])
        values, edges, _ = axes["lengths"].patches[0].get_data()
        assert values[[5, 11, 15]] == pytest.approx([1 / 3] * 3)
        assert edges[[0, 5, 6, 16]].tolist() == [0.5, 5.5, 6.5, 16.5]
        pieces = [
            text.get_text() for text in axes["predicted most often (train)"].get_yticklabels()
        ]
        assert pieces[0] == "door"

    def test_full_rows_have_no_panel_of_labels(self, tmp_path):
        (text,) = draw(self.report(tmp_path, objective="mlm")).axes[6].texts
        assert text.get_text() == "none: the objective is mlm"

    def test_many_shards_are_dots(self, tmp_path):
        report = inspect_records(write_records(tmp_path, [[SHORT]] * 60))
        axes = draw(report).axes[3]
        assert not axes.patches
        assert axes.lines[0].get_ydata().tolist() == [1] * 60

    def test_it_is_a_png(self, tmp_path):
        row = "[CLS] [MASK] the [MASK] [SEP] in [SEP]", {1: "$", 3: "$"}
        report = inspect_records(write_records(tmp_path / "r", [[row]]))
        path = tmp_path / "picture.png"
        save_picture(report, str(path))
        # Or else a pair of them would be taken for a formula.
        assert draw(report).axes[2].get_yticklabels()[0].get_text() == r"\$"
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert sorted(os.listdir(tmp_path)) == ["picture.png", "r"]

    def test_it_goes_to_any_file_system_of_tensorflow(self, tmp_path):
        report = self.report(tmp_path)
        save_picture(report, "ram://inspection/picture.png")
        with tf.io.gfile.GFile("ram://inspection/picture.png", "rb") as file:
            assert file.read(8) == b"\x89PNG\r\n\x1a\n"

    def test_a_folder_that_is_not_there_is_told(self, tmp_path):
        report = self.report(tmp_path / "records")
        with pytest.raises(InputError, match="picture cannot be written to .*absent/p.png"):
            save_picture(report, str(tmp_path / "absent" / "p.png"))
