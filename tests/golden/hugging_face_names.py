"""Where each weight of Hugging Face's BertForPreTraining stands in our pre-training model."""

import re

import numpy as np

_LAYER_NAMES = {
    "attention.self.query": "attention/query",
    "attention.self.key": "attention/key",
    "attention.self.value": "attention/value",
    "attention.output.dense": "attention/output_projection",
    "attention.output.LayerNorm": "attention_layer_norm",
    "intermediate.dense": "intermediate",
    "output.dense": "output_projection",
    "output.LayerNorm": "output_layer_norm",
}
_OTHER_NAMES = {
    "bert.embeddings.word_embeddings.weight": "encoder/embeddings/token_embedding/embeddings",
    "bert.embeddings.position_embeddings.weight": "encoder/embeddings/position_embeddings",
    "bert.embeddings.token_type_embeddings.weight": "encoder/embeddings/segment_embeddings",
    "bert.embeddings.LayerNorm": "encoder/embeddings/layer_norm",
    "bert.pooler.dense": "encoder/pooler",
    "cls.predictions.bias": "masked_language_model/output_bias",
    "cls.predictions.transform.dense": "masked_language_model/transform",
    "cls.predictions.transform.LayerNorm": "masked_language_model/layer_norm",
    "cls.seq_relationship": "next_sentence/classifier",
}


def to_ours(tensors: dict[str, np.ndarray], shapes: dict[str, tuple]) -> dict[str, np.ndarray]:
    """Renames tensors, turns kernels to [inputs, outputs] and splits heads as `shapes` says."""
    ours = {}
    for name, array in tensors.items():
        ours_name = _rename(name)
        if ours_name.endswith("kernel"):
            array = array.T
        ours[ours_name] = array.reshape(shapes[ours_name])
    return ours


def _rename(name: str) -> str:
    if name in _OTHER_NAMES:
        return _OTHER_NAMES[name]
    stem, _, leaf = name.rpartition(".")
    is_norm = stem.endswith("LayerNorm")
    leaf = {"weight": "gamma" if is_norm else "kernel", "bias": "beta" if is_norm else "bias"}[leaf]
    match = re.fullmatch(r"bert\.encoder\.layer\.(\d+)\.(.*)", stem)
    if match:
        return f"encoder/layer_{match[1]}/{_LAYER_NAMES[match[2]]}/{leaf}"
    return f"{_OTHER_NAMES[stem]}/{leaf}"
