# SPDX-License-Identifier: Apache-2.0
"""Proves that one utterance becomes the model's input, and that a refusal names the utterance."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec2_eval.errors import Unusable
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.model_folder import feature_extractor
from wav2vec2_eval.sources.model_input import Preparation, model_inputs
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
