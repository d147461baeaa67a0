"""Settings of the preparation of records."""

import dataclasses

from keras_bert_tpu.config.checks import (
    require_choice,
    require_not_negative,
    require_positive,
    require_rate,
    require_seed,
)
from keras_bert_tpu.dataclass_yaml import InputError

OBJECTIVES = ("mlm+nsp", "mlm", "mlm+sop")
MASKS = ("static", "dynamic")
REPLACEMENTS = ("piece", "gram")
INPUT_FORMATS = ("auto", "sentences", "documents", "jsonl")
DUPLICATES = ("keep", "exact", "near")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How documents become pre-training examples. Written into the manifest of the records.

    Attributes:
        objective: str. "mlm+nsp": masked words and next sentences (BERT). "mlm": masked words in
            full rows of sentences (RoBERTa). "mlm+sop": masked words and the order of two
            consecutive parts (ALBERT).
        sequence_length: int. Tokens in an example, special tokens included.
        max_predictions: int. Largest number of masked positions in an example.
        mask_rate: float. Share of the tokens (specials counted in the length) that are masked.
        masks: str. "static" masks are written into the records; "dynamic" ones are drawn anew in
            each epoch when the records are read.
        whole_word_mask: bool. Mask all pieces of a word together.
        segmented_words: bool. The text has white space between words of a script that is written
            without (Chinese), so that whole words are more than one character.
        max_ngram: int. Longest run of words masked together; needs `whole_word_mask` above 1.
        replacement: str. Whether [MASK], the original or a random piece takes a masked place is
            drawn for each "piece" (BERT) or for each "gram", that is word or run of words.
        random_specials: bool. Whether the random piece may be a special token, as in BERT.
        pack: bool. Put several examples into a row where they have room in it, so that little of it
            is padding. Each is attended to alone, and has positions of its own.
        max_sequences: int. Largest number of examples in a row, with `pack`.
        short_sequence_rate: float. Share of the documents (of the rows, for "mlm") whose target
            length is a random, shorter one; drawn anew in each pass over the corpus.
        random_next_rate: float. Share of the pairs whose second part is from another document, or,
            for "mlm+sop", whose parts are swapped.
        dupe_factor: int. How often the corpus is gone over, each time with other pairs and masks.
        lower_case: bool. Lower-case, as uncased vocabularies ask for.
        strip_accents: bool or None. Take away accents; None does so if `lower_case` is set.
        added_tokens: tuple of str. Pieces of the vocabulary that are found in the text as they
            stand, before words are split, for example "[E1]".
        input_format: str. "sentences": a sentence on a line, a blank line between documents.
            "documents": a document on a line. "jsonl": a JSON object with a document on a line.
            "auto": by the name of the file, ".jsonl" or ".json" or sentences.
        text_field: str. Name of the document's text in "jsonl" and in tensorflow-datasets.
        min_characters: int. Documents with fewer characters are dropped; 0 drops none.
        max_characters: int. Documents with more characters are dropped; 0 drops none.
        min_letter_share: float. Documents with a smaller share of letters among the characters
            that are not white space are dropped; 0 drops none.
        duplicates: str. "keep" all documents; drop those whose text equals an earlier one's
            ("exact"); drop those that share most of their word sequences with an earlier one, too
            ("near").
        near_threshold: float. Jaccard similarity from which on documents are near-duplicates.
        validation_rate: float. Share of the documents that are held out: one of each
            round(1 / rate) in a row.
        block_documents: int. Documents in a block, from which random next sentences are drawn.
        num_shards: int. Files of training records; 0 chooses by the size of the corpus.
        seed: int. All randomness derives from it.
    """

    objective: str = "mlm+nsp"
    sequence_length: int = 128
    max_predictions: int = 20
    mask_rate: float = 0.15
    masks: str = "static"
    whole_word_mask: bool = False
    segmented_words: bool = False
    max_ngram: int = 1
    replacement: str = "piece"
    random_specials: bool = True
    pack: bool = False
    max_sequences: int = 8
    short_sequence_rate: float = 0.1
    random_next_rate: float = 0.5
    dupe_factor: int = 10
    lower_case: bool = True
    strip_accents: bool | None = None
    added_tokens: tuple[str, ...] = ()
    input_format: str = "auto"
    text_field: str = "text"
    min_characters: int = 0
    max_characters: int = 0
    min_letter_share: float = 0.0
    duplicates: str = "keep"
    near_threshold: float = 0.8
    validation_rate: float = 0.01
    block_documents: int = 64
    num_shards: int = 0
    seed: int = 12345

    def __post_init__(self):
        require_choice(self, "objective", OBJECTIVES)
        require_choice(self, "masks", MASKS)
        require_choice(self, "replacement", REPLACEMENTS)
        require_choice(self, "input_format", INPUT_FORMATS)
        require_choice(self, "duplicates", DUPLICATES)
        require_positive(self, "max_predictions", "dupe_factor", "max_ngram", "block_documents")
        require_not_negative(self, "min_characters", "max_characters", "num_shards")
        require_positive(self, "mask_rate")
        require_rate(self, "mask_rate", "short_sequence_rate", "random_next_rate")
        require_rate(self, "validation_rate", "min_letter_share")
        require_seed(self)
        if not 0.0 < self.near_threshold <= 1.0:
            raise InputError(
                f"near_threshold must be greater than 0 and at most 1. Received: "
                f"{self.near_threshold}."
            )
        if self.sequence_length < 8:
            raise InputError(
                f"sequence_length must be at least 8 to hold two parts and their special tokens. "
                f"Received: sequence_length={self.sequence_length}."
            )
        maskable = self.sequence_length - self.num_specials
        if self.max_predictions > maskable:
            raise InputError(
                f"max_predictions must be at most {maskable}, the tokens that sequence_length="
                f"{self.sequence_length} leaves beside the {self.num_specials} special ones. "
                f"Received: {self.max_predictions}."
            )
        if self.block_documents < 2:
            raise InputError(
                f"block_documents must be at least 2, because a random next sentence comes from "
                f"another document of the block. Received: {self.block_documents}."
            )
        for name, value in {"segmented_words": False, "max_ngram": 1}.items():
            if getattr(self, name) != value and not self.whole_word_mask:
                raise InputError(
                    f"{name}={getattr(self, name)} is about words and needs whole_word_mask=True."
                )
        if self.max_sequences < 2:
            raise InputError(
                f"max_sequences must be at least 2, because a row with one example is not packed; "
                f"or set pack=False. Received: {self.max_sequences}."
            )
        if self.pack and self.max_sequences > self.sequence_length:
            raise InputError(
                f"max_sequences must be at most sequence_length={self.sequence_length}, the tokens "
                f"of a row. Received: {self.max_sequences}."
            )

    @property
    def record_name(self) -> str:
        """What a record is called: "example", or "row" where it holds several of them."""
        return "row" if self.pack else "example"

    @property
    def sequences_per_row(self) -> int:
        """Largest number of examples in a row: 1 where they are not packed."""
        return self.max_sequences if self.pack else 1

    @property
    def num_specials(self) -> int:
        """Special tokens in a full example: [CLS] and a [SEP] behind each part."""
        return 2 if self.objective == "mlm" else 3
