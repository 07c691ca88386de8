# SPDX-License-Identifier: Apache-2.0
"""Figures as a terminal shows them, with few digits and their units. The files keep all digits."""

from __future__ import annotations

from collections.abc import Mapping

from .wer import WordErrors

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_P50, _P99 = (tuple(f"p{percent} {what}(ms)" for what in ("latency", "pure infer time")) for percent in (50, 99))


def format_size(num_bytes: float) -> str:
    """A number of bytes in decimal units: `27.1 MB`."""
    power = 0
    while num_bytes >= 999.95 and power < len(_UNITS) - 1:
        num_bytes, power = num_bytes / 1000, power + 1
    return f"{num_bytes:.1f} {_UNITS[power]}" if power else f"{num_bytes:.0f} {_UNITS[power]}"


def format_percent(rate: float) -> str:
    """A rate in percent, with two decimals and without the sign: `3.99`."""
    return f"{100 * rate:.2f}"


def format_ms(time_ms: float) -> str:
    """Milliseconds, as whole ones from 10 on: `147 ms`, `3.2 ms`."""
    return f"{time_ms:.0f} ms" if time_ms >= 10 else f"{time_ms:.2g} ms"


def format_speed(figures: Mapping[str, float]) -> str:
    """The speed that the figures of `infer_time.txt` say: `RTFx 97.5, p50 30 ms, p99 147 ms`.

    Without the lengths of the utterances there is no RTFx, but a throughput. What the figures lack is left out.
    """
    parts = []
    if "RTFx" in figures:
        parts.append(f"RTFx {figures['RTFx']:.1f}")
    elif "throughput(utterances/s)" in figures:
        parts.append(f"{figures['throughput(utterances/s)']:.1f} utterances/s")
    for name, labels in (("p50", _P50), ("p99", _P99)):
        parts += [f"{name} {format_ms(figures[label])}" for label in labels if label in figures]
    return ", ".join(parts)


def format_score(errors: WordErrors, low: float | None, high: float | None) -> str:
    """`WER 3.99 % (21 of 526 words), 95 % interval 2.41 to 5.73 %`; a single utterance has no interval."""
    wer = f"WER {format_percent(errors.wer)} % ({errors.errors} of {errors.words} words)"
    return (
        wer
        if low is None or high is None
        else f"{wer}, 95 % interval {format_percent(low)} to {format_percent(high)} %"
    )
