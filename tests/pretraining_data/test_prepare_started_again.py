import contextlib
import dataclasses
import itertools
import json
import signal
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import prepare as prepare_module
from keras_bert_tpu.pretraining_data import spill, work_folder
from keras_bert_tpu.pretraining_data.prepare import prepare
from keras_bert_tpu.pretraining_data.work_folder import WORK_FOLDER

from prepared_text import SAMPLE, contents, write_corpus


class TestStartedAgain:
    """What is there stays, what is missing is made, and the bytes are those of one run."""

    CONFIG = DataConfig(
        sequence_length=32,
        max_predictions=5,
        dupe_factor=2,
        validation_rate=0.2,
        block_documents=3,
        num_shards=4,
        duplicates="exact",
    )

    @pytest.fixture
    def call(self, tmp_path, vocab):
        text = write_corpus(tmp_path, 50)
        arguments = {
            "input": text,
            "output": str(tmp_path / "out"),
            "vocab": vocab,
            "config": self.CONFIG,
            "workers": 2,
            "progress": False,
        }
        return lambda **changes: prepare(**{**arguments, **changes})

    def break_after(self, patch, module, name, calls):
        """Lets a function fail as a full disk does, from its call number `calls` on."""
        function = getattr(module, name)
        lock, made = threading.Lock(), itertools.count()

        def broken(*arguments, **keywords):
            with lock:
                number = next(made)
            if number >= calls:
                raise tf.errors.ResourceExhaustedError(None, None, "no space left")
            return function(*arguments, **keywords)

        patch.setattr(module, name, broken)
        return made

    @pytest.mark.parametrize(
        ("module", "name", "calls"),
        [
            *((spill, "write_unit", calls) for calls in (0, 1, 7)),
            *((prepare_module, "write_shard", calls) for calls in (0, 2, 4)),
        ],
    )
    def test_it_makes_what_is_missing(self, call, tmp_path, module, name, calls):
        with pytest.MonkeyPatch.context() as patch:
            made = self.break_after(patch, module, name, 1000)
            call(output=str(tmp_path / "whole"))
            total = next(made)
        with pytest.MonkeyPatch.context() as patch:
            self.break_after(patch, module, name, calls)
            with pytest.raises(InputError, match="no space left; .*run again, which goes on"):
                call()
        assert not (tmp_path / "out" / "manifest.json").exists()
        with pytest.MonkeyPatch.context() as patch:
            made = self.break_after(patch, module, name, 1000)
            call()
        # With two workers, a call may be under way when the other fails.
        assert total > calls and total - calls <= next(made) <= total - calls + 1
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_an_interrupt_leaves_what_was_made(self, call, tmp_path, monkeypatch):
        call(output=str(tmp_path / "whole"))
        read_units = prepare_module.read_units

        def interrupted(plan, done):
            for number, unit in enumerate(read_units(plan, done)):
                if number == 6:
                    raise KeyboardInterrupt
                yield unit

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(prepare_module, "read_units", interrupted)
            with pytest.raises(KeyboardInterrupt):
                call()
        assert not any(thread.name.startswith("ThreadPool") for thread in threading.enumerate())
        units = len(list((tmp_path / "out" / WORK_FOLDER).glob("unit-*.json")))
        assert 2 <= units <= 6
        call()
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_a_shard_that_was_cut_short_since_is_made_again(self, call, tmp_path):
        call(output=str(tmp_path / "whole"))
        with pytest.MonkeyPatch.context() as patch:
            self.break_after(patch, prepare_module, "write_shard", 3)
            with pytest.raises(InputError):
                call(workers=1)
        shard = tmp_path / "out" / "train-00001-of-00004.tfrecord"
        shard.write_bytes(shard.read_bytes()[:-1])
        call()
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    @pytest.mark.parametrize(
        ("changes", "difference"),
        [
            ({"seed": 3}, r"settings.seed \(12345 then, 3 now\)"),
            ({"whole_word_mask": True}, r"settings.whole_word_mask \(False then, True now\)"),
        ],
    )
    def test_other_settings_are_refused(self, call, tmp_path, changes, difference):
        with pytest.MonkeyPatch.context() as patch:
            self.break_after(patch, spill, "write_unit", 3)
            with pytest.raises(InputError):
                call()
        config = dataclasses.replace(self.CONFIG, **changes)
        with pytest.raises(InputError, match=f"differs in {difference}.*--overwrite"):
            call(config=config)
        call(config=config, overwrite=True)
        call(config=config, output=str(tmp_path / "whole"))
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_overwriting_goes_on_too_when_nothing_differs(self, call, tmp_path):
        call(output=str(tmp_path / "whole"))
        for number in (3, 1000):
            with pytest.MonkeyPatch.context() as patch:
                made = self.break_after(patch, spill, "write_unit", number)
                with contextlib.suppress(InputError):
                    call(overwrite=True, workers=1)
        with pytest.MonkeyPatch.context() as patch:
            made_anew = self.break_after(patch, spill, "write_unit", 1000)
            call(output=str(tmp_path / "anew"))
        assert next(made) == next(made_anew) - 3
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    @pytest.mark.parametrize("damage", ["lose", "cut"])
    def test_a_unit_file_that_is_gone_is_made_again(self, call, tmp_path, damage):
        call(output=str(tmp_path / "whole"))
        with pytest.MonkeyPatch.context() as patch:
            self.break_after(patch, spill, "write_unit", 5)
            with pytest.raises(InputError):
                call(workers=1)
        path = tmp_path / "out" / WORK_FOLDER / "unit-00001-000"
        content = path.read_bytes()
        path.unlink()
        if damage == "cut":
            path.write_bytes(content[:-1])
        call()
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_an_unreadable_plan_is_told(self, call, tmp_path):
        call(output=str(tmp_path / "whole"))
        with pytest.MonkeyPatch.context() as patch:
            self.break_after(patch, spill, "write_unit", 3)
            with pytest.raises(InputError):
                call()
        path = tmp_path / "out" / WORK_FOLDER / "plan.json"
        values = json.loads(path.read_text())
        inner = json.loads(values["plan"])
        units = {**inner, "units": [[1]]}
        kept = {**inner, "counts": [{**inner["counts"][0], "is_kept": {"bits": "eA=="}}]}
        damaged = ["", "[", "{}", "[]", "3", "null", "[" * 100_000]
        damaged += [json.dumps({name: values[name]}) for name in ("identity", "plan")]
        damaged += [json.dumps({**values, "plan": other}) for other in ("", "{}", "[]", None)]
        damaged += [json.dumps({**values, "plan": json.dumps(other)}) for other in (units, kept)]
        for content in damaged:
            path.write_text(content)
            with pytest.raises(InputError, match="plan.json .* cannot be read .*--overwrite"):
                call()
        call(overwrite=True)
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"files": {}, "counts": {"x": 1}}'])
    def test_what_is_noted_of_a_unit_or_shard_and_cannot_be_read_is_made_again(
        self, call, tmp_path, content
    ):
        call(output=str(tmp_path / "whole"))
        with pytest.MonkeyPatch.context() as patch:
            self.break_after(patch, prepare_module, "write_shard", 3)
            with pytest.raises(InputError):
                call(workers=1)
        folder = tmp_path / "out" / WORK_FOLDER
        for name in ("unit-00001.json", "train-00001-of-00004.tfrecord.json"):
            assert (folder / name).exists()
            (folder / name).write_text(content)
        call()
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_what_another_version_began_is_refused(self, call, tmp_path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(work_folder, "_WORK_VERSION", 1)
            self.break_after(patch, spill, "write_unit", 3)
            with pytest.raises(InputError):
                call()
        with pytest.raises(InputError, match="another version of this package.*--overwrite"):
            call()

    def test_text_that_changed_meanwhile_is_planned_anew(self, call, tmp_path):
        plan = work_folder.plan_corpora

        def plan_and_change(*arguments):
            made = plan(*arguments)
            write_corpus(tmp_path, 51)
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(work_folder, "plan_corpora", plan_and_change)
            with pytest.raises(InputError, match="changed while it was read"):
                call()
        call()
        call(output=str(tmp_path / "whole"))
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_other_text_is_refused(self, call, tmp_path):
        with pytest.MonkeyPatch.context() as patch:
            self.break_after(patch, spill, "write_unit", 3)
            with pytest.raises(InputError):
                call()
        write_corpus(tmp_path, 51)
        with pytest.raises(InputError, match=r"differs in corpora\.0\..*--overwrite"):
            call()

    def test_the_work_folder_may_be_elsewhere(self, call, tmp_path):
        call(output=str(tmp_path / "whole"))
        work = tmp_path / "scratch" / "work"
        with pytest.MonkeyPatch.context() as patch:
            self.break_after(patch, prepare_module, "write_shard", 2)
            with pytest.raises(InputError):
                call(work_folder=str(work))
        assert list(work.glob("kbt-prepare-*/unit-*"))
        assert not (tmp_path / "out" / WORK_FOLDER).exists()
        with pytest.raises(InputError, match="same --work_folder"):
            call()
        call(work_folder=str(work), output=str(tmp_path / "out") + "/")
        assert not list(work.iterdir())
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_a_killed_process_is_gone_on_with(self, tmp_path, vocab):
        arguments = [
            f"--input={','.join(SAMPLE)}",
            f"--vocab={vocab}",
            "--dupe_factor=15",
            "--validation_rate=0.1",
            "--num_shards=6",
        ]
        program = [sys.executable, "-m", "keras_bert_tpu.scripts.prepare", *arguments]
        output = tmp_path / "out"
        kills = 0
        # After the first unit, and as the second shard is there.
        for pattern, number in ((f"{WORK_FOLDER}/unit-*.json", 1), ("train-*.tfrecord", 2)):
            process = subprocess.Popen(
                [*program, f"--output={output}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while process.poll() is None and len(list(output.glob(pattern))) < number:
                time.sleep(0.002)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.wait()
        assert kills and not (output / "manifest.json").exists()
        for folder in (output, tmp_path / "whole"):
            subprocess.run([*program, f"--output={folder}"], check=True, capture_output=True)
        assert contents(output) == contents(tmp_path / "whole")
