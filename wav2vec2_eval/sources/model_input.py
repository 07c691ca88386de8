# SPDX-License-Identifier: Apache-2.0
"""One utterance as the model wants it: decoded, normalised, padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import SuiteError
from ..speech.feature_extractor import FeatureExtractor
from ..speech.padding import padded_length
from .base import Dataset


class ModelInput(NamedTuple):
    """One utterance, ready for the model."""

    num_samples: int  # before padding
    samples: np.ndarray  # (1, T) float32


def model_input(
    dataset: Dataset, index: int, extractor: FeatureExtractor, gears: Sequence[int] | None = None
) -> ModelInput:
    """Decode, normalise and pad utterance `index`. Raises SuiteError, naming it, if it is broken or fits no gear."""
    waveform = dataset.waveform(index)
    try:
        length = padded_length(len(waveform), gears)
    except SuiteError as error:
        raise SuiteError(f"{dataset.ids[index]}: {error}") from None
    return ModelInput(len(waveform), extractor(waveform, length))
