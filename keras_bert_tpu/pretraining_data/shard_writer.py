"""The text of a shard -> its file of records: tokens, pairs, masks, a random order."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.pretraining_data import documents
from keras_bert_tpu.pretraining_data.manifest import Counts, Shard
from keras_bert_tpu.pretraining_data.masking import mask_tokens
from keras_bert_tpu.pretraining_data.records import serialize_examples, shard_name, write_shard
from keras_bert_tpu.pretraining_data.sentence_pairs import (
    SentencePairs,
    TokenBlock,
    join_pairs,
    make_pairs,
)
from keras_bert_tpu.text.tokenizer import BertTokenizer
from keras_bert_tpu.text.vocabulary import Vocabulary

# Examples joined, masked and serialized at a time: arrays of some megabytes, however long the
# documents are. The draws of the masks follow these batches, so another number gives other masks.
BATCH_EXAMPLES = 1024


@dataclasses.dataclass(frozen=True)
class WrittenShard:
    """What a worker reports of one shard: its place, its entry in the manifest, its counts."""

    split: str
    index: int
    shard: Shard
    counts: Counts
    # Documents read, for the progress bar: those dropped count as well.
    num_documents: int


class ShardWriter:
    """Turns the text of a shard into a file of records. Each worker process has one.

    Args:
        vocabulary: Vocabulary.
        config: DataConfig.
        output: str. Local or gs:// folder of the records.
        should_stop: Callable without arguments, asked between two passes over a block; when it
            answers True, the work is given up with `InterruptedError`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: DataConfig,
        output: str,
        should_stop: Callable[[], bool] = lambda: False,
    ):
        self._vocabulary = vocabulary
        self._config = config
        self._output = output
        self._should_stop = should_stop
        self._tokenizer = BertTokenizer(vocabulary, lower_case=config.lower_case)
        self._continues_word = None
        if config.whole_word_mask:
            self._continues_word = np.array([p.startswith("##") for p in vocabulary.pieces])

    def write(self, text: documents.ShardText) -> WrittenShard:
        """Makes all examples of a shard, in all passes, and writes them in a random order.

        Raises:
            InputError: If the file cannot be written.
        """
        split_number = documents.SPLITS.index(text.split)
        records: list[bytes] = []
        counts = Counts()
        for number, block_text in enumerate(text.blocks, text.first_block):
            self._check_stop()
            block, block_counts = self._tokenize(block_text)
            counts += block_counts
            for dupe in range(self._config.dupe_factor if block.num_documents else 0):
                self._check_stop()
                rng = documents.keyed_generator(
                    self._config.seed, documents.EXAMPLES_KEY, split_number, dupe, number
                )
                serialized, pass_counts = self._examples(block, rng)
                records += serialized
                counts += pass_counts
        order = documents.keyed_generator(
            self._config.seed, documents.SHUFFLE_KEY, split_number, text.index
        ).permutation(len(records))
        name = shard_name(text.split, text.index, text.num_shards)
        try:
            shard = write_shard(self._output, name, [records[place] for place in order])
        except tf.errors.OpError as error:
            raise InputError(
                f"{name} cannot be written to {self._output}: {error.message}; see that there is "
                f"space and permission, and run again with --overwrite."
            ) from error
        return WrittenShard(text.split, text.index, shard, counts, text.num_documents)

    def _check_stop(self) -> None:
        if self._should_stop():
            raise InterruptedError("The preparation was stopped.")

    def _tokenize(self, block_text: Sequence[Sequence[str]]) -> tuple[TokenBlock, Counts]:
        sentences = [sentence for document in block_text for sentence in document]
        ragged = self._tokenizer(tf.constant(sentences))
        block = TokenBlock.from_ragged(
            ragged.values.numpy(), ragged.row_splits.numpy(), [len(d) for d in block_text]
        )
        if block.num_documents < 2:
            # The others had no tokens, so that no random next sentence can be had.
            nothing = np.zeros(0, np.int32)
            block = TokenBlock.from_ragged(nothing, np.zeros(1, np.int64), [])
        return block, Counts(
            documents=block.num_documents,
            dropped_documents=len(block_text) - block.num_documents,
            sentences=block.num_sentences,
            dropped_sentences=len(sentences) - block.num_sentences,
            tokens=len(block.token_ids),
            unknown_tokens=int(np.count_nonzero(block.token_ids == self._vocabulary.unk_id)),
        )

    def _examples(self, block: TokenBlock, rng: np.random.Generator) -> tuple[list[bytes], Counts]:
        """One pass over a block: its records in the order of the documents."""
        pairs = make_pairs(
            block,
            sequence_length=self._config.sequence_length,
            short_sequence_rate=self._config.short_sequence_rate,
            random_next_rate=self._config.random_next_rate,
            rng=rng,
        )
        records: list[bytes] = []
        counts = Counts()
        for start in range(0, len(pairs), BATCH_EXAMPLES):
            batch = pairs[start : start + BATCH_EXAMPLES]
            serialized, batch_counts = self._batch(block, batch, rng)
            records += serialized
            counts += batch_counts
        return records, counts

    def _batch(
        self, block: TokenBlock, pairs: SentencePairs, rng: np.random.Generator
    ) -> tuple[list[bytes], Counts]:
        vocabulary = self._vocabulary
        token_ids, segment_ids, padding_mask = join_pairs(
            block.token_ids,
            pairs,
            sequence_length=self._config.sequence_length,
            cls_id=vocabulary.cls_id,
            sep_id=vocabulary.sep_id,
            pad_id=vocabulary.pad_id,
        )
        masked = mask_tokens(
            token_ids,
            padding_mask,
            special_ids=(vocabulary.cls_id, vocabulary.sep_id),
            mask_id=vocabulary.mask_id,
            vocab_size=len(vocabulary),
            mask_rate=self._config.mask_rate,
            max_predictions=self._config.max_predictions,
            rng=rng,
            continues_word=self._continues_word,
        )
        serialized = serialize_examples(
            {
                "token_ids": masked.token_ids,
                "segment_ids": segment_ids,
                "padding_mask": padding_mask,
                "mask_positions": masked.mask_positions,
                "mask_ids": masked.mask_ids,
                "mask_weights": masked.mask_weights,
                "next_sentence_label": pairs.is_random_next[:, None].astype(np.int32),
            }
        )
        return serialized, Counts(
            examples=len(pairs),
            short_examples=int(pairs.is_short.sum()),
            random_next=int(pairs.is_random_next.sum()),
            real_tokens=int(padding_mask.sum()),
            predictions=masked.num_masked + masked.num_kept + masked.num_random,
            predictions_masked=masked.num_masked,
            predictions_kept=masked.num_kept,
            predictions_random=masked.num_random,
        )
