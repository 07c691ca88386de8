# SPDX-License-Identifier: Apache-2.0
"""One writer, or several readers, at a time in a folder.

The lock belongs to an open file, so it ends with the process, however that ends. While somebody writes, the file holds
a token, with which the names of the writer's temporary files begin. If the writer is killed, the token stays, and
whoever locks the folder next removes those files.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import SuiteError
from ..machine.signals import signals_deferred
from .names import INPUT_FOLDERS, LIST_NAME, LOCK_NAME

_TOKEN = re.compile(rb"(\.[0-9a-f]{16})?")


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[str]:
    """Make `folder` if need be, and keep other runs of the suite out of it until the block ends.

    Yields the run's token, with which the names of all its temporary files and folders must begin. If another run holds
    the folder: raises SuiteError, or waits with `wait=True`. Folders that were made here and stay empty are removed.
    """
    existed = folder.exists()
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    if not folder.is_dir() and os.path.lexists(folder):
        found = "a file" if existed else "a link to nothing"
        raise SuiteError(f"{folder}: expected a folder, found {found}; choose another path")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    is_new = not os.path.lexists(path)
    descriptor = _lock(path, fcntl.LOCK_EX, wait, "writing into it or reading it")
    failed = True
    token = f".{secrets.token_hex(8)}"
    try:
        left = _read_token(path, descriptor)
        if left:
            remove_temporaries(folder, left)
        os.pwrite(descriptor, token.encode(), 0)
        yield token
        failed = False
    finally:
        with signals_deferred():
            remove_temporaries(folder, token)
            os.ftruncate(descriptor, 0)
            # It is kept where there is something to read, for readers who may not create it.
            if is_new and (failed or not (folder / LIST_NAME).exists()):
                path.unlink(missing_ok=True)
                for each in made:
                    if any(each.iterdir()):
                        break
                    each.rmdir()
            os.close(descriptor)


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keep writers out of a folder of this suite until the block ends. Other readers may come.

    Other folders are left alone. Raises SuiteError if a run is writing. A folder on a read-only medium needs no lock.
    """
    if not (folder / LIST_NAME).exists():
        yield
        return
    try:
        descriptor = _lock(folder / LOCK_NAME, fcntl.LOCK_SH, False, "writing into it")
    except OSError:  # nobody can write here: no permission, or a read-only file system
        yield
        return
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, kind: int, wait: bool, doing: str) -> int:
    """An open and locked file at `path`; its descriptor."""
    while True:
        descriptor = _open(path, kind)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SuiteError(f"{path}: expected a lock file of this suite, found something else; remove it")
            try:
                fcntl.flock(descriptor, kind | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise SuiteError(
                    f"{path.parent}: another run is {doing}; wait for its end, or choose another folder"
                ) from None
            except OSError:
                return descriptor  # a file system without locks
            # Whoever held the lock may have removed the file before we got it.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.lstat()):
                _read_token(path, descriptor)  # a file of the user is refused before it is touched
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: Path, kind: int) -> int:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # not through a link, and not waiting for a pipe
    try:
        return os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o666)  # for writing, because NFS wants it
    except OSError:
        if kind == fcntl.LOCK_EX:
            raise
        return os.open(path, flags | os.O_RDONLY)  # the folder of another user


def _read_token(path: Path, descriptor: int) -> str:
    content = os.pread(descriptor, 100, 0)
    if not _TOKEN.fullmatch(content):
        raise SuiteError(f"{path}: expected a lock file of this suite, found other content; remove it")
    return content.decode()


def remove_temporaries(folder: Path, token: str) -> None:
    """Remove the temporary files of the run with this token, and the files in its temporary folders."""
    for entry in [entry for entry in os.scandir(folder) if entry.name.startswith(token)]:
        if entry.is_dir(follow_symlinks=False):
            for inner in list(os.scandir(entry)):
                if inner.name in INPUT_FOLDERS and inner.is_dir(follow_symlinks=False):
                    _remove_folder(inner)
            _remove_folder(entry)
        else:
            os.unlink(entry)  # noqa: PTH108


def _remove_folder(folder: os.DirEntry[str]) -> None:
    """Remove a folder of files."""
    for entry in os.scandir(folder):
        os.unlink(entry)  # noqa: PTH108 (there may be hundreds of thousands)
    os.rmdir(folder)  # noqa: PTH106
