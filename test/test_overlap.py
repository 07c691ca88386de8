# SPDX-License-Identifier: Apache-2.0
"""Proves that reading ahead and writing behind keep the order, raise every error, and survive a signal."""

from __future__ import annotations

import itertools
import queue
import signal
import threading
import time

import pytest

from wav2vec2_eval.engines.base import Result
from wav2vec2_eval.engines.clock import timed
from wav2vec2_eval.machine.overlap import Spent, WriteBehind, read_ahead


def test_read_ahead_keeps_order():
    assert list(read_ahead(range(100), depth=3)) == list(range(100))
    assert list(read_ahead([])) == []


def test_read_ahead_reads_ahead_and_no_further():
    produced = []
    third = threading.Event()

    def items():
        for number in range(10):
            produced.append(number)
            if number == 2:
                third.set()
            yield number

    ahead = read_ahead(items(), depth=1)
    assert next(ahead) == 0
    assert third.wait(5)  # one item is in the queue, and the thread holds another
    assert len(produced) <= 3
    ahead.close()
    assert "read-ahead" not in [thread.name for thread in threading.enumerate()]


def test_read_ahead_raises_after_the_items_before_the_error():
    def items():
        yield 1
        raise KeyError("broken")

    ahead = read_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(KeyError, match="broken"):
        next(ahead)


def test_write_behind_stores_everything_in_order():
    stored = []
    with WriteBehind(lambda *item: stored.append(item), depth=2) as writer:
        for number in range(50):
            writer.put(number, str(number))
    assert stored == [(number, str(number)) for number in range(50)]


def test_write_behind_stores_what_was_put_before_a_failure():
    stored = []
    with pytest.raises(KeyError), WriteBehind(stored.append) as writer:
        writer.put(1)
        raise KeyError
    assert stored == [1]


def test_write_behind_raises_the_first_error_and_stores_nothing_after_it():
    stored = []

    def store(number):
        if number == 3:
            raise OSError("disk full")
        stored.append(number)

    def put_all(writer):
        for number in range(1000):
            writer.put(number)

    with pytest.raises(OSError, match="disk full"), WriteBehind(store) as writer:
        put_all(writer)
    assert stored == [0, 1, 2]


class Clock:
    """A clock that a test sets. `waiting` is set when the main thread begins to measure a wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 0
        self.waiting = threading.Event()
        self._begins = itertools.cycle((True, False))
        monkeypatch.setattr(time, "perf_counter_ns", self._read)

    def _read(self) -> int:
        now_ns = self.now_ns
        if threading.current_thread() is threading.main_thread() and next(self._begins):
            self.waiting.set()
        return now_ns

    def pass_during_a_wait(self, duration_ns: int) -> None:
        assert self.waiting.wait(5)
        self.waiting.clear()
        self.now_ns += duration_ns


def test_the_time_of_reading_and_of_waiting_for_inputs(monkeypatch):
    clock, spent = Clock(monkeypatch), Spent()

    def items():
        for number in range(3):
            clock.pass_during_a_wait(1_000_000)
            yield number

    assert list(read_ahead(items(), spent=spent)) == [0, 1, 2]
    assert spent.figures() == {
        "reading(ms)": 3,
        "waiting for inputs(ms)": 3,
        "writing(ms)": 0,
        "waiting for writing(ms)": 0,
    }


def test_the_time_of_writing_and_of_waiting_for_the_last(monkeypatch):
    """The last item may be stored when everything is put: the run waits for it at its end."""
    clock, spent = Clock(monkeypatch), Spent()
    put = threading.Event()

    def store(_item: int) -> None:
        assert put.wait(5)
        clock.pass_during_a_wait(2_000_000)

    with WriteBehind(store, spent=spent) as writer:
        writer.put(1)
        clock.waiting.clear()
        put.set()
    assert spent.figures() == {
        "reading(ms)": 0,
        "waiting for inputs(ms)": 0,
        "writing(ms)": 2,
        "waiting for writing(ms)": 2,
    }


def test_computing_and_waiting_are_parts_of_the_wall_time(monkeypatch):
    """Every reading of this clock is a nanosecond after the one before it: parts that overlap would show."""
    monkeypatch.setattr(time, "perf_counter_ns", itertools.count().__next__)
    spent, computing_ns, wall_ms, waiting_ns = Spent(), 0, 0.0, 0

    def results(inputs):
        for _ in inputs:
            start_ns = time.perf_counter_ns()
            yield Result([], time.perf_counter_ns() - start_ns)

    with WriteBehind(lambda _result: None, depth=1, spent=spent) as writer:
        for result, latency in timed(results(read_ahead(range(100), depth=1, spent=spent))):
            computing_ns, wall_ms = computing_ns + result.pure_ns, wall_ms + latency.wall_ms
            waiting_ns = spent.waiting_for_inputs.total_ns + spent.waiting_for_writing.total_ns
            writer.put(result)
    assert spent.waiting_for_inputs.total_ns >= 100
    assert spent.waiting_for_writing.total_ns >= 100
    assert computing_ns + waiting_ns <= round(wall_ms * 1e6)


def use_read_ahead():
    list(read_ahead(range(3)))


def use_write_behind():
    with WriteBehind(lambda item: None) as writer:
        writer.put(1)


@pytest.mark.parametrize(("method", "use"), [("get", use_read_ahead), ("put", use_write_behind)])
def test_a_signal_waits_for_the_queue(monkeypatch, method, use):
    """A handler that raises inside the queue's code could leave a lock held and deadlock the other thread."""
    function = getattr(queue.Queue, method)
    began, ended = [], []

    def interrupted(self, *arguments, **options):
        here = threading.current_thread() is threading.main_thread()
        if here:
            began.append(method)
            signal.raise_signal(signal.SIGINT)
        try:
            return function(self, *arguments, **options)
        finally:
            if here:
                ended.append(method)

    monkeypatch.setattr(queue.Queue, method, interrupted)
    with pytest.raises(KeyboardInterrupt):
        use()
    assert began == ended != []
    assert not {"read-ahead", "write-behind"} & {thread.name for thread in threading.enumerate()}
