# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from wav2vec2_eval import timing
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.timing import Latency, MeasureTime


class FakeDevice:
    """A clock that the test sets, and a device whose synchronisation takes time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 0
        self.calls: list[str] = []
        monkeypatch.setattr(timing.time, "perf_counter_ns", self._read)

    def _read(self) -> int:
        self.calls.append("read")
        return self.now_ns

    def synchronize(self) -> None:
        self.calls.append("synchronize")
        self.now_ns += 1000


@pytest.mark.parametrize(
    ("cpu_run", "calls", "measured"),
    [(True, ["read", "read"], 5), (False, ["synchronize", "read", "synchronize", "read"], 1005)],
)
def test_measure_time(monkeypatch, cpu_run, calls, measured):
    device = FakeDevice(monkeypatch)
    measurements = {}
    with MeasureTime(measurements, "ns", cpu_run, device.synchronize):
        device.now_ns += 5
    assert (device.calls, measurements) == (calls, {"ns": measured})


def test_measure_time_needs_a_device_to_synchronise():
    with pytest.raises(ValueError, match="synchronize"):
        MeasureTime({}, "ns", cpu_run=False)


def test_a_failure_inside_is_not_hidden_by_the_synchronisation():
    def synchronize():
        synchronize.calls += 1

    synchronize.calls = 0
    with pytest.raises(KeyError), MeasureTime({}, "ns", False, synchronize):
        raise KeyError
    assert synchronize.calls == 1


@pytest.mark.parametrize(
    ("events", "shares"),
    [
        pytest.param([("start", 0, 10), ("end", 0, 15)], {0: 5}, id="alone"),
        pytest.param(
            [("start", 0, 0), ("end", 0, 4), ("start", 1, 9), ("end", 1, 12)], {0: 4, 1: 3}, id="idle between"
        ),
        pytest.param(
            [("start", 0, 0), ("start", 1, 0), ("end", 0, 10), ("end", 1, 13)], {0: 5, 1: 8}, id="overlapping"
        ),
        pytest.param(
            [("start", 0, 0), ("start", 1, 0), ("end", 0, 9), ("end", 1, 9)], {0: 4, 1: 5}, id="ending at once"
        ),
        pytest.param(
            [("start", 0, 0), ("start", 1, 0), ("end", 1, 10), ("end", 0, 8)], {0: 5, 1: 5}, id="reported in disorder"
        ),
        pytest.param(
            [("start", 0, 0), ("start", 1, 0), ("end", 0, 6), ("start", 2, 50), ("end", 1, 8), ("end", 2, 60)],
            {0: 3, 1: 5, 2: 10},
            id="an end reported after the next start",
        ),
        pytest.param(
            [("start", 0, 0), ("start", 1, 99), ("end", 1, 101), ("end", 0, 103)],
            {0: 102, 1: 1},
            id="one starts later",
        ),
        pytest.param(
            [("start", 0, 0), ("start", 1, 0), ("start", 2, 0), ("end", 0, 10), ("end", 1, 10), ("end", 2, 10)],
            {0: 3, 1: 3, 2: 4},
            id="no nanosecond is lost",
        ),
    ],
)
def test_shared_time(events, shares):
    shared = timing.SharedTime()
    ended = {}
    for event, number, at_ns in events:
        if event == "start":
            shared.start(number, at_ns)
        else:
            ended[number] = shared.end(number, at_ns)
    assert ended == shares


def test_shared_time_adds_up():
    """Executions of random lengths, up to three at a time: all shares are the time in which any of them ran."""
    generator = np.random.default_rng(0)
    shared = timing.SharedTime()
    shares, now, busy, running = [], 0, 0, {}
    for number in range(200):
        if not running:
            now += int(generator.integers(0, 50))
        running[number] = now + int(generator.integers(20, 100))
        shared.start(number, now)
        if len(running) == 3:
            for _ in range(generator.integers(1, 4)):
                ends = min(running, key=running.get)
                busy, now = busy + running[ends] - now, running[ends]
                shares.append(shared.end(ends, running.pop(ends)))
    for ends in sorted(running, key=running.get):
        busy, now = busy + running[ends] - now, running[ends]
        shares.append(shared.end(ends, now))
    assert sum(shares) == busy
    assert len(shares) == 200 and min(shares) > 0


@pytest.mark.parametrize("percent", [0, 1, 50, 90, 99, 100])
@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_percentile_equals_numpy(percent, count):
    values = np.random.default_rng(0).standard_normal(count).tolist()
    assert timing.percentile(values, percent) == pytest.approx(np.percentile(values, percent), rel=1e-12)


def test_summarise():
    latencies = [Latency(100, 200), Latency(10, 20), Latency(30, 40)]
    figures = timing.summarise(latencies, workspace=1, lengths_s=[9.0, 1.0, 3.0])
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
    assert "RTFx" not in timing.summarise(latencies)
    assert timing.parse_figures(timing.format_figures(figures)) == figures


def test_several_in_flight_differ_by_their_own_times():
    latencies = [Latency(50, 60, own_ms=99), Latency(10, 20, own_ms=30), Latency(30, 40, own_ms=50)]
    figures = timing.summarise(latencies, workspace=1)
    assert figures["average pure infer time after workspace(ms)"] == 20
    assert [figures[f"{name} latency(ms)"] for name in ("min", "p50", "max")] == [30, 40, 50]
    assert not any("p50 pure" in label for label in figures)


def test_results_that_come_together_do_not_speed_up_the_clock():
    """An engine that hands over three at a time: the first of them has waited for all."""
    figures = timing.summarise([Latency(10, wall_ms) for wall_ms in (30, 0.1, 0.1) * 2], 1, lengths_s=[1.0] * 6)
    assert figures["wall throughput(utterances/s)"] == pytest.approx(1000 * 6 / 60.4)
    assert figures["wall RTFx"] == pytest.approx(1000 * 6 / 60.4)


@pytest.mark.parametrize(("workspace", "count"), [(0, 0), (3, 3), (4, 3)])
def test_a_warm_up_that_leaves_nothing_is_refused(workspace, count):
    with pytest.raises(SuiteError, match=f"--workspace={workspace}"):
        timing.summarise([Latency(1, 1)] * count, workspace)
