"""kbt-vocab: learns a vocabulary from text files, or checks one."""

import shlex

from absl import flags

from keras_bert_tpu.config import InputError
from keras_bert_tpu.scripts import app

PROGRAM = "kbt-vocab"

USAGE = """Learns a WordPiece vocabulary from text, or checks one that exists.

  kbt-vocab --input='corpus/*.txt.gz' --output=vocab.txt --vocab_size=8192
  kbt-vocab --input='wiki/*.jsonl.gz' --text_field=body --output=vocab.txt --vocab_size=30000
  kbt-vocab --check=vocab.txt [--input='corpus/*.txt.gz']

The text may be one sentence or one paragraph on a line, JSON lines, or --tfds. Words are
normalized and split as the tokenizer does it, so take the same --lower_case and --strip_accents
for kbt-prepare.
8192 pieces suit some ten million words, 30000 (BERT's own size) a billion. The same text gives
the same vocabulary. With --check and --input, it says how well the vocabulary fits the text."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    app.define_text_flags(values)
    flags.DEFINE_string("output", None, "The vocabulary to write: vocab.txt.", flag_values=values)
    flags.DEFINE_string(
        "check", None, "An existing vocabulary to check, in place of --output.", flag_values=values
    )
    flags.DEFINE_integer(
        "vocab_size", 8192, "Pieces wanted, special tokens included.", flag_values=values
    )
    flags.DEFINE_boolean(
        "lower_case",
        True,
        "Lower-case, for an uncased vocabulary.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "strip_accents",
        None,
        "Strip accents. Default: as --lower_case.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "overwrite", False, "Replace a vocabulary that is already there.", flag_values=values
    )


def main() -> None:
    """Learns or checks a vocabulary, and prints how well it fits the text."""
    values = flags.FLAGS
    if (values.check is None) == (values.output is None):
        raise InputError(
            "Give either --output, to learn a vocabulary, or --check, to check an existing one."
        )
    for name in ("vocab_size", "overwrite"):
        if values.check is not None and values[name].present:
            raise InputError(f"--{name} is for learning, not for --check; leave it out.")
    if values.output is not None and not (values.input or values.tfds):
        raise InputError("--input or --tfds is missing; name the text to learn from.")

    # Here, because importing TensorFlow takes seconds that --help should not.
    import tensorflow as tf

    from keras_bert_tpu.text.files import check_writable
    from keras_bert_tpu.text.vocabulary import Vocabulary, learn_from_counts

    # Nothing here is for an accelerator, which may be in use by a training run.
    tf.config.set_visible_devices([], "GPU")
    if values.check is not None:
        vocabulary = Vocabulary.load(values.check)
        _print_vocabulary(values.check, vocabulary)
        if values.input or values.tfds:
            _print_text(vocabulary, _count_words(values))
        return

    if tf.io.gfile.exists(values.output) and not values.overwrite:
        raise InputError(
            f"{values.output} exists already; give another --output, or --overwrite to replace it."
        )
    check_writable(values.output)
    word_counts = _count_words(values)
    vocabulary = learn_from_counts(word_counts, values.vocab_size)
    vocabulary.save(values.output)
    _print_vocabulary(values.output, vocabulary)
    if len(vocabulary) < values.vocab_size:
        print(
            f"  That is fewer than the {values.vocab_size} wanted: the text holds no more pieces "
            f"that occur more than once."
        )
    _print_text(vocabulary, word_counts)
    next_command = (
        f"kbt-prepare {_text_flags(values)} --output=records "
        f"--vocab={shlex.quote(values.output)} --lower_case={str(values.lower_case).lower()}"
    )
    if values.strip_accents is not None:
        next_command += f" --strip_accents={str(values.strip_accents).lower()}"
    print(f"Next: {next_command}")


def _count_words(values: flags.FlagValues):
    from keras_bert_tpu.pretraining_data.corpora import find_corpora, read_texts
    from keras_bert_tpu.text.vocabulary import count_words

    corpora = find_corpora(values.input, values.tfds, data_dir=values.tfds_folder)
    texts = read_texts(corpora, values.input_format, values.text_field)
    return count_words(texts, values.lower_case, strip_accents=values.strip_accents)


def _text_flags(values: flags.FlagValues) -> str:
    """The flags that name the text, for the command that comes next."""
    texts = [f"--input={','.join(values.input)}"] if values.input else []
    texts += [f"--tfds={name}" for name in values.tfds]
    for name in ("tfds_folder", "input_format", "text_field"):
        if values[name].value != values[name].default:
            texts.append(f"--{name}={values[name].value}")
    return " ".join(map(shlex.quote, texts))


def _print_vocabulary(path, vocabulary) -> None:
    suffixes = sum(piece.startswith("##") for piece in vocabulary.pieces)
    special = ", ".join(f"{vocabulary.pieces[index]} {index}" for index in vocabulary.special_ids)
    print(f"{path}: {len(vocabulary):,} pieces, {suffixes:,} of them inside words (##)")
    print(f"  special tokens: {special}")
    print(f"  sha256: {vocabulary.sha256}")


def _print_text(vocabulary, word_counts) -> None:
    from keras_bert_tpu.text.coverage import measure_coverage
    from keras_bert_tpu.text.tokenizer import BertTokenizer

    values = flags.FLAGS
    tokenizer = BertTokenizer(vocabulary, values.lower_case, values.strip_accents)
    coverage = measure_coverage(tokenizer, word_counts)
    print(
        f"Text: {word_counts.lines:,} lines, {word_counts.words:,} words, "
        f"{len(word_counts.counts):,} distinct"
    )
    print(f"  words that are one piece: {coverage.whole_words:.2%}")
    print(f"  pieces per word: {coverage.pieces_per_word:.3f}")
    print(f"  words that are [UNK]: {coverage.unknown_words:.4%}")


def run() -> None:
    """Entry of the console script."""
    app.run(PROGRAM, USAGE, define_flags, main)


if __name__ == "__main__":
    run()
