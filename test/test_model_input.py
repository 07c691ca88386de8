# SPDX-License-Identifier: Apache-2.0
"""Proves that one utterance becomes the model's input, and that a refusal names the utterance."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.model_folder import feature_extractor
from wav2vec2_eval.sources.model_input import model_input
from wav2vec2_eval.speech.padding import GEARS


def test_a_waveform_is_normalised_and_then_padded_to_its_gear(speech, model_folder):
    dataset = open_dataset("clean", str(speech))
    extractor = feature_extractor(str(model_folder))
    num_samples, samples = model_input(dataset, 0, extractor, GEARS)
    assert (num_samples, samples.shape, samples.dtype) == (33_361, (1, 40_000), np.float32)
    assert abs(samples[0, :num_samples].mean()) < 1e-5
    assert abs(samples[0, :num_samples].std() - 1) < 1e-4
    assert not samples[0, num_samples:].any()


def test_an_utterance_that_fits_no_gear_is_refused_with_its_id(speech, model_folder):
    dataset = open_dataset("clean", str(speech))
    extractor = feature_extractor(str(model_folder))
    with pytest.raises(SuiteError, match="61-123-0000: 33361 samples are longer than the last gear, 20000"):
        model_input(dataset, 0, extractor, (10_000, 20_000))


def test_without_gears_nothing_is_padded(speech, model_folder):
    dataset = open_dataset("clean", str(speech))
    num_samples, samples = model_input(dataset, 0, feature_extractor(str(model_folder)))
    assert (num_samples, samples.shape) == (33_361, (1, 33_361))
