# SPDX-License-Identifier: Apache-2.0
"""Proves what the clocks measure: a block of code, shares of the busy time, and the results of a stream."""

from __future__ import annotations

import time

import numpy as np
import pytest

from wav2vec2_eval.engines import clock
from wav2vec2_eval.engines.base import Result
from wav2vec2_eval.engines.clock import MeasureTime, SharedTime
from wav2vec2_eval.speech.latency import Latency


class FakeDevice:
    """A host clock that the test sets, and a device whose synchronisation takes 1000 ns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 0
        self.calls: list[str] = []
        monkeypatch.setattr(time, "perf_counter_ns", self._read)

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
def test_measure_time_synchronises_before_each_reading_unless_cpu_run(monkeypatch, cpu_run, calls, measured):
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
            [("start", 0, 0), ("start", 1, 0), ("end", 0, 9), ("end", 1, 9)], {0: 4.5, 1: 4.5}, id="ending at once"
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
            {0: 10 / 3, 1: 10 / 3, 2: 10 / 3},
            id="three ending at once",
        ),
    ],
)
def test_each_moment_is_divided_among_the_executions_that_run(events, shares):
    shared = SharedTime()
    ended = {}
    for event, number, at_ns in events:
        if event == "start":
            shared.start(number, at_ns)
        else:
            ended[number] = shared.end(number, at_ns)
    assert ended == pytest.approx(shares, abs=0.5)  # rounded to whole nanoseconds, so exact for whole shares


def test_the_shares_add_up_to_the_busy_time():
    """The executions have random lengths; up to three run at a time."""
    generator = np.random.default_rng(0)
    shared = SharedTime()
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
    # Each share is rounded to a whole nanosecond, so each may add half a nanosecond to the difference.
    assert sum(shares) == pytest.approx(busy, abs=len(shares) / 2)
    assert len(shares) == 200 and min(shares) > 0


def test_the_wall_time_of_a_result_counts_from_the_result_before_it(monkeypatch):
    """The wall times include what the caller does between two results, and add up to the whole time."""
    device = FakeDevice(monkeypatch)
    results = [Result([], 2_000_000), Result([], 3_000_000, device_ms=2.5, elapsed_ms=6.0)]

    def stream():
        for result in results:
            device.now_ns += 5_000_000
            yield result

    measured = []
    for result, latency in clock.timed(stream()):
        measured.append((result, latency))
        device.now_ns += 1_000_000
    assert measured == [(results[0], Latency(2, 5)), (results[1], Latency(3, 6, 2.5, 6))]
