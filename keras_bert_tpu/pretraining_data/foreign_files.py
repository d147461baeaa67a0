"""Single record files that other tools wrote: their layout, and a check of every record."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from keras_bert_tpu.config import InputError
from keras_bert_tpu.pretraining_data.manifest import Counts, Shard, count_lengths
from keras_bert_tpu.pretraining_data.record_files import GZIP_SUFFIX, framed_size, read_records
from keras_bert_tpu.pretraining_data.records import disk_name, parse_examples
from keras_bert_tpu.text.files import check_gzip
from keras_bert_tpu.text.vocabulary import Vocabulary

_BATCH = 1024
_PIECE_BYTES = 1 << 22
_GZIP_MAGIC = b"\x1f\x8b"


@dataclasses.dataclass(frozen=True)
class Layout:
    """What all records of an index have in common, as found in the first one.

    Attributes:
        feature_names: str. "v1" or "v2", see `Manifest`.
        sequence_length: int.
        max_predictions: int.
        has_next_sentence: bool.
    """

    feature_names: str
    sequence_length: int
    max_predictions: int
    has_next_sentence: bool

    def widths(self) -> dict[str, int]:
        """Returns how many values each feature has, by its name on disk."""
        widths = dict.fromkeys(["token_ids", "segment_ids", "padding_mask"], self.sequence_length)
        widths |= dict.fromkeys(
            ["mask_positions", "mask_ids", "mask_weights"], self.max_predictions
        )
        if self.has_next_sentence:
            widths["next_sentence_label"] = 1
        return {disk_name(name, self.feature_names): width for name, width in widths.items()}

    def parse(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """Parses a batch of records."""
        return parse_examples(
            serialized,
            self.sequence_length,
            self.max_predictions,
            feature_names=self.feature_names,
            has_next_sentence=self.has_next_sentence,
        )


def find_layout(files: Sequence[str]) -> Layout:
    """Returns the layout of the first record that the files hold.

    Raises:
        InputError: If there is none, or it is not of a layout that is known.
    """
    for path in files:
        try:
            for record in read_records(path).take(1).as_numpy_iterator():
                return _layout_of(record, path)
        except tf.errors.DataLossError as error:
            raise InputError(_not_records(path)) from error
        except tf.errors.OpError as error:
            raise InputError(
                f"{path!r} cannot be read as a file ({error.message}); if it is a folder, name its "
                f"files, for example {path.rstrip('/')}/*."
            ) from error
    raise InputError(f"There is no record in the {len(files)} files, the first is {files[0]}.")


class Indexer:
    """Goes over single files; used by several threads at once."""

    def __init__(self, layout: Layout, vocabulary: Vocabulary, checksums: bool):
        self._layout = layout
        self._vocabulary = vocabulary
        self._checksums = checksums
        # Concrete, or each of the threads would trace it.
        self._parse = tf.function(
            layout.parse, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        ).get_concrete_function()

    def index(
        self, path: str, num_bytes: int, update: Callable[[int], object]
    ) -> tuple[Shard, Counts]:
        """Checks and counts the records of a file; `update` is told the bytes gone over."""
        counts, lengths, told = Counts(), [], 0
        is_gzip = path.endswith(GZIP_SUFFIX)
        if is_gzip:
            check_gzip(path)  # TensorFlow takes some that are cut off for whole ones.
        for first, records in self._read(path):
            arrays = self._checked(path, first, records)
            counts += self._count(arrays)
            lengths.append(arrays["padding_mask"].sum(axis=1))
            if not is_gzip:
                size = int(framed_size(records).numpy().sum())
                update(size)
                told += size
        if not is_gzip and told != num_bytes:
            # So few bytes that TensorFlow takes them for the end.
            raise InputError(
                f"{path} is cut off: {num_bytes - told} bytes follow its {counts.examples} "
                f"records, from byte offset {told} on; copy the file again, or leave it out."
            )
        update(num_bytes - told)
        shard = Shard(
            path,
            counts.examples,
            num_bytes,
            sha256=_sha256(path) if self._checksums else "",
            length_counts=count_lengths(
                np.concatenate([np.zeros(0, np.int64), *lengths]), self._layout.sequence_length
            ),
        )
        return shard, counts

    def _read(self, path: str) -> Iterator[tuple[int, tf.Tensor]]:
        """Batches of records, each with the number of its first one."""
        number = offset = 0
        try:
            for records in read_records(path).batch(_BATCH).prefetch(1):
                yield number, records
                number += len(records)
                offset += int(framed_size(records).numpy().sum())
        except tf.errors.DataLossError as error:
            # A batch that holds a damaged record is lost as a whole: find the record in it.
            sizes = read_records(path, offset).map(framed_size).ignore_errors()
            for size in sizes.as_numpy_iterator():
                number, offset = number + 1, offset + int(size)
            if number == 0:
                raise InputError(_not_records(path)) from error
            raise InputError(
                f"Record {number} of {path}, at byte offset {offset}, is damaged or cut off; copy "
                f"the file again, or leave it out."
            ) from error

    def _checked(self, path: str, first: int, records: tf.Tensor) -> dict[str, np.ndarray]:
        try:
            parsed = self._parse(records)
        except tf.errors.InvalidArgumentError as error:
            for number, record in enumerate(records.numpy(), start=first):
                _check_layout(self._layout, record, number, path)
            raise InputError(
                f"The records from {first} on of {path} cannot be parsed ({error})."
            ) from error
        arrays = {name: value.numpy() for name, value in parsed.items()}
        for is_wrong, fault in self._faults(arrays):
            if is_wrong.any():
                row = int(is_wrong.argmax())
                raise InputError(
                    f"Record {first + row} of {path} {fault(row)}; check that it is a file of "
                    f"pre-training records, made with this vocabulary."
                )
        return arrays

    def _faults(
        self, arrays: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[np.ndarray, Callable[[int], str]]]:
        """For each thing that cannot be: the rows in which it is, and how it is told of a row."""
        size = len(self._vocabulary)
        mask, weights = arrays["padding_mask"], arrays["mask_weights"]
        positions = arrays["mask_positions"]

        def outside(name: str, end: int, what: str):
            values = arrays[name]
            feature = disk_name(name, self._layout.feature_names)
            wrong = (values < 0) | (values >= end)

            def fault(row: int) -> str:
                value = values[row][wrong[row]][0]
                return f"has {value} in {feature}, where {what}"

            return wrong.any(axis=1), fault

        yield outside("token_ids", size, f"ids are below the vocabulary's size {size}")
        yield outside("mask_ids", size, f"ids are below the vocabulary's size {size}")
        yield outside("segment_ids", 2, "segments are 0 or 1")
        yield outside("padding_mask", 2, "1 is a real token and 0 is padding")
        is_prefix = (mask[:, 0] == 1) & (mask[:, 1:] <= mask[:, :-1]).all(axis=1)
        yield ~is_prefix, lambda row: "has an input_mask that is not ones and then zeros"
        is_real = weights == 1
        ends = np.take_along_axis(arrays["token_ids"], mask.sum(axis=1, keepdims=True) - 1, axis=1)
        is_framed = (arrays["token_ids"][:, 0] == self._vocabulary.cls_id) & (
            ends[:, 0] == self._vocabulary.sep_id
        )
        yield (
            ~is_framed,
            lambda row: (
                f"does not begin with the vocabulary's [CLS] and end with its [SEP], but with the "
                f"ids {arrays['token_ids'][row, 0]} and {ends[row, 0]}"
            ),
        )
        yield (
            ~(is_real | (weights == 0)).all(axis=1),
            lambda row: "has masked_lm_weights other than 0 and 1",
        )
        beyond = is_real & ((positions < 0) | (positions >= mask.sum(axis=1, keepdims=True)))
        yield (
            beyond.any(axis=1),
            lambda row: (
                f"predicts position {positions[row][beyond[row]][0]}, where there is no token"
            ),
        )
        if self._layout.has_next_sentence:
            yield outside("next_sentence_label", 2, "the label is 0 or 1")

    def _count(self, arrays: Mapping[str, np.ndarray]) -> Counts:
        is_real = arrays["mask_weights"] == 1
        present = np.take_along_axis(
            arrays["token_ids"], np.where(is_real, arrays["mask_positions"], 0), axis=1
        )
        is_mask = is_real & (present == self._vocabulary.mask_id)
        is_kept = is_real & ~is_mask & (present == arrays["mask_ids"])
        predictions, masked, kept = (int(chosen.sum()) for chosen in (is_real, is_mask, is_kept))
        return Counts(
            examples=len(present),
            random_next=int(arrays.get("next_sentence_label", np.zeros(0)).sum()),
            real_tokens=int(arrays["padding_mask"].sum()),
            predictions=predictions,
            predictions_masked=masked,
            predictions_kept=kept,
            predictions_random=predictions - masked - kept,
        )


def _not_records(path: str) -> str:
    with tf.io.gfile.GFile(path, "rb") as file:
        is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    if is_gzip and not path.endswith(GZIP_SUFFIX):
        return f"{path} is compressed with GZIP; rename it so that its name ends in {GZIP_SUFFIX}."
    return f"{path} is not a TFRecord file, or damaged in its first record; check the path."


def _layout_of(record: bytes, path: str) -> Layout:
    features = _features(record, 0, path)
    if disk_name("cls_positions") in features:
        raise InputError(
            f"The records of {path} hold several examples each (kbt-prepare --pack): take the "
            f"folder that they were written to, whose manifest says how, as it is."
        )
    feature_names = "v2" if disk_name("token_ids", "v2") in features else "v1"
    length = features.get(disk_name("token_ids", feature_names), 0)
    predictions = features.get(disk_name("mask_positions", feature_names), 0)
    label = disk_name("next_sentence_label", feature_names)
    layout = Layout(feature_names, length, predictions, label in features)
    _check_layout(layout, record, 0, path)
    return layout


def _check_layout(layout: Layout, record: bytes, number: int, path: str) -> None:
    """Raises InputError if a record has not the features, widths and types of a layout."""
    found = _features(record, number, path)
    for name, width in layout.widths().items():
        if found.get(name, 0) != width or not width:
            expected = f"{width} as the first record has" if width else "at least 1"
            raise InputError(
                f"Record {number} of {path} has {found.get(name, 0)} values of {name} instead of "
                f"{expected} (its features are {', '.join(sorted(found)) or 'none'}); name "
                f"only files of pre-training records of one length and number of predictions."
            )


def _features(record: bytes, number: int, path: str) -> dict[str, int]:
    """Names of the features of a record, with their numbers of values of the right type."""
    try:
        feature = tf.train.Example.FromString(record).features.feature
    except Exception as error:  # google.protobuf.message.DecodeError, which is not TensorFlow's.
        raise InputError(
            f"Record {number} of {path} is not a tf.train.Example ({error}); name only files of "
            f"pre-training records."
        ) from error
    is_float = disk_name("mask_weights", "v1")
    return {
        name: len(value.float_list.value if name == is_float else value.int64_list.value)
        for name, value in feature.items()
    }


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
