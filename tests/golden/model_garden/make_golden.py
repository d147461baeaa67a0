"""Writes small checkpoints of the Model Garden's BERT, and what its models give for a batch.

Run with tensorflow 2.21.0, tf-keras 2.21.0 and tf-models-official 2.20.0:

    TF_USE_LEGACY_KERAS=1 python tests/golden/model_garden/make_golden.py

    pretraining/   BertPretrainerV2 on a BertEncoderV2, as its pre-training task saves it: with a
                   next-sentence head and the optimizer; params.yaml beside it
    encoder/       BertEncoder, as its published checkpoints are; bert_config.json beside it
    NAME.npz       the outputs, under the names of ours
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf
import yaml
from official.modeling import tf_utils
from official.nlp.configs import encoders
from official.nlp.modeling import layers, models, networks

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import small_bert  # noqa: E402

PIECES = len(small_bert.PIECES)


def batch() -> dict[str, tf.Tensor]:
    """The shared batch under the names of the Model Garden."""
    inputs = small_bert.build_inputs()
    return {
        "input_word_ids": tf.constant(inputs["token_ids"]),
        "input_type_ids": tf.constant(inputs["segment_ids"]),
        "input_mask": tf.constant(inputs["padding_mask"]),
        "masked_lm_positions": tf.constant(inputs["mask_positions"]),
    }


def fill(model: tf.Module) -> None:
    """Gives each weight random numbers."""
    random = np.random.default_rng(3)
    for variable in model.weights:
        variable.assign(small_bert.draw(variable.name[:-2], tuple(variable.shape), random))


def vocabulary(path: pathlib.Path) -> None:
    """Writes vocab.txt."""
    (path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in small_bert.PIECES))


def pretraining() -> None:
    """BertPretrainerV2 with a next-sentence head."""
    path = HERE / "pretraining"
    path.mkdir(exist_ok=True)
    settings = encoders.EncoderConfig(type="bert")
    settings.bert.override(
        {
            "vocab_size": PIECES,
            "hidden_size": small_bert.HIDDEN,
            "num_layers": small_bert.LAYERS,
            "num_attention_heads": small_bert.HEADS,
            "intermediate_size": small_bert.INNER,
            "max_position_embeddings": small_bert.POSITIONS,
            "type_vocab_size": small_bert.SEGMENTS,
            "dropout_rate": 0.2,
        }
    )
    head = layers.ClassificationHead(small_bert.HIDDEN, 2, name="next_sentence")
    model = models.BertPretrainerV2(
        encoder_network=encoders.build_encoder(settings),
        classification_heads=[head],
        mlm_activation=tf_utils.get_activation("gelu"),
    )
    inputs = batch()
    model(inputs)
    fill(model)
    optimizer = tf.keras.optimizers.SGD(momentum=0.9)
    optimizer.build(model.trainable_variables)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, **model.checkpoint_items)
    for old in path.glob("ckpt*"):
        old.unlink()
    checkpoint.save(str(path / "ckpt"))
    params = {"task": {"model": {"encoder": settings.as_dict()}}}
    (path / "params.yaml").write_text(yaml.safe_dump(params))
    vocabulary(path)
    outputs = model(inputs)
    np.savez(
        HERE / "pretraining.npz",
        sequence_output=outputs["sequence_output"],
        mlm_logits=outputs["mlm_logits"],
        nsp_logits=outputs["next_sentence"],
    )


def encoder() -> None:
    """The encoder of the published checkpoints."""
    path = HERE / "encoder"
    path.mkdir(exist_ok=True)
    model = networks.BertEncoder(
        vocab_size=PIECES,
        hidden_size=small_bert.HIDDEN,
        num_layers=small_bert.LAYERS,
        num_attention_heads=small_bert.HEADS,
        intermediate_size=small_bert.INNER,
        max_sequence_length=small_bert.POSITIONS,
        type_vocab_size=small_bert.SEGMENTS,
    )
    fill(model)
    tf.train.Checkpoint(model=model).write(str(path / "bert_model.ckpt"))
    values = {
        "vocab_size": PIECES,
        "hidden_size": small_bert.HIDDEN,
        "num_hidden_layers": small_bert.LAYERS,
        "num_attention_heads": small_bert.HEADS,
        "intermediate_size": small_bert.INNER,
        "max_position_embeddings": small_bert.POSITIONS,
        "type_vocab_size": small_bert.SEGMENTS,
        "hidden_act": "gelu",
    }
    (path / "bert_config.json").write_text(json.dumps(values, indent=2))
    vocabulary(path)
    inputs = batch()
    del inputs["masked_lm_positions"]
    sequence_output, pooled_output = model(inputs)
    np.savez(HERE / "encoder.npz", sequence_output=sequence_output, pooled_output=pooled_output)


if __name__ == "__main__":
    pretraining()
    encoder()
