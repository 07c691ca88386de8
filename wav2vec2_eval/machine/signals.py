# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM: raised as exceptions, and delayed while a step must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TRY_AGAIN_S = 0.01  # while a module is being imported


class Terminated(SystemExit):
    """SIGTERM has arrived. Its `code` is the exit status, 143."""


def raise_signals() -> None:
    """Raise KeyboardInterrupt on SIGINT, and Terminated on SIGTERM, unless they are ignored (background jobs)."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _raise)


def end_signals() -> None:
    """Ignore SIGINT from here on, and let SIGTERM end the process without a word: it is ending already."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _raise(number: int, frame: FrameType | None) -> None:
    """Raise the signal's exception, but not into a module that is being imported: it could get lost or abort there."""
    if _imports(frame):
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
        signal.setitimer(signal.ITIMER_REAL, TRY_AGAIN_S)
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise Terminated(128 + number)


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported in `frame` or in one of its callers."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


@contextmanager
def signals_deferred() -> Iterator[Sequence[int]]:
    """Delay SIGINT and SIGTERM to the end of the block. Yields the list of the signals received so far.

    Python's handlers are replaced, because a signal that is blocked in one thread still reaches them through another.
    Python runs handlers in the main thread only, so in any other thread nothing is delayed.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {
        number: signal.signal(number, note)
        for number in SIGNALS
        # An ignored signal stays ignored (background jobs). None: the handler was not installed by Python, or the
        # interpreter is shutting down.
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for received_number in received[:1]:
            signal.raise_signal(received_number)
