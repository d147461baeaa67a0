"""kbt-demo: raw text to a pre-trained BERT in minutes, on text that the package ships."""

import importlib.resources
import os
import re
import time
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from keras_bert_tpu.scripts import app

if TYPE_CHECKING:  # TensorFlow is imported once the flags are known to be right.
    from keras_bert_tpu.config import DataConfig
    from keras_bert_tpu.pipelines.fill_mask import FillMask

PROGRAM = "kbt-demo"

USAGE = """Raw text to a pre-trained BERT in minutes, on a CPU, with text that the package ships.

  kbt-demo --output=demo

It learns a vocabulary, prepares records, trains a tiny model in two phases (128, then 512 tokens),
evaluates it on documents it has never seen, and fills in ten blanks."""

NUM_BLANKS = 10
NUM_GUESSES = 5


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string("output", None, "New folder for all that is made.", flag_values=values)
    flags.mark_flag_as_required("output", flag_values=values)


def main() -> None:
    """Runs the program."""
    from keras_bert_tpu.config import DataConfig, InputError, PretrainingConfig
    from keras_bert_tpu.pipelines.fill_mask import FillMask
    from keras_bert_tpu.pretraining_data.prepare import prepare
    from keras_bert_tpu.text.vocabulary import learn_vocabulary
    from keras_bert_tpu.tpu.connect import connect
    from keras_bert_tpu.training.loop import pretrain

    began = time.perf_counter()
    output = flags.FLAGS.output
    if os.path.isfile(output):
        raise InputError(f"The output {output} is a file; name a folder for the demo.")
    if os.path.isdir(output) and os.listdir(output):
        raise InputError(f"The folder {output} is not empty; name a new one for the demo.")
    sample = importlib.resources.files("keras_bert_tpu.sample")
    texts = [str(sample / name) for name in ("speeches.txt", "the_secret_garden.txt")]
    config = PretrainingConfig.from_yaml(str(sample / "demo.yaml"))

    _title("1. A vocabulary of word pieces")
    os.makedirs(output, exist_ok=True)
    vocab = os.path.join(output, "vocab.txt")
    vocabulary = learn_vocabulary(texts, config.encoder.vocab_size)
    vocabulary.save(vocab)
    print(f"{len(vocabulary)} pieces in {vocab}, for example {' '.join(vocabulary.pieces[-8:])}")

    _title("2. Records: sentence pairs with masked words")
    records = os.path.join(output, "records")
    for phase in config.phases:
        data = DataConfig(
            sequence_length=phase.sequence_length,
            max_predictions=phase.max_predictions,
            dupe_factor=10,
            validation_rate=0.1,
            block_documents=8,
        )
        prepare(texts, os.path.join(records, phase.data), vocab, data)

    _title("3. Pre-training: both phases")
    connection = connect()
    print(f"Running on {connection.description}.")
    run_folder = os.path.join(output, "run")
    pretrain(config, records, run_folder, connection.strategy)

    _title("4. Blanks in sentences that the model has never seen")
    fill = FillMask.from_pretrained(os.path.join(run_folder, "model"))
    hits = _print_blanks(fill, _held_out_sentences(texts, data), config.seed)
    print(
        f"\n{hits} of {NUM_BLANKS} true words are among the first {NUM_GUESSES} guesses, after "
        f"{config.total_steps} steps on half a megabyte of text."
    )
    print(
        f"Curves: {os.path.join(run_folder, 'curves.png')}  "
        f"Model: {os.path.join(run_folder, 'model')}  "
        f"Time: {time.perf_counter() - began:.0f} s"
    )


def _title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def _held_out_sentences(texts: list[str], data: "DataConfig") -> list[str]:
    """Sentences of 8 to 20 words from the documents that were held out."""
    from keras_bert_tpu.pretraining_data.corpora import find_corpora, read_documents
    from keras_bert_tpu.pretraining_data.documents import VALIDATION, HoldOut

    (corpus,) = find_corpora(texts)
    splits = HoldOut(data.validation_rate, data.seed).splits()
    return [
        sentence
        for split, document in zip(splits, read_documents(corpus), strict=False)
        for sentence in document
        if split == VALIDATION and 8 <= len(sentence.split()) <= 20
    ]


def _print_blanks(fill: "FillMask", sentences: list[str], seed: int) -> int:
    """Blanks one word of ten sentences, prints the guesses, and counts the hits."""
    random = np.random.default_rng(seed)
    known = fill.tokenizer.vocabulary.ids
    hits = 0
    chosen = []
    for index in random.permutation(len(sentences)):
        sentence = sentences[index]
        # Whole words with a piece of their own: the mask stands for one piece.
        words = [
            match
            for match in re.finditer(r"(?<![\w'’-])[A-Za-z]+(?![\w'’-])", sentence)
            if match[0].lower() in known
        ]
        if words:
            word = words[random.integers(len(words))]
            chosen.append((sentence[: word.start()], word[0], sentence[word.end() :]))
        if len(chosen) == NUM_BLANKS:
            break
    texts = [f"{before}[MASK]{after}" for before, _, after in chosen]
    all_guesses = fill(texts, top_k=len(fill.tokenizer.vocabulary))
    for (before, word, after), (guesses,) in zip(chosen, all_guesses, strict=True):
        # A word was taken out, so marks and parts of words are no answers.
        guesses = [guess for guess in guesses if guess.piece.isalpha()][:NUM_GUESSES]
        hit = word.lower() in [guess.piece for guess in guesses]
        hits += hit
        listed = ", ".join(f"{guess.piece} {guess.probability:.0%}" for guess in guesses)
        print(f"\n  {before}_____{after}")
        print(f"    true word: {word:<14}{'found' if hit else 'missed'}: {listed}")
    return hits


def run() -> None:
    """Entry point of the command."""
    app.run(PROGRAM, USAGE, define_flags, main)


if __name__ == "__main__":
    run()
