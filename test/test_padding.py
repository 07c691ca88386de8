# SPDX-License-Identifier: Apache-2.0
"""Proves which gear each length is padded to, and what stands in the padding and in the attention mask."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.speech import padding

from conftest import ROOT


def test_default_gears_are_56_steps_of_10000_samples():
    assert (len(padding.GEARS), padding.GEARS[0], padding.GEARS[-1]) == (56, 10_000, 560_000)


def test_the_shell_has_the_same_gears():
    line = next(line for line in (ROOT / "onnx2om.sh").read_text().splitlines() if line.startswith("gears="))
    shell = subprocess.run(["bash", "-c", f'{line}; echo "$gears"'], capture_output=True, text=True, check=True)
    assert tuple(map(int, shell.stdout.split())) == padding.GEARS


@pytest.mark.parametrize(
    ("num_samples", "gears", "length"),
    [
        (400, padding.GEARS, 10_000),
        (10_000, padding.GEARS, 10_000),
        (10_001, padding.GEARS, 20_000),
        (560_000, padding.GEARS, 560_000),
        (33_360, None, 33_360),
        (500, (1_000, 2_000), 1_000),
    ],
)
def test_padded_length_is_the_smallest_gear_that_holds_the_samples(num_samples, gears, length):
    assert padding.padded_length(num_samples, gears) == length


@pytest.mark.parametrize(
    ("num_samples", "gears", "message"),
    [(562_480, padding.GEARS, "last gear, 560000"), (0, padding.GEARS, "too short"), (399, None, "too short")],
)
def test_padded_length_refuses(num_samples, gears, message):
    with pytest.raises(SuiteError, match=message):
        padding.padded_length(num_samples, gears)


def test_pad_adds_the_value_at_the_end():
    padded = padding.pad(np.ones(3, np.float32), 5, value=2.0)
    assert (padded.tolist(), padded.dtype) == ([1, 1, 1, 2, 2], np.float32)


@pytest.mark.parametrize(
    ("num_samples", "length", "mask"), [(2, 5, [1, 1, 0, 0, 0]), (3, 3, [1, 1, 1]), (0, 2, [0, 0])]
)
def test_the_attention_mask_is_1_at_real_samples(num_samples, length, mask):
    actual = padding.attention_mask(num_samples, length)
    assert (actual.tolist(), actual.dtype) == ([mask], np.float32)


def test_masked_input_is_the_padded_waveform_with_its_mask():
    samples, mask = padding.masked_input(np.array([0.5, -1], np.float32), 3)
    assert (samples.tolist(), samples.dtype) == ([[0.5, -1, 0]], np.float32)
    assert (mask.tolist(), mask.dtype) == ([[1, 1, 0]], np.float32)
