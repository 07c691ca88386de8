# SPDX-License-Identifier: Apache-2.0
"""What the scripts' command lines share: option types, common options, and how a script ends.

A user's mistake ends in one line on stderr and exit status 2, without a traceback.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from . import MODEL_ID
from .errors import SuiteError

EXIT_USER_ERROR = 2
DATASETS = ("validation", "clean", "other")


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


def checked(parse: Callable[[str], object]) -> Callable[[str], object]:
    """Make an option type of a function that raises SuiteError (argparse hides other errors' texts)."""

    def option_type(text: str) -> object:
        try:
            return parse(text)
        except SuiteError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return option_type


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """`--which_dataset`, `--dataset_path` and `--limit`."""
    parser.add_argument(
        "--which_dataset",
        required=True,
        choices=DATASETS,
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


def default_threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """What to call this host's processor in a result: its model where the system tells, else its architecture."""
    return f"cpu ({_cpu_info('model name') or platform.machine()})"


def cpu_features() -> set[str]:
    """What this host's processor can do, in Linux's words; empty where the system does not tell."""
    return set((_cpu_info("flags") or _cpu_info("Features")).split())  # x86_64, aarch64


def _cpu_info(field: str) -> str:
    """A field of /proc/cpuinfo, of the first core; empty if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def run(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Run a script's `main` and exit with its status.

    SuiteError, a missing package, OSError (disk full, no permission) and a lack of memory become one line and status 2.
    SIGTERM ends the script like Ctrl-C, through every `finally`, so that temporary files and devices are released.
    """
    script = Path(sys.argv[0]).name
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal that knows only ASCII gets a question mark, not a traceback
    signal.signal(signal.SIGTERM, _terminate)
    try:
        try:
            status = main(None)
        except SystemExit as end:  # of argparse, whose text may still wait to be written
            status = end.code
        sys.stdout.flush()
    except SuiteError as error:
        status = _fail(script, str(error))
    except ModuleNotFoundError as error:
        status = _fail(script, f"the Python package {error.name!r} is missing; pip install -r requirements.txt")
    except BrokenPipeError:  # whoever read the output, like `head`, has seen enough
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is done is done, and Python ends without a traceback
    sys.exit(status)


@contextmanager
def signals_deferred() -> Iterator[Sequence[int]]:
    """Hold SIGINT and SIGTERM back until the end of the block, which sees in the yielded list those that wait.

    Python's handlers are replaced, since a blocked signal would still reach them by way of another thread. They run in
    the main thread alone; in another one there is nothing to hold back.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {
        number: signal.signal(number, lambda n, _: noted.append(n))
        for number in (signal.SIGINT, signal.SIGTERM)
        # A job in the background stays deaf to Ctrl-C. None is the handler of others, or Python at its end.
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in noted[:1]:
            signal.raise_signal(number)


def _fail(script: str, message: str) -> int:
    print(f"{script}: error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_USER_ERROR


def _terminate(signum: int, _frame: object) -> NoReturn:
    sys.exit(128 + signum)
