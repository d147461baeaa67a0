"""The train step of Hugging Face's BertForPreTraining in PyTorch; see protocol.py.

The model as it comes: its masked language model head scores all positions.
"""

import protocol


def main() -> None:
    parser = protocol.worker_parser(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="by torch.compile")
    arguments = parser.parse_args()
    import numpy as np
    import torch
    import transformers

    stages = {"import": protocol.since_start()}
    torch.manual_seed(1)
    model = transformers.BertForPreTraining(
        transformers.BertConfig(
            vocab_size=arguments.vocabulary,
            num_hidden_layers=arguments.layers,
            hidden_size=arguments.hidden,
            num_attention_heads=arguments.heads,
            intermediate_size=4 * arguments.hidden,
            hidden_dropout_prob=protocol.DROPOUT,
            attention_probs_dropout_prob=protocol.DROPOUT,
            max_position_embeddings=protocol.MAX_POSITIONS,
        )
    )
    model.train().to(arguments.device)
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        is_excluded = name.endswith("bias") or "LayerNorm" in name
        (others if is_excluded else decayed).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": protocol.WEIGHT_DECAY},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=protocol.LEARNING_RATE,
        betas=(protocol.BETA_1, protocol.BETA_2),
        eps=protocol.EPSILON,
        fused=True,
    )
    batch = protocol.make_batch(arguments)
    labels = np.full(batch["token_ids"].shape, -100, np.int64)
    np.put_along_axis(labels, batch["mask_positions"], batch["mask_ids"], axis=1)
    inputs = {
        "input_ids": torch.tensor(batch["token_ids"], dtype=torch.long),
        "token_type_ids": torch.tensor(batch["segment_ids"], dtype=torch.long),
        "attention_mask": torch.tensor(batch["padding_mask"], dtype=torch.long),
        "labels": torch.tensor(labels),
        "next_sentence_label": torch.tensor(batch["next_sentence_label"][:, 0], dtype=torch.long),
    }
    inputs = {name: value.to(arguments.device) for name, value in inputs.items()}
    scores = torch.compile(model) if arguments.compile else model
    stages["build"] = protocol.since_start()

    def run(count: int) -> float:
        for _ in range(count):
            optimizer.zero_grad()
            # bfloat16 is PyTorch's automatic mixed precision: float32 weights, as in Keras.
            with torch.autocast(
                arguments.device, torch.bfloat16, enabled=arguments.dtype == "bfloat16"
            ):
                loss = scores(**inputs).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), protocol.CLIP_NORM)
            optimizer.step()
        return loss.item()

    run(1)
    stages["step"] = protocol.since_start()
    protocol.serve(stages, run)


if __name__ == "__main__":
    main()
