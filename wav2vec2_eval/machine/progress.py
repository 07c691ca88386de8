# SPDX-License-Identifier: Apache-2.0
"""How far a script has come: a bar on a terminal, a line on stderr now and then elsewhere, nothing with `--quiet`.

tqdm draws the bar. Where stderr is no terminal (nohup, CI, kubectl logs), bars would fill the log.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from .terminal import is_quiet

T = TypeVar("T")
Show = Callable[[int, float, float], None]  # of the items that are done, the seconds of speech in them, and the time

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
    if is_quiet() or os.environ.get(DISABLE):
        yield from items
        return
    started_s, spoken_s = clock(), 0.0
    showing = _bar if stream.isatty() else _lines
    with showing(total, unit, f"{title}: " if title else "", stream) as show:
        for done, item in enumerate(items, start=1):
            yield item
            spoken_s += audio_s(item) if audio_s else 0
            show(done, spoken_s, clock() - started_s)


@contextmanager
def _bar(total: int, unit: str, title: str, stream: TextIO) -> Iterator[Show]:
    from tqdm import tqdm

    # tqdm itself reads the environment when it is imported; `track` has asked just now.
    options = {"desc": title, "unit": f" {unit}", "leave": not title, "disable": False}
    with tqdm(total=total, bar_format=_BAR, file=stream, dynamic_ncols=True, **options) as bar:

        def show(done: int, spoken_s: float, elapsed_s: float) -> None:
            bar.set_postfix_str(_rtfx(spoken_s, elapsed_s), refresh=False)
            bar.update(done - bar.n)

        yield show


@contextmanager
def _lines(total: int, unit: str, title: str, stream: TextIO) -> Iterator[Show]:
    last_s = 0.0

    def show(done: int, spoken_s: float, elapsed_s: float) -> None:
        nonlocal last_s
        silence_s = min(max(LEAST_S, elapsed_s * total / done / LINES), MOST_S)
        if done < total and elapsed_s - last_s >= silence_s:
            print(f"{title}{format_line(done, total, unit, spoken_s, elapsed_s)}", file=stream, flush=True)
            last_s = elapsed_s

    yield show


def format_line(done: int, total: int, unit: str, spoken_s: float, elapsed_s: float) -> str:
    """How far the work is after `elapsed_s`; `spoken_s`: the seconds of speech that are done, 0 if nobody knows."""
    from tqdm import tqdm

    left = tqdm.format_interval(elapsed_s * (total - done) / done)
    parts = [f"{done} of {total} {unit} ({100 * done // total} %)", _rtfx(spoken_s, elapsed_s), f"{left} left"]
    return ", ".join(filter(None, parts))


def _rtfx(spoken_s: float, elapsed_s: float) -> str:
    return f"RTFx {spoken_s / elapsed_s:.1f}" if spoken_s and elapsed_s > 0 else ""
