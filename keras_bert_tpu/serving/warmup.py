"""Warm-up requests that TF Serving replays when it has loaded a model.

Without them the first requests of users wait for what a graph does once: for each shape that it
meets, memory and kernels. There is one for each signature and length, in
`assets.extra/tf_serving_warmup_requests`, a TFRecord file of PredictionLog messages.
"""

import posixpath
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.serving.signatures import DEFAULT, EXAMPLES, IDS, Servable

FILE = posixpath.join("assets.extra", "tf_serving_warmup_requests")


def require_messages() -> None:
    """Raises InputError if tensorflow-serving-api is not installed."""
    try:
        from tensorflow_serving.apis import prediction_log_pb2  # noqa: F401
    except ImportError as error:
        raise InputError(
            "Warm-up requests are messages of tensorflow-serving-api; install it with: pip install "
            "'keras_bert_tpu[serving]', or export without them."
        ) from error


def write_warmup(folder: str, served: Servable, name: str) -> int:
    """Writes the requests into the folder of a SavedModel.

    Args:
        folder: str. Local or gs:// folder of one version.
        served: Servable that was exported there.
        name: str. What TF Serving calls the model.

    Returns:
        int. How many there are.

    Raises:
        InputError: If tensorflow-serving-api is not installed.
    """
    require_messages()
    from tensorflow_serving.apis import prediction_log_pb2

    path = posixpath.join(folder, FILE)
    tf.io.gfile.makedirs(posixpath.dirname(path))
    number = 0
    with tf.io.TFRecordWriter(path) as writer:
        for signature, inputs in warmup_inputs(served):
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())
            number += 1
    return number


def warmup_inputs(served: Servable) -> Iterator[tuple[str, dict[str, tf.Tensor]]]:
    """Yields a signature and its inputs: for each signature and bucket, and each shape of rows."""
    names = [spec.name for spec in served.row_specs()]
    if served.tokenizer is None:
        for number, length in served.shapes():
            row = served.row_of_length(length)
            yield IDS, {name: tf.repeat(row[name], number, axis=0) for name in names}
        return
    for length in served.buckets:
        inputs = inputs_of_length(served, length)
        columns = {name: tf.constant(value) for name, value in inputs.items()}
        features = {
            name: tf.train.Feature(
                bytes_list=tf.train.BytesList(value=[text.encode() for text in _flat(value)])
            )
            for name, value in inputs.items()
        }
        example = tf.train.Example(features=tf.train.Features(feature=features))
        yield DEFAULT, columns
        rows = served.rows(*columns.values())
        yield IDS, {name: rows[name][..., :length] for name in names}
        yield EXAMPLES, {"examples": tf.constant([example.SerializeToString()])}
        for number, of_length in served.shapes():
            if of_length == length and number > 1:
                ids = {name: rows[name][:1, ..., :length] for name in names}
                yield IDS, {name: tf.repeat(row, number, axis=0) for name, row in ids.items()}


def inputs_of_length(served: Servable, length: int) -> dict[str, list[Any]]:
    """Returns a request of one whose rows have so many tokens.

    A row has at least one piece of each text.
    """
    word = _word_of_one_piece(served)
    # [CLS], and a [SEP] behind each text.
    pieces = max(length - 1 - len(served.texts), len(served.texts))
    return served.one_request([" ".join([word] * n) for n in served.pieces_of_inputs(pieces)])


def _flat(value: list[Any]) -> list[str]:
    """The strings of an input of one, which may be a list of choices."""
    return value[0] if isinstance(value[0], list) else value


def _word_of_one_piece(served: Servable) -> str:
    """A word that the tokenizer makes one piece of."""
    tokenizer = served.tokenizer
    vocabulary = tokenizer.vocabulary
    ids = [i for i in range(len(vocabulary)) if i not in vocabulary.special_ids]
    words = [vocabulary.pieces[i] for i in ids]
    counts = tokenizer(words).row_lengths().numpy()
    return next((word for word, count in zip(words, counts, strict=True) if count == 1), "a")
