"""The same train step of KerasHub's BERT, by Keras' own `compile` and `fit`; see protocol.py.

`BertBackbone` with `MaskedLMHead` on the gathered mask positions, tied to the token embedding, and
a dense layer on the pooled output; AdamW with `global_clipnorm`. Its GELU is the one with tanh,
which is cheaper than ours with erf. `--jit_compile` is what `compile` chooses when it is not told.
"""

import argparse
import os
from typing import TYPE_CHECKING

import protocol

if TYPE_CHECKING:
    import keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def make_model(arguments: argparse.Namespace, jit_compile: bool) -> "keras.Model":
    """Returns the compiled model of sizes that `protocol.add_shapes` tells."""
    import keras
    import keras_hub

    policy = "mixed_bfloat16" if arguments.dtype == "bfloat16" else "float32"
    keras.config.set_dtype_policy(policy)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=arguments.vocabulary,
        num_layers=arguments.layers,
        num_heads=arguments.heads,
        hidden_dim=arguments.hidden,
        intermediate_dim=4 * arguments.hidden,
        dropout=protocol.DROPOUT,
        max_sequence_length=protocol.MAX_POSITIONS,
    )
    positions = keras.Input((None,), dtype="int32", name="mask_positions")
    outputs = backbone.output
    head = keras_hub.layers.MaskedLMHead(
        vocabulary_size=arguments.vocabulary,
        token_embedding=backbone.token_embedding,
        intermediate_activation=lambda x: keras.activations.gelu(x, approximate=True),
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=protocol.INITIALIZER_RANGE),
        name="mlm",
    )
    model = keras.Model(
        {**backbone.input, "mask_positions": positions},
        {
            "mlm": head(outputs["sequence_output"], positions),
            "nsp": keras.layers.Dense(2, name="nsp")(outputs["pooled_output"]),
        },
    )
    optimizer = keras.optimizers.AdamW(
        protocol.LEARNING_RATE,
        weight_decay=protocol.WEIGHT_DECAY,
        beta_1=protocol.BETA_1,
        beta_2=protocol.BETA_2,
        epsilon=protocol.EPSILON,
        global_clipnorm=protocol.CLIP_NORM,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        optimizer=optimizer,
        loss={"mlm": loss, "nsp": loss},
        weighted_metrics={
            name: keras.metrics.SparseCategoricalAccuracy() for name in ("mlm", "nsp")
        },
        jit_compile=jit_compile,
    )
    return model


def make_data(arguments: argparse.Namespace) -> tuple[dict, dict, dict]:
    """Returns a batch of tensors: inputs, targets and their weights."""
    import tensorflow as tf

    batch = protocol.make_batch(arguments)
    inputs = {name: batch[name] for name in ("token_ids", "segment_ids", "padding_mask")}
    inputs["mask_positions"] = batch["mask_positions"]
    targets = {"mlm": batch["mask_ids"], "nsp": batch["next_sentence_label"][:, 0]}
    weights = {"mlm": batch["mask_weights"], "nsp": targets["nsp"] * 0.0 + 1.0}
    return tf.nest.map_structure(tf.constant, (inputs, targets, weights))


def main() -> None:
    parser = protocol.worker_parser(__doc__)
    parser.add_argument("--jit_compile", action="store_true", help="compile the step with XLA")
    arguments = parser.parse_args()
    import keras
    import keras_hub  # noqa: F401 - part of the time that is told as that of imports
    import tensorflow as tf

    stages = {"import": protocol.since_start()}
    keras.utils.set_random_seed(1)
    model = make_model(arguments, arguments.jit_compile)
    dataset = tf.data.Dataset.from_tensors(make_data(arguments)).repeat()
    stages["build"] = protocol.since_start()
    model.fit(dataset, steps_per_epoch=1, verbose=0)
    stages["step"] = protocol.since_start()
    iterator = iter(dataset)

    def run(count: int) -> float:
        model.reset_metrics()
        for _ in range(count):
            logs = model.train_function(iterator)
        return float(logs["loss"])

    protocol.serve(stages, run)


if __name__ == "__main__":
    main()
