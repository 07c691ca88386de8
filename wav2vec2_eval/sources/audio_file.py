# SPDX-License-Identifier: Apache-2.0
"""Audio files, decoded by soundfile alone, one utterance at a time."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from ..errors import SuiteError
from ..speech.audio import LONGEST, SAMPLE_RATE

# FLAC, WAV, Ogg. libsndfile knows more formats, but its decoder of MP3 prints what it thinks of damaged files.
_FLAC, _WAV, _OGG = b"fLaC", b"RIFF", b"OggS"

# A FLAC file begins with a block of 42 bytes, whose last 16 are the MD5 of all samples, or 0 if its encoder made none.
_HEADER_BYTES, _MD5_AT = 42, 26
_FLAC_BYTES = {"PCM_S8": 1, "PCM_16": 2, "PCM_24": 3}  # of a sample, in the MD5
LOUDEST = 32768  # of samples as numbers: more leaves too little of float32's range for their variance
_LAST_PAGE = 4  # flag of an Ogg page


def decode(source: Path | BinaryIO, name: str) -> np.ndarray:
    """Read a whole 16 kHz mono file: (T,) float32. Raises SuiteError, naming `name`, for anything else."""
    header = _read_header(source, name)
    kind = header[:4]
    if kind not in (_FLAC, _WAV, _OGG):
        raise SuiteError(f"{name}: cannot be decoded (expected FLAC, WAV or Ogg, found other bytes); convert it")
    if kind != _FLAC and not _is_whole(source, kind):
        raise SuiteError(f"{name}: its length is not what its header says; copy the file again")
    try:
        with soundfile.SoundFile(source) as file:
            rate, channels, num_samples = file.samplerate, file.channels, file.frames
            if num_samples > LONGEST:  # a damaged header, or an encoder that did not know the length
                raise SuiteError(f"{name}: its header says {num_samples} samples, an hour has {LONGEST}; convert it")
            if (rate, channels) != (SAMPLE_RATE, 1):
                raise SuiteError(
                    f"{name}: expected {SAMPLE_RATE} Hz mono, found {rate} Hz with {channels} channels; convert it"
                )
            # Integers are read as they are stored, for the MD5.
            width = _FLAC_BYTES.get(file.subtype, 0) if kind == _FLAC or file.subtype == "PCM_16" else 0
            samples: np.ndarray = file.read(dtype={0: "float32", 2: "int16"}.get(width, "int32"))
    except soundfile.LibsndfileError as error:
        raise SuiteError(f"{name}: cannot be decoded ({error}); copy the file again") from None
    # Of a file that was cut between two blocks, libsndfile returns the samples that are left, without an error.
    if len(samples) != num_samples:
        raise SuiteError(f"{name}: expected {num_samples} samples, found {len(samples)}; copy the file again")
    # If the header says too few samples, libsndfile returns no more.
    if kind == _FLAC and header[_MD5_AT:] not in (bytes(16), _md5(samples, width)):
        raise SuiteError(f"{name}: its samples do not have the MD5 of its header; copy the file again")
    if width:
        waveform: np.ndarray = samples / np.float32(2 ** (8 * samples.itemsize - 1))
        return waveform
    peak = np.abs(samples).max(initial=0)
    if not peak <= LOUDEST:  # also if it is NaN
        raise SuiteError(f"{name}: expected samples between -1 and 1, found {peak}; convert it")
    return samples


def _md5(samples: np.ndarray, width: int) -> bytes:
    """The MD5 of samples in as many bytes as FLAC has for each. libsndfile puts them into the highest bytes."""
    data = samples.data
    if width not in (0, samples.itemsize):
        data = np.ascontiguousarray(samples.view(np.uint8).reshape(-1, samples.itemsize)[:, -width:]).data
    return hashlib.md5(data, usedforsecurity=False).digest()


def _is_whole(source: Path | BinaryIO, kind: bytes) -> bool:
    """Whether a WAV or Ogg file is as long as its parts say. libsndfile takes a file that was cut for a shorter one."""
    file: BinaryIO
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            return _is_whole_wav(file, size) if kind == _WAV else _is_whole_ogg(file, size)
        except (struct.error, IndexError):
            return False
        finally:
            file.seek(0)


def _is_whole_wav(file: BinaryIO, size: int) -> bool:
    """Chunk after chunk to the end: a name of four letters, the length of the content, the content, made even."""
    _, length, _ = struct.unpack("<4sI4s", file.read(12))
    end = length + 8
    position, names = 12, []
    while position < end:
        name, length = struct.unpack("<4sI", file.read(8))
        names.append(name)
        position = file.seek(position + 8 + length + length % 2)
    return position in (end, end + 1) and end in (size, size + 1) and b"data" in names


def _is_whole_ogg(file: BinaryIO, size: int) -> bool:
    """Page after page to the end: 27 bytes, a table of lengths, the content. The last one has a flag."""
    position, flags = 0, 0
    while position < size:
        start, flags, count = struct.unpack("<4sxB20xB", file.read(27))
        if start != _OGG:
            return False
        position = file.seek(position + 27 + count + sum(file.read(count)))
    return position == size and bool(flags & _LAST_PAGE)


def _read_header(source: Path | BinaryIO, name: str) -> bytes:
    if not isinstance(source, Path):
        content = source.read(_HEADER_BYTES)
        source.seek(0)
        return content
    try:
        if not stat.S_ISREG(source.stat().st_mode):  # opening a named pipe would wait for its writer
            raise SuiteError(f"{name}: expected a regular file, found something else; remove it")
        with source.open("rb") as file:
            return file.read(_HEADER_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        raise SuiteError(f"{name}: cannot be read ({error}); copy the file again") from None
