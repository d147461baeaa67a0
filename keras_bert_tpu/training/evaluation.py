"""What a pre-trained model can do on held-out records, in the whole and by kind of target.

The losses and hits are those of the train step. Each target is judged on the device and counted on
the host, in integers and float64, by the piece that it is and by what stands in its place: all
figures follow from these counts.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from keras_bert_tpu.config import InputError
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.pipeline import validation_dataset, validation_steps
from keras_bert_tpu.pretraining_data.shard_reader import damage_message
from keras_bert_tpu.text.vocabulary import Vocabulary
from keras_bert_tpu.training.losses import losses_and_hits
from keras_bert_tpu.training.scores import (
    BAND_STARTS,
    BANDS,
    PARTS,
    PIECES,
    MaskedWordBaseline,
    PretrainingEvaluation,
    Score,
    SentencePairs,
    WordScore,
)

SPLITS = ("validation", "train")
DEFAULT_BATCH_SIZE = 32
_TOP = 5


def evaluate_pretraining(
    model: BertPretrainer,
    manifest: Manifest,
    vocabulary: Vocabulary | None = None,
    num_examples: int = 0,
    batch_size: int = DEFAULT_BATCH_SIZE,
    split: str = "validation",
    progress: bool = True,
) -> PretrainingEvaluation:
    """Measures a model on records, on one replica: the default device.

    Each target counts once, whatever the batch size.

    Args:
        model: BertPretrainer. Dropout is off; it computes in its own dtype.
        manifest: Manifest of the records.
        vocabulary: Vocabulary of the model, to make sure that it is that of the records; None
            compares the sizes only.
        num_examples: int. How many of the first examples are taken; 0 takes all, and so does a
            number beyond all.
        batch_size: int.
        split: str. "validation", the held-out examples, or "train". Of the training examples the
            first ones are a random sample, because shards are; masks that are not in the records
            are drawn for them as for held-out ones, the same in each evaluation.
        progress: bool. Whether to show a progress bar on stderr if it takes more than 2 seconds.

    Raises:
        InputError: If model and records do not fit together, a number does not fit, there are no
            such records or they are damaged, or what the model computes is not finite.

    Example:
        source = read_weights("run")
        model = BertPretrainer(source.encoder)
        source.assign_to(model)
        result = evaluate_pretraining(model, Manifest.load("records"), source.vocabulary)
        result.masked_words.accuracy
    """
    data_vocabulary = _check_fit(model, manifest, vocabulary)
    if split not in SPLITS:
        raise InputError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}.")
    if split == "train":
        if not manifest.num_examples:
            raise InputError(
                f"There are no training records in {manifest.directory}; evaluate its held-out "
                f"ones, or give another folder."
            )
        manifest = dataclasses.replace(manifest, validation=manifest.train)
    config = manifest.config
    batches = validation_dataset(
        manifest,
        batch_size,
        config.sequence_length,
        config.max_predictions,
        num_examples,
        max_sequences=config.sequences_per_row,
    )
    has_pairs = config.objective != "mlm"
    words = _WordCounts(len(data_vocabulary))
    pairs = [Score(0, 0, 0.0)] * 2
    judge = tf.function(lambda batch: _judge(model, batch, data_vocabulary.mask_id, has_pairs))
    steps = validation_steps(manifest, batch_size, num_examples)
    try:
        for batch in tqdm(
            batches, total=steps, desc="evaluating", unit="batch", delay=2.0, disable=not progress
        ):
            judged = {name: values.numpy() for name, values in judge(batch).items()}
            _require_finite(judged, manifest)
            words.add(judged)
            if has_pairs:
                pairs = [_add_pairs(score, judged, label) for label, score in enumerate(pairs)]
    except tf.errors.InvalidArgumentError as error:
        if message := damage_message(error):
            raise InputError(message) from error
        raise
    if not words.frequencies().any():
        raise InputError(
            f"The {split} records in {manifest.directory} have no masked word; prepare them again."
        )
    total = manifest.num_validation_examples
    return PretrainingEvaluation(
        data=manifest.directory,
        split=split,
        objective=config.objective,
        compute_dtype=model.compute_dtype,
        examples=min(num_examples or total, total),
        record_name=config.record_name,
        masked_words=words.score(),
        parts={name: words.score(part=part) for part, name in enumerate(PARTS)},
        bands={
            name: words.score(is_chosen=words.bands() == band) for band, name in enumerate(BANDS)
        },
        pieces=_by_piece(words, data_vocabulary),
        baseline=_baseline(words, data_vocabulary),
        sentence_pairs=SentencePairs(
            Score(*map(sum, zip(*map(dataclasses.astuple, pairs), strict=True))), tuple(pairs)
        )
        if has_pairs
        else None,
    )


class _WordCounts:
    """Counts, hits and losses of masked words, by part and by piece."""

    def __init__(self, vocab_size: int):
        self._size = vocab_size
        shape = (len(PARTS), vocab_size)
        self._count, self._correct, self._in_top = (np.zeros(shape, np.int64) for _ in range(3))
        self._loss = np.zeros(shape)

    def add(self, judged: Mapping[str, np.ndarray]) -> None:
        """Adds the masked words of a batch that `_judge` judged."""
        real = judged["is_word"]
        places = judged["part"][real] * self._size + judged["id"][real]

        def sums(weights: np.ndarray | None = None) -> np.ndarray:
            found = np.bincount(places, weights, minlength=self._count.size)
            return found.reshape(self._count.shape)

        self._count += sums()
        self._correct += sums(judged["hit"][real]).astype(np.int64)
        self._in_top += sums(judged["in_top"][real]).astype(np.int64)
        self._loss += sums(judged["loss"][real])

    def score(self, part: int | None = None, is_chosen: np.ndarray | None = None) -> WordScore:
        """Adds up a part, or all, of the pieces for which a bool array [vocabulary] is True."""
        parts = slice(None) if part is None else part
        pieces = slice(None) if is_chosen is None else is_chosen
        count, correct, in_top, loss = (
            table[parts][..., pieces].sum()
            for table in (self._count, self._correct, self._in_top, self._loss)
        )
        return WordScore(int(count), int(correct), float(loss), int(in_top))

    def frequencies(self) -> np.ndarray:
        """How often each piece is a masked word."""
        return self._count.sum(axis=0)

    def bands(self) -> np.ndarray:
        """The band, from 0, of each piece."""
        ranks = np.empty(self._size, np.int64)
        ranks[np.argsort(-self.frequencies(), kind="stable")] = np.arange(1, self._size + 1)
        return np.searchsorted(BAND_STARTS, ranks, side="right") - 1


def _judge(
    model: BertPretrainer, batch: Mapping[str, tf.Tensor], mask_id: int, has_pairs: bool
) -> dict[str, tf.Tensor]:
    """Judges each masked word of a batch [batch, predictions] and each pair [pairs]."""
    outputs = model(batch, training=False)
    logits, ids = outputs["mlm_logits"], batch["mask_ids"]
    loss, hit = losses_and_hits(logits, ids)
    best = tf.math.top_k(logits, _TOP).indices
    shown = tf.gather(batch["token_ids"], batch["mask_positions"], batch_dims=1)
    kept_or_random = tf.where(shown == ids, PARTS.index("kept"), PARTS.index("random"))
    judged = {
        "id": ids,
        "is_word": batch["mask_weights"] > 0,
        "part": tf.where(shown == mask_id, PARTS.index("mask"), kept_or_random),
        "loss": loss,
        "hit": hit,
        "in_top": tf.reduce_any(best == ids[..., tf.newaxis], axis=-1),
    }
    if has_pairs:
        label = tf.reshape(batch["next_sentence_label"], [-1])
        pair_logits = tf.reshape(outputs["nsp_logits"], [-1, 2])
        pair_loss, pair_hit = losses_and_hits(pair_logits, label)
        judged |= {
            "is_pair": tf.reshape(batch["next_sentence_weights"], [-1]) > 0,
            "label": label,
            "pair_loss": pair_loss,
            "pair_hit": pair_hit,
        }
    return judged


def _add_pairs(score: Score, judged: Mapping[str, np.ndarray], label: int) -> Score:
    """Adds the pairs of a batch that have this label."""
    chosen = judged["is_pair"] & (judged["label"] == label)
    return Score(
        score.count + int(chosen.sum()),
        score.correct + int(judged["pair_hit"][chosen].sum()),
        score.loss_sum + float(judged["pair_loss"][chosen].sum(dtype=np.float64)),
    )


def _by_piece(words: _WordCounts, vocabulary: Vocabulary) -> dict[str, WordScore]:
    continues = np.array([piece.startswith("##") for piece in vocabulary.pieces])
    return {
        name: words.score(is_chosen=is_chosen)
        for name, is_chosen in zip(PIECES, (~continues, continues), strict=True)
    }


def _baseline(words: _WordCounts, vocabulary: Vocabulary) -> MaskedWordBaseline:
    shares = words.frequencies() / words.frequencies().sum()
    present = shares[shares > 0]
    return MaskedWordBaseline(
        piece=vocabulary.pieces[int(shares.argmax())],
        accuracy=float(shares.max()),
        loss=float(-(present * np.log(present)).sum()),
    )


def _check_fit(
    model: BertPretrainer, manifest: Manifest, vocabulary: Vocabulary | None
) -> Vocabulary:
    """Makes sure that a model can be given records, and returns their vocabulary."""
    config = model.config
    if manifest.vocabulary_size != config.vocab_size:
        raise InputError(
            f"The model has a vocabulary of {config.vocab_size} pieces, the records in "
            f"{manifest.directory} one of {manifest.vocabulary_size}; give records that were "
            f"prepared with the model's vocabulary."
        )
    if vocabulary is not None and vocabulary.sha256 != manifest.vocabulary_sha256:
        raise InputError(
            f"The records in {manifest.directory} were prepared with another vocabulary of "
            f"{manifest.vocabulary_size} pieces than the model's (its sha256 is "
            f"{vocabulary.sha256}, that of the records {manifest.vocabulary_sha256}); give records "
            f"that were prepared with the model's."
        )
    if manifest.config.sequence_length > config.max_positions:
        raise InputError(
            f"The records in {manifest.directory} have {manifest.config.sequence_length} tokens, "
            f"the model only {config.max_positions} positions; give records prepared with "
            f"sequence_length={config.max_positions} or less."
        )
    return manifest.load_vocabulary()


def _require_finite(judged: Mapping[str, np.ndarray], manifest: Manifest) -> None:
    # Or else a model of NaN would be as good as the first piece, or label, is frequent.
    losses = [judged["loss"][judged["is_word"]]]
    if "is_pair" in judged:
        losses.append(judged["pair_loss"][judged["is_pair"]])
    if not np.isfinite(np.concatenate(losses)).all():
        raise InputError(
            f"The losses of the model on {manifest.directory} are not all finite: its weights, or "
            f"what it computes with them, hold infinity or NaN; give an earlier checkpoint."
        )
