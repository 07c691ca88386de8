# SPDX-License-Identifier: Apache-2.0
"""Gears, zero-padding and the attention mask. Pure functions.

A *gear* is one of the input lengths that a static-shape model was compiled for. An utterance is zero-padded to the
smallest gear that holds it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import SuiteError
from .audio import RECEPTIVE_FIELD

GEAR_STEP = 10_000  # samples
LONGEST_GEAR = 560_000  # samples, 35 s; test-clean's longest utterance has 559,280
GEARS = tuple(range(GEAR_STEP, LONGEST_GEAR + 1, GEAR_STEP))


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
        f"cut it (--chunk_s), leave it out, or choose longer --gears ('none' for a CPU engine)"
    )


def pad(waveform: np.ndarray, length: int, value: float = 0.0) -> np.ndarray:
    """Extend (T,) to (length,) with `value` at the end, same dtype."""
    return np.pad(waveform, (0, length - len(waveform)), constant_values=value)


def attention_mask(num_samples: int, length: int) -> np.ndarray:
    """(1, length) float32: 1 at the `num_samples` real samples, 0 at the padding after them."""
    return (np.arange(length) < num_samples).astype(np.float32)[None]


def masked_input(waveform: np.ndarray, length: int) -> list[np.ndarray]:
    """The two inputs of a masked model, each (1, length): a normalised (T,) waveform, zero-padded, and its mask."""
    return [pad(waveform, length)[None], attention_mask(len(waveform), length)]
