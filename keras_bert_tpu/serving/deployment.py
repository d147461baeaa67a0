"""What TF Serving is started with, beside the model: batching, its configuration, the commands."""

import json
import os
import posixpath

from keras_bert_tpu.checkpoints.storage import write_atomically
from keras_bert_tpu.serving.export import model_name
from keras_bert_tpu.serving.signatures import IDS, Servable

BATCHING, MODELS = "batching_parameters.txt", "models.config"
IMAGE = "tensorflow/serving"


def write_deployment(path: str) -> None:
    """Writes batching parameters and a models.config beside the versions of a model.

    Args:
        path: str. Local or gs:// base path.
    """
    batching = (
        # A larger request is refused; the graph itself computes some rows at a time.
        "max_batch_size { value: 16384 }\n"
        "batch_timeout_micros { value: 1000 }\n"
        "max_enqueued_batches { value: 1000 }\n"
        # A batch is computed by all cores already.
        "num_batch_threads { value: 2 }\n"
        # No pad_variable_length_inputs: TensorFlow Serving pads with a tensor's first value, which
        # would make tokens of padding.
    )
    models = (
        "model_config_list {\n"
        "  config {\n"
        f'    name: "{model_name(path)}"\n'
        f'    base_path: "{_path_in_container(path)}"\n'
        '    model_platform: "tensorflow"\n'
        "  }\n"
        "}\n"
    )
    for name, text in ((BATCHING, batching), (MODELS, models)):
        write_atomically(posixpath.join(path, name), text.encode())


def docker_command(path: str) -> str:
    """Returns the command that serves a base path, on the ports 8500 (gRPC) and 8501 (REST)."""
    inside = _path_in_container(path)
    mount = "" if "://" in path else f' -v "{os.path.abspath(path)}:{inside}:ro"'
    return (
        f"docker run --rm -p 8500:8500 -p 8501:8501{mount} {IMAGE} "
        f"--model_config_file={inside}/{MODELS} --enable_batching=true "
        f"--batching_parameters_file={inside}/{BATCHING}"
    )


def curl_command(path: str, served: Servable) -> str:
    """Returns the command that asks a server on this machine."""
    if served.tokenizer is None:
        row = {name: value.numpy().tolist() for name, value in served.row_of_length(8).items()}
        body = json.dumps({"signature_name": IDS, "inputs": row})
    else:
        body = json.dumps({"inputs": served.sample_request()})
    return f"curl -d '{body}' http://localhost:8501/v1/models/{model_name(path)}:predict"


def _path_in_container(path: str) -> str:
    return path.rstrip("/") if "://" in path else f"/models/{model_name(path)}"
