import os

import tensorflow as tf

from keras_bert_tpu.pretraining_data.manifest import Manifest

from programs import run_program


def write_records(path, count, length=8):
    def ints(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    weights = tf.train.Feature(float_list=tf.train.FloatList(value=[1.0]))
    features = {
        "input_ids": ints([2, 4, 3, 6, 3] + [0] * (length - 5)),
        "input_mask": ints([1] * 5 + [0] * (length - 5)),
        "segment_ids": ints([0, 0, 0, 1, 1] + [0] * (length - 5)),
        "masked_lm_positions": ints([1]),
        "masked_lm_ids": ints([5]),
        "masked_lm_weights": weights,
        "next_sentence_labels": ints([1]),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(count):
            writer.write(example.SerializeToString())


def test_files_become_a_folder_to_train_from(tmp_path):
    write_records(tmp_path / "wiki.tfrecord-0", 5)
    write_records(tmp_path / "wiki.tfrecord-1", 4)
    write_records(tmp_path / "dev.tfrecord", 2)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n")
    arguments = [
        f"--input={tmp_path}/wiki.tfrecord*",
        f"--validation={tmp_path}/dev*",
        f"--output={tmp_path}/out",
        f"--vocab={tmp_path}/vocab.txt",
    ]
    done = run_program("index", *arguments, "--nolower_case", "--strip_accents=true")
    assert done.returncode == 0, done.stderr
    manifest = Manifest.load(f"{tmp_path}/out")
    assert (manifest.num_examples, manifest.num_validation_examples) == (9, 2)
    assert (manifest.config.lower_case, manifest.config.strip_accents) == (False, True)
    assert manifest.train[0].sha256 == ""
    assert "11 examples in" in done.stdout
    assert f"Next: kbt-pretrain --data={tmp_path}/out " in done.stdout
    assert "Indexing: 100%" in done.stderr

    done = run_program("index", *arguments)
    assert done.returncode == 2
    assert "kbt-index: " in done.stderr and "--overwrite" in done.stderr
    assert "Traceback" not in done.stderr
    done = run_program("index", *arguments, "--overwrite", "--checksums")
    assert done.returncode == 0, done.stderr
    assert len(Manifest.load(f"{tmp_path}/out").train[0].sha256) == 64


def test_a_record_of_another_length_is_one_sentence_and_status_2(tmp_path):
    write_records(tmp_path / "a.tfrecord", 5)
    write_records(tmp_path / "b.tfrecord", 4, length=16)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n")
    done = run_program(
        "index",
        f"--input={tmp_path}/*.tfrecord",
        f"--output={tmp_path}/out",
        f"--vocab={tmp_path}/vocab.txt",
    )
    assert done.returncode == 2
    assert "Record 0 of" in done.stderr and "b.tfrecord has 16 values of input_ids" in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists(tmp_path / "out")
