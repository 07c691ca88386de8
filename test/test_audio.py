# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess

import numpy as np
import pytest

from wav2vec2_eval import audio
from wav2vec2_eval.errors import SuiteError

from conftest import ROOT, noise


@pytest.mark.parametrize(
    ("num_samples", "frames"),
    [(0, 0), (399, 0), (400, 1), (719, 1), (720, 2), (10_000, 31), (100_000, 312), (560_000, 1749)],
)
def test_frame_count(num_samples, frames):
    assert audio.frame_count(num_samples) == frames


def test_frame_count_equals_transformers(model_folder):
    from transformers import Wav2Vec2ForCTC

    model = Wav2Vec2ForCTC.from_pretrained(model_folder)
    for num_samples in (*range(400, 2_000), *audio.GEARS):
        assert audio.frame_count(num_samples) == model._get_feat_extract_output_lengths(num_samples)


def test_gears():
    assert (len(audio.GEARS), audio.GEARS[0], audio.GEARS[-1]) == (56, 10_000, 560_000)


def test_the_shell_has_the_same_gears():
    line = next(line for line in (ROOT / "onnx2om.sh").read_text().splitlines() if line.startswith("gears="))
    shell = subprocess.run(["bash", "-c", f'{line}; echo "$gears"'], capture_output=True, text=True, check=True)
    assert tuple(map(int, shell.stdout.split())) == audio.GEARS


@pytest.mark.parametrize(
    ("num_samples", "gears", "length"),
    [
        (400, audio.GEARS, 10_000),
        (10_000, audio.GEARS, 10_000),
        (10_001, audio.GEARS, 20_000),
        (560_000, audio.GEARS, 560_000),
        (33_360, None, 33_360),
        (500, (1_000, 2_000), 1_000),
    ],
)
def test_padded_length(num_samples, gears, length):
    assert audio.padded_length(num_samples, gears) == length


@pytest.mark.parametrize(
    ("num_samples", "gears", "message"),
    [(562_480, audio.GEARS, "last gear, 560000"), (0, audio.GEARS, "too short"), (399, None, "too short")],
)
def test_padded_length_refuses(num_samples, gears, message):
    with pytest.raises(SuiteError, match=message):
        audio.padded_length(num_samples, gears)


@pytest.mark.parametrize(
    ("text", "gears"),
    [("none", None), ("default", audio.GEARS), ("20000,10000,20000", (10_000, 20_000)), ("400", (400,))],
)
def test_parse_gears(text, gears):
    assert audio.parse_gears(text) == gears


def test_parse_gears_reads_a_file(tmp_path):
    path = tmp_path / "padding lens.txt"
    path.write_text("30000\n10000\n")
    assert audio.parse_gears(str(path)) == (10_000, 30_000)


@pytest.mark.parametrize("text", ["", ",", "all", "10000;20000", "-5", "0", "399", "1e4", "10000,x"])
def test_parse_gears_refuses(text):
    with pytest.raises(SuiteError):
        audio.parse_gears(text)


@pytest.mark.parametrize("waveform", [noise(400), noise(73_123, 1), np.zeros(500), np.full(500, 0.25)])
def test_normalisation_equals_transformers_to_the_bit(waveform):
    from transformers import Wav2Vec2FeatureExtractor

    waveform = waveform.astype(np.float32)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    expected = extractor(waveform, sampling_rate=16_000).input_values[0]
    actual = audio.zero_mean_unit_variance(waveform)
    assert actual.dtype == np.float32
    assert actual.tobytes() == expected.astype(np.float32).tobytes()


def test_pad():
    padded = audio.pad(np.ones(3, np.float32), 5, value=2.0)
    assert (padded.tolist(), padded.dtype) == ([1, 1, 1, 2, 2], np.float32)
