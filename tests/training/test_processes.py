"""A run of two processes that talk over loopback, held to the same run of one process."""

import json
import pathlib
import socket
import subprocess
import sys

import pytest
from runs import make_config, read_metrics

from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.dataclass_yaml import to_yaml
from keras_bert_tpu.training.loop import pretrain
from keras_bert_tpu.training.termination import EXIT_CODE

PROGRAM = pathlib.Path(__file__).parent / "workers_program.py"
FIGURES = ("mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy")


def free_addresses(number):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return addresses


def run_processes(config, records, folder, terminate_second_at=0):
    """Returns the exit status and the output of each process."""
    (folder / "run.yaml").write_text(to_yaml(config))
    cluster = {"worker": free_addresses(2)}
    processes = []
    for index in range(2):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        arguments = [str(folder / "run.yaml"), str(records), str(folder / "two")]
        processes.append(
            subprocess.Popen(
                [sys.executable, str(PROGRAM), *arguments, str(terminate_second_at * index)],
                env={"TF_CONFIG": json.dumps(task), "PATH": "", "TF_CPP_MIN_LOG_LEVEL": "2"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [process.communicate(timeout=300)[0] for process in processes]
    return [process.returncode for process in processes], said


def test_two_processes_train_save_and_resume_as_one_does(tmp_path, records, vocabulary):
    encoder = {"preset": "tiny", "vocab_size": len(vocabulary), "max_positions": 64}
    encoder |= {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    # 40 held-out examples leave the last batch of 16 half padded.
    config = make_config(vocabulary, steps=20, encoder=encoder, evaluate_examples=40)
    pretrain(config, str(records), str(tmp_path / "one"))

    # SIGTERM to the one that does not write: both end with the same step, saved by the other.
    codes, said = run_processes(config, records, tmp_path, terminate_second_at=13)
    assert codes == [EXIT_CODE, EXIT_CODE], said
    assert "2 replicas in 2 processes" in said[0]
    assert "step 14 of 20 is saved" in said[0] and "step 14 of 20 is saved" in said[1]
    codes, said = run_processes(config, records, tmp_path)
    assert codes == [0, 0], said
    assert "Resuming after step 14 of 20" in said[0]
    assert "held-out" in said[0] and "held-out" not in said[1], "one process reports"

    for split in ("train", "validation"):
        one, two = (read_metrics(tmp_path / name, split) for name in ("one", "two"))
        assert [record["step"] for record in two] == [record["step"] for record in one]
        for expected, record in zip(one, two, strict=True):
            if record["step"] != 15 or split == "validation":  # Whose record began at step 14.
                for name in FIGURES:
                    assert record[name] == pytest.approx(expected[name], rel=1e-4), name
    one, two = (read_weights(str(tmp_path / name / "model")).arrays for name in ("one", "two"))
    for name, weight in one.items():
        assert two[name] == pytest.approx(weight, rel=1e-3, abs=2e-5), name
