# SPDX-License-Identifier: Apache-2.0
"""What the scripts' command lines share: option types, common options, and how a script ends.

A user's mistake ends in one line on stderr and exit status 2, without a traceback.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from . import MODEL_ID
from .errors import SuiteError
from .machine.cpu import default_threads
from .sources.splits import SPLITS

EXIT_USER_ERROR = 2

Value = TypeVar("Value")


class ArgumentParser(argparse.ArgumentParser):
    """argparse that reports a bad option in one line instead of repeating the whole usage."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=_HelpFormatter)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USER_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Shows a script's docstring as written, and every default that is a value."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def boolean(text: str) -> bool:
    """`True` or `False` in any case. (`type=bool` would take "False" for true.)"""
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"expected True or False, found {text!r}") from None


def integer(minimum: int) -> Callable[[str], int]:
    """An option type for whole numbers from `minimum` on."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= minimum):
            raise argparse.ArgumentTypeError(f"expected a whole number, {minimum} to 999999999, found {text!r}")
        return int(text)

    return parse


def checked(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """Make an option type of a function that raises SuiteError (argparse hides the texts of other errors)."""

    def option_type(text: str) -> Value:
        try:
            return parse(text)
        except SuiteError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return option_type


def parse_gears(text: str) -> tuple[int, ...] | None:
    """Read the value of `--gears`: `none`, `default`, numbers with commas, or a file with one number a line.

    Returns ascending lengths in samples, or None for "do not pad". `padding_lens.txt` is such a file.
    """
    from .speech.audio import LONGEST, RECEPTIVE_FIELD, is_length
    from .speech.padding import GEARS

    if text == "none":
        return None
    if text == "default":
        return GEARS
    numbers = text.replace(",", " ").split()
    if not all(number.isdecimal() for number in numbers):
        if not Path(text).is_file():
            raise SuiteError(
                f"gears: expected 'none', 'default', numbers of samples with commas, or a file with one number "
                f"a line; found {text!r}"
            )
        numbers = Path(text).read_text(encoding="utf-8", errors="replace").split()
    if not numbers or not all(map(is_length, numbers)):
        raise SuiteError(f"gears: expected whole numbers of samples, {RECEPTIVE_FIELD} to {LONGEST}; found {text!r}")
    return tuple(sorted({int(number) for number in numbers}))


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """`--which_dataset`, `--dataset_path` and `--limit`."""
    parser.add_argument(
        "--which_dataset",
        required=True,
        choices=tuple(SPLITS),
        help="validation: LibriSpeech's 73-utterance dummy set; clean: test-clean; other: test-other",
    )
    parser.add_argument(
        "--dataset_path",
        metavar="FOLDER",
        help="a local LibriSpeech tree (clean: test-clean, other: test-other, validation: dev-clean), or a local "
        "copy of the hub's data set; read instead of the hub, without touching the network",
    )
    parser.add_argument("--limit", metavar="N", type=integer(1), help="use only the first N utterances")


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """`--model_name_or_path`."""
    parser.add_argument(
        "--model_name_or_path", default=MODEL_ID, metavar="MODEL", help="hub id, or local folder with the hub's files"
    )


def add_threads_option(parser: argparse.ArgumentParser) -> None:
    """`--num_threads`."""
    parser.add_argument("--num_threads", type=integer(1), default=default_threads(), metavar="N", help="CPU threads")


def add_workspace_option(parser: argparse.ArgumentParser, default: int | None, default_text: str = "") -> None:
    """`--workspace`, stored as `warm_up`."""
    parser.add_argument(
        "--workspace",
        dest="warm_up",
        type=integer(0),
        default=default,
        metavar="N",
        help=f"leave the first N inferences out of the averages (warm-up){default_text}",
    )


def run(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Run a script's `main` and exit with its status.

    SuiteError, a missing package, OSError (disk full, no permission) and a lack of memory become one line and status 2.
    SIGTERM ends the script like Ctrl-C, through every `finally`, so that temporary files and devices are released.
    """
    script = Path(sys.argv[0]).name
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal gets a question mark, not a traceback
    signal.signal(signal.SIGTERM, _terminate)
    status: str | int | None
    try:
        try:
            status = main(None)
        except SystemExit as end:  # raised by argparse, whose text may still be in the buffer
            status = end.code
        sys.stdout.flush()
    except SuiteError as error:
        status = _fail(script, str(error))
    except ModuleNotFoundError as error:
        status = _fail(script, f"the Python package {error.name!r} is missing; pip install -r requirements.txt")
    except BrokenPipeError:  # the reader of our output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    except MemoryError:
        status = _fail(script, "not enough memory; see --num_workers, or free some")
    except OSError as error:
        status = _fail(script, f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(f"{script}: interrupted", file=sys.stderr)
        status = 128 + signal.SIGINT
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # too late to interrupt: no traceback during interpreter shutdown
    sys.exit(status)


def _fail(script: str, message: str) -> int:
    print(f"{script}: error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_USER_ERROR


def _terminate(signum: int, _frame: object) -> NoReturn:
    sys.exit(128 + signum)
