"""Corpora: files and data sets of tensorflow-datasets, read document by document in a fixed order.

The order is that of the files, sorted by path, and of the places in them; a data set is read
without shuffling, one file after another. So a document is known by its number, and a corpus can
be gone over again, in another process too, with the same numbers.
"""

import concurrent.futures
import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import INPUT_FORMATS, InputError
from keras_bert_tpu.text.files import describe_file, expand_globs, read_lines
from keras_bert_tpu.text.sentences import split_sentences

DEFAULT_SPLIT = "train"
JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
# Where tensorflow-datasets keeps its data by itself.
_TFDS_VARIABLE = "TFDS_DATA_DIR"
_TFDS_FOLDER = "~/tensorflow_datasets"
# A request to a bucket takes some 50 ms: a thousand files are looked at in seconds, not a minute.
_REQUESTS_AT_ONCE = 16
# An error names no more fields than a person reads.
_NAMES_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Documents that are gone over equally often: files, or a data set of tensorflow-datasets.

    Attributes:
        name: str. The patterns or the data set, as given.
        files: tuple of str. Paths, sorted; none for a data set.
        tfds: str. `NAME[/CONFIG][:VERSION]@SPLIT`, for example
            `wikipedia/20230601.en@train[:10%]`; empty for files.
        weight: float. How often this corpus is gone over, relative to `dupe_factor`.
        data_dir: str. Folder of tensorflow-datasets, local or gs://; empty takes the variable
            TFDS_DATA_DIR or else ~/tensorflow_datasets.
    """

    name: str
    files: tuple[str, ...] = ()
    tfds: str = ""
    weight: float = 1.0
    data_dir: str = ""

    def __post_init__(self):
        if bool(self.files) == bool(self.tfds):
            raise InputError(
                f"A corpus needs either files or a data set of tensorflow-datasets. Received: "
                f"{len(self.files)} files and tfds={self.tfds!r}."
            )
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise InputError(
                f"The weight of a corpus must be a number greater than 0. Received: {self.weight} "
                f"for {self.name!r}."
            )


def find_corpora(
    input: str | Sequence[str] | None,
    tfds: Sequence[str] = (),
    weights: Sequence[float] = (),
    data_dir: str = "",
) -> tuple[Corpus, ...]:
    """Finds the corpora that were named.

    Args:
        input: str, sequence of str or None. Local or gs:// paths or glob patterns, several in a
            string separated by commas. With weights, each is a corpus of its own; without, all
            files, sorted and each once, are one.
        tfds: Sequence of str. Data sets, each `NAME[/CONFIG][:VERSION][@SPLIT]` and each a corpus
            of its own; the split is "train" unless given, and may be a slice.
        weights: Sequence of float. One for each corpus, in the order given, files first; or none,
            for 1 each.
        data_dir: str. Folder of the data sets, see `Corpus`.

    Returns:
        Tuple of Corpus: those of files in the order given, then the data sets.

    Raises:
        InputError: If nothing is named, a pattern matches no file, a file or data set is in two
            corpora, or the weights are not one positive number for each corpus.
    """
    entries = _entries(input)
    if weights:
        found = [Corpus(entry, tuple(expand_globs([entry]))) for entry in entries]
    elif entries:
        found = [Corpus(",".join(entries), tuple(expand_globs(entries)))]
    else:
        found = []
    found += [Corpus(name, tfds=_with_split(name), data_dir=data_dir) for name in tfds]
    if not found:
        raise InputError(
            "No corpus is named; give input files, such as corpus/*.txt.gz, or data sets of "
            "tensorflow-datasets, such as wikipedia/20230601.en."
        )
    _check_no_repeats(found)
    if weights and len(weights) != len(found):
        names = ", ".join(repr(corpus.name) for corpus in found)
        raise InputError(
            f"There must be one weight for each corpus, that is for each comma-separated entry of "
            f"the input and each data set. Received: {len(weights)} weights for {len(found)} "
            f"corpora ({names})."
        )
    return tuple(
        dataclasses.replace(corpus, weight=float(weight))
        for corpus, weight in zip(found, weights or [1.0] * len(found), strict=True)
    )


def read_documents(
    corpus: Corpus, input_format: str = "auto", text_field: str = "text"
) -> Iterator[list[str]]:
    """Reads the documents of a corpus in order, one at a time, in memory bounded by a document.

    Args:
        corpus: Corpus.
        input_format: str. How files hold documents, one of `INPUT_FORMATS`, see `DataConfig`. A
            document never spans files.
        text_field: str. Name of the text in JSON objects and data sets; "page/body" is the field
            "body" of the field "page". Line breaks of a text separate its paragraphs, which are
            split into sentences.

    Yields:
        list of str. The sentences of a document that has at least one, none empty and without the
        white space around them. Bytes that are not UTF-8 are left out, as in Google's
        `tokenization.py`.

    Raises:
        InputError: If a file or a data set cannot be read, a line of JSON is none, or there is no
            text under that name.
    """
    if input_format not in INPUT_FORMATS:
        raise InputError(
            f"input_format must be one of {', '.join(INPUT_FORMATS)}. Received: {input_format!r}."
        )
    if corpus.tfds:
        yield from _split_texts(_read_data_set(corpus, text_field))
    for path in corpus.files:
        how = format_of(path) if input_format == "auto" else input_format
        if how == "sentences":
            yield from _read_sentences(path)
        elif how == "documents":
            yield from _split_texts(line.decode("utf-8", "ignore") for line in read_lines(path))
        else:
            yield from _split_texts(_read_json(path, text_field))


def read_texts(
    corpora: Sequence[Corpus], input_format: str = "auto", text_field: str = "text"
) -> Iterator[bytes]:
    """Reads the texts of corpora as they stand, without splitting them into sentences.

    Args:
        corpora: Sequence of Corpus, gone over once each, whatever their weight.
        input_format: str. As for `read_documents`.
        text_field: str. As for `read_documents`.

    Yields:
        bytes. A line of a file, or a text of JSON lines or of a data set.

    Raises:
        InputError: As `read_documents`.
    """
    for corpus in corpora:
        if corpus.tfds:
            yield from (text.encode("utf-8") for text in _read_data_set(corpus, text_field))
        for path in corpus.files:
            how = format_of(path) if input_format == "auto" else input_format
            if how == "jsonl":
                yield from (text.encode("utf-8") for text in _read_json(path, text_field))
            else:
                yield from read_lines(path)


def format_of(path: str) -> str:
    """Returns the format that a file's name speaks of: "jsonl" or else "sentences".

    Args:
        path: str. `.jsonl`, `.json` and `.ndjson`, in any case and with `.gz` behind or not, are
            JSON.
    """
    is_json = path.lower().removesuffix(".gz").endswith(JSON_SUFFIXES)
    return "jsonl" if is_json else "sentences"


def fingerprint(corpus: Corpus) -> dict[str, Any]:
    """Returns what tells a corpus from a changed one without reading it, as plain JSON data.

    Args:
        corpus: Corpus.

    Returns:
        Dict. For files {"files": [`describe_file` of each]}; for a data set {"tfds": name with
        configuration and version, "split": split, "examples": number of examples}.

    Raises:
        InputError: If a file or the data set is not there.
    """
    if not corpus.tfds:
        with concurrent.futures.ThreadPoolExecutor(_REQUESTS_AT_ONCE) as executor:
            return {"files": list(executor.map(describe_file, corpus.files))}
    builder, split, examples = open_data_set(corpus)
    return {"tfds": builder.info.full_name, "split": split, "examples": examples}


def _entries(input: str | Sequence[str] | None) -> list[str]:
    given = [input] if isinstance(input, str) else list(input or ())
    return [entry.strip() for names in given for entry in names.split(",") if entry.strip()]


def _with_split(name: str) -> str:
    data_set, at, split = name.strip().partition("@")
    if not data_set or (at and not split):
        raise InputError(
            f"A data set is named NAME[/CONFIG][:VERSION][@SPLIT], for example "
            f"wikipedia/20230601.en@train. Received: {name!r}."
        )
    return f"{data_set}@{split or DEFAULT_SPLIT}"


def _check_no_repeats(corpora: Sequence[Corpus]) -> None:
    owners: dict[str, Corpus] = {}
    for corpus in corpora:
        for member in corpus.files or (corpus.tfds,):
            owner = owners.setdefault(member, corpus)
            if owner is not corpus:
                raise InputError(
                    f"{member!r} is in two corpora, {owner.name!r} and {corpus.name!r}; name it "
                    f"once, and give it more weight if it shall count more."
                )


def _read_sentences(path: str) -> Iterator[list[str]]:
    sentences: list[str] = []
    for line in read_lines(path):
        sentence = line.decode("utf-8", "ignore").strip()
        if sentence:
            sentences.append(sentence)
        elif sentences:
            yield sentences
            sentences = []
    if sentences:
        yield sentences


def _split_texts(texts: Iterator[str]) -> Iterator[list[str]]:
    for text in texts:
        sentences = split_sentences(text)
        if sentences:
            yield sentences


def _read_json(path: str, text_field: str) -> Iterator[str]:
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8", "ignore"))
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"Line {number} of {path!r} is not JSON ({error}); each line must be one JSON "
                f"object."
            ) from error
        if not isinstance(value, dict):
            raise InputError(
                f"Line {number} of {path!r} is not a JSON object but {_kind(value)}; each line "
                f"must be one object, with the text in its field {text_field!r}."
            )
        text = _field(value, text_field)
        if not isinstance(text, str):
            problem = (
                f"has no field {text_field!r}"
                if text is _MISSING
                else f"has {_kind(text)}, not a string, in its field {text_field!r}"
            )
            raise InputError(
                f"Line {number} of {path!r} {problem}; name the field of the text by text_field. "
                f"Its fields are: {_some(list(value))}."
            )
        # JSON can escape halves of surrogate pairs, which no UTF-8 holds.
        yield text.encode("utf-8", "ignore").decode()


_MISSING = object()


def _field(value: Mapping[str, Any], name: str) -> Any:
    """Returns the value under a name, or else under its parts; `_MISSING` if there is none."""
    if name in value:
        return value[name]
    first, slash, rest = name.partition("/")
    if slash and isinstance(value.get(first), dict):
        return _field(value[first], rest)
    return _MISSING


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value"}
    return "null" if value is None else names.get(type(value), "a number")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN]) or "none"
    return shown + (", ..." if len(names) > _NAMES_SHOWN else "")


def open_data_set(corpus: Corpus) -> tuple[Any, str, int]:
    """Opens a data set of tensorflow-datasets, and prepares it if it is not yet.

    Args:
        corpus: Corpus of a data set.

    Returns:
        The prepared builder, the name of the split and the number of its examples.

    Raises:
        InputError: If it cannot be loaded or prepared, or has no such split.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise InputError(
            f"{corpus.name!r} needs the package tensorflow-datasets; install it with `pip install "
            f"tensorflow-datasets`."
        ) from error
    name, _, split = corpus.tfds.partition("@")
    folder = corpus.data_dir or os.environ.get(_TFDS_VARIABLE) or _TFDS_FOLDER
    where = (
        f"looked for in {folder}; another folder is named by --tfds_folder or the variable "
        f"{_TFDS_VARIABLE}"
    )
    try:
        builder = tensorflow_datasets.builder(name, data_dir=os.path.expanduser(folder))
    except Exception as error:  # Whatever the code of the data set raises.
        raise InputError(
            f"tensorflow-datasets cannot load {name!r} ({_first_line(error)}); it was {where}."
        ) from error
    if not builder.info.splits:
        try:
            builder.download_and_prepare()
        except Exception as error:  # As above, and all that a network can do.
            raise InputError(
                f"The data set {name!r} is not prepared, and to download and prepare it failed "
                f"({_first_line(error)}); it was {where}."
            ) from error
    try:
        return builder, split, int(builder.info.splits[split].num_examples)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"The data set {name!r} has no split {split!r}; it has "
            f"{', '.join(builder.info.splits)}, and slices of them such as train[:10%]."
        ) from error


def _read_data_set(corpus: Corpus, text_field: str) -> Iterator[str]:
    builder, split, _ = open_data_set(corpus)
    import tensorflow_datasets

    paths = _text_features(builder.info.features, tensorflow_datasets.features.FeaturesDict)
    if text_field not in paths:
        raise InputError(
            f"The data set {builder.info.full_name!r} has no text {text_field!r}; name one by "
            f"text_field. Its texts are: {_some(list(paths))}."
        )
    path = paths[text_field]
    wanted: Any = True
    for part in reversed(path):
        wanted = {part: wanted}
    data = builder.as_dataset(
        split=split,
        shuffle_files=False,
        # Nothing but the text is decoded: no picture, no sound.
        decoders=tensorflow_datasets.decode.PartialDecoding(wanted),
        # One file after another, and none kept in memory.
        read_config=tensorflow_datasets.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    try:
        for example in tensorflow_datasets.as_numpy(data):
            for part in path:
                example = example[part]
            yield example.decode("utf-8", "ignore")
    except tf.errors.OpError as error:
        raise InputError(
            f"The data set {corpus.name!r} cannot be read to its end ({_first_line(error)}); "
            f"prepare it again, or copy its files anew."
        ) from error


def _text_features(features: Any, inner: type, keys: tuple[str, ...] = ()) -> dict[str, tuple]:
    """Returns the features that are one string each: their names, and the keys that lead to them.

    Args:
        features: Features of a data set, or some of them.
        inner: type. Of features that hold others.
        keys: tuple of str. What leads to `features`.
    """
    if isinstance(features, inner):
        return {
            name: path
            for key in sorted(features)
            for name, path in _text_features(features[key], inner, (*keys, key)).items()
        }
    is_text = keys and features.dtype == "string" and features.shape == ()
    return {"/".join(keys): keys} if is_text else {}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
