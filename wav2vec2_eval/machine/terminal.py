# SPDX-License-Identifier: Apache-2.0
"""What a script prints on stdout while it works, and `--quiet`, which leaves all of it out.

A script's last line, its result, and its warnings are printed by `print`: `--quiet` leaves them in. Errors go to
stderr (cli.py).
"""

from __future__ import annotations

_is_quiet = False


def be_quiet(quiet: bool) -> None:
    """From now on print neither what `say` gets nor progress, or print both."""
    global _is_quiet
    _is_quiet = quiet


def is_quiet() -> bool:
    return _is_quiet


def say(text: str) -> None:
    """Print a line, or several, at once: whoever reads a log sees what is going on. `--quiet` leaves it out."""
    if not _is_quiet:
        print(text, flush=True)
