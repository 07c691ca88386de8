# SPDX-License-Identifier: Apache-2.0
"""Proves what the scripts' option types accept, and how a script ends after success, an error or a signal."""

from __future__ import annotations

import argparse
import signal
import sys

import pytest

from wav2vec2_eval import cli
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.speech.padding import GEARS


@pytest.mark.parametrize(("text", "value"), [("True", True), ("false", False), ("TRUE", True)])
def test_boolean_accepts_any_case(text, value):
    assert cli.boolean(text) is value


@pytest.mark.parametrize("text", ["", "1", "yes", "None"])
def test_boolean_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError):
        cli.boolean(text)


@pytest.mark.parametrize("text", ["", "-1", "1.0", "x", "\u0663", "0", "1000000000", "9" * 5000])
def test_integer_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number, 1 to 999999999, found"):
        cli.integer(1)(text)


@pytest.mark.parametrize(
    ("text", "gears"),
    [("none", None), ("default", GEARS), ("20000,10000,20000", (10_000, 20_000)), ("400", (400,))],
)
def test_parse_gears_sorts_the_lengths(text, gears):
    assert cli.parse_gears(text) == gears


def test_parse_gears_reads_a_file(tmp_path):
    path = tmp_path / "padding lens.txt"
    path.write_text("30000\n10000\n")
    assert cli.parse_gears(str(path)) == (10_000, 30_000)


@pytest.mark.parametrize("text", ["", ",", "all", "10000;20000", "-5", "0", "399", "1e4", "10000,x"])
def test_parse_gears_refuses(text):
    with pytest.raises(SuiteError):
        cli.parse_gears(text)


def test_help_shows_defaults_that_are_values():
    parser = cli.ArgumentParser("What it does.")
    cli.add_dataset_options(parser)
    cli.add_workspace_option(parser, default=7)
    text = parser.format_help()
    assert "(default: 7)" in text
    assert "None" not in text


def run(main, capsys):
    """Call cli.run as a script does. Returns the exit status and stderr.

    The signal handlers are put back: later tests start processes, which would inherit an ignored signal.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as end:
            cli.run(main)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return end.value.code, capsys.readouterr().err


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
def test_an_error_ends_a_script_in_one_line(capsys, error, status, message):
    code, stderr = run(raising(error), capsys)
    assert code == status
    assert stderr.endswith(message)
    assert stderr.count("\n") == 1


def test_success_ends_a_script_without_a_word(capsys):
    assert run(lambda _argv: 0, capsys) == (0, "")


@pytest.mark.parametrize("main", [lambda _argv: 0, raising(SuiteError("x"))])
def test_ctrl_c_after_the_end_of_main_changes_nothing(main, monkeypatch, capsys):
    leave = sys.exit

    def interrupted_exit(status):
        signal.raise_signal(signal.SIGINT)
        leave(status)

    monkeypatch.setattr(sys, "exit", interrupted_exit)
    assert run(main, capsys)[0] in (0, 2)


def test_a_second_ctrl_c_does_not_disturb_the_answer_to_the_first(monkeypatch, capsys):
    monkeypatch.setattr("builtins.print", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert run(raising(KeyboardInterrupt()), capsys)[0] == 130
