"""The BERT encoder: token ids in, one vector a token and one a sequence out."""

import functools
from collections.abc import Mapping
from typing import Any

import keras

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.layers.attention import packed_score_bias, padding_score_bias
from keras_bert_tpu.layers.configured import Configured, truncated_normal
from keras_bert_tpu.layers.embeddings import BertEmbeddings
from keras_bert_tpu.layers.heads import gather_positions
from keras_bert_tpu.layers.transformer import TransformerLayer


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertEncoder(Configured, keras.Model):
    """Bidirectional transformer encoder (arXiv 1810.04805), with Google's pooler.

    All variables exist once the constructor returns.

    Args:
        config: EncoderConfig.
        dtype: Keras dtype policy, for example "mixed_bfloat16". Defaults to Keras' own.
        name: str. Defaults to "encoder".
        **kwargs: Those of `keras.Model`.

    Example:
        encoder = BertEncoder(EncoderConfig.from_preset("mini"))
        outputs = encoder({"token_ids": ids, "segment_ids": segments, "padding_mask": mask})
        outputs["sequence_output"]  # [batch, length, hidden]
    """

    def __init__(self, config: EncoderConfig, dtype: Any = None, name: str = "encoder", **kwargs):
        super().__init__(config, dtype=dtype, name=name, **kwargs)
        policy = self.dtype_policy
        self.embeddings = BertEmbeddings(config, dtype=policy, name="embeddings")
        self.transformer_layers = [
            TransformerLayer(config, index, dtype=policy, name=f"layer_{index}")
            for index in range(config.num_layers)
        ]
        self.pooler = keras.layers.Dense(
            config.hidden_size,
            activation="tanh",
            kernel_initializer=truncated_normal(config),
            dtype=policy,
            name="pooler",
        )
        # In training, keep the input of each layer only and compute what is inside once more when
        # gradients are taken: a third more work for a fraction of the memory.
        self.recompute = False
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates all variables; called by the constructor."""
        if self.built:
            return
        self.embeddings.build()
        for layer in self.transformer_layers:
            layer.build()
        self.pooler.build((None, self.config.hidden_size))

    def call(
        self, inputs: Mapping[str, Any], training: bool | None = None, seed: Any = None
    ) -> dict[str, Any]:
        """Encodes a batch.

        Args:
            inputs: Mapping with `token_ids`, `segment_ids` and `padding_mask` (1 = real token),
                int32 tensors [batch, length]. Rows that hold several sequences have
                `sequence_ids` (1 and up, 0 = padding) and `position_ids` (which begin with 0 in
                each sequence) [batch, length], and `cls_positions` [batch, sequences], where each
                begins. Other keys are ignored.
            training: bool. Whether dropout is on.
            seed: int32 tensor [2], the dropout seed of this step and replica, see `Dropout`.

        Returns:
            Dict of float tensors: `sequence_output` [batch, length, hidden] and `pooled_output`
            [batch, hidden], or [batch, sequences, hidden] where rows hold several: the [CLS]
            position through a dense layer with tanh.
        """
        is_packed = "sequence_ids" in inputs
        hidden = self.embeddings(
            inputs["token_ids"],
            inputs["segment_ids"],
            inputs["position_ids"] if is_packed else None,
            training=training,
            seed=seed,
        )
        if is_packed:
            score_bias = packed_score_bias(inputs["sequence_ids"])
        else:
            score_bias = padding_score_bias(inputs["padding_mask"])
        for layer in self.transformer_layers:
            apply = functools.partial(layer, score_bias=score_bias, training=training, seed=seed)
            # Without a seed passed in, the second computation would draw other dropout masks.
            if self.recompute and training and seed is not None:
                apply = keras.remat(apply)
            hidden = apply(hidden)
        first = gather_positions(hidden, inputs["cls_positions"]) if is_packed else hidden[:, 0]
        return {"sequence_output": hidden, "pooled_output": self.pooler(first)}

    @property
    def token_embeddings(self) -> Any:
        """The table [vocabulary, hidden] that the masked language model head shares."""
        return self.embeddings.token_embedding.embeddings

    @classmethod
    def from_pretrained(cls, path: str, dtype: Any = None) -> "BertEncoder":
        """Builds the encoder of a folder or name, with its weights; heads are left out.

        Weights of other frameworks may lack the pooler: it then begins at random, and a warning
        says so.

        Args:
            path: str. What `checkpoints.source.read_weights` reads: a model folder, a run or one of
                its checkpoints, a folder of another framework, or the name of a model on a hub.
            dtype: Keras dtype policy, for example "mixed_bfloat16".

        Raises:
            InputError: If there are no such weights, or the folder is not whole.
        """
        # Storage is TensorFlow's business; the model itself builds with any backend.
        from keras_bert_tpu.checkpoints.loading import load_weights
        from keras_bert_tpu.checkpoints.source import read_weights

        source = read_weights(path)
        encoder = cls(source.encoder, dtype=dtype)
        load_weights(encoder, source)
        return encoder
