"""What the tests of exports share."""

import os
import pathlib

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_bert_tpu.models.multiple_choice import BertMultipleChoice
from keras_bert_tpu.models.question_answerer import BertQuestionAnswerer
from keras_bert_tpu.models.sentence_encoder import BertSentenceEncoder
from keras_bert_tpu.models.text_classifier import BertTextClassifier
from keras_bert_tpu.models.token_classifier import BertTokenClassifier
from keras_bert_tpu.pipelines.fill_mask import FillMask

CHECKPOINT = str(pathlib.Path(__file__).parents[1] / "golden" / "mini_reference")
# Of many lengths, some beyond the longest rows.
WORDS = "it was a fine day and the wind blew over the garden where nobody had been".split()
TEXTS = ["", "Rain.", *(" ".join(WORDS[: 1 + i % 15] * (1 + i % 7)) for i in range(40))]
LENGTH = 48
ENTITY_LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
# All that an export may have in its graphs. TensorFlow 2.12 and tensorflow-text 2.12, which are in
# the images of TF Serving from 2.12 on, know each of them.
KNOWN_OPERATIONS = set(
    """
    AddV2 All Any ArgMax Assert AssignVariableOp BatchMatMulV2 BiasAdd BroadcastTo Cast ConcatV2
    Const Cumsum DenseBincount DisableCopyOnRead Einsum EnsureShape Equal Erf Exp ExpandDims
    FastWordpieceTokenizeWithOffsets Fill FloorDiv FloorMod GatherNd GatherV2 Greater
    GreaterEqual Identity IdentityN If IsFinite Less LessEqual Log LogicalAnd LogicalNot
    LogicalOr LowerBound MatMul Max Maximum Mean MergeV2Checkpoints Min Minimum Mul Neg NoOp
    NormalizeUTF8 NotEqual OneHot OnesLike Pack Pad ParseExampleV2 Placeholder Pow Prod
    RaggedGather RaggedRange RaggedTensorToTensor Range ReadVariableOp RealDiv Reshape RestoreV2
    Rsqrt SaveV2 ScatterNd SegmentMax SegmentMean SegmentMin Select SelectV2 Shape
    ShardedFilename Sigmoid Size Softmax Square Squeeze StatefulPartitionedCall StatelessIf
    StatelessWhile StaticRegexFullMatch StaticRegexReplace StopGradient StridedSlice StringJoin
    StringLength StringLower StringSplit StringSplitV2 Sub Substr Sum Tanh TensorListFromTensor
    TensorListGetItem TensorListReserve TensorListSetItem TensorListStack TensorScatterUpdate
    Tile TopKV2 Transpose UnicodeDecodeWithOffsets UnicodeEncode UnicodeTranscode Unique Unpack
    UnsortedSegmentJoin UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentSum VarHandleOp
    Where While ZerosLike
    """.split()
)


def classifier(pairs=False, **settings):
    keras.utils.set_random_seed(3)
    labels = settings.pop("labels", ["bad", "good"])
    model = BertTextClassifier.from_pretrained(
        CHECKPOINT, labels=labels, sequence_length=LENGTH, **settings
    )
    model.pairs = pairs
    return sharpened(model, 20.0)


def sentence_encoder():
    return BertSentenceEncoder.from_pretrained(CHECKPOINT, sequence_length=LENGTH)


def examples_of(**columns):
    """Serialized tf.Examples of columns of strings, or of lists of them."""

    def feature(value):
        texts = [value] if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[t.encode() for t in texts]))

    rows = zip(*columns.values(), strict=True)
    return [
        tf.train.Example(
            features=tf.train.Features(
                feature={name: feature(text) for name, text in zip(columns, row, strict=True)}
            )
        ).SerializeToString()
        for row in rows
    ]


def operations_of(folder):
    """The operations in the graphs of a SavedModel."""
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read())
    (graph,) = saved.meta_graphs
    functions = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(node for f in functions for node in f.node_def)]
    return {node.op for node in nodes}


def sharpened(model, factor):
    """A model whose new head gives scores that differ."""
    model.head.kernel.assign(factor * model.head.kernel)
    return model


def assert_classes_of_model(found, model, texts):
    """Compares what a client got for texts with what the model gives."""
    scores = model.predict(texts, verbose=0)
    np.testing.assert_allclose(found["logits"], scores, atol=1e-5)
    assert found["label"].tolist() == [model.labels[index] for index in scores.argmax(axis=1)]
    assert found["logits"].dtype == np.float32


def answers_of(folder, signature="serving_default"):
    """Asks a SavedModel, loaded anew; arrays by name."""
    loaded = tf.saved_model.load(folder)

    def ask(**inputs):
        inputs = {name: tf.constant(value) for name, value in inputs.items()}
        found = loaded.signatures[signature](**inputs)
        return {name: value.numpy() for name, value in found.items()}

    return ask


def answerer():
    keras.utils.set_random_seed(3)
    model = BertQuestionAnswerer.from_pretrained(CHECKPOINT, sequence_length=128)
    return sharpened(model, 20.0)


def tagger(labels=ENTITY_LABELS):
    keras.utils.set_random_seed(5)
    model = BertTokenClassifier.from_pretrained(CHECKPOINT, labels=labels, sequence_length=LENGTH)
    return sharpened(model, 15.0)


def chooser():
    keras.utils.set_random_seed(3)
    model = BertMultipleChoice.from_pretrained(CHECKPOINT, sequence_length=LENGTH)
    return sharpened(model, 20.0)


# Makers of models, and settings of exports.
MODELS = {
    "classifier": classifier,
    "classifier in int8": classifier,
    "classifier by XLA": classifier,
    "pairs": lambda: classifier(pairs=True),
    "sentences": sentence_encoder,
    "questions": answerer,
    "entities": tagger,
    "choices": chooser,
    "masked words": lambda: FillMask.from_pretrained(CHECKPOINT, sequence_length=LENGTH),
}
SETTINGS = {"classifier in int8": {"weights": "int8"}, "classifier by XLA": {"xla": True}}
