# SPDX-License-Identifier: Apache-2.0
"""Audio files, decoded by soundfile, one utterance at a time.

Corpora with one format are read strictly: FLAC, WAV or Ogg at 16 kHz with one channel. A user's own recordings may have
any format that libsndfile reads, any rate and any number of channels.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile

from ..errors import SuiteError
from ..machine.quiet import quiet_stderr
from ..speech.audio import LONGEST, SAMPLE_RATE

if TYPE_CHECKING:
    from typing_extensions import Self

_FLAC, _WAV, _OGG = b"fLaC", b"RIFF", b"OggS"
_BIG_ENDIAN_WAV = b"RIFX"

# A FLAC file begins with a block of 42 bytes, whose last 16 are the MD5 of all samples, or 0 if its encoder made none.
_HEADER_BYTES, _MD5_AT = 42, 26
_FLAC_BYTES = {"PCM_S8": 1, "PCM_16": 2, "PCM_24": 3}  # of a sample, in the MD5
LOUDEST = 32768  # of samples as numbers: more leaves too little of float32's range for their variance
_FIRST_PAGE, _LAST_PAGE = 2, 4  # flags of an Ogg page
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_UNKNOWN = 0xFFFFFFFF  # the length in the header of a WAV or AU file that was written to a pipe
_LOWEST_RATE, _HIGHEST_RATE = 1_000, 1_000_000  # Hz
_BLOCK = 1 << 20  # samples per channel

CONVERT = "convert it, for example by ffmpeg -i FILE -ar 16000 -ac 1 NEW.wav"


class AudioFile:
    """An open audio file: its `rate` in Hz, its number of `channels`, and `num_samples` of each. A context manager.

    Raises SuiteError, naming `name`, for what cannot be decoded. `strict` refuses other formats than FLAC, WAV and Ogg,
    other rates than 16 kHz, more than one channel, and WAV files without a length.
    """

    def __init__(self, source: Path | BinaryIO, name: str, *, strict: bool = True) -> None:
        self._name = name
        header = _read_header(source, name)
        self._kind, self._md5 = header[:4], header[_MD5_AT:]
        self._advice = "copy the file again" if self._kind in (_FLAC, _WAV, _OGG) else CONVERT
        if strict and self._kind not in (_FLAC, _WAV, _OGG):
            raise SuiteError(f"{name}: cannot be decoded (expected FLAC, WAV or Ogg, found other bytes); convert it")
        if not _is_whole(source, self._kind, strict):
            or_else = "" if strict else f", or {CONVERT}"
            raise SuiteError(f"{name}: its length is not what its header says; copy the file again{or_else}")
        with ExitStack() as stack:
            try:
                with self._decoding():
                    self._file = stack.enter_context(soundfile.SoundFile(source))
            except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: .raw, which says nothing about itself
                raise self._undecodable(error) from None
            self.rate, self.channels, self.num_samples = self._file.samplerate, self._file.channels, self._file.frames
            if strict:
                self._check_strict()
            elif not _LOWEST_RATE <= self.rate <= _HIGHEST_RATE:
                raise SuiteError(f"{name}: its header says {self.rate} Hz, which no recording has; convert it")
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def _check_strict(self) -> None:
        self.check_length()
        if (self.rate, self.channels) != (SAMPLE_RATE, 1):
            raise SuiteError(
                f"{self._name}: expected {SAMPLE_RATE} Hz mono, found {self.rate} Hz with {self.channels} channels; "
                f"convert it, or see --which_dataset=custom"
            )

    def check_length(self) -> None:
        """Raise SuiteError for more than an hour, of which not all can be in memory."""
        if self.num_samples > LONGEST * self.rate // SAMPLE_RATE:
            raise SuiteError(  # a damaged header, or an encoder that did not know the length
                f"{self._name}: its header says {self.num_samples} samples, an hour has {3600 * self.rate}; convert it"
            )

    def _decoding(self) -> AbstractContextManager[None]:
        # libsndfile's decoder of MP3 prints what it thinks of damaged files.
        return nullcontext() if self._kind in (_FLAC, _WAV, _OGG) else quiet_stderr()

    def _undecodable(self, error: Exception) -> SuiteError:
        return SuiteError(f"{self._name}: cannot be decoded ({error}); {self._advice}")

    def blocks(self) -> Iterator[np.ndarray]:
        """The samples in order, as (T, channels) float32 blocks. Raises SuiteError if they are damaged.

        What can be known of the whole file only, such as its MD5, is checked after the last block.
        """
        # Integers are read as they are stored, for the MD5.
        subtype = self._file.subtype
        width = _FLAC_BYTES.get(subtype, 0) if self._kind == _FLAC or subtype == "PCM_16" else 0
        dtype = {0: "float32", 2: "int16"}.get(width, "int32")
        digest = hashlib.md5(usedforsecurity=False) if self._kind == _FLAC and self._md5 != bytes(16) else None
        found, is_short = 0, False
        while found < self.num_samples and not is_short:
            expected = min(_BLOCK, self.num_samples - found)
            try:
                with self._decoding():
                    samples: np.ndarray = self._file.read(expected, dtype, always_2d=True)
            except soundfile.LibsndfileError as error:
                raise self._undecodable(error) from None
            # After a damaged part of an Ogg file, another read would give its last samples a second time.
            is_short = len(samples) < expected
            found += len(samples)
            if digest is not None:
                digest.update(_packed(samples, width))
            yield self._as_floats(samples, width)
        # Of a file that was cut between two blocks, libsndfile returns the samples that are left, without an error.
        if found != self.num_samples:
            raise SuiteError(f"{self._name}: expected {self.num_samples} samples, found {found}; copy the file again")
        # If the header says too few samples, libsndfile returns no more.
        if digest is not None and digest.digest() != self._md5:
            raise SuiteError(f"{self._name}: its samples do not have the MD5 of its header; copy the file again")

    def _as_floats(self, samples: np.ndarray, width: int) -> np.ndarray:
        if width:
            floats: np.ndarray = samples.astype(np.float32)  # exact: no more than 24 bits are used
            return floats / np.float32(2 ** (8 * samples.itemsize - 1))
        peak = np.abs(samples).max(initial=0)
        if not peak <= LOUDEST:  # also if it is NaN
            raise SuiteError(f"{self._name}: expected samples between -1 and 1, found {peak}; convert it")
        return samples


def header_samples(source: Path | BinaryIO, name: str) -> int:
    """How many samples a 16 kHz mono file has, as its header says. Raises SuiteError, naming `name`, for any other."""
    with AudioFile(source, name) as file:
        num_samples: int = file.num_samples
    return num_samples


def decode(source: Path | BinaryIO, name: str) -> np.ndarray:
    """Read a whole 16 kHz mono file: (T,) float32. Raises SuiteError, naming `name`, for anything else."""
    with AudioFile(source, name) as file:
        blocks = [block[:, 0] for block in file.blocks()]
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.float32), *blocks])


def _packed(samples: np.ndarray, width: int) -> memoryview:
    """Samples in as many bytes as FLAC has for each in its MD5. libsndfile puts them into the highest bytes."""
    if width in (0, samples.itemsize):
        return samples.data
    return np.ascontiguousarray(samples.view(np.uint8).reshape(-1, samples.itemsize)[:, -width:]).data


def _is_whole(source: Path | BinaryIO, kind: bytes, strict: bool) -> bool:
    """Whether a file is as long as its header says, where that can be told without decoding.

    libsndfile takes a file that was cut for a shorter one. FLAC and MP3 are counted when they are decoded.
    """
    check = _LENGTHS.get(kind)
    if check is None:
        return True
    file: BinaryIO
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            return check(file, size) or (not strict and _is_of_unknown_length(file, kind))
        except (struct.error, IndexError, ValueError):
            return False
        finally:
            file.seek(0)


def _is_of_unknown_length(file: BinaryIO, kind: bytes) -> bool:
    """Whether the header says that the length was not known when it was written."""
    file.seek(0)
    start = file.read(1 << 16)
    if kind == _WAV:
        data = start.find(b"data")
        return data > 0 and struct.unpack("<I", start[data + 4 : data + 8])[0] == _UNKNOWN
    return kind == _AU and struct.unpack(">I", start[8:12])[0] == _UNKNOWN


def _is_whole_wav(file: BinaryIO, size: int) -> bool:
    """Chunk after chunk to the end: a name of four letters, the length of the content, the content, made even."""
    order = ">" if file.read(4) == _BIG_ENDIAN_WAV else "<"
    (length,) = struct.unpack(f"{order}I4x", file.read(8))
    end = length + 8
    position, names = 12, []
    ends: tuple[int, ...] = ()
    while position < end:
        file.seek(position)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        names.append(name)
        ends = (position + 8 + length, position + 8 + length + length % 2)  # some writers forget the last byte
        position = ends[-1]
    return end in ends and size in ends and b"data" in names


def _is_whole_ogg(file: BinaryIO, size: int) -> bool:
    """Page after page to the end: 27 bytes, a table of lengths, the content. The last page has a flag.

    Each page has a CRC-32 of itself. A first page after others begins another stream, which libsndfile would not read.
    """
    position, flags, is_first = 0, 0, True
    while position < size:
        header = file.read(27)
        start, flags, checksum, count = struct.unpack("<4sxB16xIB", header)
        if start != _OGG or (flags & _FIRST_PAGE and not is_first):
            return False
        is_first = is_first and bool(flags & _FIRST_PAGE)
        lengths = file.read(count)
        content = file.read(sum(lengths))
        if _ogg_crc32(header[:22] + bytes(4) + header[26:] + lengths + content) != checksum:
            return False
        position += 27 + count + sum(lengths)
    return position == size and bool(flags & _LAST_PAGE)


def _ogg_crc32(data: bytes) -> int:
    """The CRC-32 of Ogg: that of zlib with the bits of each byte, and of the result, in the other order, from 0 on."""
    crc = zlib.crc32(data.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "little").translate(_REVERSED_BITS), "big")


def _is_whole_aiff(file: BinaryIO, size: int) -> bool:
    """The length of what follows, at byte 4."""
    (length,) = struct.unpack(">4xI", file.read(8))
    return bool(length + 8 in (size, size - 1))


def _is_whole_au(file: BinaryIO, size: int) -> bool:
    """The lengths of the header and of the samples, at byte 4."""
    return bool(sum(struct.unpack(">4xII", file.read(12))) == size)


def _is_whole_w64(file: BinaryIO, size: int) -> bool:
    """The length of everything, at byte 16."""
    (length,) = struct.unpack("<16xQ", file.read(24))
    return bool(length == size)


def _is_whole_rf64(file: BinaryIO, size: int) -> bool:
    """The length of what follows byte 8, in the chunk `ds64`."""
    name, length, data_length = struct.unpack("<12x4s4xQQ", file.read(36))
    return name == b"ds64" and length + 8 in (size, size + data_length % 2)


def _is_whole_caf(file: BinaryIO, size: int) -> bool:
    """Chunk after chunk to the end: a name of four letters, its length, the content; perhaps a few bytes."""
    position = 8
    while size - position >= 12:
        file.seek(position)
        _name, length = struct.unpack(">4sq", file.read(12))
        position += 12 + length
        if length < 0:  # not known
            return True
    return position <= size


def _is_whole_sphere(file: BinaryIO, size: int) -> bool:
    """A header of text, whose length is in its second line, then as many samples as the header says."""
    header = file.read(1024)
    numbers = {name: int(value) for name, value in re.findall(rb"^(\w+) -i (\d{1,15})$", header, re.MULTILINE)}
    expected = int(header.split(b"\n")[1])
    for name in (b"sample_count", b"channel_count", b"sample_n_bytes"):
        numbers.setdefault(name, 1)
    return size == expected + numbers[b"sample_count"] * numbers[b"channel_count"] * numbers[b"sample_n_bytes"]


_AU = b".snd"
_LENGTHS: dict[bytes, Callable[[BinaryIO, int], bool]] = {
    _WAV: _is_whole_wav,
    _BIG_ENDIAN_WAV: _is_whole_wav,
    _OGG: _is_whole_ogg,
    b"FORM": _is_whole_aiff,
    _AU: _is_whole_au,
    b"riff": _is_whole_w64,
    b"RF64": _is_whole_rf64,
    b"caff": _is_whole_caf,
    b"NIST": _is_whole_sphere,
}


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
