"""The pre-training model: the encoder with both heads."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_bert_tpu.config import EncoderConfig
from keras_bert_tpu.layers.configured import Configured
from keras_bert_tpu.layers.heads import MaskedLanguageModelHead, NextSentenceHead
from keras_bert_tpu.models.encoder import BertEncoder


@keras.saving.register_keras_serializable(package="keras_bert_tpu")
class BertPretrainer(Configured, keras.Model):
    """Encoder, masked language model head and next sentence head (arXiv 1810.04805, 3.1).

    All variables exist once the constructor returns.

    Args:
        config: EncoderConfig.
        dtype: Keras dtype policy, for example "mixed_bfloat16". Defaults to Keras' own.
        name: str. Defaults to "pretrainer".
        **kwargs: Those of `keras.Model`.
    """

    def __init__(
        self, config: EncoderConfig, dtype: Any = None, name: str = "pretrainer", **kwargs
    ):
        super().__init__(config, dtype=dtype, name=name, **kwargs)
        policy = self.dtype_policy
        self.encoder = BertEncoder(config, dtype=policy)
        self.masked_language_model = MaskedLanguageModelHead(
            config, dtype=policy, name="masked_language_model"
        )
        self.next_sentence = NextSentenceHead(config, dtype=policy, name="next_sentence")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates all variables; called by the constructor."""
        if self.built:
            return
        self.masked_language_model.build()
        self.next_sentence.build()

    def call(
        self, inputs: Mapping[str, Any], training: bool | None = None, seed: Any = None
    ) -> dict[str, Any]:
        """Encodes a batch and scores its masked positions and sentence pairs.

        Args:
            inputs: Mapping with those of `BertEncoder` and `mask_positions`, int32
                [batch, predictions]; other keys are ignored.
            training: bool. Whether dropout is on.
            seed: int32 tensor [2], the dropout seed of this step and replica, see `Dropout`.

        Returns:
            Dict with the encoder's outputs, `mlm_logits` float32 [batch, predictions, vocabulary]
            and `nsp_logits` float32 [batch, 2], or [batch, sequences, 2] where rows hold several.
        """
        outputs = self.encoder(inputs, training=training, seed=seed)
        outputs["mlm_logits"] = self.masked_language_model(
            outputs["sequence_output"], inputs["mask_positions"], self.encoder.token_embeddings
        )
        outputs["nsp_logits"] = self.next_sentence(outputs["pooled_output"])
        return outputs

    @classmethod
    def from_pretrained(cls, path: str, dtype: Any = None) -> "BertPretrainer":
        """Builds the model of a folder or name, with its weights.

        Where there are weights of the encoder but not of a head, as in many folders of other
        frameworks, it begins at random, and a warning says so.

        Args:
            path: str. What `checkpoints.source.read_weights` reads: a model folder that
                `save_pretrained` or a pre-training run wrote, a run or one of its checkpoints, a
                folder of another framework, or the name of a model on a hub.
            dtype: Keras dtype policy, for example "mixed_bfloat16".

        Raises:
            InputError: If there are no such weights, or the folder is not whole.
        """
        # Storage is TensorFlow's business; the model itself builds with any backend.
        from keras_bert_tpu.checkpoints.loading import load_weights
        from keras_bert_tpu.checkpoints.source import read_weights

        source = read_weights(path)
        model = cls(source.encoder, dtype=dtype)
        load_weights(model, source)
        return model

    def save_pretrained(
        self,
        path: str,
        vocabulary: Any,
        lower_case: bool = True,
        strip_accents: bool | None = None,
        added_tokens: Sequence[str] = (),
    ) -> None:
        """Writes config.json, model.safetensors and vocab.txt.

        Args:
            path: str. Local or gs:// folder.
            vocabulary: Vocabulary of the model.
            lower_case: bool. Whether its tokenizer lower-cases.
            strip_accents: bool or None. Whether it strips accents; None does as `lower_case` does.
            added_tokens: Sequence of str. Pieces that it finds in the text as they stand.
        """
        from keras_bert_tpu.checkpoints import folder

        folder.save_folder(
            path, self, self.config, vocabulary, lower_case, strip_accents, added_tokens
        )
