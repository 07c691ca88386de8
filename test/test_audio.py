# SPDX-License-Identifier: Apache-2.0
"""Proves that frame counts and normalisation are those of transformers."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec2_eval.speech import audio
from wav2vec2_eval.speech.padding import GEARS

from conftest import noise


@pytest.mark.parametrize(
    ("num_samples", "frames"),
    [(0, 0), (399, 0), (400, 1), (719, 1), (720, 2), (10_000, 31), (100_000, 312), (560_000, 1749)],
)
def test_frame_count_of_known_lengths(num_samples, frames):
    assert audio.frame_count(num_samples) == frames


def test_frame_count_equals_transformers(model_folder):
    from transformers import Wav2Vec2ForCTC

    model = Wav2Vec2ForCTC.from_pretrained(model_folder)
    for num_samples in (*range(400, 2_000), *GEARS):
        assert audio.frame_count(num_samples) == model._get_feat_extract_output_lengths(num_samples)


@pytest.mark.parametrize(
    ("kernels", "strides"), [((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)), ((7,), (3,)), ((1, 4, 2), (1, 3, 1))]
)
def test_receptive_field_and_hop_length_say_where_frames_begin(kernels, strides):
    """The reference applies the length formula of one convolution to layer after layer."""

    def positions(num_samples):
        for kernel, stride in zip(kernels, strides):
            num_samples = max(0, (num_samples - kernel) // stride + 1)
        return num_samples

    field, hop = audio.receptive_field(kernels, strides), audio.hop_length(strides)
    for frame in range(1, 5):
        begins = field + (frame - 1) * hop
        assert (positions(begins - 1), positions(begins)) == (frame - 1, frame)


@pytest.mark.parametrize("waveform", [noise(400), noise(73_123, 1), np.zeros(500), np.full(500, 0.25)])
def test_normalisation_equals_transformers_to_the_bit(waveform):
    from transformers import Wav2Vec2FeatureExtractor

    waveform = waveform.astype(np.float32)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    expected = extractor(waveform, sampling_rate=16_000).input_values[0]
    actual = audio.zero_mean_unit_variance(waveform)
    assert actual.dtype == np.float32
    assert actual.tobytes() == expected.astype(np.float32).tobytes()
