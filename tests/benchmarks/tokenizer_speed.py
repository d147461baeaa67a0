"""How many lines a second the tokenizer does, beside Hugging Face's Rust tokenizer.

    python tests/benchmarks/tokenizer_speed.py
    python tests/benchmarks/tokenizer_speed.py --text=../shared/data/corpus/novels-00-of-08.txt.gz \
        --vocab=../shared/data/vocab/bert-base-uncased-vocab.txt

Makes lines of the words of a text file, of about --characters each, and turns them into ids several
times in both ways, each time one after the other, so that what else the machine does slows down
both. It then prints the median of each, and the median of their ratio from round to round.

Ours runs in tf.data: strings in memory, batches of --batch_size, `map` with --parallel_calls.
Theirs is `BertWordPieceTokenizer.encode_batch` of the package `tokenizers`, which uses all cores
(RAYON_NUM_THREADS says how many), and whose ids stay in Rust; offsets are part of what it does.
Neither adds special tokens. A first round, in which the ids are compared, is not counted.

`tokenizers` is no dependency of this package: pip install tokenizers
"""

import argparse
import importlib.resources
import os
import statistics
import sys
import tempfile
import time

# Before TensorFlow is imported, which would greet.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sample = importlib.resources.files("keras_bert_tpu.sample") / "the_secret_garden.txt"
    parser.add_argument("--text", default=str(sample), help="text file, plain or .gz (%(default)s)")
    parser.add_argument(
        "--vocab", help="vocab.txt; without it, one of 4000 pieces is learned from the text"
    )
    parser.add_argument("--cased", action="store_true", help="keep case and accents")
    parser.add_argument("--characters", type=int, default=190, help="of a line (%(default)s)")
    parser.add_argument("--lines", type=int, default=40_000, help="in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="that count (%(default)s)")
    parser.add_argument("--batch_size", type=int, default=1024, help="lines (%(default)s)")
    parser.add_argument("--parallel_calls", type=int, default=2, help="of map (%(default)s)")
    return parser.parse_args()


def make_lines(path: str, characters: int, count: int) -> list[str]:
    """Lines of whole words, the words repeated from the start if there are too few."""
    from keras_bert_tpu.text.files import read_lines

    words = b" ".join(read_lines(path)).decode("utf-8", "ignore").split()
    if not words:
        sys.exit(f"{path} holds no word; give a file of text.")
    lines: list[str] = []
    line, length = [], 0
    while len(lines) < count:
        for word in words:
            # The line that comes closest to the length wanted.
            if line and length + len(word) / 2 > characters:
                lines.append(" ".join(line))
                line, length = [], 0
            line.append(word)
            length += len(word) + 1
    return lines[:count]


def main() -> None:
    arguments = parse_arguments()
    try:
        from tokenizers import BertWordPieceTokenizer
    except ImportError:
        sys.exit("This compares with the package tokenizers: pip install tokenizers")
    import tensorflow as tf

    from keras_bert_tpu.text.tokenizer import BertTokenizer
    from keras_bert_tpu.text.vocabulary import Vocabulary, learn_vocabulary

    tf.config.set_visible_devices([], "GPU")
    lower_case = not arguments.cased
    lines = make_lines(arguments.text, arguments.characters, arguments.lines)
    if arguments.vocab:
        vocabulary = Vocabulary.load(arguments.vocab)
    else:
        vocabulary = learn_vocabulary(arguments.text, 4000, lower_case, progress=False)
    tokenizer = BertTokenizer(vocabulary, lower_case)
    with tempfile.TemporaryDirectory() as folder:
        vocabulary.save(os.path.join(folder, "vocab.txt"))
        theirs = BertWordPieceTokenizer(
            os.path.join(folder, "vocab.txt"), lowercase=lower_case, strip_accents=lower_case
        )
    dataset = (
        tf.data.Dataset.from_tensor_slices(lines)
        .batch(arguments.batch_size)
        .map(tokenizer, num_parallel_calls=arguments.parallel_calls)
    )

    same = 0
    encodings = theirs.encode_batch(lines, add_special_tokens=False)
    rows = (row for batch in dataset for row in batch.to_list())
    for row, encoding in zip(rows, encodings, strict=True):
        same += row == encoding.ids
    pieces = sum(len(encoding.ids) for encoding in encodings)
    del encodings

    speeds: dict[str, list[float]] = {"keras_bert_tpu": [], "tokenizers": []}
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        for _ in dataset:
            pass
        between = time.perf_counter()
        theirs.encode_batch(lines, add_special_tokens=False)
        end = time.perf_counter()
        speeds["keras_bert_tpu"].append(len(lines) / (between - start))
        speeds["tokenizers"].append(len(lines) / (end - between))

    characters = statistics.mean(map(len, lines))
    ratios = [ours / other for ours, other in zip(*speeds.values(), strict=True)]
    print(
        f"{len(lines):,} lines of {characters:.0f} characters and {pieces / len(lines):.1f} pieces "
        f"({len(vocabulary):,} in the vocabulary), "
        f"{sum(map(str.isascii, lines)) / len(lines):.1%} of them ASCII"
    )
    print(f"ids agree on {same:,} of {len(lines):,} lines ({same / len(lines):.3%})")
    print(
        f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.1f}; "
        f"{arguments.rounds} rounds, batches of {arguments.batch_size}, "
        f"num_parallel_calls={arguments.parallel_calls}"
    )
    print(f"\n{'lines/s':<16}{'median':>12}{'slowest':>12}{'fastest':>12}")
    for name, values in speeds.items():
        print(
            f"{name:<16}{statistics.median(values):>12,.0f}{min(values):>12,.0f}{max(values):>12,.0f}"
        )
    print(
        f"{'ratio':<16}{statistics.median(ratios):>12.2f}{min(ratios):>12.2f}{max(ratios):>12.2f}"
    )


if __name__ == "__main__":
    main()
