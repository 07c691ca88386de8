# SPDX-License-Identifier: Apache-2.0
"""Proves that signals are raised where that is safe, and delayed where a step must not be left half done."""

from __future__ import annotations

import signal
import sys
import time

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


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_waits_for_the_end_of_an_import(raised, monkeypatch, tmp_path, number, error):
    """A module in C, such as NumPy's, reports another error for an exception that reaches it while it is loaded."""
    (tmp_path / "imported.py").write_text(
        f"import signal\ntry:\n    signal.raise_signal({int(number)})\nexcept BaseException:\n    pass\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error):
        import imported

        assert imported.whole
        time.sleep(5)
    assert sys.modules.pop("imported").whole


def test_a_signal_that_came_too_late_to_be_raised_is_dropped(raised, monkeypatch, tmp_path):
    monkeypatch.setattr(signals, "TRY_AGAIN_S", 60)
    (tmp_path / "last.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import last

    end_signals()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert sys.modules.pop("last") == last


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
