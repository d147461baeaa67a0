"""Export to TF Serving, and the client of what is served."""

from keras_bert_tpu.serving.client import Client, ServingError

__all__ = ["Client", "ServingError"]
