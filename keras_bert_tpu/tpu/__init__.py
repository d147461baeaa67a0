"""TPUs: a strategy for those that are there, and plans for those that are not yet."""

from keras_bert_tpu.tpu.connect import connect

__all__ = ["connect"]
