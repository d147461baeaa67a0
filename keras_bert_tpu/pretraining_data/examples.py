"""A block of documents -> its pre-training examples: tokens, rows, masks, serialized records.

Every random number derives from (seed, split, corpus, pass, block) and the place of the example, so
a block gives the same examples wherever and whenever it is worked on. Safe to use from several
threads at once: nearly all of the time is spent outside of the interpreter's lock.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import DataConfig
from keras_bert_tpu.pretraining_data import documents
from keras_bert_tpu.pretraining_data.full_sentences import (
    FullRows,
    join_full_rows,
    make_full_rows,
)
from keras_bert_tpu.pretraining_data.keyed_random import fold_in
from keras_bert_tpu.pretraining_data.manifest import Counts
from keras_bert_tpu.pretraining_data.masking import MaskRules, draw_masks
from keras_bert_tpu.pretraining_data.records import serialize_examples
from keras_bert_tpu.pretraining_data.sentence_pairs import (
    JoinedRows,
    SentencePairs,
    TokenBlock,
    join_pairs,
    make_order_pairs,
    make_pairs,
)
from keras_bert_tpu.pretraining_data.word_boundaries import find_continuations
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import Vocabulary

# Examples joined, masked and serialized at a time: arrays of some megabytes, however long the
# documents are. No result depends on it.
BATCH_EXAMPLES = 1024

# Sentences tokenized at a time, for the same reason.
TOKENIZED_SENTENCES = 16_384

# Documents are told apart over all corpora by one number; no corpus has as many.
_DOCUMENTS_PER_CORPUS = 2**40


class ExampleBatch(NamedTuple):
    """Some examples of a block.

    Attributes:
        serialized: list of n records.
        order_keys: uint64 array [n]. Records stand in the order of these random numbers, over all
            shards of a split.
        documents: int64 array [n]. Tells apart the documents that the examples are from.
        lengths: int64 array [n]. Real tokens of each.
        counts: Counts. Of these examples, and of the block's text with its first batch.
    """

    serialized: list[bytes]
    order_keys: np.ndarray
    documents: np.ndarray
    lengths: np.ndarray
    counts: Counts


class ExampleMaker:
    """Makes the examples of blocks.

    Args:
        vocabulary: Vocabulary.
        config: DataConfig.
    """

    def __init__(self, vocabulary: Vocabulary, config: DataConfig):
        self._vocabulary = vocabulary
        self._config = config
        self._tokenizer = BertTokenizer(
            vocabulary, config.lower_case, config.strip_accents, config.added_tokens
        )
        lines = [tf.TensorSpec([None], tf.string)]
        self._tokenize = tf.function(self._tokenizer, input_signature=lines)
        self._tokenize_with_offsets = tf.function(
            self._tokenizer.tokenize_with_offsets, input_signature=lines
        )
        rules = self._mask_rules = MaskRules.from_config(config, vocabulary)
        row = tf.TensorSpec([None, config.sequence_length], tf.int32)
        signature = [row, row, tf.TensorSpec([None], tf.uint64)]
        if config.segmented_words:
            signature.append(row)

        def draw(token_ids, padding_mask, keys, continues_word=None):
            return draw_masks(token_ids, padding_mask, keys, rules, continues_word)

        self._draw_masks = tf.function(draw, input_signature=signature)

    def make(
        self, block: documents.Block, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[ExampleBatch]:
        """Makes the examples of all passes over a block.

        Args:
            block: Block.
            should_stop: Callable without arguments, asked before each batch; when it answers True,
                the work is given up with `InterruptedError`.

        Yields:
            ExampleBatch. In the order of the passes.
        """
        tokens, counts = self._to_tokens(block)
        first_document = block.corpus * _DOCUMENTS_PER_CORPUS + block.first_document
        for dupe in range(block.passes if tokens.num_documents else 0):
            rows = self._rows(block, tokens, dupe)
            for start in range(0, len(rows), BATCH_EXAMPLES):
                if should_stop():
                    raise InterruptedError("The preparation was stopped.")
                batch = self._batch(block, tokens, dupe, rows, start)
                number = tokens.document_numbers[rows.document[start : start + BATCH_EXAMPLES]]
                yield batch._replace(
                    documents=first_document + number, counts=batch.counts + counts
                )
                counts = Counts()
        if counts != Counts():  # There was no example to count it with.
            nothing = np.zeros(0, np.int64)
            yield ExampleBatch([], nothing.astype(np.uint64), nothing, nothing, counts)

    def _to_tokens(self, block: documents.Block) -> tuple[TokenBlock, Counts]:
        sentences = [sentence for document in block.documents for sentence in document]
        pieces = [
            self._tokenize_some(sentences[start : start + TOKENIZED_SENTENCES])
            for start in range(0, len(sentences), TOKENIZED_SENTENCES)
        ]
        token_ids, counts, continues_word = map(np.concatenate, zip(*pieces, strict=True))
        lengths = [len(document) for document in block.documents]
        tokens = TokenBlock.from_ragged(
            token_ids,
            np.concatenate([[0], np.cumsum(counts)]),
            lengths,
            continues_word if self._config.segmented_words else None,
        )
        if tokens.num_documents < 2 and self._config.objective == "mlm+nsp":
            # The others had no tokens, so that no random next sentence can be had.
            nothing = np.zeros(0, np.int32)
            tokens = TokenBlock.from_ragged(nothing, np.zeros(1, np.int64), [])
        return tokens, Counts(
            documents=tokens.num_documents,
            dropped_documents=len(block.documents) - tokens.num_documents,
            sentences=tokens.num_sentences,
            dropped_sentences=len(sentences) - tokens.num_sentences,
            tokens=len(tokens.token_ids),
            unknown_tokens=int(np.count_nonzero(tokens.token_ids == self._vocabulary.unk_id)),
        )

    def _tokenize_some(self, sentences: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids, their number in each sentence, and, if asked for, which of them continue a word."""
        text = tf.constant(sentences, tf.string, shape=[len(sentences)])
        if not self._config.segmented_words:
            ragged = self._tokenize(text)
            return ragged.values.numpy(), ragged.row_lengths().numpy(), np.zeros(0, bool)
        ragged, starts, ends = self._tokenize_with_offsets(text)
        continues_word = find_continuations(
            sentences,
            ragged.values.numpy(),
            starts.values.numpy(),
            ends.values.numpy(),
            ragged.row_splits.numpy(),
            self._mask_rules.continues_word,
        )
        return ragged.values.numpy(), ragged.row_lengths().numpy(), continues_word

    def _rows(
        self, block: documents.Block, tokens: TokenBlock, dupe: int
    ) -> SentencePairs | FullRows:
        config = self._config
        split = documents.SPLITS.index(block.split)
        rng = documents.keyed_generator(
            config.seed, documents.PAIRS_KEY, split, block.corpus, dupe, block.number
        )
        shape = {
            "sequence_length": config.sequence_length,
            "short_sequence_rate": config.short_sequence_rate,
            "rng": rng,
        }
        if config.objective == "mlm":
            return make_full_rows(tokens, sep_id=self._vocabulary.sep_id, **shape)
        if config.objective == "mlm+sop":
            return make_order_pairs(tokens, swap_rate=config.random_next_rate, **shape)
        return make_pairs(tokens, random_next_rate=config.random_next_rate, **shape)

    def _batch(
        self,
        block: documents.Block,
        tokens: TokenBlock,
        dupe: int,
        rows: SentencePairs | FullRows,
        start: int,
    ) -> ExampleBatch:
        rows = rows[start : start + BATCH_EXAMPLES]
        numbers = np.arange(start, start + len(rows))
        joined = self._join(tokens, rows)
        labels = np.zeros(len(rows), np.int64) if isinstance(rows, FullRows) else rows.label
        lengths = joined.padding_mask.sum(axis=1)
        arrays = {**joined._asdict(), "next_sentence_label": labels[:, None]}
        if joined.continues_word is None or self._config.masks == "static":
            del arrays["continues_word"]
        counts = Counts(
            examples=len(rows),
            short_examples=int(rows.is_short.sum()),
            random_next=int(labels.sum()),
            real_tokens=int(lengths.sum()),
        )
        if self._config.masks == "static":
            masks = self._draw(joined, self._keys(documents.MASKS_KEY, block, dupe, numbers))
            kinds = np.bincount(masks.mask_kinds.numpy().reshape(-1), minlength=4).tolist()
            counts += Counts(
                predictions=sum(kinds[1:]),
                predictions_masked=kinds[1],
                predictions_kept=kinds[2],
                predictions_random=kinds[3],
            )
            arrays |= {
                name: getattr(masks, name).numpy()
                for name in ("token_ids", "mask_positions", "mask_ids", "mask_weights")
            }
        return ExampleBatch(
            serialize_examples(arrays),
            self._keys(documents.ORDER_KEY, block, dupe, numbers),
            np.zeros(0, np.int64),
            lengths,
            counts,
        )

    def _join(self, tokens: TokenBlock, rows: SentencePairs | FullRows) -> JoinedRows:
        vocabulary = self._vocabulary
        specials = {
            "sequence_length": self._config.sequence_length,
            "cls_id": vocabulary.cls_id,
            "sep_id": vocabulary.sep_id,
            "pad_id": vocabulary.pad_id,
        }
        if isinstance(rows, FullRows):
            return join_full_rows(rows, **specials)
        return join_pairs(tokens, rows, **specials)

    def _draw(self, joined: JoinedRows, keys: np.ndarray):
        arguments = [joined.token_ids, joined.padding_mask, keys]
        if joined.continues_word is not None:
            arguments.append(joined.continues_word)
        return self._draw_masks(*map(tf.constant, arguments))

    def _keys(
        self, purpose: int, block: documents.Block, dupe: int, numbers: np.ndarray
    ) -> np.ndarray:
        """uint64 [n]: one key for each example of a pass over a block."""
        split = documents.SPLITS.index(block.split)
        seed = self._config.seed
        return fold_in(seed, purpose, split, block.corpus, dupe, block.number, numbers)
