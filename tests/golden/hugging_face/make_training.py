"""Writes training.npz: what PyTorch's losses are when it trains three of the models beside.

It was run with torch 2.14.1 and transformers 5.24.0, neither of which is needed to read it:

    python tests/golden/hugging_face/make_training.py

Each model makes 12 steps without dropout, with the optimizer and the losses of
tests/benchmarks/finetuning_workers/hugging_face.py, on random batches. "KIND/batches/NUMBER/NAME"
are these, "KIND/losses" float64 [12], and "rates" those of the steps.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks" / "finetuning_workers"))
import hugging_face  # noqa: E402

STEPS, WARMUP, PEAK = 12, 3, 2e-3
ROWS, LENGTH, PIECES = 6, 20, 98
KINDS = {"classes": ("texts", 3), "pieces": ("tokens", 4), "spans": ("questions", 2)}


def make_batch(rng: np.random.Generator, kind: str, outputs: int) -> dict[str, np.ndarray]:
    """Rows of 4 to 20 pieces, of which the last does not count."""
    pieces = rng.integers(4, LENGTH + 1, (ROWS, 1))
    mask = (np.arange(LENGTH) < pieces).astype("int32")
    batch = {
        "token_ids": rng.integers(5, PIECES, mask.shape, dtype="int32") * mask,
        "segment_ids": (np.arange(LENGTH) >= pieces // 2).astype("int32") * mask,
        "padding_mask": mask,
        "label_weights": np.array([1.0] * (ROWS - 1) + [0.0], "float32"),
    }
    if kind == "classes":
        batch["label"] = rng.integers(0, outputs, ROWS, dtype="int32")
    elif kind == "pieces":
        batch["label"] = rng.integers(0, outputs, mask.shape, dtype="int32")
        begins_word = (rng.random(mask.shape) < 0.5) * mask
        batch["label_weights"] = (begins_word * batch["label_weights"][:, None]).astype("float32")
    else:
        batch["start_position"] = rng.integers(0, 2, ROWS, dtype="int32")
        batch["end_position"] = rng.integers(2, 4, ROWS, dtype="int32")
    return batch


def main() -> None:
    rng = np.random.default_rng(1)
    steps = np.arange(STEPS)
    falling = PEAK * (STEPS - steps) / (STEPS - WARMUP)
    found = {"rates": np.where(steps < WARMUP, PEAK * steps / WARMUP, falling)}
    for kind, (name, outputs) in KINDS.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(shutil.copytree(HERE / name, f"{temporary}/model"))
            config = json.loads((folder / "config.json").read_text())
            config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
            config["classifier_dropout"] = 0.0
            (folder / "config.json").write_text(json.dumps(config))
            peer = hugging_face.Peer(kind, outputs, str(folder), seed=0)
        # transformers never trains the row of [PAD]; Google's BERT does, where the softmax of a
        # span is over the padding, too.
        peer.model.bert.embeddings.word_embeddings.padding_idx = None
        peer.model.train()
        losses = []
        for number, rate in enumerate(found["rates"]):
            batch = make_batch(rng, kind, outputs)
            found |= {f"{kind}/batches/{number}/{key}": array for key, array in batch.items()}
            tensors = {key: hugging_face.torch.from_numpy(array) for key, array in batch.items()}
            losses.append(peer.step(tensors, float(rate)))
        found[f"{kind}/losses"] = np.array(losses)
    np.savez_compressed(HERE / "training.npz", **found)


if __name__ == "__main__":
    main()
