"""Writes small presets of KerasHub, and what its models give for a batch.

Run with keras 3.15.1 and keras-hub 0.32.0 on TensorFlow:

    python tests/golden/keras_hub/make_golden.py

    masked_lm/    BertMaskedLM with its tokenizer
    texts/        BertTextClassifier of three classes, with its tokenizer
    NAME.npz      the outputs, under the names of ours
"""

import pathlib
import sys

import keras_hub
import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import small_bert  # noqa: E402


def build(task: type, **settings) -> object:
    """A task whose every weight is random."""
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(small_bert.PIECES),
        num_layers=small_bert.LAYERS,
        num_heads=small_bert.HEADS,
        hidden_dim=small_bert.HIDDEN,
        intermediate_dim=small_bert.INNER,
        max_sequence_length=small_bert.POSITIONS,
        num_segments=small_bert.SEGMENTS,
        dropout=0.2,
    )
    model = task(backbone=backbone, preprocessor=None, **settings)
    random = np.random.default_rng(2)
    for weight in model.weights:
        weight.assign(small_bert.draw(weight.path, tuple(weight.shape), random))
    return model


def main() -> None:
    """Writes both presets."""
    inputs = small_bert.build_inputs()
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=small_bert.PIECES, lowercase=True)
    words = build(keras_hub.models.BertMaskedLM)
    texts = build(keras_hub.models.BertTextClassifier, num_classes=3)
    for name, model, of_model in (
        ("masked_lm", words, inputs),
        ("texts", texts, {k: v for k, v in inputs.items() if k != "mask_positions"}),
    ):
        model.save_to_preset(str(HERE / name))
        tokenizer.save_to_preset(str(HERE / name))
        encoded = model.backbone({k: v for k, v in inputs.items() if k != "mask_positions"})
        scores = {"mlm_logits" if name == "masked_lm" else "scores": model(of_model)}
        np.savez(HERE / f"{name}.npz", **encoded, **scores)


if __name__ == "__main__":
    main()
