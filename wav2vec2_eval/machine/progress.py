# SPDX-License-Identifier: Apache-2.0
"""How far a script has come: a bar on a terminal, a line on stderr now and then elsewhere, nothing with `--quiet`.

tqdm draws the bar. Where stderr is no terminal (nohup, CI, kubectl logs), bars would fill the log.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

from .terminal import is_quiet

T = TypeVar("T")

# A line is due after so many seconds without one, or after another tenth of the work, but never sooner than after
# LEAST_S: a short run prints none.
MOST_S, LEAST_S, TENTHS = 30, 15, 10

_BAR = "{desc}{percentage:3.0f} % |{bar}| {n_fmt} of {total_fmt}, {rate_noinv_fmt}{postfix}, {remaining} left"


def track(
    items: Iterable[T],
    total: int,
    audio_s: Callable[[T], float] | None = None,
    *,
    unit: str = "utterances",
    title: str = "",
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """Yield `items`, of which there are `total`, and show on `stream` (stderr) how many are done.

    `audio_s` gives the seconds of speech in an item, for the RTFx so far. A bar with a `title` is one of several: it
    disappears at its end. `clock` counts seconds.
    """
    stream = stream or sys.stderr
    if is_quiet():
        yield from items
    elif stream.isatty():
        yield from _with_bar(items, total, audio_s, unit, title, stream, clock)
    else:
        yield from _with_lines(items, total, audio_s, unit, title, stream, clock)


def _with_bar(
    items: Iterable[T],
    total: int,
    audio_s: Callable[[T], float] | None,
    unit: str,
    title: str,
    stream: TextIO,
    clock: Callable[[], float],
) -> Iterator[T]:
    from tqdm import tqdm

    started_s, spoken_s = clock(), 0.0
    with tqdm(
        total=total,
        desc=title or None,
        unit=f" {unit}",
        bar_format=_BAR,
        file=stream,
        leave=not title,
        dynamic_ncols=True,
    ) as bar:
        for item in items:
            yield item
            spoken_s += audio_s(item) if audio_s else 0
            if rate := _rtfx(spoken_s, clock() - started_s):
                bar.set_postfix_str(rate, refresh=False)
            bar.update()


def _with_lines(
    items: Iterable[T],
    total: int,
    audio_s: Callable[[T], float] | None,
    unit: str,
    title: str,
    stream: TextIO,
    clock: Callable[[], float],
) -> Iterator[T]:
    started_s = last_s = clock()
    spoken_s, tenth = 0.0, 0
    for done, item in enumerate(items, start=1):
        yield item
        spoken_s += audio_s(item) if audio_s else 0
        now_s = clock()
        silent_s, reached = now_s - last_s, TENTHS * done // total
        if done < total and (silent_s >= MOST_S or (silent_s >= LEAST_S and reached > tenth)):
            prefix = f"{title}: " if title else ""
            print(f"{prefix}{format_line(done, total, unit, spoken_s, now_s - started_s)}", file=stream, flush=True)
            last_s, tenth = now_s, reached


def format_line(done: int, total: int, unit: str, spoken_s: float, elapsed_s: float) -> str:
    """How far the work is after `elapsed_s`; `spoken_s`: the seconds of speech that are done, 0 if nobody knows."""
    from tqdm import tqdm

    left = tqdm.format_interval(elapsed_s * (total - done) / done)
    parts = [f"{done} of {total} {unit} ({100 * done // total} %)", _rtfx(spoken_s, elapsed_s), f"{left} left"]
    return ", ".join(filter(None, parts))


def _rtfx(spoken_s: float, elapsed_s: float) -> str:
    return f"RTFx {spoken_s / elapsed_s:.1f}" if spoken_s and elapsed_s > 0 else ""
