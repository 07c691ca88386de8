# SPDX-License-Identifier: Apache-2.0
"""Audio files, decoded by soundfile alone, one utterance at a time."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from ..errors import SuiteError
from ..speech.audio import LONGEST, SAMPLE_RATE

# FLAC, WAV, Ogg. libsndfile knows more formats, but its decoder of MP3 prints what it thinks of damaged files.
_KINDS = (b"fLaC", b"RIFF", b"OggS")

# A FLAC file begins with a block of 42 bytes, whose last 16 are the MD5 of all samples, or 0 if its encoder made none.
_HEADER_BYTES, _MD5_AT = 42, 26


def decode(source: Path | BinaryIO, name: str) -> np.ndarray:
    """Read a whole 16 kHz mono file: (T,) float32. Raises SuiteError, naming `name`, for anything else."""
    header = _read_header(source, name)
    if header[:4] not in _KINDS:
        raise SuiteError(f"{name}: cannot be decoded (expected FLAC, WAV or Ogg, found other bytes); convert it")
    try:
        with soundfile.SoundFile(source) as file:
            rate, channels, num_samples = file.samplerate, file.channels, file.frames
            if num_samples > LONGEST:  # a damaged header, or an encoder that did not know the length
                raise SuiteError(f"{name}: its header says {num_samples} samples, an hour has {LONGEST}; convert it")
            if (rate, channels) != (SAMPLE_RATE, 1):
                raise SuiteError(
                    f"{name}: expected {SAMPLE_RATE} Hz mono, found {rate} Hz with {channels} channels; convert it"
                )
            is_16_bit, is_flac = file.subtype == "PCM_16", file.format == "FLAC"
            samples: np.ndarray = file.read(dtype="int16" if is_16_bit else "float32")
    except soundfile.LibsndfileError as error:
        raise SuiteError(f"{name}: cannot be decoded ({error}); copy the file again") from None
    # Of a file that was cut between two blocks, libsndfile returns the samples that are left, without an error.
    if len(samples) != num_samples:
        raise SuiteError(f"{name}: expected {num_samples} samples, found {len(samples)}; copy the file again")
    if not is_16_bit:
        return samples
    # If the header says too few samples, libsndfile returns no more.
    if is_flac and header[_MD5_AT:] not in (bytes(16), hashlib.md5(samples.data, usedforsecurity=False).digest()):
        raise SuiteError(f"{name}: its samples do not have the MD5 of its header; copy the file again")
    waveform: np.ndarray = samples / np.float32(32768)
    return waveform


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
