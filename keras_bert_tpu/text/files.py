"""Text files as lines of bytes: plain or gzip, local or gs://, in constant memory."""

import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_tpu.config import InputError

# Large enough that a request to a bucket is worth its latency, small beside any machine's memory.
_PIECE_BYTES = 1 << 20
# No line of text is as long; one that is comes of a file that is none, or that is made to fill a
# memory, as gzip can by a thousand times its size.
_MAX_LINE_BYTES = 1 << 29
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# zlib's code for "a gzip header and trailer, the largest window": 16 + 15.
_GZIP_WINDOW_BITS = 31
# How files begin that are taken for text by mistake.
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK\x03\x04": "zip",
    b"PAR1": "Parquet",
}


def expand_globs(patterns: str | Sequence[str]) -> list[str]:
    """Returns the files that match, sorted, each once.

    Args:
        patterns: str or sequence of str. Local or gs:// paths or glob patterns; a string may hold
            several, separated by commas.

    Returns:
        List of str, sorted by path, so that the order does not depend on the file system.

    Raises:
        InputError: If there is no pattern, or if one of them matches no file.
    """
    if isinstance(patterns, str):
        patterns = [patterns]
    names = [name.strip() for pattern in patterns for name in pattern.split(",") if name.strip()]
    if not names:
        raise InputError("No input files are named; give a path or a glob such as corpus/*.txt.gz.")
    paths = set()
    for name in names:
        # gs:// lists folder markers, which end with a slash, beside the files.
        found = [path for path in _glob(name) if not path.endswith("/")]
        if not found and tf.io.gfile.exists(name):
            found = [name]  # A file whose name holds characters that mean something in a pattern.
        if not found:
            raise InputError(
                f"No file matches {name!r}; check the path, and quote patterns so that the shell "
                f"does not expand them."
            )
        paths.update(path if "://" in path else os.path.normpath(path) for path in found)
    return sorted(paths)


def read_lines(path: str) -> Iterator[bytes]:
    r"""Reads a text file line by line, in memory bounded by the longest line.

    A file whose name ends with `.gz`, in any case, is decompressed; it may have several gzip
    members. Lines end with `\n` or `\r\n`; a UTF-8 byte order mark at the start of the file is
    dropped.

    Args:
        path: str. Local or gs:// path.

    Yields:
        bytes. A line without its end. A last line without an end counts as a line.

    Raises:
        InputError: If the file does not exist or cannot be read to its end, is not whole or not
            gzip though named `.gz`, is compressed though not named so, or has a line of more than
            512 MiB.
    """
    pieces = _read_pieces(path)
    if path.lower().endswith(".gz"):
        pieces = _decompress(pieces, path)
    else:
        pieces = _refuse_archives(pieces, path)
    unfinished: list[bytes] = []
    length = 0
    is_first = True
    for piece in pieces:
        head, *rest = piece.split(b"\n")
        unfinished.append(head)
        length = len(rest[-1]) if rest else length + len(head)
        if length > _MAX_LINE_BYTES:
            raise InputError(
                f"{path!r} has a line of more than {_MAX_LINE_BYTES >> 20} MiB; give a file of "
                f"text, with line breaks in it."
            )
        for following in rest:
            yield _clean_line(b"".join(unfinished), is_first)
            is_first = False
            unfinished = [following]
    last = b"".join(unfinished)
    if last:
        yield _clean_line(last, is_first)


def check_gzip(path: str) -> None:
    """Reads a gzip file to its end.

    Args:
        path: str. Local or gs:// path.

    Raises:
        InputError: If it is not whole and sound gzip data, or cannot be read.
    """
    for _ in _decompress(_read_pieces(path), path):
        pass


def check_writable(path: str) -> None:
    """Makes sure, before work starts, that a file can be written.

    Args:
        path: str. Local or gs:// path; missing local folders are made.

    Raises:
        InputError: If the path is empty or a folder, or nothing can be written beside it.
    """
    if not path or tf.io.gfile.isdir(path):
        raise InputError(f"The output {path!r} is not the path of a file; name a file.")
    probe = f"{path}.probe"
    try:
        if folder := path.rpartition("/")[0]:
            tf.io.gfile.makedirs(folder)
        with tf.io.gfile.GFile(probe, "w") as file:
            file.write("A file to see whether this folder can be written to.")
        tf.io.gfile.remove(probe)
    except tf.errors.OpError as error:
        raise InputError(f"{path!r} cannot be written: {error.message}") from error


def describe_file(path: str) -> dict[str, Any]:
    """Returns what tells a file from a changed one without reading it.

    Args:
        path: str. Local or gs:// path.

    Returns:
        Dict, plain JSON data: the "path", its length in "bytes" and, where the file system gives
        it, the time of its last change in nanoseconds since 1970, "modified_ns".

    Raises:
        InputError: If there is no such file, or if it is a folder.
    """
    try:
        found = tf.io.gfile.stat(path)
    except tf.errors.NotFoundError as error:
        raise InputError(f"There is no file {path!r}; check the path.") from error
    except tf.errors.OpError as error:
        raise InputError(f"{path!r} cannot be looked at: {error.message}") from error
    if found.is_directory:
        raise InputError(_folder_message(path))
    facts = {"path": path, "bytes": int(found.length)}
    if "://" not in path:
        facts["modified_ns"] = os.stat(path).st_mtime_ns  # TensorFlow's has whole seconds only.
    elif found.mtime_nsec > 0:
        facts["modified_ns"] = int(found.mtime_nsec)
    return facts


def _folder_message(path: str) -> str:
    return (
        f"{path!r} cannot be read as a file; if it is a folder, name its files, for example "
        f"{path.rstrip('/')}/*."
    )


def _clean_line(line: bytes, is_first: bool) -> bytes:
    if is_first:
        line = line.removeprefix(_BYTE_ORDER_MARK)
    return line.removesuffix(b"\r")


def _glob(pattern: str) -> list[str]:
    try:
        return tf.io.gfile.glob(pattern)
    except tf.errors.NotFoundError:  # A bucket that does not exist.
        return []


def _read_pieces(path: str) -> Iterator[bytes]:
    # `read` in pieces, not iteration: over gs://, iterating over a GFile ends quietly on a read
    # error, and half a corpus would pass for the whole.
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
    except tf.errors.NotFoundError as error:
        raise InputError(f"There is no file {path!r}; check the path.") from error
    except tf.errors.FailedPreconditionError as error:
        raise InputError(_folder_message(path)) from error
    except tf.errors.OpError as error:  # No permission; a bucket that stops answering.
        raise InputError(f"{path!r} cannot be read to its end: {error.message}") from error


def _refuse_archives(pieces: Iterator[bytes], path: str) -> Iterator[bytes]:
    """Passes on what does not begin as a compressed file does, which would pass for odd text."""
    for number, piece in enumerate(pieces):
        if number == 0:
            for magic, kind in _MAGIC.items():
                if piece.startswith(magic):
                    advice = (
                        "give it a name that ends with .gz"
                        if kind == "gzip"
                        else "unpack it, or compress it with gzip"
                    )
                    raise InputError(f"{path!r} is not text but {kind} data; {advice}.")
        yield piece


def _decompress(pieces: Iterator[bytes], path: str) -> Iterator[bytes]:
    """Decompresses gzip; the memory used does not depend on how well the data is compressed."""
    decompressor = zlib.decompressobj(_GZIP_WINDOW_BITS)
    members = 0
    in_member = False
    for data in pieces:
        while data:
            if not in_member:
                if members:
                    # The gzip format allows zero padding after a member (as on tapes).
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                decompressor = zlib.decompressobj(_GZIP_WINDOW_BITS)
                in_member = True
            try:
                piece = decompressor.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise InputError(
                    f"{path!r} ends with .gz but is not sound gzip data ({error}); compress it "
                    f"again, or rename it if it is plain text."
                ) from error
            if piece:
                yield piece
            if decompressor.eof:
                data = decompressor.unused_data
                members += 1
                in_member = False
            else:
                data = decompressor.unconsumed_tail
    if in_member or not members:
        raise InputError(
            f"{path!r} is cut off: its gzip data ends before the end of the file's content; copy "
            f"or compress it again."
        )
