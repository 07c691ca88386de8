# SPDX-License-Identifier: Apache-2.0
"""Clocks: a stop-watch, the busy time shared among executions, and the wall time of a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping

from ..speech.latency import Latency
from .base import Result


class MeasureTime:
    """Context manager that stores the nanoseconds spent inside it under `measurements[key]`.

    With `cpu_run` only the host clock is read. Otherwise `synchronize` is called before each reading, so that work
    still queued on a device neither leaks into the measurement nor escapes from it.
    """

    def __init__(
        self,
        measurements: MutableMapping[str, int],
        key: str,
        cpu_run: bool = True,
        synchronize: Callable[[], object] | None = None,
    ) -> None:
        if not cpu_run and synchronize is None:
            raise ValueError("cpu_run=False needs the device's synchronize function")
        self.measurements = measurements
        self.key = key
        self._fence = (lambda: None) if cpu_run or synchronize is None else synchronize

    def __enter__(self) -> MeasureTime:
        self._fence()
        self._start_ns = time.perf_counter_ns()
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self._fence()
        self.measurements[self.key] = time.perf_counter_ns() - self._start_ns


class SharedTime:
    """Divides the busy time of an engine among the executions that run side by side. Nanoseconds of one clock.

    Each moment is divided equally among the executions that run, so the shares add up to the time in which at least one
    execution runs. Ends may be reported out of order; a late report is treated as if it came at the latest end seen so
    far.
    """

    def __init__(self) -> None:
        self._running: dict[int, tuple[int, float]] = {}  # by the execution's number: its start, its share so far
        self._last_end_ns = 0

    def start(self, number: int, start_ns: int) -> None:
        self._running[number] = start_ns, 0

    def end(self, number: int, end_ns: int) -> int:
        """The whole share of the execution that ended, in nanoseconds."""
        starts_ns = [start_ns for start_ns, _ in self._running.values()]
        since_ns = max(self._last_end_ns, min(starts_ns))
        self._last_end_ns = max(self._last_end_ns, end_ns)
        moments = sorted({since_ns, *(each for each in starts_ns if since_ns < each < end_ns), max(since_ns, end_ns)})
        for left_ns, right_ns in zip(moments, moments[1:]):
            ran = [each for each, (start_ns, _) in self._running.items() if start_ns <= left_ns]
            for each in ran:
                start_ns, share_ns = self._running[each]
                self._running[each] = start_ns, share_ns + (right_ns - left_ns) / len(ran)
        return round(self._running.pop(number)[1])


def timed(results: Iterable[Result]) -> Iterator[tuple[Result, Latency]]:
    """Each result with its latency. The wall time of a result counts from the result before it."""
    start_ns = time.perf_counter_ns()
    for result in results:
        now_ns = time.perf_counter_ns()
        wall_ms = (now_ns - start_ns) / 1e6
        yield result, Latency(result.pure_ns / 1e6, wall_ms, result.device_ms, result.elapsed_ms)
        start_ns = now_ns
