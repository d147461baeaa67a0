"""Speed of an exported classifier, beside Hugging Face's pipeline in PyTorch.

    python tests/benchmarks/serving_speed.py --checkpoint=MINILM --data=DATA \
        --peer_python=torch-env/bin/python

The first --texts sentences of novels are classified by `serving_default` of a SavedModel, in one
request and in requests of 32 in their order, and by the library's text-classification pipeline at a
batch size of 32; each round has all, one while the others wait. And, of ours alone: the latency of
requests of one sentence, the seconds that the SavedModel takes to load, and its size beside that of
the weights, for each kind of weights. Flags and environment are those of finetuning_speed.py.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from finetuning_speed import BATCH_SIZE, LENGTH, compare, flags, read_sentences
from peer import PeerWorker

from keras_bert_tpu import BertTextClassifier
from keras_bert_tpu.serving.export import export
from keras_bert_tpu.serving.weights import KINDS


def measure_alone(path: str, model: BertTextClassifier, texts: Sequence[str]) -> Callable:
    """Prints size, loading time and latency of an export; returns its answer."""
    weights = 4 * model.count_params()
    size = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    began = time.perf_counter()
    answer = tf.saved_model.load(path).signatures["serving_default"]
    loading = time.perf_counter() - began
    answer(text=tf.constant(texts[:BATCH_SIZE]))
    waits = []
    for text in texts:
        began = time.perf_counter()
        answer(text=tf.constant([text]))["logits"].numpy()
        waits.append(1e3 * (time.perf_counter() - began))
    median, last = np.percentile(waits, [50, 99])
    print(
        f"{Path(path).parent.name}: {size / 1e6:.1f} MB, {size / weights:.1%} of the weights in "
        f"float32; loaded in {loading:.1f} s; one sentence p50 {median:.1f} ms, p99 {last:.1f} ms",
        flush=True,
    )
    return answer


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument("--requests", type=int, default=500, help="of one sentence (%(default)s)")
    arguments = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores")
    texts = read_sentences(arguments.data, arguments.texts)
    model = BertTextClassifier.from_pretrained(
        arguments.checkpoint, num_classes=2, sequence_length=LENGTH
    )
    alone = texts[:: max(1, len(texts) // arguments.requests)]
    with tempfile.TemporaryDirectory() as folder:
        answers = {}
        for kind in KINDS:
            path, _ = export(model, str(Path(folder, kind)), weights=kind)
            answers[kind] = measure_alone(path, model, alone)
        answer = answers["float32"]

        worker = PeerWorker(arguments.peer_python, folder)
        worker.ask("model", kind="classes", outputs=2, path=arguments.checkpoint, seed=0)
        sentences = Path(folder, "sentences.json")
        sentences.write_text(json.dumps({"texts": texts}))

        def ours(rows: int) -> float:
            began = time.perf_counter()
            for start in range(0, len(texts), rows):
                answer(text=tf.constant(texts[start : start + rows]))["logits"].numpy()
            return time.perf_counter() - began

        def theirs() -> float:
            file = str(sentences)
            answered = worker.ask("classify", file=file, batch_size=BATCH_SIZE, length=LENGTH)
            return answered["seconds"]

        for name, rows in (("one request", len(texts)), (f"requests of {BATCH_SIZE}", BATCH_SIZE)):
            ways = [lambda rows=rows: ours(rows), theirs]
            compare(name, "sentences", len(texts), ways, arguments.rounds)


if __name__ == "__main__":
    main()
