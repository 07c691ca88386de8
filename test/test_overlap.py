# SPDX-License-Identifier: Apache-2.0
"""Proves that reading ahead and writing behind keep the order, raise every error, and survive a signal."""

from __future__ import annotations

import queue
import signal
import threading

import pytest

from wav2vec2_eval.machine.overlap import WriteBehind, read_ahead


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
