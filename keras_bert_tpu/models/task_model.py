"""What the models of all tasks share: an encoder, dropout, and a head on top."""

from typing import Any

import keras
from keras import ops

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.layers.configured import Configured, truncated_normal
from keras_bert_tpu.layers.dropout import Dropout
from keras_bert_tpu.models.encoder import BertEncoder


class TaskModel(Configured, keras.Model):
    """An encoder whose output goes through dropout and a dense layer (arXiv 1810.04805, 3.2).

    All variables exist once the constructor returns. The scores are float32 whatever the policy.

    Args:
        config: EncoderConfig.
        num_outputs: int. Scores of the dense layer.
        head: str. Name of the dense layer.
        dtype: Keras dtype policy, for example "mixed_bfloat16". Defaults to Keras' own.
        name: str.
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
        **kwargs: Any,
    ):
        super().__init__(config, dtype=dtype, name=name, **kwargs)
        self.encoder = BertEncoder(config, dtype=self.dtype_policy)
        # The site behind those of the encoder, of which the last is 3 L.
        self.dropout = Dropout(
            config.hidden_dropout, site=3 * config.num_layers + 1, dtype=self.dtype_policy
        )
        self.head = keras.layers.Dense(
            num_outputs,
            kernel_initializer=truncated_normal(config),
            dtype="float32",
            name=head,
        )
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
