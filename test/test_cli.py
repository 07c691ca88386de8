# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse

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


@pytest.mark.parametrize("text", ["", "-1", "1.0", "x", "\u0663", "0"])
def test_integer_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        cli.integer(1)(text)


def test_help_shows_defaults_that_are_values():
    parser = cli.ArgumentParser("What it does.")
    cli.add_dataset_options(parser)
    cli.add_workspace_option(parser, default=7)
    text = parser.format_help()
    assert "(default: 7)" in text
    assert "None" not in text


def run(main, capsys):
    with pytest.raises(SystemExit) as end:
        cli.run(main)
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
