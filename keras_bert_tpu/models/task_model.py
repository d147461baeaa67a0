"""What the models of all tasks share: an encoder, dropout, and a head on top."""

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.layers.configured import Configured, truncated_normal
from keras_bert_tpu.layers.dropout import Dropout
from keras_bert_tpu.models.encoder import BertEncoder
from keras_bert_tpu.models.raw_text import RawTextModel


class TaskModel(Configured, RawTextModel):
    """An encoder whose output goes through dropout and a dense layer (arXiv 1810.04805, 3.2).

    All variables exist once the constructor returns. The scores are float32 whatever the policy.

    Args:
        config: EncoderConfig.
        num_outputs: int. Scores of the dense layer.
        head: str. Name of the dense layer.
        dtype: Keras dtype policy, for example "mixed_bfloat16". Defaults to Keras' own.
        name: str.
        dropout: float or None. Rate before the dense layer; None takes the config's for hidden
            vectors.
        **kwargs: Those of `keras.Model`.
    """

    # Axis of the scores that counts the pieces of a row; None where scores are of whole rows.
    length_axis: int | None = None

    def __init__(
        self,
        config: EncoderConfig,
        num_outputs: int,
        head: str,
        dtype: Any = None,
        name: str | None = None,
        dropout: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(config, dtype=dtype, name=name, **kwargs)
        self.encoder = BertEncoder(config, dtype=self.dtype_policy)
        # The site behind those of the encoder, of which the last is 3 L.
        self.dropout = Dropout(
            config.hidden_dropout if dropout is None else dropout,
            site=3 * config.num_layers + 1,
            dtype=self.dtype_policy,
        )
        self.head = keras.layers.Dense(
            num_outputs,
            kernel_initializer=truncated_normal(config),
            dtype="float32",
            name=head,
        )
        # What makes rows of raw text, and says what the scores mean; `from_pretrained` sets them.
        self.tokenizer: Any = None
        self.labels: tuple[str, ...] = ()
        self.multi_label = False
        self.pairs = False
        self.sequence_length = config.max_positions
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates all variables; called by the constructor."""
        if not self.built:
            self.head.build((None, self.config.hidden_size))

    def score(self, vectors: Any, training: bool | None, seed: Any) -> Any:
        """Puts vectors [..., hidden] of the encoder through dropout and the dense layer.

        Returns:
            float32 tensor [..., num_outputs].
        """
        vectors = self.dropout(vectors, training=training, seed=seed)
        return self.head(ops.cast(vectors, "float32"))

    def head_config(self) -> dict[str, Any]:
        """Returns what the constructor takes beside the config."""
        return {}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), **self.head_config()}

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        labels: Sequence[str] | None = None,
        sequence_length: int | None = None,
        dtype: Any = None,
        **head: Any,
    ) -> Self:
        """Loads a model that `save_pretrained` wrote, or puts a new head on a pre-trained encoder.

        Args:
            path: str. Local or gs:// folder, or what else `checkpoints.source.read_weights` reads.
            labels: Names of the classes, in the order of the scores. None takes those of the
                folder, if it has any.
            sequence_length: int. Longest rows. None takes that of the folder, or else 128, at most
                the positions of the encoder.
            dtype: Keras dtype policy, for example "mixed_bfloat16".
            **head: What the constructor takes beside the config, such as `num_classes`. By default
                that of the folder, or the number of labels.

        Raises:
            InputError: If the folder is not whole, or has another encoder or head than is asked
                for.
        """
        # Storage and text are TensorFlow's business; the model itself builds with any backend.
        from keras_bert_tpu.checkpoints import task_models

        return task_models.load(cls, path, labels, sequence_length, dtype, head)

    def save_pretrained(self, path: str) -> None:
        """Writes config.json, model.safetensors and vocab.txt: weights, labels and vocabulary.

        Args:
            path: str. Local or gs:// folder.

        Raises:
            InputError: If the model has no tokenizer.
        """
        from keras_bert_tpu.checkpoints import task_models

        task_models.save(path, self)
