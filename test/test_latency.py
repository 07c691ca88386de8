# SPDX-License-Identifier: Apache-2.0
"""Proves the statistics of latencies against NumPy and against figures computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.speech import latency
from wav2vec2_eval.speech.latency import Latency


@pytest.mark.parametrize("percent", [0, 1, 50, 90, 99, 100])
@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_percentile_equals_numpy(percent, count):
    values = np.random.default_rng(0).standard_normal(count).tolist()
    assert latency.percentile(values, percent) == pytest.approx(np.percentile(values, percent), rel=1e-12)


def test_summarise_computes_every_figure():
    latencies = [Latency(100, 200), Latency(10, 20), Latency(30, 40)]
    figures = latency.summarise(latencies, warm_up=1, lengths_s=[9.0, 1.0, 3.0])
    assert figures == {
        "total infer num": 3,
        "total pure infer time(ms)": 140,
        "average pure infer time(ms)": pytest.approx(140 / 3),
        "average pure infer time after workspace(ms)": 20,
        "average infer time(ms)": pytest.approx(260 / 3),
        "min pure infer time(ms)": 10,
        "p50 pure infer time(ms)": 20,
        "p90 pure infer time(ms)": pytest.approx(28),
        "p99 pure infer time(ms)": pytest.approx(29.8),
        "max pure infer time(ms)": 30,
        "throughput(utterances/s)": 50,
        "wall throughput(utterances/s)": pytest.approx(1000 * 3 / 260),
        "total audio(s)": 13,
        "RTFx": 100,
        "wall RTFx": 50,
    }
    assert "RTFx" not in latency.summarise(latencies)
    assert latency.parse_figures(latency.format_figures(figures)) == figures


def test_figures_of_the_wall_are_left_out_where_nobody_measured_it():
    figures, known = (
        latency.summarise([Latency(10, wall), Latency(30, wall)], lengths_s=[1, 1]) for wall in (None, 50)
    )
    assert figures == {label: value for label, value in known.items() if label in figures}
    assert known.keys() - figures.keys() == {
        "average infer time(ms)",
        "wall throughput(utterances/s)",
        "wall RTFx",
    }


def test_percentiles_are_of_elapsed_times_where_pure_times_are_shares():
    latencies = [Latency(50, 60, elapsed_ms=99), Latency(10, 20, elapsed_ms=30), Latency(30, 40, elapsed_ms=50)]
    figures = latency.summarise(latencies, warm_up=1)
    assert figures["average pure infer time after workspace(ms)"] == 20
    assert [figures[f"{name} latency(ms)"] for name in ("min", "p50", "max")] == [30, 40, 50]
    assert not any("p50 pure" in label for label in figures)


def test_results_that_come_together_do_not_raise_the_wall_throughput():
    """The engine returns three results at a time: the wall time of the first result covers all three."""
    figures = latency.summarise([Latency(10, wall_ms) for wall_ms in (30, 0.1, 0.1) * 2], 1, lengths_s=[1.0] * 6)
    assert figures["wall throughput(utterances/s)"] == pytest.approx(1000 * 6 / 60.4)
    assert figures["wall RTFx"] == pytest.approx(1000 * 6 / 60.4)


@pytest.mark.parametrize(("warm_up", "count"), [(0, 0), (3, 3), (4, 3)])
def test_a_warm_up_that_leaves_nothing_is_refused(warm_up, count):
    with pytest.raises(SuiteError, match=f"--workspace={warm_up}"):
        latency.summarise([Latency(1, 1)] * count, warm_up)


@pytest.mark.parametrize(
    ("device_ms", "figures"),
    [
        ((None, 3, 5), {"average device time(ms)": 4, "p99 device time(ms)": pytest.approx(4.98)}),
        ((1, 3, None), {}),
    ],
)
def test_device_times_are_averaged_where_every_inference_has_one(device_ms, figures):
    latencies = [Latency(10, 20, time_ms) for time_ms in device_ms]
    found = latency.summarise(latencies, warm_up=1)
    assert {label: value for label, value in found.items() if "device" in label} == figures
