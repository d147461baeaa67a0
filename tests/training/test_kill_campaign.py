"""SIGKILL at random moments of a run: in its start, between steps, and within saves."""

import collections
import random
import signal
import subprocess
import sys
import time

import pytest
from runs import checksums, make_config, read_metrics

from keras_bert_tpu.dataclass_yaml import to_yaml
from keras_bert_tpu.training.loop import pretrain

MOMENTS = ("start", "steps", "save")


class Campaign:
    """Runs that are killed and started again until there were enough kills."""

    def __init__(self, folder, records, config, seed):
        self.records, self.config = records, config
        self.folder = folder
        (folder / "run.yaml").write_text(to_yaml(config))
        self.random = random.Random(seed)
        self.kills = collections.Counter()
        self.resumes = 0
        self.unfinished = 0
        self.outputs = []

    def fight(self, kills):
        """Kills so many times, and lets the last run end."""
        while self.kills.total() < kills:
            if not self.outputs or self.launch(self.outputs[-1], self.random.choice(MOMENTS)):
                self.outputs.append(self.folder / f"run-{len(self.outputs)}")
        self.launch(self.outputs[-1], None)

    def launch(self, output, moment):
        """Starts the run, or goes on with it, and kills it; returns whether it came to its end."""
        command = [sys.executable, "-m", "keras_bert_tpu.scripts.pretrain"]
        command += [f"--config={self.folder / 'run.yaml'}", f"--data={self.records}"]
        before = self.complete(output)
        log = self.folder / "log"
        with open(log, "w") as file:
            process = subprocess.Popen(
                [*command, f"--output={output}"], stdout=file, stderr=subprocess.STDOUT
            )
            if moment is not None and self.wait_for(moment, process, output, before):
                process.send_signal(signal.SIGKILL)
            code = process.wait()
        said = log.read_text()
        self.resumes += "Resuming after step" in said
        assert ("Resuming after step" in said) == bool(before) or code == -signal.SIGKILL, said
        if code == -signal.SIGKILL:
            self.kills[moment] += 1
            self.unfinished += any(not self.is_complete(path) for path in self.saves(output))
            return False
        assert code == 0, said
        return True

    def wait_for(self, moment, process, output, before):
        """Waits for the moment to kill; false if the run ended before."""
        if moment == "start":
            until = time.monotonic() + self.random.uniform(0.0, 10.0)
            while time.monotonic() < until and process.poll() is None:
                time.sleep(0.001)
        else:
            # The first save of this launch, so that there is some progress between kills.
            while process.poll() is None and self.complete(output) <= before:
                time.sleep(0.001)
            until = time.monotonic() + self.random.uniform(0.0, 1.0)
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.001)
        if moment == "save":
            while process.poll() is None and all(map(self.is_complete, self.saves(output))):
                pass  # A save takes a few milliseconds.
            time.sleep(self.random.uniform(0.0, 0.01))
        return process.poll() is None

    @staticmethod
    def saves(output):
        return list((output / "checkpoints").glob("step-*"))

    @staticmethod
    def is_complete(save):
        return (save / "checkpoint.json").exists() or not save.exists()

    def complete(self, output):
        """Step of the last complete checkpoint."""
        steps = [int(s.name[5:]) for s in self.saves(output) if (s / "checkpoint.json").exists()]
        return max(steps, default=0)


def hold(campaign, unbroken):
    """All runs that came to their end are the one that was never killed."""
    last = campaign.config.total_steps
    for output in campaign.outputs:
        assert checksums(output)[last] == checksums(unbroken)[last]
        for split in ("train", "validation"):
            expected = read_metrics(unbroken, split)
            found = read_metrics(output, split)
            assert [r["step"] for r in found] == [r["step"] for r in expected]
        assert found == expected, "evaluations must be those of the unbroken run"


def campaign_of(kills, steps, tmp_path, records, vocabulary, **settings):
    config = make_config(
        vocabulary,
        steps=steps,
        save_every=3,
        evaluate_every=20,
        keep_checkpoints=2,
        **settings,
    )
    pretrain(config, str(records), str(tmp_path / "unbroken"))
    campaign = Campaign(tmp_path, records, config, seed=kills)
    campaign.fight(kills)
    hold(campaign, tmp_path / "unbroken")
    return campaign


def test_five_kills_lose_nothing(tmp_path, records, vocabulary):
    campaign = campaign_of(5, 120, tmp_path, records, vocabulary)
    assert campaign.kills.total() == 5


@pytest.mark.slow
@pytest.mark.parametrize("in_background", [False, True])
def test_fifty_kills_lose_nothing(tmp_path, records, vocabulary, in_background, capsys):
    campaign = campaign_of(50, 400, tmp_path, records, vocabulary, background_saves=in_background)
    with capsys.disabled():
        print(
            f"\n{campaign.kills.total()} kills ({dict(campaign.kills)}), {campaign.resumes} "
            f"resumes, {campaign.unfinished} kills with a save unfinished, "
            f"{len(campaign.outputs)} runs ended bit-equal"
        )
    assert campaign.unfinished >= 3
    assert min(campaign.kills.values()) >= 5
