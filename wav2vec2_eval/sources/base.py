# SPDX-License-Identifier: Apache-2.0
"""What a data set is, and how the files of a local data set are found."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class Dataset(ABC):
    """Utterances in a fixed order. Picklable, so that worker processes can read them too."""

    ids: Sequence[str]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def waveform(self, index: int) -> np.ndarray:
        """Decode one utterance: (T,) float32 in [-1, 1), 16 kHz mono. Raises SuiteError for a broken recording."""


def find_files(folder: Path, suffix: str) -> list[Path]:
    """All files below `folder` whose names end in `suffix`, sorted. Links are followed: data sets are often linked."""
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.endswith(suffix)
    )
