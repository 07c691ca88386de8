# SPDX-License-Identifier: Apache-2.0
"""What a model file says without its engine: its metadata, its files of external data, and a digest of everything.

An .onnx is one protobuf message, at most 2 GB. Weights beyond that, or on their exporter's wish, lie in other files
beside it. This module reads the message's fields itself (https://protobuf.dev/programming-guides/encoding). So it needs
neither the onnx package, which an inference host may lack, nor the memory of the whole model: whatever leads to no file
name, the weights above all, is skipped by its length.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import SuiteError
from ..files.atomic import file_digest
from ..files.names import CONVERSION_SUFFIX
from .base import unusable

# For each message, the fields that lead to a tensor: their numbers, and the messages in them
# (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_METADATA = 14  # field of a model: pairs of texts
_GRAPH = 7  # field of a model
_INITIALIZER = 5  # field of a graph: a tensor
_RAW_DATA = 9  # field of a tensor
_EXTERNAL_DATA = 13  # field of a tensor: pairs of texts, one of them with the file's name
_DATA_LOCATION = 14  # field of a tensor: 1 if the external data count
_KEY, _VALUE = 1, 2  # fields of a pair

# The last field of a sealed model: its number and encoding, its length, and a pair of the key and 64 digits. The length
# has a byte more than it needs, which every reader allows and no writer does. So a model that a tool has read, changed
# and written again has no seal, and is the tool's.
_SEAL_KEY = b"sha256"
_SEAL = b"\x72\xca\x00\x0a\x06" + _SEAL_KEY + b"\x12\x40"
_SEAL_BYTES = len(_SEAL) + 64

LARGE = 262_144  # bytes; `skeleton` leaves the data of larger tensors in the file

# How the content of a field is encoded. Texts are encoded as messages are.
_NUMBER, _EIGHT_BYTES, _MESSAGE, _FOUR_BYTES = 0, 1, 2, 5


class _Field(NamedTuple):
    """A field of a message, with the place of its content in the file."""

    number: int
    encoding: int
    start: int
    end: int


def conversion_folder(path: Path) -> Path:
    """The folder beside a model for what engines make of it: its conversion, and the verdicts on its engines."""
    return path.with_name(f"{path.stem}{CONVERSION_SUFFIX}")


def model_digest(path: Path) -> str:
    """SHA-256 of the file; for a model with external data, of its digest and theirs, in the order of their names.

    Raises SuiteError for what `external_files` refuses.
    """
    files = (path, *(path.parent / name for name in sorted(external_files(path))))
    digests = [_digest(file.resolve(), file.stat()) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _digest(path: Path, status: os.stat_result) -> str:
    """SHA-256 of a file, computed once in a process: a start asks several times, and a model may have gigabytes."""
    return _digest_of(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=16)
def _digest_of(path: Path, *_status: int) -> str:
    return file_digest(path)


def seal(path: Path) -> None:
    """Append a digest of a new .onnx, with its external data, to its metadata, so that damage is noticed."""
    digest = _content_digest(path, path.stat().st_size)
    with path.open("ab") as file:
        file.write(_SEAL + digest.encode())


def check_seal(path: Path) -> None:
    """Raise SuiteError if an .onnx has a seal, and is not as it was when it got it."""
    found = _seal_of(path)
    if found and found != _content_digest(path, path.stat().st_size - _SEAL_BYTES).encode():
        raise SuiteError(
            f"{path}: damaged since export_onnx.py wrote it, as the sha256 in its metadata says; copy it again, or "
            f"export it again"
        )


def is_sealed(path: Path) -> bool:
    """Whether an .onnx is as the suite wrote it. A tool that rewrites it may keep the metadata, but not the seal."""
    return bool(_seal_of(path))


def _seal_of(path: Path) -> bytes:
    """The digest in the seal of an .onnx; empty if it has none."""
    end = path.stat().st_size - _SEAL_BYTES
    if end < 0:
        return b""
    with path.open("rb") as file:
        file.seek(end)
        found = file.read()
    return found[len(_SEAL) :] if found.startswith(_SEAL) else b""


def _content_digest(path: Path, size: int) -> str:
    """SHA-256 of the first `size` bytes of the file, and of its external data."""
    digest = hashlib.sha256(file_digest(path, size).encode())
    for name in sorted(external_files(path)):
        digest.update(file_digest(path.parent / name).encode())
    return digest.hexdigest()


def external_files(path: Path) -> set[str]:
    """The files of external data that an .onnx names, as paths below its folder. A model of another kind has none.

    Raises SuiteError for a broken model, and if such a file is missing or lies outside the model's folder.
    """
    if path.suffix != ".onnx":
        return set()
    with _content(path) as data:
        names = set(_locations(data))
    for name in names:
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\0" in name:
            raise SuiteError(f"{path}: expected its weights in files beside it, found {name!r}; export it again")
        if not (path.parent / name).is_file():
            raise SuiteError(f"{path.parent / name}: no such file, but {path.name} has weights in it; copy both")
    return names


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of an .onnx, without its seal. Raises SuiteError for a broken model."""
    with _content(path) as data:
        pairs = (_pair(data, field) for field in _fields(data, 0, len(data)) if field[:2] == (_METADATA, _MESSAGE))
        return {_text(key): _text(value) for key, value in pairs if key != _SEAL_KEY}


def skeleton(path: Path) -> bytes:
    """The message of an .onnx in which each large initializer has external data: the place of its bytes in the file.

    So a graph can be changed without the memory and the time of its weights. Raises SuiteError for a broken model.
    """
    with _content(path) as data:
        return _skeleton(data, "model", 0, len(data), os.fsencode(path.name))


def _skeleton(data: mmap.mmap, message: str, start: int, end: int, file_name: bytes) -> bytes:
    parts = []
    for field in _fields(data, start, end):
        inner = {("model", _GRAPH): "graph", ("graph", _INITIALIZER): "tensor"}.get((message, field.number))
        if inner and field.encoding == _MESSAGE:
            content = _skeleton(data, inner, field.start, field.end, file_name)
            parts.append(_encoded(field.number, content))
        elif message == "tensor" and field.number == _RAW_DATA and field.end - field.start > LARGE:
            length = field.end - field.start
            place = {b"location": file_name, b"offset": b"%d" % field.start, b"length": b"%d" % length}
            for key, value in place.items():
                parts.append(_encoded(_EXTERNAL_DATA, _encoded(_KEY, key) + _encoded(_VALUE, value)))
            parts.append(bytes([_DATA_LOCATION << 3 | _NUMBER, 1]))
        else:
            parts.append(data[start : field.end])  # with its number and length
        start = field.end
    return b"".join(parts)


def _encoded(number: int, content: bytes) -> bytes:
    """A field with the number of at most 15 that holds a message or a text."""
    length, left = bytearray(), len(content)
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([number << 3 | _MESSAGE, *length, left]) + content


@contextmanager
def _content(path: Path) -> Iterator[mmap.mmap]:
    """The file's bytes, mapped into memory. Raises SuiteError if the block finds no whole message in them."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except (ValueError, IndexError):  # also of an empty file
        raise unusable(path, ValueError("it is not a whole ONNX file")) from None


def _locations(data: mmap.mmap) -> Iterator[str]:
    """The file names of all tensors whose data are external."""
    waiting = [("model", 0, len(data))]
    while waiting:  # not recursive: messages may be nested without end
        message, start, end = waiting.pop()
        if message == "tensor":
            yield from _location(data, start, end)
            continue
        for field in _fields(data, start, end):
            inner = _FIELDS[message].get(field.number)
            if inner and field.encoding == _MESSAGE:
                waiting.append((inner, field.start, field.end))


def _location(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    """The file name of a tensor, if its data are external."""
    pairs, is_external = {}, False
    for field in _fields(data, start, end):
        if field[:2] == (_EXTERNAL_DATA, _MESSAGE):
            key, value = _pair(data, field)
            pairs[key] = value
        elif field[:2] == (_DATA_LOCATION, _NUMBER):
            is_external = _read_number(data, field.start)[0] == 1
    if is_external and b"location" in pairs:
        yield os.fsdecode(pairs[b"location"])


def _pair(data: mmap.mmap, field: _Field) -> tuple[bytes, bytes]:
    """Key and value of a pair of texts."""
    texts = {each.number: data[each.start : each.end] for each in _fields(data, field.start, field.end)}
    return texts.get(_KEY, b""), texts.get(_VALUE, b"")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")  # whoever reads the text finds what is wrong with it


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    """The fields of a message. Raises ValueError or IndexError if it is not whole."""
    while start < end:
        tag, start = _read_number(data, start)
        encoding = tag & 7
        if encoding == _NUMBER:
            _, stop = _read_number(data, start)
        elif encoding == _MESSAGE:
            length, start = _read_number(data, start)
            stop = start + length
        elif encoding in (_EIGHT_BYTES, _FOUR_BYTES):
            stop = start + (8 if encoding == _EIGHT_BYTES else 4)
        else:
            raise ValueError("an encoding that ONNX does not use")
        if stop > end:
            raise ValueError("a field that is cut")
        yield _Field(tag >> 3, encoding, start, stop)
        start = stop


def _read_number(data: mmap.mmap, start: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    number = 0
    for position in range(10):
        byte = data[start + position]
        number |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return number, start + position + 1
    raise ValueError("a number of more than 64 bits")
