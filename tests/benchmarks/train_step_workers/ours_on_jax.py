"""The train step of this package's model on Keras' JAX backend, for GPUs; see protocol.py."""

import os

import protocol

os.environ["KERAS_BACKEND"] = "jax"
# Other programs share the GPU.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def main() -> None:
    arguments = protocol.worker_parser(__doc__).parse_args()
    import jax
    import jax.numpy as jnp
    import keras
    from sizes import encoder_of

    from keras_bert_tpu.layers.dropout import SITES_PER_STEP
    from keras_bert_tpu.models.pretrainer import BertPretrainer

    stages = {"import": protocol.since_start()}
    keras.utils.set_random_seed(1)
    policy = "mixed_bfloat16" if arguments.dtype == "bfloat16" else "float32"
    model = BertPretrainer(encoder_of(arguments), dtype=policy)
    optimizer = keras.optimizers.AdamW(
        protocol.LEARNING_RATE,
        weight_decay=protocol.WEIGHT_DECAY,
        beta_1=protocol.BETA_1,
        beta_2=protocol.BETA_2,
        epsilon=protocol.EPSILON,
        global_clipnorm=protocol.CLIP_NORM,
    )
    optimizer.exclude_from_weight_decay(
        [v for v in model.trainable_variables if v.path.endswith(("bias", "/beta", "/gamma"))]
    )
    optimizer.build(model.trainable_variables)
    others = [variable.value for variable in model.non_trainable_variables]
    batch = {name: jnp.asarray(value) for name, value in protocol.make_batch(arguments).items()}

    def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
        chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
        return (jax.nn.logsumexp(logits, axis=-1) - chosen).mean()

    def loss_of(weights: list[jax.Array], number: jax.Array) -> jax.Array:
        seed = jnp.stack([1, number * SITES_PER_STEP])
        outputs, _ = model.stateless_call(weights, others, batch, training=True, seed=seed)
        return cross_entropy(outputs["mlm_logits"], batch["mask_ids"]) + cross_entropy(
            outputs["nsp_logits"], batch["next_sentence_label"][:, 0]
        )

    def step(
        weights: list[jax.Array], state: list[jax.Array], number: jax.Array
    ) -> tuple[list[jax.Array], list[jax.Array], jax.Array]:
        loss, gradients = jax.value_and_grad(loss_of)(weights, number)
        weights, state = optimizer.stateless_apply(state, gradients, weights)
        return weights, state, loss

    compiled = jax.jit(step, donate_argnums=(0, 1))
    # Copies: the model keeps its own, which must not be given away.
    weights = [jnp.array(variable.value) for variable in model.trainable_variables]
    state = [jnp.array(variable.value) for variable in optimizer.variables]
    stages["build"] = protocol.since_start()
    made = 0

    def run(count: int) -> float:
        nonlocal weights, state, made
        for _ in range(count):
            weights, state, loss = compiled(weights, state, jnp.int32(made))
            made += 1
        return float(loss)

    run(1)
    stages["step"] = protocol.since_start()
    protocol.serve(stages, run)


if __name__ == "__main__":
    main()
