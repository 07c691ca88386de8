# SPDX-License-Identifier: Apache-2.0
"""Latencies: their statistics, and the text of `infer_time.txt`. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import SuiteError

AVERAGE = "average pure infer time after workspace(ms)"  # the latency that is compared


class Latency(NamedTuple):
    """The times of one inference in milliseconds.

    `pure_ms` is the execution alone. With several executions on one CPU it is this utterance's share of the busy time,
    and `elapsed_ms` is its time from start to end. `wall_ms` includes reading, waiting and writing; None: not measured.
    `device_ms` is the device's own measurement.
    """

    pure_ms: float
    wall_ms: float | None
    device_ms: float | None = None
    elapsed_ms: float | None = None


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between the closest ranks, as `numpy.percentile` does by default."""
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    low = math.floor(rank)
    high = math.ceil(rank)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def check_warm_up(warm_up: int, num_inferences: int) -> None:
    """Raise SuiteError if the warm-up leaves no inference to average."""
    if warm_up >= num_inferences:
        raise SuiteError(
            f"--workspace={warm_up} leaves none of the {num_inferences} inferences to average; "
            f"expected at most {num_inferences - 1}"
        )


def summarise(
    latencies: Sequence[Latency], warm_up: int = 0, lengths_s: Sequence[float] | None = None
) -> dict[str, float]:
    """The figures of `infer_time.txt` by their labels, times in milliseconds.

    The first `warm_up` inferences count only in the totals, in the average pure and the average infer time, and in the
    wall figures. (An engine may return several results at once, so the wall time of a single inference means nothing.)
    `lengths_s`, the true lengths of the utterances in seconds, adds RTFx (seconds of audio per second of computing) and
    wall RTFx (per second of the whole run). Raises SuiteError if the warm-up leaves no inference to average.
    """
    check_warm_up(warm_up, len(latencies))
    pure = [latency.pure_ms for latency in latencies]
    timed = pure[warm_up:]
    average = sum(timed) / len(timed)
    walls = [latency.wall_ms for latency in latencies if latency.wall_ms is not None]
    wall_ms = sum(walls) if len(walls) == len(pure) else None
    figures = {
        "total infer num": len(pure),
        "total pure infer time(ms)": sum(pure),
        "average pure infer time(ms)": sum(pure) / len(pure),
        AVERAGE: average,
        **({} if wall_ms is None else {"average infer time(ms)": wall_ms / len(pure)}),
        **_spread([latency.elapsed_ms for latency in latencies[warm_up:]], timed),
        "throughput(utterances/s)": 1000 / average,
        **({} if wall_ms is None else {"wall throughput(utterances/s)": 1000 * len(pure) / wall_ms}),
    }
    device = [latency.device_ms for latency in latencies[warm_up:] if latency.device_ms is not None]
    if len(device) == len(timed):
        figures["average device time(ms)"] = sum(device) / len(device)
        figures["p99 device time(ms)"] = percentile(device, 99)
    if lengths_s is not None:
        figures["total audio(s)"] = sum(lengths_s)
        figures["RTFx"] = 1000 * sum(lengths_s[warm_up:]) / sum(timed)
        if wall_ms is not None:
            figures["wall RTFx"] = 1000 * sum(lengths_s) / wall_ms
    return figures


def _spread(elapsed: Sequence[float | None], pure: Sequence[float]) -> dict[str, float]:
    """Minimum, percentiles and maximum of `elapsed` where it is known, because `pure` is then only a share."""
    measured = [time_ms for time_ms in elapsed if time_ms is not None]
    values, what = (measured, "latency") if len(measured) == len(pure) else (pure, "pure infer time")
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
