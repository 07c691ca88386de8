# SPDX-License-Identifier: Apache-2.0
"""Disk space: how much a script will need, said before it works, and refused if that much is not free."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..errors import SuiteError
from ..machine.terminal import say
from ..speech.readable import format_size

_BLOCK = 4096  # bytes; a file takes whole blocks


def on_disk(num_bytes: int) -> int:
    """What a file of this size takes, in bytes."""
    return -(-num_bytes // _BLOCK) * _BLOCK


def check_space(folder: Path, needed: int, what: str, basis: str = "") -> None:
    """Say that `what` will need `needed` bytes in `folder`, which may not exist yet; `basis`: how that is known.

    Raises SuiteError if less is free. Files that will be replaced count as used: they are there until the new ones are
    whole. Nothing is said where nothing is needed.
    """
    if not needed:
        return
    free = shutil.disk_usage(_nearest(folder)).free
    if needed > free:
        raise SuiteError(
            f"{folder}: expected {format_size(needed)} of free disk space for {what}{basis and f' ({basis})'}, found "
            f"{format_size(free)}; free some, delete earlier results, or choose a folder on another disk"
        )
    say(f"disk: {format_size(needed)} for {what} in {folder}{basis and f' ({basis})'}, {format_size(free)} free")


def _nearest(path: Path) -> str:
    """The path itself, or the nearest folder above it that exists."""
    found = os.path.abspath(path)  # noqa: PTH100 (Path.absolute would keep `..`)
    while not os.path.exists(found):  # noqa: PTH110 (Path.exists fails if a folder above cannot be entered)
        found = os.path.dirname(found)  # noqa: PTH120
    return found
