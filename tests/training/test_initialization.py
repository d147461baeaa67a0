"""Runs that begin with weights of another one, and runs that leave some as they are."""

import numpy as np
import pytest
from runs import make_config, read_metrics

from keras_bert_tpu.checkpoints.source import read_weights
from keras_bert_tpu.config import DataConfig, InputError, PretrainingConfig
from keras_bert_tpu.dataclass_yaml import from_dict, to_dict
from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.pretraining_data.pipeline import training_dataset
from keras_bert_tpu.pretraining_data.prepare import prepare
from keras_bert_tpu.text.vocabulary import Vocabulary
from keras_bert_tpu.training.initialization import select
from keras_bert_tpu.training.loop import pretrain


@pytest.fixture(scope="module")
def other_run(tmp_path_factory, records, vocabulary):
    output = tmp_path_factory.mktemp("other")
    pretrain(make_config(vocabulary, steps=10, seed=1), str(records), str(output))
    return output


def weights(path):
    return read_weights(str(path)).arrays


def still(config, **values):
    """The run, with a learning rate too small to move a weight."""
    optimizer = {"learning_rate": 1e-30, "warmup_steps": 1}
    return from_dict(PretrainingConfig, {**to_dict(config), "optimizer": optimizer, **values})


@pytest.mark.parametrize("source", ["model", "checkpoints/step-00000010", "."])
def test_chosen_layers_begin_as_in_the_checkpoint_and_the_others_at_random(
    tmp_path, other_run, records, vocabulary, source, capfd
):
    config = still(
        make_config(vocabulary, steps=10),
        init_checkpoint=str(other_run / source),
        init_layers=["encoder/embeddings", "encoder/layer_0/*", "next_sentence/classifier/bias"],
    )
    pretrain(config, str(records), str(tmp_path))
    before, after = weights(other_run / "model"), weights(tmp_path / "model")
    for name, weight in after.items():
        is_taken = name.startswith(("encoder/embeddings", "encoder/layer_0"))
        is_taken |= name == "next_sentence/classifier/bias"
        is_same = np.array_equal(weight, before[name])
        # Biases and the scales of layer normalization begin alike in every run.
        assert is_same or not is_taken, name
        if name.endswith("kernel"):
            assert is_same == is_taken, name
    said = capfd.readouterr().out
    assert "encoder/layer_0          taken" in said
    assert "encoder/layer_1          begins at random" in said
    assert "next_sentence            1 of 2 taken" in said


def test_run_that_goes_on_does_not_begin_with_the_checkpoint_again(
    tmp_path, other_run, records, vocabulary
):
    values = {"init_checkpoint": str(other_run), "save_every": 5}
    pretrain(make_config(vocabulary, steps=10, **values), str(records), str(tmp_path / "run"))
    moved = tmp_path / "moved"
    other_run.rename(moved)
    try:  # Its source is not even looked at.
        again = make_config(vocabulary, steps=10, **values)
        pretrain(again, str(records), str(tmp_path / "run"))
    finally:
        moved.rename(other_run)


def test_frozen_layers_stay_and_the_others_learn(tmp_path, records, vocabulary, capfd):
    config = make_config(vocabulary, steps=10, frozen_layers=["encoder/embeddings", "*/pooler/*"])
    start = make_config(vocabulary, steps=10, frozen_layers=config.frozen_layers)
    pretrain(config, str(records), str(tmp_path / "run"))
    pretrain(still(start), str(records), str(tmp_path / "start"))
    before, after = weights(tmp_path / "start"), weights(tmp_path / "run")
    for name, weight in after.items():
        is_frozen = name.startswith(("encoder/embeddings", "encoder/pooler"))
        assert np.array_equal(weight, before[name]) == is_frozen, name
    assert "7 of 46 weights are frozen." in capfd.readouterr().out
    record = read_metrics(tmp_path / "run", "train")[-1]
    norms = [name for name in record if name.startswith("gradient_norm/")]
    assert "gradient_norm/layer_0" in norms and "gradient_norm/embeddings" not in norms


def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path, other_run, records, vocabulary):
    def refused(**values):
        with pytest.raises(InputError) as error:
            config = make_config(vocabulary, steps=10, **values)
            pretrain(config, str(records), str(tmp_path / str(len(list(tmp_path.iterdir())))))
        return str(error.value)

    assert "no folder 'nowhere'" in refused(init_checkpoint="nowhere")
    source = str(other_run)
    message = refused(init_checkpoint=source, init_layers=["encoder/layer_9"])
    assert "no layer or weight 'encoder/layer_9'; the nearest is 'encoder/layer_" in message
    message = refused(frozen_layers=["enocder"])
    assert "frozen_layers: there is no layer or weight 'enocder'; the nearest is" in message
    assert "leaves no weight to train" in refused(frozen_layers=["*"])
    encoder = {"preset": "tiny", "vocab_size": len(vocabulary), "max_positions": 128}
    message = refused(init_checkpoint=source, encoder=encoder)
    assert "encoder/embeddings/position_embeddings has shape (64, 128)" in message


def test_vectors_of_another_vocabulary_are_refused(tmp_path, other_run, records, vocabulary):
    pieces = [*vocabulary.pieces[:-1], "zebra"]
    model = tmp_path / "model"
    model.mkdir()
    for file in (other_run / "model").iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    Vocabulary(pieces).save(str(model / "vocab.txt"))
    config = make_config(vocabulary, steps=10, init_checkpoint=str(model))
    with pytest.raises(InputError, match="has another vocabulary than the records"):
        pretrain(config, str(records), str(tmp_path / "run"))
    layers = ["encoder/layer_*", "encoder/pooler"]
    config = make_config(vocabulary, steps=10, init_checkpoint=str(model), init_layers=layers)
    pretrain(still(config), str(records), str(tmp_path / "run"))


def test_patterns_mean_weights_layers_or_either_by_wildcards():
    names = ["encoder/layer_1/a/kernel", "encoder/layer_10/a/kernel", "head/kernel"]
    assert select(names, ["encoder/layer_1"], "") == names[:1]
    assert select(names, ["encoder/layer_1*"], "") == names[:2]
    assert select(names, ["*kernel"], "") == names
    assert select(names, [], "") == []


@pytest.fixture(scope="module")
def dynamic_records(tmp_path_factory, sample_text, vocabulary):
    folder = tmp_path_factory.mktemp("dynamic")
    vocabulary.save(str(folder / "vocab.txt"))
    config = DataConfig(
        sequence_length=32, max_predictions=5, dupe_factor=1, masks="dynamic", validation_rate=0.1
    )
    arguments = (sample_text, str(folder / "short"), str(folder / "vocab.txt"), config)
    prepare(*arguments, workers=1, progress=False)
    return folder


def test_run_masks_at_a_rate_of_its_own(tmp_path, dynamic_records, records, vocabulary):
    manifest = Manifest.load(str(dynamic_records / "short")).with_mask_rate(0.4, 12)
    batch = next(iter(training_dataset(manifest, 64, 32, 12, seed=1)))
    lengths = batch["padding_mask"].numpy().sum(axis=1)
    expected = np.minimum(12, np.maximum(1, np.round(lengths * 0.4)))
    np.testing.assert_array_equal(batch["mask_weights"].numpy().sum(axis=1), expected)

    config = to_dict(make_config(vocabulary, steps=10))
    config["phases"][0] |= {"mask_rate": 0.4, "max_predictions": 12}
    config = from_dict(PretrainingConfig, config)
    pretrain(config, str(dynamic_records), str(tmp_path / "run"))
    with pytest.raises(InputError, match="mask_rate=0.4 needs masks that are drawn when"):
        pretrain(config, str(records), str(tmp_path / "static"))
