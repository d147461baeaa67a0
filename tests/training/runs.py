"""Small runs that several test files train, and what they leave behind."""

import json

import keras

from keras_bert_tpu.config import PretrainingConfig
from keras_bert_tpu.dataclass_yaml import from_dict

PACKED = {
    "data": "packed",
    "batch_size": 8,
    "sequence_length": 64,
    "max_predictions": 10,
    "max_sequences": 8,
}
LONG = {"data": "long", "batch_size": 8, "sequence_length": 64, "max_predictions": 10}


def make_config(vocabulary, steps=30, **values):
    """A run of a tiny BERT on the records of `conftest`, changed by the values."""
    encoder = {"preset": "tiny", "vocab_size": len(vocabulary), "max_positions": 64}
    short = {"data": "short", "batch_size": 16, "sequence_length": 32, "max_predictions": 5}
    return from_dict(
        PretrainingConfig,
        {
            "encoder": encoder,
            "optimizer": {"learning_rate": 1e-3, "warmup_steps": 5},
            "phases": [{**short, "steps": steps}],
            "compute_dtype": "float32",
            "log_every": 5,
            "evaluate_every": 10,
            "evaluate_examples": 32,
            "save_every": 10,
            "keep_checkpoints": 20,
            **values,
        },
    )


def read_metrics(output, split):
    """The records of a split in metrics.jsonl."""
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["split"] == split]


def states(output):
    """Step to what its marker says, for each checkpoint."""
    markers = sorted((output / "checkpoints").glob("step-*/checkpoint.json"))
    return {state["step"]: state for state in (json.loads(m.read_text()) for m in markers)}


def checksums(output):
    """Step to checksums of weights and moments, for each checkpoint."""
    return {step: state["sha256"] for step, state in states(output).items()}


class StopAt(keras.callbacks.Callback):
    """Breaks a run off with an error, as a crash would."""

    def __init__(self, executions):
        super().__init__()
        self.left = executions

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise RuntimeError("stopped by the test")
