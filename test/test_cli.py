# SPDX-License-Identifier: Apache-2.0
"""Proves what the scripts' option types accept, and how a script ends after success, an error or a signal."""

from __future__ import annotations

import argparse
import os
import re
import runpy
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from wav2vec2_eval import __version__, cli, evaluate, gears
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.machine import terminal
from wav2vec2_eval.machine.signals import Terminated
from wav2vec2_eval.report import command as report
from wav2vec2_eval.speech.padding import GEARS

from conftest import ROOT, endless_file


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


@pytest.mark.parametrize(("text", "value"), [("0.04", 0.04), ("1", 1), ("0.10", 0.1), ("1e-05", 1e-5)])
def test_number_accepts(text, value):
    assert cli.number(text) == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "-1", "1e9", ".5", "4%", "9" * 400, "1_0", "\u0663"])
def test_number_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"expected a number like 0\.04, found"):
        cli.number(text)


NOT_A_LINE = ("pre\udcd6", "a\nb", "a\tb", "a\rb", "a\0b", "a\x85b", "a\u2028b", "a\x7fb", "\x1b[31m", "")


@pytest.mark.parametrize("text", [*NOT_A_LINE, "~there-is-no-such-user/x"])
def test_path_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        cli.path(text)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("text", ["x", "./a b//c/", "a~", "./~/x", "数据\u3000集", "facebook/wav2vec2-base-960h"])
def test_path_keeps(text):
    assert cli.path_text(text) == text
    assert cli.path(text) == Path(text)


def test_path_expands_a_home_folder(monkeypatch):
    """The shell leaves the ~ of --option=~/folder."""
    monkeypatch.setenv("HOME", "/home/a user")
    assert cli.path_text("~/x") == "/home/a user/x"
    assert cli.path("~") == Path("/home/a user")


class Program(NamedTuple):
    """A command of the suite: how it reads its options, and options that it requires besides paths."""

    parse_args: Callable[[list[str]], argparse.Namespace]
    required: tuple[str, ...] = ()

    def help(self, capsys: pytest.CaptureFixture[str]) -> str:
        with pytest.raises(SystemExit):
            self.parse_args(["--help"])
        return capsys.readouterr().out


def script(name: str, *required: str) -> Program:
    return Program(runpy.run_path(str(ROOT / name))["parse_args"], required)


PROGRAMS = {
    "preprocess": script("preprocess.py", "--which_dataset=clean"),
    "export_onnx": script("export_onnx.py", "--quantize=int8"),
    "pyacl_infer": script("pyacl_infer.py"),
    "postprocess": script("postprocess.py", "--which_dataset=clean"),
    "pth_online_infer": script("pth_online_infer.py", "--which_dataset=clean"),
    "evaluate": Program(evaluate.parse_args, ("--precision=int8",)),
    "gears": Program(gears.parse_args, ("--count=1",)),
    "report": Program(report.parse_args, ("results",)),
}
each_program = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)


@each_program
def test_every_program_says_its_version(program, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/a/program.py"])
    with pytest.raises(SystemExit) as end:
        program.parse_args(["--version"])  # without the options that it requires
    assert (end.value.code, *capsys.readouterr()) == (0, f"program.py {__version__}\n", "")


def test_quiet_holds_for_one_command():
    def parse(*options):
        parser = cli.ArgumentParser("What it does.")
        cli.add_quiet_option(parser)
        return parser.parse_args(options).quiet, terminal.is_quiet()

    assert (parse(), parse("--quiet"), parse()) == ((False, False), (True, True), (False, False))


def path_options(text: str) -> list[str]:
    found = re.findall(r"^  (--\w+) (?:FILE|FOLDER|MODEL|GEARS)\b", text, re.MULTILINE)
    assert found
    return found


@each_program
def test_every_path_option_refuses_what_is_no_line_of_text(program, capfd):
    """A path that cannot be written into a table would be noticed when earlier results are gone."""
    for option in path_options(program.help(capfd)):
        for text in NOT_A_LINE:
            if not text and option == "--calibration":  # empty means "not given" in eval_acc_perf.sh
                continue
            with pytest.raises(SystemExit) as end:
                program.parse_args([f"{option}={text}"])
            message = capfd.readouterr().err
            assert end.value.code == 2, (option, text)
            assert f"error: argument {option}: expected " in message, message
            assert message.endswith("--help)\n")
            assert message[:-1].isprintable(), message


@each_program
def test_every_path_option_expands_a_home_folder(program, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").write_text("10000\n")
    options = [f"{option}=~/mine" for option in path_options(program.help(capsys))]
    args = vars(program.parse_args([*options, *program.required]))
    assert len([value for value in args.values() if str(value) == f"{tmp_path}/mine"]) >= len(options) - 1  # gears
    assert not [value for value in args.values() if str(value).startswith("~")]


@pytest.mark.parametrize(
    ("program", "option", "found", "expected"),
    [
        ("preprocess", "--num_workers", "1025", "1 to 1024"),
        ("preprocess", "--limit", "0", "1 to 999999999"),
        ("pyacl_infer", "--num_threads", "100000", f"1 to {cli.MOST_THREADS}"),
        ("pyacl_infer", "--in_flight", "100000", "1 to 1024"),
        ("pyacl_infer", "--batch_size", "100000", "1 to 1024"),
        ("pyacl_infer", "--device_id", "1024", "0 to 1023"),
        ("pyacl_infer", "--workspace", "-1", "0 to 999999999"),
        ("pth_online_infer", "--num_threads", "100000", f"1 to {cli.MOST_THREADS}"),
        ("evaluate", "--device_id", "99999", "0 to 1023"),
        ("gears", "--count", "101", "1 to 100"),
        ("report", "--max_wer", "nan", "a number like 0.04"),
        ("report", "--max_wer", "inf", "a number like 0.04"),
        ("evaluate", "--max_wer", "nan", "a number like 0.04"),
    ],
)
def test_numbers_have_bounds(program, option, found, expected, capfd):
    with pytest.raises(SystemExit):
        PROGRAMS[program].parse_args([f"{option}={found}"])
    assert re.search(f"{option}: expected .*{expected}, found '{found}'", capfd.readouterr().err)


@pytest.mark.parametrize(
    ("text", "gears"),
    [("none", None), ("default", GEARS), ("20000,10000,20000", (10_000, 20_000)), ("400", (400,))],
)
def test_parse_gears_sorts_the_lengths(text, gears):
    assert cli.parse_gears(text) == gears


@pytest.mark.parametrize("lengths", ["9" * 5000, str(2**62), "10000," + "9" * 5000])
def test_a_gear_beyond_all_lengths_is_shown_in_short(lengths):
    with pytest.raises(SuiteError) as error:
        cli.parse_gears(lengths)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_parse_gears_reads_no_file_without_end(tmp_path, kind):
    path = endless_file(tmp_path, kind)
    with pytest.raises(SuiteError, match="expected"):
        cli.parse_gears(str(path))


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


def run(main, capfd, hint=""):
    """Call cli.run as a script does. Returns the exit status and stderr.

    What it sets for the process is put back: later tests start processes, which would inherit an ignored signal.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.setenv("PYTHONWARNINGS", "")
            cli.run(main, hint)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return end.value.code, capfd.readouterr().err


def raising(error):
    def main(_argv):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (SuiteError("two\nlines"), 2, "error: two lines\n"),
        (SuiteError("a\x1b[31m \x00 \udcd6\u2028b\r"), 2, "error: a\\x1b[31m \\x00 \\udcd6 b\n"),
        (SuiteError("a  b\u3000c"), 2, "error: a  b\u3000c\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: Permission denied: /x\n"),
        (FileNotFoundError(2, "No such file", "/x\ny\udcd6"), 2, "error: No such file: /x y\\udcd6\n"),
        (OSError("disk"), 2, "error: disk\n"),
        (ModuleNotFoundError("No module", name="jiwer"), 2, "'jiwer' is missing; pip install -r requirements.txt\n"),
        (ImportError("libx.so: cannot open"), 2, "(libx.so: cannot open); install requirements.txt again\n"),
        (RuntimeError("can't start new thread"), 2, "or raise their limit (ulimit -u)\n"),
        (MemoryError(), 2, "error: not enough memory; see --num_workers, or free some\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (Terminated(143), 143, "interrupted\n"),
    ],
)
def test_an_error_ends_a_script_in_one_line(capfd, error, status, message):
    code, stderr = run(raising(error), capfd)
    assert code == status
    assert stderr.endswith(message)
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("started", "name"), [("/a/preprocess.py", "preprocess.py"), ("/a/report/__main__.py", "report.py"), ("-c", "-c")]
)
def test_an_interruption_names_the_program_and_says_how_to_go_on(capfd, monkeypatch, started, name):
    monkeypatch.setattr(sys, "argv", [started])
    assert run(raising(KeyboardInterrupt()), capfd, "--resume continues") == (
        130,
        f"{name}: interrupted; --resume continues\n",
    )


def test_success_ends_a_script_without_a_word(capfd):
    assert run(lambda _argv: 0, capfd) == (0, "")


def test_a_librarys_warning_does_not_stand_beside_the_error(capfd, monkeypatch):
    def main(_argv):
        warnings.warn("chatter", stacklevel=1)
        raise SuiteError(os.environ["PYTHONWARNINGS"])  # which worker processes inherit

    monkeypatch.setattr(sys, "warnoptions", [])
    assert run(main, capfd)[1].endswith("error: ignore\n")


def test_warnings_that_the_user_asks_for_are_shown(capfd, monkeypatch):
    def main(_argv):
        warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)  # pytest has one of its own
        warnings.warn("chatter", stacklevel=1)
        return 0

    monkeypatch.setattr(sys, "warnoptions", ["default"])
    warnings.simplefilter("default")
    assert run(main, capfd) == (0, "chatter\n")


@pytest.mark.parametrize("main", [lambda _argv: 0, raising(SuiteError("x"))])
def test_ctrl_c_after_the_end_of_main_changes_nothing(main, monkeypatch, capfd):
    leave = sys.exit

    def interrupted_exit(status):
        signal.raise_signal(signal.SIGINT)
        leave(status)

    monkeypatch.setattr(sys, "exit", interrupted_exit)
    assert run(main, capfd)[0] in (0, 2)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SuiteError("x"), OSError("x")])
def test_a_second_ctrl_c_does_not_disturb_the_answer_to_the_first(error, monkeypatch, capfd):
    write = os.write

    def interrupted_write(*arguments):
        signal.raise_signal(signal.SIGINT)
        return write(*arguments)

    monkeypatch.setattr(os, "write", interrupted_write)
    code, stderr = run(raising(error), capfd)
    assert (code, stderr.count("\n")) == (130 if isinstance(error, KeyboardInterrupt) else 2, 1)
