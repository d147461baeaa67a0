"""Writes golden.npz: a small BertForPreTraining of Hugging Face, a batch, and what it gives.

The file is what our encoder, heads, losses and gradients are compared with; neither torch nor
transformers is needed to read it. It was made with torch 2.13.0 (CPU) and transformers 5.23.0 by

    python tests/golden/bert_for_pretraining/make_golden.py

What stands in `golden.npz` (float arrays are float32, whole numbers int32):

    settings                       JSON text: the BertConfig keys used, and the versions above
    weights/<name>                 every parameter under its Hugging Face name and orientation:
                                   a Linear's weight is [outputs, inputs]
    inputs/token_ids, segment_ids, padding_mask                [4, 24]
    inputs/mask_positions, mask_ids, mask_weights              [4, 5], padded with zeros
    inputs/next_sentence_label                                 [4, 1]
    outputs/sequence_output        [4, 24, 32], rows of padding tokens included
    outputs/pooled_output          [4, 32]
    outputs/mlm_logits             [4, 5, 97], at mask_positions
    outputs/nsp_logits             [4, 2]
    outputs/mlm_loss               sum(mask_weights * cross entropy) / sum(mask_weights)
    outputs/nsp_loss               mean over the batch
    outputs/loss                   their sum, which is the model's own loss (checked below)
    gradients/<name>               of outputs/loss, names and shapes as in weights/

The decoder of the masked language model is tied to the word embeddings and its bias to
`cls.predictions.bias`, so both stand in the file once and their gradients are the whole ones.
All weights are drawn wide, LayerNorm scales and offsets and every bias included, so that no
part of the model can be wrong without the numbers showing it. The script also computes everything
in float64 and fails where float32 is further than 2e-6 from it (relative to the array's largest
value, or to 1 where that is less), so a comparison at 1e-5 is one with the rule and not with
torch's rounding.
"""

import json
import pathlib

import numpy as np
import torch
import transformers

SEED = 20181011
FILE = pathlib.Path(__file__).parent / "golden.npz"
SETTINGS = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",  # The exact one, with erf.
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "pad_token_id": 0,
}
PAD, CLS, SEP, MASK = 0, 1, 2, 3
FIRST_WORD = 4
LENGTH, PREDICTIONS = 24, 5
# Of each example: tokens of the first and the second part (no special tokens counted), real
# predictions, label. The first fills the row; the last is the shortest there can be.
EXAMPLES = [(10, 11, 5, 0), (6, 5, 2, 1), (9, 3, 4, 1), (1, 1, 1, 0)]
IGNORED = -100  # The label that torch's cross entropy leaves out.


def build_model() -> transformers.BertForPreTraining:
    """A model in eval mode whose every parameter is random and wide."""
    # Eager attention is the plain softmax(QK)V; a fused kernel may round otherwise.
    config = transformers.BertConfig(**SETTINGS, attn_implementation="eager")
    model = transformers.BertForPreTraining(config).eval()
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "LayerNorm.weight" in name:
                value = 1.0 + 0.3 * noise
            elif name.endswith("bias"):
                value = 0.3 * noise
            elif "embeddings" in name:
                value = 0.5 * noise
            else:
                value = noise / parameter.shape[1] ** 0.5
            parameter.copy_(value)
    # By storage, because a tie that was lost would not fail anywhere else.
    tied = model.cls.predictions.decoder
    assert tied.weight.data_ptr() == model.bert.embeddings.word_embeddings.weight.data_ptr()
    assert tied.bias.data_ptr() == model.cls.predictions.bias.data_ptr()
    return model


def build_inputs() -> dict[str, np.ndarray]:
    """A batch under our names, drawn from SEED."""
    random = np.random.default_rng(SEED)
    inputs = {
        name: np.zeros((len(EXAMPLES), LENGTH), np.int32)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    for name, dtype in (
        ("mask_positions", np.int32),
        ("mask_ids", np.int32),
        ("mask_weights", np.float32),
    ):
        inputs[name] = np.zeros((len(EXAMPLES), PREDICTIONS), dtype)
    inputs["next_sentence_label"] = np.array([[label] for *_, label in EXAMPLES], np.int32)
    for row, (first, second, predictions, _) in enumerate(EXAMPLES):
        # PAD must not be drawn as a word: torch gives its embedding row no gradient as an input.
        words = random.integers(FIRST_WORD, SETTINGS["vocab_size"], size=first + second)
        ids = np.concatenate([[CLS], words[:first], [SEP], words[first:], [SEP]])
        inputs["token_ids"][row, : len(ids)] = ids
        inputs["segment_ids"][row, first + 2 : len(ids)] = 1
        inputs["padding_mask"][row, : len(ids)] = 1
        maskable = [place for place in range(len(ids)) if ids[place] not in (CLS, SEP)]
        positions = np.sort(random.choice(maskable, size=predictions, replace=False))
        inputs["mask_positions"][row, :predictions] = positions
        inputs["mask_ids"][row, :predictions] = ids[positions]
        inputs["mask_weights"][row, :predictions] = 1.0
        inputs["token_ids"][row, positions] = MASK
    return inputs


def run(
    model: transformers.BertForPreTraining, inputs: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs, and gradients of the loss, in the model's own dtype."""
    model.zero_grad()
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    positions = tensors["mask_positions"].long()
    weights = tensors["mask_weights"]
    targets = tensors["mask_ids"].long()
    next_labels = tensors["next_sentence_label"][:, 0].long()

    labels = torch.full(inputs["token_ids"].shape, IGNORED)
    for row, column in zip(*np.nonzero(inputs["mask_weights"]), strict=True):
        labels[row, positions[row, column]] = targets[row, column]
    model_inputs = {
        "input_ids": tensors["token_ids"].long(),
        "token_type_ids": tensors["segment_ids"].long(),
        "attention_mask": tensors["padding_mask"].long(),
    }
    own = model(**model_inputs, labels=labels, next_sentence_label=next_labels)
    encoded = model.bert(**model_inputs)
    rows = torch.arange(len(EXAMPLES))[:, None]
    mlm_logits = own.prediction_logits[rows, positions]
    cross_entropy = torch.nn.functional.cross_entropy(
        mlm_logits.flatten(0, 1), targets.flatten(), reduction="none"
    ).reshape(weights.shape)
    mlm_loss = (cross_entropy * weights).sum() / weights.sum()
    nsp_loss = torch.nn.functional.cross_entropy(own.seq_relationship_logits, next_labels)
    loss = mlm_loss + nsp_loss
    torch.testing.assert_close(loss, own.loss, rtol=1e-6, atol=0.0)
    loss.backward()
    outputs = {
        "sequence_output": encoded.last_hidden_state,
        "pooled_output": encoded.pooler_output,
        "mlm_logits": mlm_logits,
        "nsp_logits": own.seq_relationship_logits,
        "mlm_loss": mlm_loss,
        "nsp_loss": nsp_loss,
        "loss": loss,
    }
    return (
        {name: value.detach().numpy() for name, value in outputs.items()},
        {name: value.grad.numpy().copy() for name, value in model.named_parameters()},
    )


def largest_error(values: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> float:
    """Largest distance to the float64 values, relative to an array's largest value or to 1."""
    return max(
        np.abs(values[name] - exact[name]).max() / max(1.0, np.abs(exact[name]).max())
        for name in exact
    )


def main() -> None:
    """Computes everything twice, checks it, and writes the file."""
    torch.manual_seed(SEED)
    # One thread, so that sums do not depend on the machine's number of cores.
    torch.set_num_threads(1)
    model, inputs = build_model(), build_inputs()
    weights = {name: value.detach().numpy().copy() for name, value in model.named_parameters()}
    outputs, gradients = run(model, inputs)
    exact_outputs, exact_gradients = run(model.double(), inputs)
    errors = (
        largest_error(outputs, exact_outputs),
        largest_error(gradients, exact_gradients),
    )
    print("float32 against float64: outputs {:.1e}, gradients {:.1e}".format(*errors))
    assert max(errors) < 2e-6, errors
    assert all(np.abs(value).max() > 1e-2 for value in outputs.values())
    # A key bias shifts all scores of a query alike, so its true gradient is zero.
    assert all(
        np.abs(value).max() > 1e-3 or name.endswith("attention.self.key.bias")
        for name, value in gradients.items()
    ), {name: np.abs(value).max() for name, value in gradients.items()}

    settings = {
        **SETTINGS,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    arrays = {"settings": np.array(json.dumps(settings))}
    for group, values in (
        ("weights", weights),
        ("inputs", inputs),
        ("outputs", outputs),
        ("gradients", gradients),
    ):
        arrays.update({f"{group}/{name}": value for name, value in values.items()})
    np.savez_compressed(FILE, **arrays)
    for name, value in outputs.items():
        print(f"{name}: {value.shape} largest {np.abs(value).max():.4f}")
    print(f"{FILE.name}: {len(arrays)} arrays, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
