"""Texts to vectors whose cosine tells how alike the texts are."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
from keras import ops

from keras_bert_tpu.config import EncoderConfig, InputError
from keras_bert_tpu.layers.configured import Configured
from keras_bert_tpu.models.encoder import BertEncoder
from keras_bert_tpu.models.raw_text import RawTextModel

POOLINGS = ("mean", "cls")
_TOKEN_INPUTS = ("token_ids", "segment_ids", "padding_mask")


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertSentenceEncoder(Configured, RawTextModel):
    """Encoder whose outputs become one vector for each text (Sentence-BERT, arXiv 1908.10084, 3).

    `predict` takes a list of texts, or a `tf.data.Dataset` of such, and gives float32 vectors
    [texts, hidden]; texts beyond `sequence_length` pieces are trimmed. `fit` and `evaluate` take
    pairs, a tuple of two lists or a data set of such, and for each pair a similarity from -1 to 1,
    which the cosine of the two vectors is to come to: the loss is the mean of squared errors.
    `predict` of pairs gives their cosines, float32 [pairs, 1].

    Args:
        config: EncoderConfig.
        pooling: str. "mean" of the outputs of all real pieces, or the output of the first, "cls".
        normalize: bool. Whether the vectors have the length 1, so that their product is the cosine.
        dtype: Keras dtype policy, for example "mixed_bfloat16". Defaults to Keras' own.
        name: str. Defaults to "sentence_encoder".
        **kwargs: Those of `keras.Model`.

    Raises:
        InputError: If `pooling` is another.

    Example:
        model = BertSentenceEncoder.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
        a, b = model.predict(["A fine day.", "The sun shines."])
        model.fit((["A fine day."], ["The sun shines."]), [0.8])
        model.save_pretrained("sentences")
    """

    # What `Predictor` asks for: there is one output for a row.
    length_axis: int | None = None

    def __init__(
        self,
        config: EncoderConfig,
        pooling: Literal["mean", "cls"] = "mean",
        normalize: bool = True,
        dtype: Any = None,
        name: str = "sentence_encoder",
        **kwargs: Any,
    ):
        if pooling not in POOLINGS:
            raise InputError(f"pooling must be one of {list(POOLINGS)}. Received: {pooling!r}.")
        super().__init__(config, dtype=dtype, name=name, **kwargs)
        self.pooling = pooling
        self.normalize = normalize
        self.encoder = BertEncoder(config, dtype=self.dtype_policy)
        # It has no part in the vectors; what is learned of it already goes with the model.
        self.encoder.pooler.trainable = False
        # What makes rows of raw text; `from_pretrained` sets it.
        self.tokenizer: Any = None
        self.sequence_length = config.max_positions
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Marks the model as built: the encoder has all its variables."""
        self.built = True

    def call(self, inputs: Any, training: bool | None = None, seed: Any = None) -> Any:
        """Gives the vectors of rows, or the cosines of pairs of rows.

        Args:
            inputs: Mapping with those of `BertEncoder`; other keys are ignored. Or a tuple of two
                such, of the same shape.
            training: bool. Whether dropout is on.
            seed: int32 tensor [2], the dropout seed of this step and replica, see `Dropout`.

        Returns:
            float32 tensor [batch, hidden], or [batch, 1] of pairs.
        """
        if isinstance(inputs, Mapping):
            vectors = self._vectors(inputs, training, seed)
            return _unit(vectors) if self.normalize else vectors
        first, second = inputs
        # In one batch, so that dropout differs between the two.
        rows = {name: ops.concatenate([first[name], second[name]]) for name in _TOKEN_INPUTS}
        halves = ops.split(_unit(self._vectors(rows, training, seed)), 2)
        return ops.sum(halves[0] * halves[1], axis=-1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "pooling": self.pooling, "normalize": self.normalize}

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        pooling: Literal["mean", "cls"] | None = None,
        normalize: bool | None = None,
        sequence_length: int | None = None,
        dtype: Any = None,
    ) -> "BertSentenceEncoder":
        """Loads a sentence encoder, or makes one of any encoder's weights.

        Args:
            path: str. What `checkpoints.source.read_weights` reads: a folder that `save_pretrained`
                wrote, one of sentence-transformers, or weights of any other model, whose head is
                left out.
            pooling: str. None takes that of the folder, or else "mean".
            normalize: bool. None takes that of the folder, or else True.
            sequence_length: int. Longest rows. None takes that of the folder, or else 128, at most
                the positions of the encoder.
            dtype: Keras dtype policy, for example "mixed_bfloat16".

        Raises:
            InputError: If there are no such weights, the folder is not whole, or it is one of
                sentence-transformers that makes its vectors in another way, and no `pooling` is
                given.
        """
        # Storage and text are TensorFlow's business; the model itself builds with any backend.
        from keras_bert_tpu.checkpoints import sentence_encoders

        return sentence_encoders.load(cls, path, pooling, normalize, sequence_length, dtype)

    def save_pretrained(self, path: str) -> None:
        """Writes config.json, model.safetensors and vocab.txt: all that makes vectors of text.

        Args:
            path: str. Local or gs:// folder.

        Raises:
            InputError: If the model has no tokenizer.
        """
        from keras_bert_tpu.checkpoints import sentence_encoders

        sentence_encoders.save(path, self)

    def _vectors(self, rows: Mapping[str, Any], training: bool | None, seed: Any) -> Any:
        """Returns float32 vectors [batch, hidden] of any length."""
        outputs = self.encoder(rows, training=training, seed=seed)["sequence_output"]
        if self.pooling == "cls":
            return ops.cast(outputs[:, 0], "float32")
        is_real = ops.cast(rows["padding_mask"], "float32")[..., None]
        total = ops.sum(ops.cast(outputs, "float32") * is_real, axis=1)
        return total / ops.maximum(ops.sum(is_real, axis=1), 1.0)

    def _text_batches(
        self, x: Any, y: Any, sample_weight: Any, batch_size: int, shuffle: bool
    ) -> Any:
        from keras_bert_tpu.tasks import raw_sentences

        return raw_sentences.pair_batches(self, x, y, sample_weight, batch_size, shuffle)

    def _predict_text(self, x: Any, predict: Callable[[Any], Any]) -> Any:
        from keras_bert_tpu.tasks import raw_sentences

        return raw_sentences.predict_vectors(self, x, predict)

    def _default_losses(self) -> dict[str, Any]:
        return {"loss": keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")}


def _unit(vectors: Any) -> Any:
    """Vectors [batch, hidden] at the length 1; its gradient is finite at zero, too."""
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(squares, 1e-24))
