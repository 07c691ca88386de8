# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM: delayed while a step must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


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
        for number in (signal.SIGINT, signal.SIGTERM)
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
