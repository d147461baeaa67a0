"""Hugging Face's task models in PyTorch, trained on the batches that they are given.

It runs with the python of an environment with torch and transformers, see finetuning_quality.py,
and answers each line on its standard input, a JSON object, with a JSON line:

    {"do": "model", "kind": K, "outputs": N, "path": DIR, "seed": S}  the new model's loading
    {"do": "train", "batches": FILE, "rates": [...]}    seconds and mean loss of a step for each rate
    {"do": "predict", "batch": FILE, "scores": FILE}    writes float32 scores [rows, ...]

Batches are .npz files: the arrays of one have the names of `keras_bert_tpu`, those of several
"NUMBER/NAME". The optimizer is AdamW with the settings of `keras_bert_tpu`'s fine-tuning.
"""

import json
import sys
import time

import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy, mse_loss

WEIGHT_DECAY, CLIP_NORM, EPSILON = 0.01, 1.0, 1e-6
CLASSES = {
    "classes": transformers.BertForSequenceClassification,
    "number": transformers.BertForSequenceClassification,
    "pieces": transformers.BertForTokenClassification,
    "spans": transformers.BertForQuestionAnswering,
}


class Peer:
    """One model and its optimizer."""

    def __init__(self, kind: str, outputs: int, path: str, seed: int):
        transformers.set_seed(seed)
        self.kind = kind
        self.model = CLASSES[kind].from_pretrained(path, num_labels=outputs)
        decayed, others = [], []
        for name, parameter in self.model.named_parameters():
            is_excluded = name.endswith("bias") or "LayerNorm" in name
            (others if is_excluded else decayed).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": WEIGHT_DECAY},
                {"params": others, "weight_decay": 0.0},
            ],
            eps=EPSILON,
            fused=True,
        )

    def train(self, batches: str, rates: list[float]) -> dict[str, float]:
        """Makes a step with each batch."""
        with np.load(batches) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        self.model.train()
        losses = []
        began = time.perf_counter()
        for number, rate in enumerate(rates):
            batch = {
                name.split("/")[1]: array
                for name, array in arrays.items()
                if name.split("/")[0] == str(number)
            }
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.zero_grad()
            loss = self.loss(self.scores(batch), batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
            self.optimizer.step()
            losses.append(loss.item())
        return {"seconds": time.perf_counter() - began, "loss": float(np.mean(losses))}

    def predict(self, batch: str, scores: str) -> dict[str, float]:
        """Writes the scores of a batch."""
        with np.load(batch) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        self.model.eval()
        with torch.inference_mode():
            np.save(scores, self.scores(arrays).numpy())
        return {}

    def scores(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns scores in the shapes of `keras_bert_tpu`."""
        outputs = self.model(
            input_ids=batch["token_ids"].long(),
            token_type_ids=batch["segment_ids"].long(),
            attention_mask=batch["padding_mask"].long(),
        )
        if self.kind == "spans":
            return torch.stack([outputs.start_logits, outputs.end_logits], dim=1)
        return outputs.logits

    def loss(self, scores: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns the mean loss over what has a weight."""
        weights = batch["label_weights"]
        if self.kind == "number":
            losses = mse_loss(scores[:, 0], batch["label"], reduction="none")
        elif self.kind == "spans":
            losses = sum(
                cross_entropy(scores[:, i], batch[name].long(), reduction="none") / 2
                for i, name in enumerate(("start_position", "end_position"))
            )
        else:
            labels = batch["label"].long()
            losses = cross_entropy(scores.flatten(0, -2), labels.flatten(), reduction="none")
            losses = losses.reshape(weights.shape)
        return (losses * weights).sum() / weights.sum()


def main() -> None:
    peer = None
    for line in sys.stdin:
        arguments = json.loads(line)
        what = arguments.pop("do")
        answer = {}
        if what == "model":
            peer = Peer(**arguments)
        else:
            answer = getattr(peer, what)(**arguments)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
