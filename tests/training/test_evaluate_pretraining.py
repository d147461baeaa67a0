"""An evaluation's figures are those that a plain computation, target by target, gives."""

import collections
import dataclasses
import json
import math
import shutil

import keras
import numpy as np
import pytest

from keras_bert_tpu.config import DataConfig, EncoderConfig, InputError
from keras_bert_tpu.models.pretrainer import BertPretrainer
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.pipeline import validation_dataset
from keras_bert_tpu.pretraining_data.prepare import prepare
from keras_bert_tpu.text.vocabulary import Vocabulary
from keras_bert_tpu.training.evaluation import evaluate_pretraining
from keras_bert_tpu.training.optimizers import BertAdamW
from keras_bert_tpu.training.scores import Score, WordScore
from keras_bert_tpu.training.train_step import PretrainingStep

NUM_EXAMPLES = 150


@pytest.fixture(scope="module")
def manifest(records):
    return Manifest.load(str(records / "short"))


@pytest.fixture(scope="module")
def model(vocabulary):
    """Untrained, but not without hits: it prefers frequent pieces, and echoes what it is shown."""
    keras.utils.set_random_seed(1)
    config = EncoderConfig.from_preset("tiny", vocab_size=len(vocabulary), max_positions=64)
    model = BertPretrainer(config, dtype="float32")
    table = model.encoder.token_embeddings
    table.assign(table * 10)
    bias = model.masked_language_model.output_bias
    favoured = [vocabulary.ids[word] for word in (",", "the", ".", "and", "to", "of")]
    values = np.zeros(len(vocabulary), "float32")
    values[favoured] = [3.0, 2.5, 2.0, 1.5, 1.0, 0.5]
    bias.assign(values * 4)
    return model


@pytest.fixture(scope="module")
def result(model, manifest):
    return evaluate_pretraining(
        model, manifest, num_examples=NUM_EXAMPLES, batch_size=64, progress=False
    )


Word = collections.namedtuple("Word", "id shown loss rank")
Pair = collections.namedtuple("Pair", "label loss hit")


def judge_plainly(model, dataset):
    """Each masked word and each pair of a dataset of batches of one, by NumPy in float64."""
    words, pairs = [], []
    for example in dataset:
        outputs = {name: np.asarray(value)[0] for name, value in model(example).items()}
        example = {name: value.numpy()[0] for name, value in example.items()}
        for place in np.flatnonzero(example["mask_weights"]):
            scores = outputs["mlm_logits"][place].astype("float64")
            id = int(example["mask_ids"][place])
            loss = np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[id]
            rank = int((scores > scores[id]).sum())
            shown = int(example["token_ids"][example["mask_positions"][place]])
            words.append(Word(id, shown, loss, rank))
        scores, label = outputs["nsp_logits"].astype("float64"), example["next_sentence_label"][0]
        loss = np.log(np.exp(scores).sum()) - scores[label]
        pairs.append(Pair(label, loss, scores.argmax() == label))
    return words, pairs


@pytest.fixture(scope="module")
def plain(model, records):
    return judge_plainly(
        model, validation_dataset(str(records / "short"), 1, 32, 5, num_examples=NUM_EXAMPLES)
    )


def assert_words(score, words):
    assert score.count == len(words)
    assert score.correct == sum(word.rank == 0 for word in words)
    assert score.in_top_5 == sum(word.rank < 5 for word in words)
    assert score.loss_sum == pytest.approx(sum(word.loss for word in words), rel=1e-5)


def test_all_masked_words_and_pairs(result, plain):
    words, pairs = plain
    assert result.examples == len(pairs) == NUM_EXAMPLES
    assert_words(result.masked_words, words)
    assert 0 < result.masked_words.correct < result.masked_words.in_top_5 < len(words)
    score = result.sentence_pairs.score
    assert score.count == NUM_EXAMPLES
    assert score.correct == sum(pair.hit for pair in pairs)
    assert score.loss_sum == pytest.approx(sum(pair.loss for pair in pairs), rel=1e-5)
    assert result.loss == pytest.approx(
        np.mean([word.loss for word in words]) + np.mean([pair.loss for pair in pairs]), rel=1e-5
    )


def test_words_by_what_stands_in_their_place(result, plain, vocabulary):
    words, _ = plain
    masked = [word for word in words if word.shown == vocabulary.mask_id]
    kept = [word for word in words if word.shown == word.id]
    random = [word for word in words if word.shown not in (word.id, vocabulary.mask_id)]
    assert masked and kept and random
    for name, chosen in {"mask": masked, "kept": kept, "random": random}.items():
        assert_words(result.parts[name], chosen)
    # The parts of this model differ, so that they cannot have been mistaken for each other.
    assert len({score.accuracy for score in result.parts.values()}) == 3


def test_words_by_how_frequent_their_piece_is(result, plain):
    words, _ = plain
    counts = collections.Counter(word.id for word in words)
    ranked = sorted(counts, key=lambda id: (-counts[id], id))
    assert 100 < len(ranked) < 1000
    for name, pieces in {
        "1-10": ranked[:10],
        "11-100": ranked[10:100],
        "101-1000": ranked[100:],
        "1001-": [],
    }.items():
        assert_words(result.bands[name], [word for word in words if word.id in pieces])
    assert result.bands["1001-"].accuracy is None


def test_words_by_whether_the_piece_continues_a_word(result, plain, vocabulary):
    words, _ = plain
    continuing = [word for word in words if vocabulary.pieces[word.id].startswith("##")]
    assert_words(result.pieces["continuation"], continuing)
    assert_words(result.pieces["start"], [word for word in words if word not in continuing])


def test_pairs_by_label(result, plain):
    _, pairs = plain
    for label, score in enumerate(result.sentence_pairs.labels):
        chosen = [pair for pair in pairs if pair.label == label]
        assert (score.count, score.correct) == (len(chosen), sum(pair.hit for pair in chosen))
        assert score.loss_sum == pytest.approx(sum(pair.loss for pair in chosen), rel=1e-5)
    assert result.sentence_pairs.majority_accuracy == pytest.approx(
        max(collections.Counter(pair.label for pair in pairs).values()) / NUM_EXAMPLES
    )


def test_baselines_are_those_of_the_same_words(result, plain, vocabulary):
    words, _ = plain
    counts = collections.Counter(word.id for word in words)
    ((id, count),) = counts.most_common(1)
    assert result.baseline.piece == vocabulary.pieces[id]
    assert result.baseline.accuracy == pytest.approx(count / len(words))
    # Of a model that gives each word the probability that is its share.
    losses = [-math.log(counts[word.id] / len(words)) for word in words]
    assert result.baseline.loss == pytest.approx(np.mean(losses))


def test_each_division_adds_up_to_all_words(result):
    for division in (result.parts, result.bands, result.pieces):
        for name in ("count", "correct", "in_top_5"):
            total = sum(getattr(score, name) for score in division.values())
            assert total == getattr(result.masked_words, name)
        losses = sum(score.loss_sum for score in division.values())
        assert losses == pytest.approx(result.masked_words.loss_sum)


def test_figures_are_those_of_the_training_loop(model, manifest, result):
    step = PretrainingStep(model, clip_norm=1.0, seed=1)
    step.compile(optimizer=BertAdamW())
    data = validation_dataset(manifest, 16, 32, 5, num_examples=NUM_EXAMPLES)
    logs = step.evaluate(data, return_dict=True, verbose=0)
    assert result.masked_words.loss == pytest.approx(logs["mlm_loss"], rel=1e-5)
    assert result.masked_words.accuracy == pytest.approx(logs["mlm_accuracy"], rel=1e-6)
    assert result.sentence_pairs.score.loss == pytest.approx(logs["nsp_loss"], rel=1e-5)
    assert result.sentence_pairs.score.accuracy == pytest.approx(logs["nsp_accuracy"], rel=1e-6)
    assert result.loss == pytest.approx(logs["loss"], rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 75, 151])
def test_the_batch_size_changes_nothing(model, manifest, result, batch_size):
    other = evaluate_pretraining(
        model, manifest, num_examples=NUM_EXAMPLES, batch_size=batch_size, progress=False
    )
    assert_same(other.to_dict(), result.to_dict())


def assert_same(one, other):
    """Equal, but for the rounding of losses that were computed in other batches."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert one == (pytest.approx(other, rel=1e-5) if isinstance(one, float) else other)


def test_training_examples_can_be_evaluated_instead(model, manifest, plain):
    found = evaluate_pretraining(
        model, manifest, num_examples=20, batch_size=16, split="train", progress=False
    )
    training = dataclasses.replace(manifest, validation=manifest.train)
    words, pairs = judge_plainly(model, validation_dataset(training, 1, 32, 5, num_examples=20))
    assert (found.split, found.examples) == ("train", 20)
    assert_words(found.masked_words, words)
    assert [word.id for word in words] != [word.id for word in plain[0]][: len(words)]


def test_all_examples_are_taken_by_default(model, manifest):
    found = evaluate_pretraining(model, manifest, batch_size=64, progress=False)
    assert found.examples == found.sentence_pairs.score.count == manifest.num_validation_examples


def test_records_without_pairs_have_no_figures_of_them(tmp_path, model, sample_text, vocabulary):
    vocabulary.save(str(tmp_path / "vocab.txt"))
    config = DataConfig(
        objective="mlm",
        masks="dynamic",
        sequence_length=32,
        max_predictions=5,
        dupe_factor=1,
        validation_rate=0.1,
        block_documents=6,
    )
    data = str(tmp_path / "records")
    prepare(sample_text, data, str(tmp_path / "vocab.txt"), config, progress=False)
    found = evaluate_pretraining(
        model, Manifest.load(data), num_examples=20, batch_size=16, progress=False
    )
    assert found.sentence_pairs is None and found.to_dict()["sentence_pairs"] is None
    assert found.examples == 20 and 20 < found.masked_words.count <= 100
    assert found.loss == found.masked_words.loss
    assert set(found.parts) == {"mask", "kept", "random"}


def test_all_figures_are_plain_json_data(result):
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values == result.to_dict()
    assert values["by_part"]["mask"]["count"] == result.parts["mask"].count
    assert values["by_frequency_rank"]["1001-"]["accuracy"] is None
    assert values["sentence_pairs"]["by_label"][1]["count"] == result.sentence_pairs.labels[1].count


def test_of_equal_scores_the_first_five_count_as_the_top_five(manifest, vocabulary, plain):
    config = EncoderConfig(len(vocabulary), 1, 8, 2, 16, max_positions=32)
    model = BertPretrainer(config, dtype="float32")
    # Without the table the scores are the biases alone, the same at each place.
    model.encoder.token_embeddings.assign(np.zeros((len(vocabulary), 8)))
    equals = sorted(vocabulary.ids[word] for word in (",", "the", ".", "and", "to", "of", "she"))
    best = vocabulary.ids["a"]
    values = np.zeros(len(vocabulary))
    values[equals], values[best] = 1.0, 2.0
    model.masked_language_model.output_bias.assign(values)
    found = evaluate_pretraining(model, manifest, num_examples=NUM_EXAMPLES, progress=False)
    counts = collections.Counter(word.id for word in plain[0])
    assert all(counts[id] for id in (*equals, best))
    assert found.masked_words.correct == counts[best]
    assert found.masked_words.in_top_5 == sum(counts[id] for id in (best, *equals[:4]))


def test_ratios_of_a_score():
    score = WordScore(count=400, correct=100, loss_sum=800.0, in_top_5=200)
    assert (score.accuracy, score.top_5_accuracy, score.loss) == (0.25, 0.5, 2.0)
    assert score.perplexity == pytest.approx(math.e**2)
    assert score.standard_error == pytest.approx(math.sqrt(0.25 * 0.75 / 400))
    assert Score(0, 0, 0.0).standard_error is None


class TestWhatDoesNotFit:
    def evaluate(self, model, manifest, *arguments, **options):
        evaluate_pretraining(model, manifest, *arguments, num_examples=8, progress=False, **options)

    def model_of(self, vocab_size, max_positions=64):
        return BertPretrainer(
            EncoderConfig(vocab_size, 1, 8, 2, 16, max_positions=max_positions), dtype="float32"
        )

    def test_vocabularies_of_other_sizes(self, manifest, vocabulary):
        model = self.model_of(len(vocabulary) + 1)
        sizes = f"{len(vocabulary) + 1} pieces, .* one of {len(vocabulary)}; give"
        with pytest.raises(InputError, match=sizes):
            self.evaluate(model, manifest)

    def test_other_vocabularies_of_the_same_size(self, model, manifest, vocabulary):
        self.evaluate(model, manifest, vocabulary)
        other = Vocabulary([*vocabulary.pieces[:-1], "xylophone"])
        with pytest.raises(InputError, match="were prepared with another vocabulary of .* pieces"):
            self.evaluate(model, manifest, other)

    def test_longer_records_than_the_model_has_positions(self, manifest, vocabulary):
        with pytest.raises(InputError, match="have 32 tokens, the model only 31 positions"):
            self.evaluate(self.model_of(len(vocabulary), max_positions=31), manifest)
        self.evaluate(self.model_of(len(vocabulary), max_positions=32), manifest)

    def test_a_split_that_does_not_exist_or_is_empty(self, model, manifest):
        with pytest.raises(InputError, match="split must be one of validation, train.*'test'"):
            self.evaluate(model, manifest, split="test")
        with pytest.raises(InputError, match="There are no training records"):
            self.evaluate(model, dataclasses.replace(manifest, train=()), split="train")
        with pytest.raises(InputError, match="There are no validation records"):
            self.evaluate(model, dataclasses.replace(manifest, validation=()))

    def test_damaged_records_are_told_with_their_place(self, model, tmp_path, records):
        folder = tmp_path / "short"
        shutil.copytree(records / "short", folder)
        damaged = Manifest.load(str(folder))
        path = folder / damaged.validation[0].file
        content = bytearray(path.read_bytes())
        content[40] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match="in record 0 at byte offset 0") as error:
            self.evaluate(model, damaged)
        assert "\n" not in str(error.value)

    def test_a_model_that_computes_nan(self, manifest, vocabulary):
        model = self.model_of(len(vocabulary))
        bias = model.masked_language_model.output_bias
        bias.assign(np.full(len(vocabulary), np.nan, "float32"))
        with pytest.raises(InputError, match="not all finite"):
            self.evaluate(model, manifest)
