# SPDX-License-Identifier: Apache-2.0
"""The first moments of a script, while its modules load.

The package's `__init__` calls `prepare_script` before anything slow is imported. `cli.run` takes over: the signals, and
errors of imports. Until the Python's version is checked, every file that is read keeps to the syntax of Python 3.7:
this one, `needs.py`, `reporting.py`, the `__init__.py` files and the scripts.
"""

# Without pathlib, whose import takes longer than all that is done here.
# ruff: noqa: PTH109, PTH120

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing may not be imported yet: it would come from the current folder
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
SCRIPTS = ("preprocess.py", "export_onnx.py", "pyacl_infer.py", "postprocess.py", "pth_online_infer.py")


def prepare_script() -> None:
    """Prepare this process if its main program belongs to the suite; change nothing for others that import it."""
    name = _main_program()
    if name:
        prepare(name)


def prepare(name: str) -> None:
    """Prepare this process to run the suite's program `name`, or end it if this Python is too old for the program."""
    _leave_out_current_folder()
    _open_closed_streams()
    _end_on_signals(name)
    _end_without_needs(name)


def _main_program() -> str | None:
    """The name of the suite's script or module that Python was started with, or None. (A worker process has none.)"""
    folder, name = os.path.split(os.path.realpath(getattr(sys.modules.get("__main__"), "__file__", None) or ""))
    if folder == ROOT and name in SCRIPTS:
        return name
    words = _command_line()
    if sys.argv[0] == "-m" and "-m" in words[:-1]:  # `python -m` imports the package before it runs the module
        package, _, module = words[words.index("-m") + 1].partition(".")
        if package == __name__.partition(".")[0]:
            return f"{module}.py"
    return None


def _command_line() -> list[str]:
    """The words that Python was started with; on an old Python, none outside Linux."""
    try:
        return sys.orig_argv  # since Python 3.10
    except AttributeError:
        pass
    try:
        with open("/proc/self/cmdline", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().split("\0")[:-1]
    except OSError:
        return []


def _leave_out_current_folder() -> None:
    """Import nothing from the current folder, where -c, -m or an empty entry of PYTHONPATH would look for modules.

    Some set_env.sh leave such an entry. Child processes inherit both settings; libraries start some with -c.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = list(filter(None, entries))
    if named != entries:
        os.environ["PYTHONPATH"] = os.pathsep.join(named)
    here = _here()
    kept = {ROOT, *named}  # ROOT is a script's own folder, and that of a module which is run there
    sys.path[:] = [path for path in sys.path if path in kept or path != here]


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been deleted
        return ""


def _open_closed_streams() -> None:
    """Open fds 0 to 2 if they are closed. The next file would get such a number, and with it what is printed there."""
    null = os.open(os.devnull, os.O_RDWR)
    while null <= 2:
        null = os.dup(null)
    os.close(null)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _end_on_signals(name: str) -> None:
    """End this process in one line on Ctrl-C and SIGTERM: there is nothing to clean up yet.

    An exception could get lost in a module that is being imported.
    """
    import signal  # now, when nothing is imported from the current folder

    def end(number: int, _frame: object) -> None:
        _end(name, "interrupted", 128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as in background jobs
            signal.signal(number, end)


def _end_without_needs(name: str) -> None:
    """End this process in one line if its Python is too old, or if a module imports a package that is not usable."""
    from . import needs  # now, when a signal in its import is answered

    too_old = needs.too_old(name)
    if too_old:
        _end(name, f"error: {too_old}", 2)

    def end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, ImportError):
            _end(name, f"error: {needs.lacking(error, name)}", 2)
        sys.__excepthook__(kind, error, traceback)

    sys.excepthook = end


def _end(name: str, message: str, status: int) -> NoReturn:
    try:
        os.write(2, " ".join(f"{name}: {message}".split()).encode(errors="replace") + b"\n")
    finally:
        os._exit(status)
