# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM: raised as exceptions, and delayed while a step must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TRY_AGAIN_S = 0.01
LOADING_C = {ExtensionFileLoader.create_module.__code__, ExtensionFileLoader.exec_module.__code__}


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
    """Raise the signal's exception; a little later, if it would get lost where the signal has arrived."""
    if _loses_exceptions(frame):
        signal.signal(signal.SIGALRM, lambda _, later: _hand_over(number, later))
        signal.setitimer(signal.ITIMER_REAL, TRY_AGAIN_S)
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise Terminated(128 + number)


def _hand_over(number: int, frame: FrameType | None) -> None:
    """Call the handler that a signal has now."""
    handler = signal.getsignal(number)
    if callable(handler):
        handler(number, frame)


def _loses_exceptions(frame: FrameType | None) -> bool:
    """Whether `frame` is a part of importlib, which has callbacks, or is called by a C module that is being loaded.

    Python drops an exception in a callback. A C module may report another error for it, as NumPy does, or abort.
    """
    if frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
        return True
    while frame is not None:
        if frame.f_code in LOADING_C:
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
