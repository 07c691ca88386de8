# SPDX-License-Identifier: Apache-2.0
"""How far a script has come: a bar on a terminal, a line on stderr now and then elsewhere, nothing with `--quiet`.

tqdm draws the bar. Where stderr is no terminal (nohup, CI, kubectl logs), bars would fill the log.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

from .terminal import is_quiet

T = TypeVar("T")

LINES = 10  # of a run, between these times of silence in seconds: a short run prints none, a long one more
LEAST_S, MOST_S = 15, 30
DISABLE = "TQDM_DISABLE"  # tqdm's own environment variable: any value switches progress off

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
    title = f"{title}: " if title else ""
    if is_quiet() or os.environ.get(DISABLE):
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
        desc=title,
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
    spoken_s = 0.0
    for done, item in enumerate(items, start=1):
        yield item
        spoken_s += audio_s(item) if audio_s else 0
        now_s = clock()
        elapsed_s = now_s - started_s
        whole_s = elapsed_s * total / done
        if done < total and now_s - last_s >= min(max(LEAST_S, whole_s / LINES), MOST_S):
            print(f"{title}{format_line(done, total, unit, spoken_s, elapsed_s)}", file=stream, flush=True)
            last_s = now_s


def format_line(done: int, total: int, unit: str, spoken_s: float, elapsed_s: float) -> str:
    """How far the work is after `elapsed_s`; `spoken_s`: the seconds of speech that are done, 0 if nobody knows."""
    from tqdm import tqdm

    left = tqdm.format_interval(elapsed_s * (total - done) / done)
    parts = [f"{done} of {total} {unit} ({100 * done // total} %)", _rtfx(spoken_s, elapsed_s), f"{left} left"]
    return ", ".join(filter(None, parts))


def _rtfx(spoken_s: float, elapsed_s: float) -> str:
    return f"RTFx {spoken_s / elapsed_s:.1f}" if spoken_s and elapsed_s > 0 else ""
