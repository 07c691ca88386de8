# SPDX-License-Identifier: Apache-2.0
"""Keep the engine busy: one thread reads inputs ahead of it, another thread stores results after it.

Queues are short, so memory stays flat whatever the number of items.

A signal handler that raises inside queue.Queue can leave its lock held and deadlock the other thread. So signals are
delayed while the main thread uses a queue: for one item, or at the end until the last item is stored.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from .signals import signals_deferred

T = TypeVar("T")

_END = object()


class Stopwatch:
    """Context manager that adds up the nanoseconds spent inside it, for one thread at a time."""

    total_ns = 0

    def __enter__(self) -> None:
        self._start_ns = time.perf_counter_ns()

    def __exit__(self, *exception: object) -> None:
        self.total_ns += time.perf_counter_ns() - self._start_ns


class Spent:
    """What the time of a run went into, besides computing: the work of both threads, and the waits of the main thread.

    The threads work while the engine computes, so their times are no part of the run's; the waits are.
    """

    def __init__(self) -> None:
        self.reading = Stopwatch()
        self.waiting_for_inputs = Stopwatch()
        self.writing = Stopwatch()
        self.waiting_for_writing = Stopwatch()

    def figures(self) -> dict[str, float]:
        """Milliseconds by their labels in `infer_time.txt`."""
        return {f"{name.replace('_', ' ')}(ms)": each.total_ns / 1e6 for name, each in vars(self).items()}


def read_ahead(items: Iterable[T], depth: int = 4, spent: Spent | None = None) -> Generator[T, None, None]:
    """Yield `items` in order while a thread produces up to `depth` of them ahead.

    An exception of `items` is raised here, after the items before it. Closing the generator stops the thread. `spent`
    gets the times of producing the items and of waiting for them.
    """
    spent = spent or Spent()
    reading, waiting = spent.reading, spent.waiting_for_inputs
    ready: queue.Queue[Any] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: object) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            iterator = iter(items)
            while not stopped.is_set():
                with reading:
                    item = next(iterator, _END)
                if item is _END:
                    put(_END)
                    return
                put((item, None))
        except BaseException as error:  # raised again in the consumer's thread
            put((None, error))

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    with signals_deferred():
        thread.start()
    try:
        while True:
            with signals_deferred(), waiting:
                entry = ready.get()
            if entry is _END:
                return
            item, error = entry
            if error is not None:
                raise error
            yield item
    finally:
        with signals_deferred():
            stopped.set()
            thread.join()


class WriteBehind:
    """Context manager that runs `store(*item)` in a thread, in order, for every item put into it.

    The first exception of `store` is raised by the next `put`, or on leaving; no later item is stored. If the body
    fails, the items put before the failure are still stored. `spent` gets the times of storing, and of waiting for it.
    """

    def __init__(self, store: Callable[..., None], depth: int = 4, spent: Spent | None = None) -> None:
        self._store = store
        self._spent = spent or Spent()
        self._waiting: queue.Queue[Any] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)

    def __enter__(self) -> WriteBehind:
        with signals_deferred():
            self._thread.start()
        return self

    def put(self, *item: object) -> None:
        """Hand over one item; waits while `depth` items are waiting."""
        self._raise()
        with signals_deferred(), self._spent.waiting_for_writing:
            self._waiting.put(item)

    def __exit__(self, *exception: object) -> None:
        with signals_deferred(), self._spent.waiting_for_writing:
            self._waiting.put(_END)
            self._thread.join()
        if exception[0] is None:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._waiting.get()) is not _END:
            if self._error is None:
                try:
                    with self._spent.writing:
                        self._store(*item)
                except BaseException as error:  # raised again in the caller's thread
                    self._error = error
