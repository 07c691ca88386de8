# SPDX-License-Identifier: Apache-2.0
"""Proves that signals_deferred delays signals to the end of its block, and changes no other handler."""

from __future__ import annotations

import signal

import pytest

from wav2vec2_eval.machine.signals import signals_deferred


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
