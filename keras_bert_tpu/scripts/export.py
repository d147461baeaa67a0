"""kbt-export: a fine-tuned model as a SavedModel for TF Serving.

What is done is one jump away in `serving.export.export`, what the model offers in
`serving.signatures`.
"""

from absl import flags

from keras_bert_tpu.scripts import app

PROGRAM = "kbt-export"

USAGE = """Exports a model as a SavedModel that TF Serving loads, with the tokenizer inside.

  kbt-export --model=reviews/model --output=serving/reviews
  kbt-export --model=answers/model --output=gs://bucket/serving/answers
  kbt-export --model=someone/bert-finetuned --output=serving/pairs --pairs

Models of all tasks, sentence encoders and pre-trained models, which fill masks, can be exported.
The model is written to OUTPUT/VERSION, complete or not at all; a server that watches OUTPUT changes
over to it. It has three signatures:

  serving_default   strings, by the names below
  serving_ids       token_ids, segment_ids, padding_mask, int32 [batch, length]
  serving_examples  examples, string [batch]: tf.Examples with the strings as features

                    inputs              outputs
  one class         text (, text_pair)  label [batch], probabilities and logits [batch, classes]
  several classes   text (, text_pair)  probabilities, logits and classes (names) [batch, classes]
  a number          text (, text_pair)  value [batch]
  sentences         text                embedding [batch, hidden]
  questions         question, context   answer, probability, null_odds, byte_start, byte_end,
                                        char_start, char_end [batch]
  entities          text                entities [batch], how many there are; entity, label,
                                        probability, byte_start, byte_end, char_start, char_end
                                        [batch, entities]
  multiple choice   context, choices    choice [batch], probabilities and logits [batch, choices]
  masked words      text with [MASK]    masks [batch], how many there are; tokens, probabilities
                                        [batch, masks, top_k]

serving_ids gives the same where that does not speak of places in a text: start_logits and
end_logits [batch, length] for questions, and label, probabilities and logits of each piece for
entities.

A model with another tokenizer than BERT's WordPiece, such as byte-level BPE, has serving_ids alone.

Short texts are not padded to the longest: rows are sorted by length and computed some at a time.
Beside the versions stand batching_parameters.txt and models.config; the commands that start a
server and ask it are printed. Warm-up requests need the extra serving
(pip install 'keras_bert_tpu[serving]')."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string(
        "model",
        None,
        "Folder of a fine-tuned model, local or gs://, or what else kbt-convert reads.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "output",
        None,
        "Base path of TF Serving, local or gs://; its last part is the name of the model.",
        flag_values=values,
    )
    flags.mark_flags_as_required(["model", "output"], flag_values=values)
    flags.DEFINE_integer(
        "version", None, "By default the next one that is free.", 1, flag_values=values
    )
    flags.DEFINE_boolean(
        "pairs",
        None,
        "Whether a text classifier takes pairs of texts; by default as it was trained.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "buckets",
        None,
        "Lengths that rows are cut to, separated by commas, beside the longest; by default "
        "multiples of 16, of 32 from 128 on, of 64 from 256.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "tokens_at_once",
        512,
        "Most tokens that are computed together, padding counted; a row may have more.",
        1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "top_k",
        None,
        "Pieces that a model gives for each [MASK]; by default 5.",
        1,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "weights",
        "float32",
        ["float32", "bfloat16", "int8"],
        "How matrices are kept, on disk and in memory; each request makes float32 of them, which "
        "takes some milliseconds.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "dtype",
        "float32",
        ["float32", "mixed_bfloat16", "mixed_float16"],
        "What the model computes in; others than float32 are for GPUs and TPUs.",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "xla",
        False,
        "Let XLA compile the model for some shapes; start the server with "
        "--xla_cpu_compilation_enabled.",
        flag_values=values,
    )
    flags.DEFINE_boolean("warmup", True, "Write warm-up requests.", flag_values=values)


def main() -> None:
    """Loads the model, exports it, and tells how it is served."""
    # Here, because importing TensorFlow takes seconds that --help should not.
    from keras_bert_tpu.serving.deployment import curl_command, docker_command, write_deployment
    from keras_bert_tpu.serving.export import export, load_model

    values = flags.FLAGS
    folder, served = export(
        load_model(values.model, values.dtype),
        values.output,
        values.version,
        values.pairs,
        None if values.buckets is None else app.whole_numbers("buckets", values.buckets),
        values.tokens_at_once,
        values.top_k,
        values.weights,
        values.xla,
        values.warmup,
    )
    write_deployment(values.output)
    if served.tokenizer is None:
        print(
            "There is no tokenizer of BERT's beside the weights: the model has no signatures of "
            "text, and serving_ids alone."
        )
    print(f"The model is in {folder}. Serve it, and ask:\n")
    print(f"  {docker_command(values.output)}\n")
    print(f"  {curl_command(values.output, served)}")


def run() -> None:
    """Entry point of the command."""
    app.run(PROGRAM, USAGE, define_flags, main)


if __name__ == "__main__":
    run()
