"""A pre-training run from its config to the trained model: phases, evaluation, resume."""

import dataclasses
import posixpath
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_bert_tpu.config import InputError, PhaseConfig, PretrainingConfig
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.pretraining_data.damage import ShardScan
from keras_bert_tpu.pretraining_data.manifest import MANIFEST_FILE, Manifest
from keras_bert_tpu.pretraining_data.pipeline import (
    training_dataset,
    validation_dataset,
    validation_steps,
)
from keras_bert_tpu.pretraining_data.shard_reader import damage_message
from keras_bert_tpu.training import run_folder
from keras_bert_tpu.training.callbacks import (
    MetricsLog,
    Progress,
    RunCallbacks,
    SaveCheckpoints,
)
from keras_bert_tpu.training.checkpointing import Checkpointer
from keras_bert_tpu.training.curves import plot_curves
from keras_bert_tpu.training.optimizers import make_optimizer, make_schedule
from keras_bert_tpu.training.schedules import PhasedSchedule
from keras_bert_tpu.training.train_step import PretrainingStep


class Stretch(NamedTuple):
    """Steps that one call of `fit` makes: within a phase, up to an evaluation.

    Attributes:
        phase_index: int. Phase, from 0.
        first_step: int. Steps of the run that lie before.
        last_step: int. Steps of the run once it is done.
        phase_start: int. Step of the run at which the phase began.
    """

    phase_index: int
    first_step: int
    last_step: int
    phase_start: int


def pretrain(
    config: PretrainingConfig,
    data: str,
    output: str,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> BertPretrainer:
    """Trains a BERT, or continues the run that the output folder holds.

    Below `output` stand `config.yaml`, `metrics.jsonl`, `tensorboard/`, `curves.png`,
    `checkpoints/` and, once the run is done, the folder `model` that
    `BertPretrainer.from_pretrained` reads.

    Args:
        config: PretrainingConfig.
        data: str. Local or gs:// folder of the records that `kbt-prepare` wrote; the phases' own
            folders lie below it.
        output: str. Local or gs:// folder of this run alone.
        strategy: What `tpu.connect` returned as strategy. Defaults to the current one.
        callbacks: Keras callbacks. An epoch, to them, is the stretch between two evaluations;
            the logs of `on_epoch_end` hold the evaluation as `val_...`.

    Returns:
        The trained BertPretrainer, float32 variables under the config's compute dtype.

    Raises:
        InputError: Before the first step, if the records, the config, the folder and the replicas
            do not fit together; later, if records that are read are damaged, gone or replaced.

    Example:
        config = PretrainingConfig.from_yaml("gcs_configs/mini_cpu.yaml")
        model = pretrain(config, data="records", output="run")
        model.save_pretrained("model", Vocabulary.load("records/vocab.txt"))
    """
    strategy = strategy or tf.distribute.get_strategy()
    folders = [data if p.data == "." else posixpath.join(data, p.data) for p in config.phases]
    # Shards that are missing count as damage, see `damage`.
    can_miss = config.on_damage == "skip"
    manifests = [Manifest.load(folder, check_shards=not can_miss) for folder in folders]
    _check(config, manifests, strategy)
    # At the end of the run it goes with the model.
    vocabulary = manifests[-1].load_vocabulary()
    schedule = make_schedule(config.optimizer, config.phases)
    # For its errors, before the folder is touched: nothing is read yet.
    unscanned = dataclasses.replace(config, on_damage="stop", max_skipped=0)
    for phase, manifest in zip(config.phases, manifests, strict=True):
        _datasets(unscanned, phase, manifest, None, 0, strategy)
    run_folder.claim(output, config, [posixpath.join(folder, MANIFEST_FILE) for folder in folders])
    scans = run_folder.scans_for(output, config, manifests)
    for phase, manifest, scan in zip(config.phases, manifests, scans, strict=True):
        _datasets(config, phase, manifest, scan, 0, strategy)

    keras.utils.set_random_seed(config.seed)
    policy = "mixed_bfloat16" if config.compute_dtype == "bfloat16" else "float32"
    with strategy.scope():
        pretrainer = BertPretrainer(config.encoder, dtype=policy)
        pretrainer.encoder.recompute = config.recompute
        step = PretrainingStep(pretrainer, config.optimizer.clip_norm, config.seed)
        optimizer = make_optimizer(config.optimizer, schedule)
        step.compile(
            optimizer=optimizer,
            jit_compile=config.jit_compile,
            steps_per_execution=config.steps_per_execution,
        )
        optimizer.build(pretrainer.trainable_variables)
    checkpointer = Checkpointer(
        posixpath.join(output, run_folder.CHECKPOINTS),
        pretrainer,
        optimizer,
        config.keep_checkpoints,
    )
    checkpoint = checkpointer.restore_latest()
    first_step = checkpoint.step if checkpoint else 0
    _announce(config, manifests, pretrainer, schedule, first_step, strategy)

    log = MetricsLog(output, first_step)
    progress = Progress(
        log, first_step, config.total_steps, config.log_every, lambda s: float(schedule(s))
    )
    saver = SaveCheckpoints(
        checkpointer,
        config.save_every,
        progress,
        lambda s: _position(config, s),
        saved_step=first_step if checkpoint else -1,
    )
    run_callbacks = RunCallbacks([progress, saver, *callbacks], step)
    try:
        for epoch, stretch in enumerate(stretches(config, first_step)):
            phase = config.phases[stretch.phase_index]
            made = stretch.first_step - stretch.phase_start
            manifest = manifests[stretch.phase_index]
            scan = scans[stretch.phase_index]
            training, validation = _datasets(
                config, phase, manifest, scan, made * phase.batch_size, strategy
            )
            title = f"phase {stretch.phase_index + 1} of {len(config.phases)}"
            step.length_buckets = phase.length_buckets
            step.accumulation_steps = phase.accumulation_steps
            progress.begin_stretch(phase, stretch.first_step, title)
            step.fit(
                training,
                initial_epoch=epoch,
                epochs=epoch + 1,
                steps_per_epoch=stretch.last_step - stretch.first_step,
                validation_data=validation,
                # Told, because Keras takes the end of data of unknown length for a fault.
                validation_steps=None
                if validation is None
                else validation_steps(manifest, phase.batch_size, config.evaluate_examples, scan),
                callbacks=run_callbacks,
                shuffle=False,
                verbose=0,
            )
            if step.stop_training:
                break
        saver.save()
        run_callbacks.close()
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
        if message := damage_message(error):
            raise InputError(message) from error
        if isinstance(error, tf.errors.NotFoundError):
            reason = error.message.splitlines()[0]
            raise InputError(f"A file of the records or of the run is gone: {reason}") from error
        raise
    finally:
        progress.close()
        log.close()
    plot_curves(log.path, posixpath.join(output, "curves.png"))
    model_folder = posixpath.join(output, run_folder.MODEL)
    data_config = manifests[-1].config
    pretrainer.save_pretrained(
        model_folder,
        vocabulary,
        data_config.lower_case,
        data_config.strip_accents,
        data_config.added_tokens,
    )
    print(f"Done: {progress.step} of {config.total_steps} steps; the model is in {model_folder}.")
    return pretrainer


def stretches(config: PretrainingConfig, first_step: int) -> list[Stretch]:
    """Cuts what is left of a run at the ends of phases and at multiples of `evaluate_every`.

    Args:
        config: PretrainingConfig.
        first_step: int. Steps that were made already.
    """
    result = []
    phase_start = 0
    for index, phase in enumerate(config.phases):
        phase_end = phase_start + phase.steps
        begin = max(first_step, phase_start)
        while begin < phase_end:
            end = min((begin // config.evaluate_every + 1) * config.evaluate_every, phase_end)
            result.append(Stretch(index, begin, end, phase_start))
            begin = end
        phase_start = phase_end
    return result


def _position(config: PretrainingConfig, step: int) -> dict[str, Any]:
    """Where in the data a run stands after `step` steps, for the checkpoint's reader."""
    steps = step
    for index, phase in enumerate(config.phases):
        position = {"phase": index, "phase_step": steps, "next_example": steps * phase.batch_size}
        if steps <= phase.steps:
            break
        steps -= phase.steps
    return {"seed": config.seed, "data_position": position}


def _check(
    config: PretrainingConfig, manifests: Sequence[Manifest], strategy: tf.distribute.Strategy
) -> None:
    replicas = strategy.num_replicas_in_sync
    for index, (phase, manifest) in enumerate(zip(config.phases, manifests, strict=True)):
        if manifest.vocabulary_size != config.encoder.vocab_size:
            raise InputError(
                f"encoder.vocab_size={config.encoder.vocab_size} does not match the vocabulary of "
                f"{manifest.directory}, which has {manifest.vocabulary_size} entries; set "
                f"encoder.vocab_size={manifest.vocabulary_size}, or prepare the records again with "
                f"the vocabulary you mean."
            )
        if manifest.vocabulary_sha256 != manifests[0].vocabulary_sha256:
            raise InputError(
                f"{manifest.directory} was prepared with another vocabulary than "
                f"{manifests[0].directory}; all phases of a run need the same one."
            )
        shares = replicas * phase.accumulation_steps
        if phase.batch_size % shares:
            is_cut = phase.accumulation_steps > 1
            slices = f" with {phase.accumulation_steps} slices each" if is_cut else ""
            raise InputError(
                f"phases.{index}.batch_size={phase.batch_size} cannot be divided among {replicas} "
                f"replicas{slices}; take a multiple of {shares}, for example "
                f"{-(-phase.batch_size // shares) * shares}."
            )


def _datasets(
    config: PretrainingConfig,
    phase: PhaseConfig,
    manifest: Manifest,
    scan: ShardScan | None,
    start_example: int,
    strategy: tf.distribute.Strategy,
) -> tuple[Any, Any]:
    """Returns the training batches from an example on, and the held-out ones (or None)."""
    shapes = (phase.batch_size, phase.sequence_length, phase.max_predictions)
    damage = {
        "on_damage": config.on_damage,
        "max_skipped": config.max_skipped,
        "scan": scan,
    }

    def training(context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        return training_dataset(
            manifest,
            *shapes,
            seed=config.seed,
            start_example=start_example,
            shuffle_window=config.shuffle_window,
            input_context=context,
            length_buckets=phase.length_buckets,
            **damage,
        )

    def validation(context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        return validation_dataset(
            manifest,
            *shapes,
            num_examples=config.evaluate_examples,
            input_context=context,
            **damage,
        )

    held_out = any(shard.num_examples for shard in manifest.validation)
    if strategy.num_replicas_in_sync == 1:
        return training(), validation() if held_out else None
    distribute = strategy.distribute_datasets_from_function
    return distribute(training), distribute(validation) if held_out else None


def _announce(
    config: PretrainingConfig,
    manifests: Sequence[Manifest],
    pretrainer: BertPretrainer,
    schedule: PhasedSchedule,
    first_step: int,
    strategy: tf.distribute.Strategy,
) -> None:
    encoder = config.encoder
    print(
        f"BERT with {encoder.num_layers} layers of width {encoder.hidden_size}, "
        f"{pretrainer.count_params() / 1e6:.1f} million weights, {config.compute_dtype}, "
        f"{strategy.num_replicas_in_sync} replica{'s'[: strategy.num_replicas_in_sync > 1]}."
    )
    start = 0
    for index, (phase, manifest) in enumerate(zip(config.phases, manifests, strict=True)):
        epochs = phase.steps * phase.batch_size / manifest.num_examples
        print(
            f"Phase {index + 1}: steps {start + 1} to {start + phase.steps} of "
            f"{phase.batch_size} x {phase.sequence_length} tokens, {epochs:.1f} epochs of "
            f"{manifest.num_examples} examples in {manifest.directory}."
        )
        if start in schedule.starts:
            own = schedule.schedules[schedule.starts.index(start)]
            print(f"  {config.optimizer.algorithm}, learning rate {own.describe()}.")
        else:
            print(f"  The learning rate goes on, from {float(schedule(start)):.4g}.")
        start += phase.steps
    if first_step:
        print(
            f"Resuming after step {first_step} of {config.total_steps}, at a learning rate of "
            f"{float(schedule(first_step)):.4g}."
        )
    sys.stdout.flush()
