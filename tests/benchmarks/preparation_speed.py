"""How fast records are prepared, beside Google's create_pretraining_data, and in what memory.

  python tests/benchmarks/preparation_speed.py
  python tests/benchmarks/preparation_speed.py --text='corpus/*.txt.gz' --vocab=vocab.txt \
      --peer=peer --peer_text=corpus/novels-05-of-08.txt.gz

Each run is a process of its own, started in turn. What a process takes to import its libraries and
to make its first example, measured on a few sentences, is given for itself and left out of the
rates. The script that it is compared with comes with the TensorFlow Model Garden, is the one of
Google's BERT, and is not needed for the rest:

  pip install --no-deps --target=peer tf-models-official sentencepiece six tf-keras
"""

import argparse
import glob
import gzip
import importlib.resources
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import tensorflow as tf

from keras_bert_tpu.pretraining_data.manifest import Manifest
from keras_bert_tpu.text.vocabulary import learn_vocabulary


class Run(NamedTuple):
    """One process: seconds from start to end, its highest resident memory, and its examples."""

    seconds: float
    megabytes: float
    examples: int


def run_process(command: list[str], **environment: str) -> tuple[float, float]:
    """Returns the seconds that a command takes and its highest resident memory in megabytes."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{errors.decode()[-2000:]}")
    return time.perf_counter() - start, usage.ru_maxrss / 1000


def run_own(text: str, vocab: str, folder: str, dupe_factor: int, workers: int) -> Run:
    """Prepares records with kbt-prepare."""
    output = os.path.join(folder, "own")
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "keras_bert_tpu.scripts.prepare", f"--input={text}"]
    command += [f"--output={output}", f"--vocab={vocab}", f"--dupe_factor={dupe_factor}"]
    command += ["--validation_rate=0", f"--workers={workers}"]
    seconds, megabytes = run_process(command)
    return Run(seconds, megabytes, Manifest.load(output).num_examples)


def run_peer(peer: str, text: str, vocab: str, folder: str, dupe_factor: int) -> Run:
    """Prepares records with Google's script, at its own defaults for all that is not a size."""
    output = os.path.join(folder, "peer.tfrecord")
    script = os.path.join(peer, "official", "nlp", "data", "create_pretraining_data.py")
    command = [sys.executable, script, f"--input_file={text}", f"--output_file={output}"]
    command += [f"--vocab_file={vocab}", f"--dupe_factor={dupe_factor}"]
    command += ["--max_seq_length=128", "--max_predictions_per_seq=20"]
    seconds, megabytes = run_process(command, PYTHONPATH=peer)
    return Run(seconds, megabytes, sum(1 for _ in tf.data.TFRecordDataset(output)))


def plain_copy(pattern: str, path: str, times: int = 1) -> str:
    """Writes the files that match one after another, unpacked, so many times, to `path`."""
    with open(path, "wb") as target:
        for _ in range(times):
            for name in sorted(glob.glob(pattern)):
                opened = gzip.open(name) if name.endswith(".gz") else open(name, "rb")
                with opened as source:
                    shutil.copyfileobj(source, target)
                target.write(b"\n\n")
    return path


def rate(runs: list[Run], start: float) -> float:
    """The median of the examples in a second, without the start of the process."""
    return statistics.median(run.examples / (run.seconds - start) for run in runs)


def main() -> None:
    """Runs the processes in turn and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sample = str(importlib.resources.files("keras_bert_tpu.sample") / "the_secret_garden.txt")
    parser.add_argument("--text", default=sample, help="Text: a path or a quoted glob.")
    parser.add_argument("--vocab", help="Vocabulary. Default: 8,000 pieces learned from --text.")
    parser.add_argument("--peer", help="Folder that tf-models-official was installed to.")
    parser.add_argument("--peer_text", help="Text for the comparison. Default: --text.")
    parser.add_argument("--rounds", type=int, default=3, help="Runs of each. Default: 3.")
    parser.add_argument("--json", help="File to write the figures to besides.")
    arguments = parser.parse_args()

    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        text = plain_copy(arguments.text, os.path.join(folder, "text.txt"))
        peer_text = plain_copy(
            arguments.peer_text or arguments.text, os.path.join(folder, "peer.txt")
        )
        fourfold = plain_copy(arguments.text, os.path.join(folder, "fourfold.txt"), times=4)
        few = os.path.join(folder, "few.txt")
        few_lines = "\n\n".join(f"The garden {n}.\nThe green wall." for n in range(8))
        pathlib.Path(few).write_text(few_lines)
        vocab = arguments.vocab
        if not vocab:
            vocab = os.path.join(folder, "vocab.txt")
            learn_vocabulary(text, 8000).save(vocab)
        cores = len(os.sched_getaffinity(0))
        kinds = {
            "own start": lambda: run_own(few, vocab, folder, 1, cores),
            "own": lambda: run_own(peer_text, vocab, folder, 1, cores),
            "own, 1 worker": lambda: run_own(peer_text, vocab, folder, 1, 1),
            "own, 10 passes": lambda: run_own(peer_text, vocab, folder, 10, cores),
        }
        if arguments.peer:
            peer = os.path.abspath(arguments.peer)
            kinds["peer start"] = lambda: run_peer(peer, few, vocab, folder, 1)
            kinds["peer"] = lambda: run_peer(peer, peer_text, vocab, folder, 1)
        runs: dict[str, list[Run]] = {name: [] for name in kinds}
        for _ in range(arguments.rounds):
            for name, start in kinds.items():
                runs[name].append(start())
                print(f"{name}: {runs[name][-1]}", file=sys.stderr, flush=True)
        size = os.path.getsize(text) / 1e6
        whole = run_own(text, vocab, folder, 10, cores)
        larger = run_own(fourfold, vocab, folder, 10, cores)

    own_start = statistics.median(run.seconds for run in runs["own start"])
    print(f"{cores} cores, {size:.1f} MB of text, length 128, at most 20 predictions")
    print(f"start of a process: {own_start:.1f} s (not in the rates)")
    figures["own_start_seconds"] = own_start
    for name in ("own", "own, 1 worker", "own, 10 passes"):
        figures[name] = rate(runs[name], own_start)
        print(f"kbt-prepare {name[3:].lstrip(', '):<12} {figures[name]:>9,.0f} examples/s")
    if arguments.peer:
        peer_start = statistics.median(run.seconds for run in runs["peer start"])
        figures["peer"] = rate(runs["peer"], peer_start)
        speed = f"{figures['peer']:>9,.0f} examples/s"
        print(f"create_pretraining_data  {speed} (start {peer_start:.1f} s)")
        figures["ratio"] = figures["own"] / figures["peer"]
        figures["ratio, 10 passes"] = figures["own, 10 passes"] / figures["peer"]
        print(
            f"ratio                    {figures['ratio']:>9.1f} "
            f"(10 passes: {figures['ratio, 10 passes']:.1f})"
        )
        whole_processes = statistics.median(
            peer.seconds / own.seconds for peer, own in zip(runs["peer"], runs["own"], strict=True)
        )
        figures["whole process ratio"] = whole_processes
        print(f"whole processes, 1 pass  {whole_processes:>9.1f}")
    for name, run in (("text", whole), ("4 x text", larger)):
        figures[f"{name} megabytes"] = run.megabytes
        figures[f"{name} seconds"] = run.seconds
        print(
            f"{name:<9} 10 passes: {run.examples:,} examples in {run.seconds:.0f} s, "
            f"{run.megabytes:,.0f} MB at most"
        )
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
