# SPDX-License-Identifier: Apache-2.0
"""Proves that signals are raised where that is safe, and delayed where a step must not be left half done."""

from __future__ import annotations

import importlib
import signal
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from wav2vec2_eval.machine import signals
from wav2vec2_eval.machine.signals import Terminated, end_signals, raise_signals, signals_deferred


@pytest.fixture
def raised():
    """With the handlers of a script."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    raise_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_is_raised(raised, number, error):
    with pytest.raises(error):
        signal.raise_signal(number)


def test_the_status_of_a_terminated_script(raised):
    with pytest.raises(SystemExit) as end:
        signal.raise_signal(signal.SIGTERM)
    assert end.value.code == 143


def load_a_c_module(number, completed):
    """As a module in C that drops exceptions of the Python code that it calls while it is loaded."""
    with suppress(BaseException):
        signal.raise_signal(number)
    completed.append(number)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_waits_until_a_c_module_is_loaded(raised, monkeypatch, number, error):
    monkeypatch.setattr(signals, "LOADING_C", {load_a_c_module.__code__})
    completed = []
    with pytest.raises(error):
        load_a_c_module(number, completed)
        time.sleep(5)
    assert completed == [number]


def test_a_signal_waits_for_the_end_of_a_deferral_too(raised, monkeypatch):
    monkeypatch.setattr(signals, "LOADING_C", {load_a_c_module.__code__})
    completed = []
    with pytest.raises(Terminated):
        load_a_c_module(signal.SIGTERM, completed)
        with signals_deferred() as received:
            while not received:
                time.sleep(0.001)
            completed.append("deferred")
    assert completed == [signal.SIGTERM, "deferred"]


def test_a_signal_waits_for_importlib(raised, monkeypatch):
    """Python calls some of its functions when a lock is dropped, and would drop an exception there."""
    monkeypatch.setattr(signals, "TRY_AGAIN_S", 60)
    frame = SimpleNamespace(f_code=importlib._bootstrap._get_module_lock.__code__, f_back=None)
    signal.getsignal(signal.SIGTERM)(signal.SIGTERM, frame)
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 1
    end_signals()  # the script has ended: nothing is raised later
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_signals_are_deferred_and_raised_once():
    with pytest.raises(KeyboardInterrupt), signals_deferred() as received:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with signals_deferred():  # a block inside the block
            signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT] * 3
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_handler_that_python_did_not_install_is_left_alone(monkeypatch):
    """The interpreter reports such a handler during shutdown, when it closes a generator that nobody closed before."""
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda number, handler: pytest.fail("a handler was replaced"))
    with signals_deferred() as received:
        assert not received


def test_an_ignored_signal_stays_ignored():
    """A shell starts background jobs with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_deferred() as received:
            signal.raise_signal(signal.SIGINT)
            assert not received
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
