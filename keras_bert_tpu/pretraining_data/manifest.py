"""What a folder of records holds: settings, shards with checksums, and counts.

The manifest is written last, so a folder that has one is complete.
"""

import concurrent.futures
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import DataConfig, InputError
from keras_bert_tpu.dataclass_yaml import from_dict, to_dict
from keras_bert_tpu.text.vocabulary import Vocabulary

MANIFEST_FILE = "manifest.json"
VOCABULARY_FILE = "vocab.txt"
FORMAT_VERSION = 2
# Bins of `Shard.length_counts`.
LENGTH_BINS = 16
# A request to a bucket takes some 50 ms.
_REQUESTS_AT_ONCE = 16


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
        file: str. Its name within the folder of the manifest; a full path where records were
            written elsewhere, by other tools.
        num_examples: int. Rows, where several examples are packed into one.
        bytes: int. Size of the file.
        sha256: str. Of its content, in hexadecimal; empty if it was not computed.
        num_documents: int. Documents that its examples are from; 0 if that is not known.
        length_counts: tuple of 16 ints. How many of them have more than k/16 and at most (k+1)/16
            of the sequence length in real tokens, for k from 0; empty if that is not known.
    """

    file: str
    num_examples: int
    bytes: int
    sha256: str = ""
    num_documents: int = 0
    length_counts: tuple[int, ...] = ()


def count_lengths(lengths: np.ndarray, sequence_length: int) -> tuple[int, ...]:
    """Counts real lengths, from 1 to `sequence_length`, for `Shard.length_counts`."""
    bins = (np.asarray(lengths, np.int64) * LENGTH_BINS - 1) // sequence_length
    return tuple(np.bincount(bins, minlength=LENGTH_BINS).tolist())


@dataclasses.dataclass(frozen=True)
class CorpusEntry:
    """One of the corpora that the records were made of.

    Attributes:
        name: str. As it was given: patterns of files, or the name of a set of tensorflow-datasets.
        weight: float. Times `dupe_factor`, how often it was gone over.
        files: tuple of str. In the order in which they were read.
        documents: int. Documents that were kept.
        sentences: int. Of the documents that were kept.
        characters: int. Of these sentences.
        dropped: Mapping of str to int. Documents that were dropped, by reason.
    """

    name: str
    weight: float
    files: tuple[str, ...]
    documents: int
    sentences: int
    characters: int
    dropped: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Counts:
    """What went into the records of a split; the counts of its parts add up to its own.

    Attributes:
        documents: int. Documents with at least one token.
        dropped_documents: int. Without any, or left alone in their block by such ones.
        sentences: int. Sentences with at least one token.
        dropped_sentences: int. Without any, or in a dropped document.
        tokens: int. Word pieces of these sentences.
        unknown_tokens: int. How many of them are [UNK].
        examples: int. Over all passes, like all that follows.
        short_examples: int. Whose target length was drawn at random.
        random_next: int. Examples whose part b is from another document, or, for "mlm+sop", whose
            parts are swapped: next-sentence label 1.
        real_tokens: int. Positions that are not padding.
        predictions: int. Masked-language-model targets; 0 for masks that are drawn later.
        predictions_masked: int. Of them, replaced by [MASK].
        predictions_kept: int. Left as they were.
        predictions_random: int. Replaced by a random piece.
    """

    documents: int = 0
    dropped_documents: int = 0
    sentences: int = 0
    dropped_sentences: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    examples: int = 0
    short_examples: int = 0
    random_next: int = 0
    real_tokens: int = 0
    predictions: int = 0
    predictions_masked: int = 0
    predictions_kept: int = 0
    predictions_random: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            *map(sum, zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True))
        )

    @property
    def mean_length(self) -> float:
        """Mean number of real tokens in an example."""
        return _ratio(self.real_tokens, self.examples)

    @property
    def masks_per_example(self) -> float:
        """Mean number of predictions in an example."""
        return _ratio(self.predictions, self.examples)

    @property
    def random_next_share(self) -> float:
        """Share of the examples with next-sentence label 1."""
        return _ratio(self.random_next, self.examples)

    def padding_share(self, sequence_length: int) -> float:
        """Share of the positions that are padding, where each example is a row of its own."""
        return 1.0 - self.mean_length / sequence_length if self.examples else 0.0


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a folder of records holds. Written last, it marks the preparation as complete.

    Attributes:
        directory: str. Local or gs:// folder that it was read from or is written to.
        config: DataConfig. The settings that the records were prepared with.
        corpora: tuple of CorpusEntry. The text, in the order in which it was read.
        vocabulary_size: int.
        vocabulary_sha256: str. Fingerprint of the vocabulary, `Vocabulary.sha256`.
        train: tuple of Shard. In order.
        validation: tuple of Shard. In order; empty if nothing was held out.
        train_counts: Counts.
        validation_counts: Counts.
        feature_names: str. "v1" are the names of Google's BERT, which are written here; "v2" those
            of TensorFlow's Model Garden.
    """

    directory: str
    config: DataConfig
    corpora: tuple[CorpusEntry, ...]
    vocabulary_size: int
    vocabulary_sha256: str
    train: tuple[Shard, ...]
    validation: tuple[Shard, ...]
    train_counts: Counts
    validation_counts: Counts
    feature_names: str = "v1"

    @property
    def num_examples(self) -> int:
        """Training examples in all shards; rows, where they are packed."""
        return self.num_rows("train")

    @property
    def num_validation_examples(self) -> int:
        """Held-out examples in all shards; rows, where they are packed."""
        return self.num_rows("validation")

    def num_rows(self, split: str) -> int:
        """Records in all shards of a split.

        Args:
            split: str. "train" or "validation".
        """
        return sum(shard.num_examples for shard in getattr(self, split))

    def padding_share(self, split: str) -> float:
        """Share of the positions that are padding, as the rows of a split are.

        Args:
            split: str. "train" or "validation".
        """
        rows = self.num_rows(split)
        real_tokens = getattr(self, f"{split}_counts").real_tokens
        return 1.0 - real_tokens / (rows * self.config.sequence_length) if rows else 0.0

    def path_of(self, shard: Shard) -> str:
        """Returns the local or gs:// path of a shard's file."""
        if "://" in shard.file:
            return shard.file
        return tf.io.gfile.join(self.directory, shard.file)

    def with_mask_rate(self, mask_rate: float, max_predictions: int) -> "Manifest":
        """Returns a manifest whose records are read with masks of another rate.

        Args:
            mask_rate: float. Share of the tokens that are masked.
            max_predictions: int. Largest number of masked positions in an example.

        Raises:
            InputError: If masks are written into the records, or do not fit their length.
        """
        if self.config.masks != "dynamic":
            raise InputError(
                f"mask_rate={mask_rate} needs masks that are drawn when records are read, and the "
                f"records of {self.directory} have theirs in them; prepare them again with "
                f"--masks=dynamic, or leave mask_rate out."
            )
        config = dataclasses.replace(
            self.config, mask_rate=mask_rate, max_predictions=max_predictions
        )
        return dataclasses.replace(self, config=config)

    def load_vocabulary(self) -> Vocabulary:
        """Loads the vocabulary beside the records.

        Raises:
            InputError: If it is missing, or is not the one that they were prepared with.
        """
        path = tf.io.gfile.join(self.directory, VOCABULARY_FILE)
        vocabulary = Vocabulary.load(path)
        if vocabulary.sha256 != self.vocabulary_sha256:
            raise InputError(
                f"{path} is not the vocabulary that the records beside it were prepared with (its "
                f"sha256 is {vocabulary.sha256}, the manifest's {self.vocabulary_sha256}); put the "
                f"right one there, or prepare the records again."
            )
        return vocabulary

    def to_json(self) -> str:
        """Returns the text of the manifest file."""
        values = {
            "format_version": FORMAT_VERSION,
            "num_examples": self.num_examples,
            "num_validation_examples": self.num_validation_examples,
            "settings": to_dict(self.config),
            "vocabulary": {
                "file": VOCABULARY_FILE,
                "size": self.vocabulary_size,
                "sha256": self.vocabulary_sha256,
            },
            "feature_names": self.feature_names,
            "corpora": [dataclasses.asdict(corpus) for corpus in self.corpora],
            "train": self._split_to_dict("train"),
            "validation": self._split_to_dict("validation"),
        }
        return json.dumps(values, indent=2) + "\n"

    def _split_to_dict(self, split: str) -> dict[str, Any]:
        shards: tuple[Shard, ...] = getattr(self, split)
        counts: Counts = getattr(self, f"{split}_counts")
        rows = self.num_rows(split)
        packed = {}
        if self.config.pack:
            packed = {
                "padding_share_unpacked": counts.padding_share(self.config.sequence_length),
                "sequences_per_row": _ratio(counts.examples, rows),
            }
        return {
            "num_examples": rows,
            "mean_length": counts.mean_length,
            "padding_share": self.padding_share(split),
            **packed,
            "random_next_share": counts.random_next_share,
            "masks_per_example": counts.masks_per_example,
            "counts": dataclasses.asdict(counts),
            "shards": [dataclasses.asdict(shard) for shard in shards],
        }

    def save(self) -> None:
        """Writes `manifest.json` into the folder, under a temporary name until it is whole."""
        path = tf.io.gfile.join(self.directory, MANIFEST_FILE)
        with tf.io.gfile.GFile(f"{path}.partial", "w") as file:
            file.write(self.to_json())
        tf.io.gfile.rename(f"{path}.partial", path, overwrite=True)

    @classmethod
    def load(cls, directory: str, check_shards: bool = True) -> "Manifest":
        """Reads the manifest of a folder and checks that its shards are there.

        Args:
            directory: str. Local or gs:// folder that `kbt-prepare` wrote.
            check_shards: bool. False leaves it to the caller what becomes of missing shards.

        Raises:
            InputError: If there is no manifest, it cannot be read or is of an unknown version, or a
                shard that it lists is missing.
        """
        path = tf.io.gfile.join(directory, MANIFEST_FILE)
        try:
            with tf.io.gfile.GFile(path, "r") as file:
                values = json.loads(file.read())
        except tf.errors.NotFoundError as error:
            raise InputError(
                f"There is no {MANIFEST_FILE} in {directory!r}: either it is not a folder of "
                f"records, or their preparation did not finish; check the path or run kbt-prepare."
            ) from error
        except (tf.errors.OpError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); prepare the records again with kbt-prepare."
            ) from error
        version = values.get("format_version") if isinstance(values, Mapping) else None
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path} has format_version {version!r}, but this version of the package reads "
                f"{FORMAT_VERSION}; prepare the records again with kbt-prepare, or use the version "
                f"that wrote them."
            )
        try:
            manifest = cls(
                directory=directory,
                config=from_dict(DataConfig, values["settings"]),
                corpora=tuple(
                    CorpusEntry(**{**corpus, "files": tuple(corpus["files"])})
                    for corpus in values["corpora"]
                ),
                vocabulary_size=values["vocabulary"]["size"],
                vocabulary_sha256=values["vocabulary"]["sha256"],
                train=_shards(values["train"]["shards"]),
                validation=_shards(values["validation"]["shards"]),
                train_counts=Counts(**values["train"]["counts"]),
                validation_counts=Counts(**values["validation"]["counts"]),
                feature_names=values["feature_names"],
            )
        except (InputError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not a whole manifest ({type(error).__name__}: {error}); prepare the "
                f"records again with kbt-prepare."
            ) from error
        if not check_shards:
            return manifest
        # One listing, because asking for each file of a bucket takes a request for each. Files that
        # stand elsewhere are asked for, some at a time.
        present = {name.rstrip("/") for name in tf.io.gfile.listdir(directory)}
        shards = (*manifest.train, *manifest.validation)
        elsewhere = [shard for shard in shards if "/" in shard.file]
        with concurrent.futures.ThreadPoolExecutor(_REQUESTS_AT_ONCE) as executor:
            found = executor.map(lambda s: tf.io.gfile.exists(manifest.path_of(s)), elsewhere)
            present |= {
                shard.file for shard, is_there in zip(elsewhere, found, strict=True) if is_there
            }
        missing = [shard.file for shard in shards if shard.file not in present]
        if missing:
            raise InputError(
                f"{len(missing)} of the {len(manifest.train) + len(manifest.validation)} shards "
                f"that {path} lists are missing, the first is {missing[0]}; copy the whole folder, "
                f"or prepare the records again with kbt-prepare."
            )
        return manifest


def _shards(entries: Sequence[Mapping[str, Any]]) -> tuple[Shard, ...]:
    return tuple(
        Shard(**{**entry, "length_counts": tuple(entry["length_counts"])}) for entry in entries
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
