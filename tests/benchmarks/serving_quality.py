"""What exports with weights of fewer bytes keep of the quality, on development sets.

    python tests/benchmarks/serving_quality.py --classifier=RUN/model --encoder=MINILM --data=DATA

The classifier was fine-tuned on SST-2, such as by

    kbt-finetune --task=SST-2 --data=DATA/glue/SST-2 --checkpoint=MINILM --output=RUN

Its accuracy on the development set of SST-2, and the rank correlation of the encoder's cosines with
the scores of pairs of STS-B's, by `serving_default` of SavedModels, for each kind of weights.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_bert_tpu import BertSentenceEncoder, BertTextClassifier
from keras_bert_tpu.serving.export import export
from keras_bert_tpu.serving.weights import KINDS
from keras_bert_tpu.tasks import metrics
from keras_bert_tpu.tasks.text_classification import GlueClassification


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classifier", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--data", required=True)
    arguments = parser.parse_args()
    reviews, pairs = (
        GlueClassification(name, str(Path(arguments.data, "glue", name))).development["dev"]
        for name in ("SST-2", "STS-B")
    )
    models = {
        "SST-2": BertTextClassifier.from_pretrained(arguments.classifier),
        "STS-B": BertSentenceEncoder.from_pretrained(arguments.encoder),
    }
    print("| weights | SST-2 accuracy | STS-B Spearman | classifier on disk |")
    print("| --- | --- | --- | --- |")
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            paths = {
                name: export(model, str(Path(folder, name)), weights=kind, warmup=False)[0]
                for name, model in models.items()
            }
            size = sum(f.stat().st_size for f in Path(paths["SST-2"]).rglob("*") if f.is_file())
            classify, embed = (
                tf.saved_model.load(path).signatures["serving_default"] for path in paths.values()
            )
            labels = classify(text=tf.constant([e.texts[0] for e in reviews]))["label"].numpy()
            right = [label.decode() == e.label for label, e in zip(labels, reviews, strict=True)]
            sides = [
                embed(text=tf.constant([e.texts[side] for e in pairs]))["embedding"].numpy()
                for side in (0, 1)
            ]
            first, second = (s / np.linalg.norm(s, axis=1, keepdims=True) for s in sides)
            cosines = (first * second).sum(axis=1)
            rank = metrics.spearman(cosines, np.array([e.label for e in pairs], "float64"))
        print(f"| {kind} | {np.mean(right):.2%} | {rank:.4f} | {size / 1e6:.1f} MB |", flush=True)


if __name__ == "__main__":
    main()
