"""What the tests of exports share."""

import pathlib

import keras

from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder
from keras_bert_tpu.models.text_classifier import BertTextClassifier

CHECKPOINT = str(pathlib.Path(__file__).parents[1] / "golden" / "mini_reference")
# Of many lengths, some beyond the longest rows.
WORDS = "it was a fine day and the wind blew over the garden where nobody had been".split()
TEXTS = ["", "Rain.", *(" ".join(WORDS[: 1 + i % 15] * (1 + i % 7)) for i in range(40))]
LENGTH = 48


def classifier(pairs=False, **settings):
    keras.utils.set_random_seed(3)
    labels = settings.pop("labels", ["bad", "good"])
    model = BertTextClassifier.from_pretrained(
        CHECKPOINT, labels=labels, sequence_length=LENGTH, **settings
    )
    model.pairs = pairs
    # Scores that differ: of a new head they nearly do not.
    model.head.kernel.assign(20.0 * model.head.kernel)
    return model


def sentence_encoder():
    return BertSentenceEncoder.from_pretrained(CHECKPOINT, sequence_length=LENGTH)


def examples_of(**columns):
    """Serialized tf.Examples of columns of strings."""
    import tensorflow as tf

    def feature(text):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))

    rows = zip(*columns.values(), strict=True)
    return [
        tf.train.Example(
            features=tf.train.Features(
                feature={name: feature(text) for name, text in zip(columns, row, strict=True)}
            )
        ).SerializeToString()
        for row in rows
    ]
