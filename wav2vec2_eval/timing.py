# SPDX-License-Identifier: Apache-2.0
"""Latencies: the stop-watch, their statistics, and the text of `infer_time.txt`. Standard library only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import NamedTuple

from .errors import SuiteError

INFER_TIME_NAME = "infer_time.txt"
AVERAGE = "average pure infer time after workspace(ms)"  # the latency that is compared


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
    """Divides the time of executions that run side by side among them. Times are nanoseconds of one clock.

    Each moment is divided equally among those that run, so that all shares add up to the time in which at least one
    does. An end that is reported after a later one counts as if it had been that one.
    """

    def __init__(self) -> None:
        self._running: dict[int, tuple[int, int]] = {}  # by the execution's number: its start, its share so far
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
            for index, each in enumerate(ran):
                start_ns, share_ns = self._running[each]
                part_ns = (right_ns - left_ns + index) // len(ran)  # the parts of a whole number add up to it
                self._running[each] = start_ns, share_ns + part_ns
        return self._running.pop(number)[1]


class Latency(NamedTuple):
    """One inference: the engine's time, the time with reading, waiting and writing, and the device's if known.

    Where several run side by side, `pure_ms` is a share of the engine's time, and `own_ms` the one's from start to end.
    """

    pure_ms: float
    wall_ms: float
    device_ms: float | None = None
    own_ms: float | None = None


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between the closest ranks, as `numpy.percentile` does by default."""
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    low = math.floor(rank)
    high = math.ceil(rank)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def check_workspace(workspace: int, num_inferences: int) -> None:
    """Refuse a warm-up that leaves no inference to average."""
    if workspace >= num_inferences:
        raise SuiteError(
            f"--workspace={workspace} leaves none of the {num_inferences} inferences to average; "
            f"expected at most {num_inferences - 1}"
        )


def summarise(
    latencies: Sequence[Latency], workspace: int = 0, lengths_s: Sequence[float] | None = None
) -> dict[str, float]:
    """The figures of `infer_time.txt` by their labels, times in milliseconds.

    The first `workspace` inferences are warm-up: they count in the totals, in the first two averages and in what is
    called wall, and in nothing else. (An engine may hand over several results at once, so the wall time of a single one
    means nothing.) `lengths_s`, the utterances' true lengths in seconds, adds RTFx, seconds of audio per second of
    computing, and wall RTFx, per second of the whole run.
    """
    check_workspace(workspace, len(latencies))
    pure = [latency.pure_ms for latency in latencies]
    timed = pure[workspace:]
    average = sum(timed) / len(timed)
    wall_ms = sum(latency.wall_ms for latency in latencies)
    figures = {
        "total infer num": len(pure),
        "total pure infer time(ms)": sum(pure),
        "average pure infer time(ms)": sum(pure) / len(pure),
        AVERAGE: average,
        "average infer time(ms)": wall_ms / len(pure),
        **_spread([latency.own_ms for latency in latencies[workspace:]], timed),
        "throughput(utterances/s)": 1000 / average,
        "wall throughput(utterances/s)": 1000 * len(pure) / wall_ms,
    }
    device = [latency.device_ms for latency in latencies[workspace:] if latency.device_ms is not None]
    if len(device) == len(timed):
        figures["average device time(ms)"] = sum(device) / len(device)
        figures["p99 device time(ms)"] = percentile(device, 99)
    if lengths_s is not None:
        figures["total audio(s)"] = sum(lengths_s)
        figures["RTFx"] = 1000 * sum(lengths_s[workspace:]) / sum(timed)
        figures["wall RTFx"] = 1000 * sum(lengths_s) / wall_ms
    return figures


def _spread(own: Sequence[float | None], pure: Sequence[float]) -> dict[str, float]:
    """How the inferences differ from each other: by their own times, where pure ones are shares."""
    values, what = (pure, "pure infer time") if None in own else (own, "latency")
    return {
        f"min {what}(ms)": min(values),
        **{f"p{percent} {what}(ms)": percentile(values, percent) for percent in (50, 90, 99)},
        f"max {what}(ms)": max(values),
    }


def format_figures(figures: dict[str, float]) -> str:
    """The text of `infer_time.txt`: one `label: value` per line."""
    return "".join(f"{label}: {value}\n" for label, value in figures.items())


def parse_figures(text: str) -> dict[str, float]:
    """Read `label: value` lines back."""
    return {label: float(value) for label, _, value in (line.rpartition(": ") for line in text.splitlines())}
