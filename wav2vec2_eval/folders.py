# SPDX-License-Identifier: Apache-2.0
"""Output folders: a script may replace what it wrote before, and nothing else.

The first file that a script writes into its folder is `run.json`: which script owns the folder, and the conditions of
the run. A folder without it must be empty; a folder with it must hold only files of the owner's kinds.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .cli import signals_deferred
from .errors import SuiteError
from .tensors import TEMPORARY_SUFFIX, write_text

RUN_NAME = "run.json"


def read_run(folder: Path) -> dict[str, Any] | None:
    """The content of the folder's `run.json`, or None if there is none."""
    path = folder / RUN_NAME
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        run = None
    if not isinstance(run, dict) or "script" not in run:
        raise SuiteError(
            f"{path}: expected the JSON that this suite writes, found something else; choose another folder"
        )
    return run


def write_run(folder: Path, script: str, **conditions: Any) -> None:
    """Write the folder's `run.json`."""
    write_text(folder / RUN_NAME, json.dumps({"script": script, **conditions}, indent=2, ensure_ascii=False) + "\n")


def check_not_owned_by_another(folder: Path, script: str) -> str | None:
    """Raise SuiteError if `folder` holds another script's run; returns its owner, `script` or None."""
    owner = (read_run(folder) or {}).get("script")
    if owner not in (None, script):
        raise SuiteError(f"{folder}: holds files of {owner}; choose another folder for {script}")
    return owner


def check_replaceable(folder: Path, script: str, is_own: Callable[[str], bool]) -> None:
    """Raise SuiteError unless `script` may write into `folder`, replacing what is there.

    It may if the folder does not exist, is empty, or holds the script's `run.json` and only files whose names are its
    own by `is_own` (temporary files that a killed run left count as the files that they would have become).
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise SuiteError(f"{folder}: expected a folder, found a file; choose another path")
    owner = check_not_owned_by_another(folder, script)
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(TEMPORARY_SUFFIX)
        if name == RUN_NAME or (owner and is_own(name)):
            continue
        raise SuiteError(f"{folder}: holds files that {script} did not write ({path.name}); choose another folder")


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Make `folder` if need be, and keep other runs of the suite out of it. If one is in it, SuiteError, or `wait`.

    The lock belongs to the process: it goes with it, however it ends.
    """
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    remove_if_empty = False
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise SuiteError(f"{folder}: another run is writing into it; wait for its end, or choose another") from None
        except OSError:
            pass  # a file system without locks
        remove_if_empty = not existed
        yield
    finally:
        with signals_deferred():
            if remove_if_empty and not any(folder.iterdir()):
                folder.rmdir()
            os.close(descriptor)


@contextmanager
def staging(folder: Path, script: str, name: str) -> Iterator[Path]:
    """A fresh folder `name` inside `folder`, which is marked as `script`'s. On leaving it is removed with its content.

    Work is prepared there, so that a failure leaves the earlier content of `folder` as it was.
    """
    existed = read_run(folder) is not None
    if not existed:
        write_run(folder, script)
    path = folder / name
    _remove(path)  # a killed run's
    path.mkdir()
    try:
        yield path
    finally:
        with signals_deferred():
            _remove(path)
            if not existed and {child.name for child in folder.iterdir()} == {RUN_NAME}:
                (folder / RUN_NAME).unlink()


def _remove(folder: Path) -> None:
    """Remove a flat folder of our own."""
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
