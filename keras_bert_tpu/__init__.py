"""BERT for TensorFlow and TPUs: raw text to a pre-trained encoder.

The public names are imported on first use, so that `import keras_bert_tpu` stays light.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "BertMultipleChoice": "models.multiple_choice",
    "BertEncoder": "models.encoder",
    "BertPretrainer": "models.pretrainer",
    "BertQuestionAnswerer": "models.question_answerer",
    "BertSentenceEncoder": "models.sentence_encoder",
    "BertTextClassifier": "models.text_classifier",
    "BertTokenClassifier": "models.token_classifier",
    "BertTokenizer": "text.tokenizer",
    "DataConfig": "config",
    "EncoderConfig": "config",
    "FinetuningConfig": "config",
    "FillMask": "pipelines.fill_mask",
    "InputError": "config",
    "OptimizerConfig": "config",
    "PhaseConfig": "config",
    "PretrainingConfig": "config",
    "Vocabulary": "text.vocabulary",
    "evaluate_pretraining": "training.evaluation",
    "export": "serving.export",
    "index_records": "pretraining_data.foreign",
    "learn_vocabulary": "text.vocabulary",
    "prepare": "pretraining_data.prepare",
    "prepare_with_beam": "pretraining_data.beam",
    "pretrain": "training.loop",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
