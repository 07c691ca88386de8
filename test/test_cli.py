# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import platform
import signal
import sys
from pathlib import Path

import pytest

from wav2vec2_eval import cli
from wav2vec2_eval.errors import SuiteError


@pytest.mark.parametrize(("text", "value"), [("True", True), ("false", False), ("TRUE", True)])
def test_boolean(text, value):
    assert cli.boolean(text) is value


@pytest.mark.parametrize("text", ["", "1", "yes", "None"])
def test_boolean_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError):
        cli.boolean(text)


@pytest.mark.parametrize("text", ["", "-1", "1.0", "x", "\u0663", "0", "1000000000", "9" * 5000])
def test_integer_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number, 1 to 999999999, found"):
        cli.integer(1)(text)


def test_help_shows_defaults_that_are_values():
    parser = cli.ArgumentParser("What it does.")
    cli.add_dataset_options(parser)
    cli.add_workspace_option(parser, default=7)
    text = parser.format_help()
    assert "(default: 7)" in text
    assert "None" not in text


def run(main, capsys):
    """cli.run as a script runs it; what it makes of the signals would reach every process that a later test starts."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as end:
            cli.run(main)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return end.value.code, capsys.readouterr().err


def test_signals_are_deferred_and_counted_once():
    with pytest.raises(KeyboardInterrupt), cli.signals_deferred() as noted:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with cli.signals_deferred():  # within another
            signal.raise_signal(signal.SIGINT)
        assert noted == [signal.SIGINT] * 3
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_handler_that_python_does_not_know_is_left_alone(monkeypatch):
    """As at the end of Python, when a forgotten generator is cleared away."""
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda number, handler: pytest.fail("a handler was replaced"))
    with cli.signals_deferred() as noted:
        assert not noted


def test_an_ignored_signal_stays_ignored():
    """As in a background job of a shell script: nothing may take it for an interruption."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with cli.signals_deferred() as noted:
            signal.raise_signal(signal.SIGINT)
            assert not noted
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def raising(error):
    def main(_argv):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (SuiteError("two\nlines"), 2, "error: two lines\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: Permission denied: /x\n"),
        (OSError("disk"), 2, "error: disk\n"),
        (ModuleNotFoundError("No module", name="jiwer"), 2, "'jiwer' is missing; pip install -r requirements.txt\n"),
        (MemoryError(), 2, "error: not enough memory; see --num_workers, or free some\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_how_a_script_ends(capsys, error, status, message):
    code, stderr = run(raising(error), capsys)
    assert code == status
    assert stderr.endswith(message)
    assert stderr.count("\n") == 1


def test_success(capsys):
    assert run(lambda _argv: 0, capsys) == (0, "")


@pytest.mark.parametrize("main", [lambda _argv: 0, raising(SuiteError("x"))])
def test_ctrl_c_when_all_is_done_changes_nothing(main, monkeypatch, capsys):
    leave = sys.exit

    def interrupted_exit(status):
        signal.raise_signal(signal.SIGINT)
        leave(status)

    monkeypatch.setattr(sys, "exit", interrupted_exit)
    assert run(main, capsys)[0] in (0, 2)


def test_a_second_ctrl_c_does_not_disturb_the_answer_to_the_first(monkeypatch, capsys):
    monkeypatch.setattr("builtins.print", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert run(raising(KeyboardInterrupt()), capsys)[0] == 130


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [
        ("model name\t: A CPU\nflags\t\t: fpu avx_vnni\n\nmodel name\t: A CPU\n", "cpu (A CPU)", {"fpu", "avx_vnni"}),
        ("processor : 0\nFeatures : fp asimddp\n", f"cpu ({platform.machine()})", {"fp", "asimddp"}),
        (None, f"cpu ({platform.machine()})", set()),
    ],
)
def test_the_processor(monkeypatch, text, name, features):
    def read_text(*_args, **_options):
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read_text)
    assert (cli.cpu_name(), cli.cpu_features()) == (name, features)
