"""Several sequences in a row: outputs, losses and gradients are those of rows of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.pretraining_data.packing import assign_packs, plan_packs
from keras_bert_tpu.training.train_step import PretrainingStep

LENGTH, PREDICTIONS, SEQUENCES = 48, 9, 5
CONFIG = EncoderConfig(
    vocab_size=200,
    num_layers=2,
    hidden_size=32,
    num_heads=4,
    intermediate_size=64,
    max_positions=LENGTH,
    # Larger than usual, so that what leaks from one sequence to another is seen.
    initializer_range=0.2,
)


def random_sequences(rng, number):
    sequences = []
    for _ in range(number):
        length = int(rng.integers(4, LENGTH + 1))
        masked = max(1, round(0.15 * length))
        sequences.append(
            {
                "token_ids": rng.integers(5, 200, length),
                "segment_ids": (np.arange(length) > rng.integers(1, length)).astype(int),
                "mask_positions": np.sort(rng.choice(length, masked, replace=False)),
                "mask_ids": rng.integers(5, 200, masked),
                "next_sentence_label": int(rng.integers(2)),
            }
        )
    return sequences


def rows_of(packs, is_packed):
    """Makes a batch of lists of sequences."""
    shapes = {
        **dict.fromkeys(("token_ids", "segment_ids", "padding_mask"), LENGTH),
        **dict.fromkeys(("mask_positions", "mask_ids", "mask_weights"), PREDICTIONS),
        **dict.fromkeys(("next_sentence_label", "next_sentence_weights"), 1),
    }
    if is_packed:
        shapes |= dict.fromkeys(("sequence_ids", "position_ids"), LENGTH)
        shapes |= dict.fromkeys(
            ("next_sentence_label", "next_sentence_weights", "cls_positions"), SEQUENCES
        )
    batch = {name: np.zeros((len(packs), width), np.int32) for name, width in shapes.items()}
    for row, pack in enumerate(packs):
        start = first = 0
        for number, sequence in enumerate(pack):
            length, masked = len(sequence["token_ids"]), len(sequence["mask_ids"])
            tokens, masks = slice(start, start + length), slice(first, first + masked)
            values = [
                ("token_ids", tokens, sequence["token_ids"]),
                ("segment_ids", tokens, sequence["segment_ids"]),
                ("padding_mask", tokens, 1),
                ("sequence_ids", tokens, number + 1),
                ("position_ids", tokens, np.arange(length)),
                ("mask_positions", masks, sequence["mask_positions"] + start),
                ("mask_ids", masks, sequence["mask_ids"]),
                ("mask_weights", masks, 1),
                ("next_sentence_label", number, sequence["next_sentence_label"]),
                ("next_sentence_weights", number, 1),
                ("cls_positions", number, start),
            ]
            for name, place, value in values:
                if name in batch:
                    batch[name][row, place] = value
            start, first = start + length, first + masked
    weights = ("mask_weights", "next_sentence_weights")
    return {
        name: tf.constant(array, tf.float32 if name in weights else tf.int32)
        for name, array in batch.items()
    }


def gradients_and_sums(step, batch):
    totals = step.totals(batch)
    with tf.GradientTape() as tape:
        sums = step.sums(batch, step.trained(batch, training=False))
        loss = tf.add_n([part.loss / total for part, total in zip(sums, totals, strict=True)])
    gradients = tape.gradient(loss, step.trained.trainable_variables)
    return [tf.convert_to_tensor(gradient).numpy() for gradient in gradients], sums


@pytest.mark.parametrize("seed", range(3))
def test_packed_sequences_are_as_if_each_had_a_row(seed):
    rng = np.random.default_rng(seed)
    sequences = random_sequences(rng, 24)
    lengths = np.array([len(sequence["token_ids"]) for sequence in sequences])
    costs = [max(1, round(0.15 * length)) for length in range(LENGTH + 1)]
    kinds = plan_packs(
        np.bincount(lengths, minlength=LENGTH + 1).tolist(), LENGTH, SEQUENCES, costs, PREDICTIONS
    )
    places = assign_packs(lengths, kinds)
    assert max(map(len, places)) > 1
    packed = rows_of([[sequences[place] for place in row] for row in places], True)
    order = [place for row in places for place in row]
    single = rows_of([[sequences[place]] for place in order], False)

    keras.utils.set_random_seed(seed)
    step = PretrainingStep(BertPretrainer(CONFIG, dtype="float32"), clip_norm=1.0, seed=0)
    packed_outputs, single_outputs = step.trained(packed), step.trained(single)
    np.testing.assert_allclose(
        packed_outputs["sequence_output"].numpy()[packed["padding_mask"].numpy() == 1],
        single_outputs["sequence_output"].numpy()[single["padding_mask"].numpy() == 1],
        atol=1e-5,
    )
    is_real = packed["next_sentence_weights"].numpy() == 1
    np.testing.assert_allclose(
        packed_outputs["nsp_logits"].numpy()[is_real], single_outputs["nsp_logits"], atol=1e-5
    )
    packed_gradients, packed_sums = gradients_and_sums(step, packed)
    single_gradients, single_sums = gradients_and_sums(step, single)
    for one, other in zip(packed_sums, single_sums, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    for one, other in zip(packed_gradients, single_gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
