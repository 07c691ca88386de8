# SPDX-License-Identifier: Apache-2.0
"""Proves that one utterance becomes the model's input, and that a refusal names the utterance."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError, Unusable
from wav2vec2_eval.sources.base import Dataset
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.model_folder import feature_extractor
from wav2vec2_eval.sources.model_input import BELIEVED, Preparation, model_inputs, sampled_lengths
from wav2vec2_eval.speech.chunks import Chunking
from wav2vec2_eval.speech.padding import GEARS


def test_a_waveform_is_normalised_and_then_padded_to_its_gear(speech, model_folder):
    dataset = open_dataset("clean", str(speech))
    extractor = feature_extractor(str(model_folder))
    ((number, start, num_samples, samples),) = model_inputs(dataset, 0, Preparation(extractor, GEARS))
    assert (number, start) == (None, 0)
    assert (num_samples, samples.shape, samples.dtype) == (33_361, (1, 40_000), np.float32)
    assert abs(samples[0, :num_samples].mean()) < 1e-5
    assert abs(samples[0, :num_samples].std() - 1) < 1e-4
    assert not samples[0, num_samples:].any()


def test_an_utterance_that_fits_no_gear_is_refused_with_its_id(speech, model_folder):
    dataset = open_dataset("clean", str(speech))
    extractor = feature_extractor(str(model_folder))
    with pytest.raises(Unusable, match="61-123-0000: 33361 samples are longer than the last gear, 20000"):
        list(model_inputs(dataset, 0, Preparation(extractor, (10_000, 20_000))))


def test_without_gears_nothing_is_padded(speech, model_folder):
    dataset = open_dataset("clean", str(speech))
    (item,) = model_inputs(dataset, 0, Preparation(feature_extractor(str(model_folder))))
    assert (item.num_samples, item.samples.shape) == (33_361, (1, 33_361))


def test_chunks_are_cut_normalised_and_padded_each_by_itself(speech, model_folder):
    """As transformers' pipeline does it."""
    dataset, extractor = open_dataset("clean", str(speech)), feature_extractor(str(model_folder))
    waveform = dataset.waveform(0)
    found = list(model_inputs(dataset, 0, Preparation(extractor, GEARS, Chunking(16_000, 3_200))))
    assert [(item.number, item.start, item.num_samples) for item in found] == [
        *((0, 0, 16_000), (1, 9_600, 16_000), (2, 19_200, 14_161))
    ]
    for item in found:
        part = waveform[item.start : item.start + item.num_samples]
        np.testing.assert_array_equal(item.samples, extractor(part, 20_000))


class Lengths(Dataset):
    """A data set of which headers alone can be read."""

    def __init__(self, lengths):
        self.ids = self.texts = list(map(str, lengths))
        self._lengths = lengths

    def waveform(self, index):
        raise AssertionError("decoded")

    def num_samples(self, index):
        if self._lengths[index] is None:
            raise SuiteError("damaged")
        return self._lengths[index]


@pytest.mark.parametrize(
    ("lengths", "gears", "chunking", "count", "expected"),
    [
        ([400, 10_001], None, None, 9, [[400], [10_001]]),
        ([400, 10_001], GEARS, None, 9, [[10_000], [20_000]]),
        (list(range(1_000, 1_010)), None, None, 5, [[1_000], [1_002], [1_004], [1_006], [1_008]]),
        (list(range(1_000, 1_010)), None, None, 4, [[1_000], [1_003], [1_006], [1_009]]),
        ([33_361], GEARS, Chunking(16_000, 3_200), 1, [[20_000, 20_000, 20_000]]),
        ([None, 400, 0, 560_001, BELIEVED + 1, 2**62], GEARS, None, 9, [[10_000]]),  # the others cannot be used
        ([2**62], None, Chunking(16_000, 3_200), 9, []),
    ],
)
def test_lengths_are_those_of_a_sample(lengths, gears, chunking, count, expected):
    assert sampled_lengths(Lengths(lengths), Preparation(None, gears, chunking), count) == expected


def test_a_header_says_the_length_of_the_waveform(speech):
    dataset = open_dataset("clean", str(speech))
    lengths = [[len(dataset.waveform(index))] for index in range(len(dataset))]
    assert sampled_lengths(dataset, Preparation(None), 100) == lengths
