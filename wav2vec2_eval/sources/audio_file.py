# SPDX-License-Identifier: Apache-2.0
"""Audio files, decoded by soundfile alone, one utterance at a time."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from ..errors import SuiteError
from ..speech.audio import LONGEST, SAMPLE_RATE


def decode(source: Path | BinaryIO, name: str) -> np.ndarray:
    """Read a whole 16 kHz mono file: (T,) float32. Raises SuiteError, naming `name`, for anything else."""
    try:
        with soundfile.SoundFile(source) as file:
            rate, channels, num_samples = file.samplerate, file.channels, file.frames
            if num_samples > LONGEST:  # a damaged header, or an encoder that did not know the length
                raise SuiteError(f"{name}: its header says {num_samples} samples, an hour has {LONGEST}; convert it")
            if (rate, channels) != (SAMPLE_RATE, 1):
                raise SuiteError(
                    f"{name}: expected {SAMPLE_RATE} Hz mono, found {rate} Hz with {channels} channels; convert it"
                )
            waveform: np.ndarray = file.read(dtype="float32")
    except soundfile.LibsndfileError as error:
        raise SuiteError(f"{name}: cannot be decoded ({error}); copy the file again") from None
    # Of a file that was cut between two blocks, libsndfile returns the samples that are left, without an error.
    if len(waveform) != num_samples:
        raise SuiteError(f"{name}: expected {num_samples} samples, found {len(waveform)}; copy the file again")
    return waveform
