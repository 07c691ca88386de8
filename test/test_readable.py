# SPDX-License-Identifier: Apache-2.0
"""Proves how figures are shown on a terminal."""

from __future__ import annotations

import pytest

from wav2vec2_eval.speech import readable
from wav2vec2_eval.speech.latency import Latency, summarise
from wav2vec2_eval.speech.wer import WordErrors


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (27_140_000, "27.1 MB"),
        (1_262_000_000, "1.3 GB"),
        (5e16, "50000.0 TB"),
    ],
)
def test_sizes(num_bytes, text):
    assert readable.format_size(num_bytes) == text


@pytest.mark.parametrize(
    ("time_ms", "text"), [(0.0123, "0.012 ms"), (3.21, "3.2 ms"), (9.96, "10 ms"), (147.4, "147 ms")]
)
def test_times(time_ms, text):
    assert readable.format_ms(time_ms) == text


@pytest.mark.parametrize(
    ("latencies", "lengths_s", "text"),
    [
        ([Latency(30, None)] * 2, [3.0, 2.85], "RTFx 97.5, p50 30 ms, p99 30 ms"),
        ([Latency(20, 25), Latency(40, 45)], None, "33.3 utterances/s, p50 30 ms, p99 40 ms"),
        ([Latency(20, 25, elapsed_ms=90)] * 2, [1.0, 1.0], "RTFx 50.0, p50 90 ms, p99 90 ms"),
        ([Latency(20, 25, device_ms=5)] * 2, [1.0, 1.0], "RTFx 50.0, p50 20 ms, p99 20 ms"),
    ],
)
def test_speed(latencies, lengths_s, text):
    assert readable.format_speed(summarise(latencies, lengths_s=lengths_s)) == text


def test_figures_that_are_missing_are_left_out():
    assert readable.format_speed({}) == ""
    assert readable.format_speed({"RTFx": 2.0}) == "RTFx 2.0"


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.02, 0.061, "WER 3.99 % (21 of 526 words), 95 % interval 2.00 to 6.10 %"),
        (None, None, "WER 3.99 % (21 of 526 words)"),
    ],
)
def test_score(low, high, text):
    assert readable.format_score(WordErrors(19, 2, 0, 526), low, high) == text
