"""CPU seconds that the steps of the Beam pipeline take for a gigabyte of text, and what follows.

  python tests/benchmarks/beam_cost.py --input='corpus/*.txt.gz' --vocab=vocab.txt
  python tests/benchmarks/beam_cost.py --input='corpus/*.txt.gz' --vocab=vocab.txt --beam \\
      --dollars_per_vcpu_hour=0.06

The first table is measured: processor time of this process, threads of TensorFlow included, so that
a machine that others use gives nearly the same figures. Each step is run by itself on the first
--megabytes of the text; its set-up, once in each worker, is left out. With --beam the pipeline is
run as a whole, too, with DirectRunner in this process, less what it takes for a text of 0.1 MB, as
its set-up. What it takes above the steps is what Beam itself takes here; another runner's encoding,
network and disks are not in it.

The second table is an estimate: the measured figures times the size of a corpus, by default the
assumed size of English Wikipedia's plain text, on processors as fast as this one that are busy all
the time. The price is yours to give; none is assumed.
"""

import argparse
import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import beam_steps
from keras_bert_tpu.pretraining_data.beam import prepare_with_beam
from keras_bert_tpu.pretraining_data.corpora import find_corpora
from keras_bert_tpu.pretraining_data.plan import plan_corpora
from keras_bert_tpu.text.files import expand_globs, read_lines
from keras_bert_tpu.text.vocabulary import Vocabulary

SETTINGS = {
    "static, dupe_factor 1": DataConfig(dupe_factor=1),
    "dynamic, dupe_factor 1": DataConfig(dupe_factor=1, masks="dynamic"),
    "static, dupe_factor 10": DataConfig(dupe_factor=10),
}
STEPS = ("plan", "read", "make", "write")


class Clock:
    """Processor time of this process by step."""

    def __init__(self):
        self.seconds = dict.fromkeys((*STEPS, "pipeline"), 0.0)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Adds what the block takes to a step."""
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start


def take_text(pattern: str, megabytes: float, folder: str) -> tuple[list[str], int]:
    """Writes the first megabytes of whole documents to files of at most 8 MB; returns them."""
    left = size = int(megabytes * 1e6)
    paths = []
    for path in expand_globs([pattern]):
        if left <= 0:
            break
        paths.append(os.path.join(folder, f"text-{len(paths):03d}.txt"))
        room = min(left, 8_000_000)
        with open(paths[-1], "wb") as file:
            for line in read_lines(path):
                if room <= 0 and not line.strip():
                    break
                room -= file.write(line + b"\n")
        left -= os.path.getsize(paths[-1])
    return paths, size - left


def run_steps(paths: list[str], vocab: str, config: DataConfig, folder: str, clock: Clock) -> int:
    """Runs each step by itself, as workers would; returns the number of examples."""
    corpora = find_corpora(paths)
    with clock.step("plan"):
        plan = plan_corpora(corpora, config)
    split_documents = tuple(dict(counts.documents) for counts in plan.counts)
    read = beam_steps.ReadDocuments(config, split_documents)
    make = beam_steps.MakeExamples(
        config, split_documents, plan.num_shards, (1.0,), vocab, Vocabulary.load(vocab).sha256
    )
    write = beam_steps.WriteShard(folder, folder, plan.num_shards, config)
    blocks: dict[beam_steps.BlockKey, list[tuple[int, list[str]]]] = {}
    with clock.step("read"):
        for part in beam_steps.file_parts(plan):
            for key, document in read(part):
                blocks.setdefault(key, []).append(document)
    for _ in make(
        next(iter(blocks.items()))
    ):  # Set-up: the vocabulary's trie, graphs of functions.
        pass
    parts: dict[beam_steps.ShardKey, list[tuple[beam_steps.Origin, bytes]]] = {}
    examples = 0
    with clock.step("make"):
        for block in blocks.items():
            for (_, counts), made in make(block):
                examples += counts[_EXAMPLES]
                for key, part in made:
                    parts.setdefault(key, []).append(part)
    with clock.step("write"):
        for shard in parts.items():
            write(shard)
    return examples


_EXAMPLES = [field.name for field in dataclasses.fields(beam_steps.Counts)].index("examples")


def few_config(config: DataConfig) -> DataConfig:
    """The settings for a text of few documents, which cannot hold out any."""
    return dataclasses.replace(config, validation_rate=0.0)


def time_pipeline(paths: list[str], vocab: str, config: DataConfig, folder: str) -> float:
    """Processor time of the pipeline as a whole, its set-up included."""
    start = time.process_time()
    prepare_with_beam(paths, tempfile.mkdtemp(dir=folder), vocab, config, progress=False)
    return time.process_time() - start


def main() -> None:
    """Measures all settings and prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", required=True, help="Glob of text files, plain or .gz.")
    parser.add_argument("--vocab", required=True, help="Vocabulary, one piece on a line.")
    parser.add_argument("--megabytes", type=float, default=8.0, help="Text that is measured.")
    parser.add_argument("--beam", action="store_true", help="Run the pipeline as a whole, too.")
    parser.add_argument("--gigabytes", type=float, default=20.0, help="Corpus to estimate for.")
    parser.add_argument("--dollars_per_vcpu_hour", type=float, help="Price to estimate with.")
    arguments = parser.parse_args()
    tf.config.set_visible_devices([], "GPU")
    with tempfile.TemporaryDirectory() as folder:
        paths, size = take_text(arguments.input, arguments.megabytes, folder)
        few_paths, few_size = take_text(arguments.input, 0.1, tempfile.mkdtemp(dir=folder))
        names = (*STEPS, "all steps", *(["pipeline"] if arguments.beam else []))
        print(f"Measured on {size / 1e6:.1f} MB: CPU seconds for each GB (1e9 bytes) of raw text")
        print(f"{'':24}" + "".join(f"{name:>11}" for name in names) + f"{'examples':>11}")
        totals = {}
        for name, config in SETTINGS.items():
            clock = Clock()
            output = tempfile.mkdtemp(dir=folder)
            examples = run_steps(paths, arguments.vocab, config, output, clock)
            if arguments.beam:
                pipeline_seconds = time_pipeline(paths, arguments.vocab, config, output)
                clock.seconds["pipeline"] = pipeline_seconds - time_pipeline(
                    few_paths, arguments.vocab, few_config(config), output
                )
            found = {step: seconds / size * 1e9 for step, seconds in clock.seconds.items()}
            found["pipeline"] *= size / (size - few_size)
            found["all steps"] = sum(found[step] for step in STEPS)
            totals[name] = max(found["all steps"], found["pipeline"])
            figures = "".join(f"{found[step]:11.0f}" for step in names)
            print(f"{name:24}{figures}{examples / size * 1e9:11,.0f}", flush=True)
    print()
    print(
        f"Estimated for {arguments.gigabytes:g} GB of plain text (assumed; "
        f"{'the whole pipeline' if arguments.beam else 'the steps alone, without Beam'})"
    )
    for name, seconds in totals.items():
        hours = seconds * arguments.gigabytes / 3600
        price = arguments.dollars_per_vcpu_hour
        cost = f", {hours * price:.2f} dollars at the given {price:g}" if price else ""
        print(f"{name:24}{hours:11.1f} vCPU hours{cost}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"beam_cost.py: {error}") from error
