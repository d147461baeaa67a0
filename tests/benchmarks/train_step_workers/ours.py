"""The train step of this package, as `pretrain` makes it; see protocol.py."""

import os

import protocol

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    parser = protocol.worker_parser(__doc__)
    parser.add_argument("--jit_compile", action="store_true", help="compile the step with XLA")
    arguments = parser.parse_args()
    import keras
    import tensorflow as tf
    from sizes import encoder_of

    from keras_bert_tpu.config import OptimizerConfig, PhaseConfig
    from keras_bert_tpu.models.pretrainer import BertPretrainer
    from keras_bert_tpu.training.optimizers import make_optimizer, make_schedule
    from keras_bert_tpu.training.train_step import PretrainingStep

    stages = {"import": protocol.since_start()}
    keras.utils.set_random_seed(1)
    policy = "mixed_bfloat16" if arguments.dtype == "bfloat16" else "float32"
    settings = OptimizerConfig(
        learning_rate=protocol.LEARNING_RATE,
        schedule="constant",
        warmup_steps=0,
        beta_1=protocol.BETA_1,
        beta_2=protocol.BETA_2,
        epsilon=protocol.EPSILON,
        weight_decay=protocol.WEIGHT_DECAY,
        clip_norm=protocol.CLIP_NORM,
    )
    step = PretrainingStep(
        BertPretrainer(encoder_of(arguments), dtype=policy), settings.clip_norm, seed=1
    )
    optimizer = make_optimizer(settings, make_schedule(settings, (PhaseConfig(),)))
    step.compile(optimizer=optimizer, jit_compile=arguments.jit_compile)
    optimizer.build(step.pretrainer.trainable_variables)
    batch = tf.nest.map_structure(tf.constant, protocol.make_batch(arguments))
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    stages["build"] = protocol.since_start()
    step.fit(dataset, steps_per_epoch=1, verbose=0)
    stages["step"] = protocol.since_start()
    iterator = iter(dataset)

    def run(count: int) -> float:
        step.reset_metrics()
        for _ in range(count):
            logs = step.train_function(iterator)
        return float(logs["loss"])

    protocol.serve(stages, run)


if __name__ == "__main__":
    main()
