"""The batches of each phase of a run."""

import dataclasses
import posixpath
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_bert_tpu.config import InputError, PhaseConfig, PretrainingConfig
from keras_bert_tpu.pretraining_data.damage import ShardScan
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.pipeline import (
    training_dataset,
    validation_dataset,
    validation_steps,
)


class PhaseInput(NamedTuple):
    """The records of a phase.

    Attributes:
        phase: PhaseConfig.
        manifest: Manifest of its records, with the masks that the phase asks for.
        scan: ShardScan or None. What is left out of them.
    """

    phase: PhaseConfig
    manifest: Manifest
    scan: ShardScan | None = None


def load_inputs(config: PretrainingConfig, data: str) -> list[PhaseInput]:
    """Reads the manifest of each phase's records.

    Args:
        config: PretrainingConfig.
        data: str. Local or gs:// folder; the phases' own lie below it.

    Raises:
        InputError: If there are no records, or they cannot have the masks asked for.
    """
    # Shards that are missing count as damage, see `damage`.
    must_be_whole = config.on_damage == "stop"
    inputs = []
    for phase in config.phases:
        folder = data if phase.data == "." else posixpath.join(data, phase.data)
        manifest = Manifest.load(folder, check_shards=must_be_whole)
        if phase.mask_rate is not None:
            manifest = manifest.with_mask_rate(phase.mask_rate, phase.max_predictions)
        inputs.append(PhaseInput(phase, manifest))
    return inputs


def check_inputs(
    config: PretrainingConfig, inputs: Sequence[PhaseInput], strategy: tf.distribute.Strategy
) -> None:
    """Checks that records, model and replicas fit together, before anything is written.

    Raises:
        InputError: If they do not.
    """
    replicas = strategy.num_replicas_in_sync
    first = inputs[0].manifest
    for index, (phase, manifest, _) in enumerate(inputs):
        if manifest.vocabulary_size != config.encoder.vocab_size:
            raise InputError(
                f"encoder.vocab_size={config.encoder.vocab_size} does not match the vocabulary of "
                f"{manifest.directory}, which has {manifest.vocabulary_size} entries; set "
                f"encoder.vocab_size={manifest.vocabulary_size}, or prepare the records again with "
                f"the vocabulary you mean."
            )
        if manifest.vocabulary_sha256 != first.vocabulary_sha256:
            raise InputError(
                f"{manifest.directory} was prepared with another vocabulary than "
                f"{first.directory}; all phases of a run need the same one."
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
    # For its errors: nothing is read yet.
    unscanned = dataclasses.replace(config, on_damage="stop", max_skipped=0)
    for phase_input in inputs:
        training_batches(unscanned, phase_input, 0, strategy)
        validation_batches(unscanned, phase_input, strategy)


def training_batches(
    config: PretrainingConfig,
    phase_input: PhaseInput,
    start_example: int,
    strategy: tf.distribute.Strategy,
) -> Any:
    """Returns the endless training batches of a phase from an example on, for `fit`."""
    phase, manifest, scan = phase_input

    def dataset(context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        return training_dataset(
            manifest,
            phase.batch_size,
            phase.sequence_length,
            phase.max_predictions,
            seed=config.seed,
            start_example=start_example,
            shuffle_window=config.shuffle_window,
            input_context=context,
            length_buckets=phase.length_buckets,
            on_damage=config.on_damage,
            max_skipped=config.max_skipped,
            scan=scan,
            max_sequences=phase.max_sequences,
        )

    return _distribute(dataset, strategy)


def validation_batches(
    config: PretrainingConfig, phase_input: PhaseInput, strategy: tf.distribute.Strategy
) -> Any:
    """Returns the held-out batches of a phase, each once; None if there are none."""
    phase, manifest, scan = phase_input
    if not any(shard.num_examples for shard in manifest.validation):
        return None

    def dataset(context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        return validation_dataset(
            manifest,
            phase.batch_size,
            phase.sequence_length,
            phase.max_predictions,
            num_examples=config.evaluate_examples,
            input_context=context,
            on_damage=config.on_damage,
            max_skipped=config.max_skipped,
            scan=scan,
            max_sequences=phase.max_sequences,
        )

    return _distribute(dataset, strategy)


def num_validation_batches(config: PretrainingConfig, phase_input: PhaseInput) -> int:
    """Returns the number of steps that `validation_batches` gives each replica."""
    phase, manifest, scan = phase_input
    return validation_steps(manifest, phase.batch_size, config.evaluate_examples, scan)


def _distribute(dataset: Any, strategy: tf.distribute.Strategy) -> Any:
    if strategy.num_replicas_in_sync == 1:
        return dataset()
    return strategy.distribute_datasets_from_function(dataset)
