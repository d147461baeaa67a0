"""Hugging Face's task models in PyTorch, trained on the batches that they are given.

It runs with the python of an environment with torch and transformers, see finetuning_quality.py,
and answers each line on its standard input, a JSON object whose "do" names what to do, with a JSON
line:

    model        makes a new one, of kind "classes", "number", "pieces" or "spans"; the file `head`,
                 if one is given, has the `weight` and `bias` that its head begins with
    train        a step for each of `rates`; tells the seconds, and the mean loss
    predict      writes the scores of a batch, float32 [rows, ...]
    train_texts  tokenizes a file of texts and trains an epoch on it; tells the seconds
    classify     puts a file of texts through a text-classification pipeline; tells the seconds

Batches are .npz files: the arrays of one have the names of `keras_bert_tpu`, those of several
"NUMBER/NAME". Files of texts are JSON. The optimizer is AdamW with the settings of
`keras_bert_tpu`'s fine-tuning.
"""

import json
import sys
import time
from pathlib import Path

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

    def __init__(self, kind: str, outputs: int, path: str, seed: int, head: str | None = None):
        transformers.set_seed(seed)
        self.kind, self.path = kind, path
        self.model = CLASSES[kind].from_pretrained(path, num_labels=outputs)
        if head:
            layer = self.model.qa_outputs if kind == "spans" else self.model.classifier
            layer.load_state_dict(read_arrays(head))
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
        arrays = read_arrays(batches)
        self.model.train()
        losses = []
        began = time.perf_counter()
        for number, rate in enumerate(rates):
            batch = {
                name.split("/")[1]: array
                for name, array in arrays.items()
                if name.split("/")[0] == str(number)
            }
            losses.append(self.step(batch, rate))
        return {"seconds": time.perf_counter() - began, "loss": float(np.mean(losses))}

    def step(self, batch: dict[str, torch.Tensor], rate: float) -> float:
        """Makes a step and returns its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss = self.loss(self.scores(batch), batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        return loss.item()

    def train_texts(self, file: str, batch_size: int, length: int, rate: float) -> dict[str, float]:
        """Trains as the library's examples do: batches in random order, padded to their longest."""
        examples = json.loads(Path(file).read_text())
        began = time.perf_counter()
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.path)
        rows = tokenizer(examples["texts"], truncation=True, max_length=length)
        features = [
            {name: rows[name][i] for name in rows} | {"labels": label}
            for i, label in enumerate(examples["labels"])
        ]
        loader = torch.utils.data.DataLoader(
            features,
            batch_size=batch_size,
            shuffle=True,
            collate_fn=transformers.DataCollatorWithPadding(tokenizer),
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        schedule = transformers.get_linear_schedule_with_warmup(
            self.optimizer, len(loader) // 10, len(loader)
        )
        self.model.train()
        for batch in loader:
            self.optimizer.zero_grad()
            self.model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
            self.optimizer.step()
            schedule.step()
        return {"seconds": time.perf_counter() - began}

    def classify(self, file: str, batch_size: int, length: int) -> dict[str, float]:
        """Classifies texts by the library's pipeline."""
        texts = json.loads(Path(file).read_text())["texts"]
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.path)
        pipeline = transformers.pipeline(
            "text-classification", model=self.model.eval(), tokenizer=tokenizer, device="cpu"
        )
        pipeline(texts[:batch_size], batch_size=batch_size, truncation=True, max_length=length)
        began = time.perf_counter()
        found = pipeline(texts, batch_size=batch_size, truncation=True, max_length=length)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "texts": len(found)}

    def predict(self, batch: str, scores: str) -> dict[str, float]:
        """Writes the scores of a batch."""
        self.model.eval()
        with torch.inference_mode():
            np.save(scores, self.scores(read_arrays(batch)).numpy())
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


def read_arrays(path: str) -> dict[str, torch.Tensor]:
    """Returns the arrays of a file by name."""
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


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
