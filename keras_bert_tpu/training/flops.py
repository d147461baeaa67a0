"""How much arithmetic a training step is, whatever computes it."""

from keras_bert_tpu.config import EncoderConfig


def model_flops(encoder: EncoderConfig, sequence_length: int, max_predictions: int) -> int:
    """Returns the floating point operations of one sequence in one training step.

    Those of the model, as PaLM counts them (arXiv 2204.02311, appendix B): matrix products only, a
    multiply-add as two, padding as any other token, and the backward pass as twice the forward
    one, because each product has two gradients that are products of the same size. What is
    computed once more to save memory is not counted, and neither are lookups, among them the
    product with one-hot rows that finds the segment embeddings.

    Divided by the time of a sequence and the peak of the hardware, see `tpu.peaks`, it is the
    model FLOPs utilization.

    Args:
        encoder: EncoderConfig.
        sequence_length: int. Tokens of the sequence as it is computed, padding included.
        max_predictions: int. Masked positions that are scored, padding included.
    """
    hidden, length = encoder.hidden_size, sequence_length
    # Query, key, value and output projection; then scores and weighted values.
    attention = 4 * length * hidden * hidden + 2 * length * length * hidden
    feed_forward = 2 * length * hidden * encoder.intermediate_size
    masked_words = max_predictions * hidden * (hidden + encoder.vocab_size)
    next_sentence = hidden * hidden + 2 * hidden  # The pooler and the two scores.
    multiply_adds = encoder.num_layers * (attention + feed_forward) + masked_words + next_sentence
    return 3 * 2 * multiply_adds
