# SPDX-License-Identifier: Apache-2.0
"""Waveform arithmetic: sample rate, frames, normalisation. Pure functions; NumPy is needed to normalise alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SAMPLE_RATE = 16_000  # Hz
LONGEST = 3600 * SAMPLE_RATE  # samples; a file that claims to be longer than an hour is damaged

# The feature extractor's seven convolutions (wav2vec 2.0, Baevski et al. 2020, appendix B).
CONV_KERNELS = (10, 3, 3, 3, 3, 2, 2)
CONV_STRIDES = (5, 2, 2, 2, 2, 2, 2)


def hop_length(strides: Sequence[int]) -> int:
    """Samples between two positions of the last of several convolutions."""
    return math.prod(strides)


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples that one position of the last of several convolutions reads."""
    return 1 + sum((kernel - 1) * hop_length(strides[:layer]) for layer, kernel in enumerate(kernels))


SAMPLES_PER_FRAME = hop_length(CONV_STRIDES)  # 320 samples, 20 ms
RECEPTIVE_FIELD = receptive_field(CONV_KERNELS, CONV_STRIDES)  # 400 samples, 25 ms


def is_length(text: str) -> bool:
    """Whether `text` is a length in samples that the model can take: 400 to LONGEST."""
    return text.isdecimal() and len(text) < 10 and RECEPTIVE_FIELD <= int(text) <= LONGEST


def frame_count(num_samples: int) -> int:
    """Frames that the model gives for `num_samples`: floor((n - 400) / 320) + 1, and 0 below 400."""
    return max(0, (num_samples - RECEPTIVE_FIELD) // SAMPLES_PER_FRAME + 1)


def zero_mean_unit_variance(waveform: np.ndarray) -> np.ndarray:
    """Normalise one unpadded waveform: (T,) float32 -> (T,) float32.

    Bit for bit what `transformers.Wav2Vec2FeatureExtractor` computes with `do_normalize`, its 1e-7 included.
    """
    import numpy as np

    normalised: np.ndarray = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    return normalised
