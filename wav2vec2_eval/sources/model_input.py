# SPDX-License-Identifier: Apache-2.0
"""One utterance as the model wants it: decoded, cut into chunks if it is long, normalised, padded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from ..errors import SuiteError, Unusable
from ..speech.audio import SAMPLE_RATE
from ..speech.chunks import Chunking, Cut, plan
from ..speech.feature_extractor import FeatureExtractor
from ..speech.padding import padded_length
from .base import Dataset

BELIEVED = 24 * 3600 * SAMPLE_RATE  # samples; a header that says more is damaged, or says that nobody knows


class ModelInput(NamedTuple):
    """One utterance, or a chunk of a long one, ready for the model."""

    number: int | None  # of the chunk; None: the whole utterance
    start: int  # of the chunk in the utterance, in samples
    num_samples: int  # before padding
    samples: np.ndarray  # (1, T) float32


class Preparation(NamedTuple):
    """How utterances become model inputs."""

    extractor: FeatureExtractor
    gears: Sequence[int] | None = None  # lengths to pad to
    chunking: Chunking | None = None  # None: no utterance is cut


def model_inputs(dataset: Dataset, index: int, how: Preparation) -> Iterator[ModelInput]:
    """Decode, cut, normalise and pad utterance `index`. Each chunk is normalised by itself, as transformers does it.

    Raises Unusable, naming the utterance, if it is broken or fits no gear, perhaps after some of its chunks.
    """
    try:
        for number, start, waveform in _cuts(dataset, index, how.chunking):
            try:
                length = padded_length(len(waveform), how.gears)
            except SuiteError as error:
                raise SuiteError(f"{dataset.ids[index]}: {error}") from None
            yield ModelInput(number, start, len(waveform), how.extractor(waveform, length))
    except SuiteError as error:
        raise Unusable(str(error)) from None


def sampled_lengths(dataset: Dataset, how: Preparation, count: int) -> list[list[int]]:
    """Of up to `count` utterances, the padded lengths of their model inputs in samples; no audio is decoded for it.

    Utterances that cannot be used are left out: `model_inputs` will say what is wrong with them.
    """
    found = []
    for index in dataset.sample(count):
        with suppress(SuiteError):
            num_samples = dataset.num_samples(index)
            if num_samples <= BELIEVED:
                chunks = plan(num_samples, how.chunking)
                found.append([padded_length(chunk.num_samples, how.gears) for chunk in chunks])
    return found


def _cuts(dataset: Dataset, index: int, chunking: Chunking | None) -> Iterable[Cut]:
    return [Cut(None, 0, dataset.waveform(index))] if chunking is None else chunking.cut(dataset.blocks(index))
