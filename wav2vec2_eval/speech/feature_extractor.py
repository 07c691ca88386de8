# SPDX-License-Identifier: Apache-2.0
"""How a model wants a waveform prepared: normalised if it says so, then padded. Pure functions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .audio import zero_mean_unit_variance
from .padding import pad


class FeatureExtractor(NamedTuple):
    """The settings of a `Wav2Vec2FeatureExtractor` at 16 kHz."""

    do_normalize: bool = True
    padding_value: float = 0.0

    def __call__(self, waveform: np.ndarray, length: int) -> np.ndarray:
        """(T,) float32 in [-1, 1) -> (1, length) float32, as the model expects it.

        The waveform is normalised before it is padded: padding must not enter the mean and the variance.
        """
        if self.do_normalize:
            waveform = zero_mean_unit_variance(waveform)
        return pad(waveform, length, self.padding_value)[None]
