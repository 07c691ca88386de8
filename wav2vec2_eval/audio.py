# SPDX-License-Identifier: Apache-2.0
"""Waveform arithmetic: sample rate, frames, gears, normalisation, padding. Pure functions.

A *gear* is one of the input lengths that a static-shape model was compiled for; an utterance is
zero-padded to the smallest gear that holds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from pathlib import Path

import numpy as np

from .errors import SuiteError

SAMPLE_RATE = 16_000  # Hz
LONGEST = 3600 * SAMPLE_RATE  # samples; whatever claims to be longer than an hour is a mistake

# The feature extractor's seven convolutions (wav2vec 2.0, Baevski et al. 2020, appendix B).
CONV_KERNELS = (10, 3, 3, 3, 3, 2, 2)
CONV_STRIDES = (5, 2, 2, 2, 2, 2, 2)
SAMPLES_PER_FRAME = math.prod(CONV_STRIDES)  # 320 samples, 20 ms
_HOPS = (1, *accumulate(CONV_STRIDES, mul))  # samples between two positions that each layer reads
RECEPTIVE_FIELD = 1 + sum((kernel - 1) * hop for kernel, hop in zip(CONV_KERNELS, _HOPS))  # 400 samples, 25 ms

GEAR_STEP = 10_000  # samples
LONGEST_GEAR = 560_000  # samples, 35 s; test-clean's longest utterance has 559,280
GEARS = tuple(range(GEAR_STEP, LONGEST_GEAR + 1, GEAR_STEP))


def frame_count(num_samples: int) -> int:
    """Frames that the model gives for `num_samples`: floor((n - 400) / 320) + 1, and 0 below 400."""
    return max(0, (num_samples - RECEPTIVE_FIELD) // SAMPLES_PER_FRAME + 1)


def parse_gears(text: str) -> tuple[int, ...] | None:
    """Read the value of `--gears`: `none`, `default`, numbers with commas, or a file with one number a line.

    Returns ascending lengths in samples, or None for "do not pad". `padding_lens.txt` is such a file.
    """
    if text == "none":
        return None
    if text == "default":
        return GEARS
    fields = text.replace(",", " ").split()
    if not all(field.isdecimal() for field in fields):
        if not Path(text).is_file():
            raise SuiteError(
                f"gears: expected 'none', 'default', numbers of samples with commas, or a file with one number "
                f"a line; found {text!r}"
            )
        fields = Path(text).read_text(encoding="utf-8", errors="replace").split()
    if not fields or not all(field.isdecimal() and RECEPTIVE_FIELD <= int(field) <= LONGEST for field in fields):
        raise SuiteError(f"gears: expected whole numbers of samples, {RECEPTIVE_FIELD} to {LONGEST}; found {text!r}")
    return tuple(sorted({int(field) for field in fields}))


def padded_length(num_samples: int, gears: Sequence[int] | None) -> int:
    """The smallest of the ascending `gears` that holds `num_samples`; without gears, `num_samples` itself."""
    if num_samples < RECEPTIVE_FIELD:
        raise SuiteError(
            f"{num_samples} samples are too short, the model's first frame needs {RECEPTIVE_FIELD}; leave it out"
        )
    if gears is None:
        return num_samples
    for gear in gears:
        if gear >= num_samples:
            return gear
    raise SuiteError(
        f"{num_samples} samples are longer than the last gear, {gears[-1]}; "
        f"leave it out, or choose longer --gears ('none' for a CPU engine)"
    )


def zero_mean_unit_variance(waveform: np.ndarray) -> np.ndarray:
    """Normalise one unpadded waveform: (T,) float32 -> (T,) float32.

    Bit for bit what `transformers.Wav2Vec2FeatureExtractor` computes with `do_normalize`, its 1e-7 included.
    """
    return (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)


def pad(waveform: np.ndarray, length: int, value: float = 0.0) -> np.ndarray:
    """Extend (T,) to (length,) with `value` at the end, same dtype."""
    return np.pad(waveform, (0, length - len(waveform)), constant_values=value)
