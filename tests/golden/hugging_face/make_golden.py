"""Writes folders of small BERT models of transformers, and what each gives for a batch.

It was run with torch 2.14.1 and transformers 5.24.0, neither of which is needed to read them:

    python tests/golden/hugging_face/make_golden.py

For each class there are NAME/ as `save_pretrained` writes it and NAME.npz with the outputs of the
model for `small_bert.build_inputs` (multiple choice: the three rows are the choices of one
example), under the names of our outputs. `tokenizer.json` beside them has what their tokenizer
makes of `small_bert.TEXTS`, for each folder.

    pretraining    both heads; the weights in three files with an index
    masked_lm      gelu_new
    next_sentence  relu
    texts          BertForSequenceClassification of three named classes, layer norm 1e-5
    tokens         BertForTokenClassification of four named classes, three segments; its vocabulary
                   in tokenizer.json alone, with an added token; it keeps accents
    questions      BertForQuestionAnswering
    choices        BertForMultipleChoice
    encoder        BertModel, without a prefix
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import small_bert  # noqa: E402

SIZES = {
    "vocab_size": len(small_bert.PIECES),
    "hidden_size": small_bert.HIDDEN,
    "num_hidden_layers": small_bert.LAYERS,
    "num_attention_heads": small_bert.HEADS,
    "intermediate_size": small_bert.INNER,
    "max_position_embeddings": small_bert.POSITIONS,
}
TOPICS = {0: "nature", 1: "sports", 2: "news"}
TAGS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC"}
MODELS = {
    "pretraining": (transformers.BertForPreTraining, {"attention_probs_dropout_prob": 0.2}),
    "masked_lm": (transformers.BertForMaskedLM, {"hidden_act": "gelu_new"}),
    "next_sentence": (transformers.BertForNextSentencePrediction, {"hidden_act": "relu"}),
    "texts": (
        transformers.BertForSequenceClassification,
        {"id2label": TOPICS, "layer_norm_eps": 1e-5, "hidden_dropout_prob": 0.3},
    ),
    "tokens": (
        transformers.BertForTokenClassification,
        {"id2label": TAGS, "type_vocab_size": 3, "vocab_size": len(small_bert.PIECES) + 1},
    ),
    "questions": (transformers.BertForQuestionAnswering, {}),
    "choices": (transformers.BertForMultipleChoice, {}),
    "encoder": (transformers.BertModel, {}),
}


def build(name: str) -> transformers.PreTrainedModel:
    """A model in eval mode whose every parameter is random and wide."""
    kind, settings = MODELS[name]
    labels = settings.get("id2label")
    if labels is not None:
        settings = {**settings, "label2id": {label: index for index, label in labels.items()}}
    config = transformers.BertConfig(**{**SIZES, **settings}, attn_implementation="eager")
    model = kind(config).eval()
    random = np.random.default_rng(len(name))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            value = small_bert.draw(key, tuple(parameter.shape), random)
            parameter.copy_(torch.from_numpy(value))
    return model


def outputs_of(name: str, model: transformers.PreTrainedModel) -> dict[str, np.ndarray]:
    """The outputs for the batch, in float32."""
    inputs = {key: torch.from_numpy(value) for key, value in small_bert.build_inputs().items()}
    positions = inputs.pop("mask_positions").long()
    batch = {
        "input_ids": inputs["token_ids"].long(),
        "token_type_ids": inputs["segment_ids"].long(),
        "attention_mask": inputs["padding_mask"].long(),
    }
    if name == "choices":
        batch = {key: value[None] for key, value in batch.items()}
    with torch.no_grad():
        given = model(**batch)
    rows = torch.arange(3)[:, None]
    if name == "pretraining":
        found = {
            "mlm_logits": given.prediction_logits[rows, positions],
            "nsp_logits": given.seq_relationship_logits,
        }
    elif name == "masked_lm":
        found = {"mlm_logits": given.logits[rows, positions]}
    elif name == "next_sentence":
        found = {"nsp_logits": given.logits}
    elif name == "questions":
        found = {"scores": torch.stack([given.start_logits, given.end_logits], -1)}
    elif name == "encoder":
        found = {
            "sequence_output": given.last_hidden_state,
            "pooled_output": given.pooler_output,
        }
    else:
        found = {"scores": given.logits}
    return {key: value.numpy() for key, value in found.items()}


def build_tokenizer(name: str) -> transformers.PreTrainedTokenizerBase:
    """BERT's tokenizer of the shared pieces."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "vocab.txt")
        file.write_text("".join(f"{piece}\n" for piece in small_bert.PIECES))
        if name != "tokens":
            return transformers.BertTokenizer.from_pretrained(folder)
        tokenizer = transformers.BertTokenizer.from_pretrained(folder, strip_accents=False)
    tokenizer.add_tokens(transformers.AddedToken("[E1]", normalized=False))
    return tokenizer


def main() -> None:
    """Writes all folders."""
    texts = [*small_bert.TEXTS, "she saw [E1] in the garden"]
    ids = {}
    for name in MODELS:
        model = build(name)
        shards = {"max_shard_size": "40KB"} if name == "pretraining" else {}
        model.save_pretrained(HERE / name, **shards)
        tokenizer = build_tokenizer(name)
        tokenizer.save_pretrained(HERE / name)
        if name != "tokens":
            (HERE / name / "vocab.txt").write_text(
                "".join(f"{piece}\n" for piece in small_bert.PIECES)
            )
        ids[name] = tokenizer(texts, add_special_tokens=False)["input_ids"]
        np.savez(HERE / f"{name}.npz", **outputs_of(name, model))
    (HERE / "tokenizer.json").write_text(json.dumps({"texts": texts, "ids": ids}))


if __name__ == "__main__":
    main()
