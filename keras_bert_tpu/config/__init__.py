"""Settings: frozen dataclasses, one YAML key for each field.

A run file is a mapping whose keys are the field names below, nested as the dataclasses are.
`from_dict` names the nearest key when one does not exist, and `--set key.subkey=value` on the
command line reaches every field (see `dataclass_yaml`).
"""

from keras_bert_tpu.config.data import (
    DUPLICATES,
    INPUT_FORMATS,
    MASKS,
    OBJECTIVES,
    REPLACEMENTS,
    DataConfig,
)
from keras_bert_tpu.config.encoder import HIDDEN_ACTIVATIONS, PRESETS, EncoderConfig
from keras_bert_tpu.config.finetuning import CLASS_WEIGHTS, FinetuningConfig
from keras_bert_tpu.config.pretraining import (
    ALGORITHMS,
    BEST_METRICS,
    COMPUTE_DTYPES,
    ON_DAMAGE,
    SCHEDULES,
    TRACKERS,
    OptimizerConfig,
    PhaseConfig,
    PretrainingConfig,
)
from keras_bert_tpu.dataclass_yaml import InputError

__all__ = [
    "ALGORITHMS",
    "BEST_METRICS",
    "CLASS_WEIGHTS",
    "COMPUTE_DTYPES",
    "DUPLICATES",
    "DataConfig",
    "EncoderConfig",
    "FinetuningConfig",
    "HIDDEN_ACTIVATIONS",
    "INPUT_FORMATS",
    "InputError",
    "MASKS",
    "OBJECTIVES",
    "ON_DAMAGE",
    "OptimizerConfig",
    "PRESETS",
    "PhaseConfig",
    "PretrainingConfig",
    "REPLACEMENTS",
    "SCHEDULES",
    "TRACKERS",
]
