# SPDX-License-Identifier: Apache-2.0
"""Folders that a script writes: it may replace what the scripts wrote before, and nothing else.

`files.tsv` names the files that the scripts wrote, each before it appears (file_list.py). Only these files, if they are
regular files, are ever replaced or removed; all others are the user's. New files are written under a temporary name
that begins with the lock's token (locks.py), and renamed when they are whole. A sub-folder of model inputs belongs to
the scripts while the list names files in it.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from ..errors import SuiteError
from ..machine.signals import signals_deferred
from .atomic import NewFile, new_file
from .file_list import HEADER, Content, FileList, content_of_file, format_line, read_list
from .locks import locked, remove_temporaries
from .names import LIST_NAME, LOCK_NAME, RUN_NAME
from .replaced import say_replaced
from .run import Run, format_run, read_run
from .text import read_bytes


class Writer(ABC):
    """A folder that is written into."""

    @abstractmethod
    def writing(self, name: str) -> AbstractContextManager[NewFile]:
        """Write a file of the folder; it is recorded at the end of the block."""

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the folder as UTF-8."""
        with self.writing(name) as file:
            file.write(text.encode("utf-8"))


class Staging(Writer):
    """A temporary folder inside an output folder, and the list of what was written there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._list = (path / LIST_NAME).open("wb")
        self._list.write(HEADER)

    def record(self, name: str, content: Content) -> None:
        """Note a whole file that somebody has written into the folder."""
        self._list.write(format_line(name, content))

    @contextmanager
    def writing(self, name: str) -> Iterator[NewFile]:
        with new_file(self.path / name) as file:
            yield file
        self.record(name, Content(file.size, file.crc32))

    def close(self) -> None:
        """Finish the list."""
        self._list.close()


class OutputFolder(Writer):
    """A folder whose lock this process holds."""

    def __init__(self, path: Path, token: str) -> None:
        self.path = path
        self._token = token
        self._temporaries = 0
        self._known: FileList | None = None

    def files(self) -> FileList | None:
        """The files that the scripts wrote here; None if the folder has no list yet."""
        files = read_list(self.path)
        if files is not None:
            files.check()  # names from it are replaced and removed
        return files

    def check_free(self, *names: str) -> None:
        """Raise SuiteError if one of these files is there and no script wrote it, or is no regular file."""
        for name in names:
            try:
                mode = (self.path / name).lstat().st_mode
            except FileNotFoundError:
                continue
            if not self._has(name):
                raise SuiteError(
                    f"{self.path / name}: no script wrote this file, and it would be replaced; choose another folder"
                )
            if not stat.S_ISREG(mode):
                raise SuiteError(f"{self.path / name}: expected a regular file, found something else; remove it")

    def _has(self, name: str) -> bool:
        """Whether the list has a name. It may be long, and is read again only if the name may be new in it."""
        if self._known is None or name not in self._known:
            self._known = self.files()
        return self._known is not None and name in self._known

    def check_alone(self, script: str) -> None:
        """Raise SuiteError if the folder holds a file that the scripts did not write, or files of another script."""
        files, run = self.files(), read_run(self.path)
        if files is None and run is not None and (run.format or 1) == 1:
            raise SuiteError(
                f"{self.path}: written by an older version, which kept no {LIST_NAME}; delete it, or choose another "
                f"folder"
            )
        self.check_owner(script)
        for name, entry in self._entries(_sub_folders(files or ())):
            if name == LOCK_NAME or name.startswith(self._token):
                continue
            if not (files is not None and (name == LIST_NAME or (run is not None and name in files))):
                raise SuiteError(
                    f"{self.path}: holds files that {script} did not write ({name}); choose another folder"
                )
            if not entry.is_file(follow_symlinks=False):
                raise SuiteError(f"{self.path / name}: expected a regular file, found something else; remove it")

    def _entries(self, sub_folders: Collection[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """What is in the folder, by name; instead of a sub-folder what is in that."""
        for entry in os.scandir(self.path):
            if entry.name in sub_folders and entry.is_dir(follow_symlinks=False):
                yield from ((f"{entry.name}/{inner.name}", inner) for inner in os.scandir(entry))
            else:
                yield entry.name, entry

    def check_owner(self, script: str) -> None:
        """Raise SuiteError if the folder holds files of another script."""
        run = read_run(self.path)
        if run is not None and run.script != script:
            raise SuiteError(f"{self.path}: holds files of {run.script}; choose another folder for {script}")

    @contextmanager
    def writing(self, name: str) -> Iterator[NewFile]:
        """Write a file, which replaces the earlier one at the end of the block. On failure the earlier one is left."""
        self._temporaries += 1
        temporary = self.path / f"{self._token}.{self._temporaries}"
        with new_file(temporary) as file:
            yield file
        try:
            if os.path.lexists(self.path / name):
                self.check_free(name)
            self._note(format_line(name, None))
            temporary.replace(self.path / name)
            self._note(format_line(name, Content(file.size, file.crc32)))
        finally:
            temporary.unlink(missing_ok=True)

    def write_run(self, run: Run) -> None:
        """Write `run.json`."""
        self.write_text(RUN_NAME, format_run(run))

    def begin(self, name: str) -> None:
        """Note a file before somebody appends to it."""
        self._note(format_line(name, None))

    def end(self, name: str) -> None:
        """Note a file as whole after the last was appended to it."""
        self._note(format_line(name, content_of_file(self.path / name)))

    def remove(self, *names: str) -> None:
        """Remove files that the scripts wrote, also from the list: later files of these names are the user's."""
        self.check_free(*names)
        files = self.files()
        if files is not None and any(name in files for name in names):
            for name in names:
                _remove(self.path / name)
            gone = set(names)  # they may be as many as the files
            self._replace_list(format_line(name, files[name]) for name in files if name not in gone)

    def keep(self, is_kept: Callable[[str], bool]) -> None:
        """Remove all files that the scripts wrote, except these; the list names no others from then on."""
        files = self.files()
        if files is None:
            return
        for name in files:
            if not is_kept(name):
                _remove(self.path / name)
        self._replace_list(format_line(name, files[name]) for name in files if (self.path / name).exists())

    @contextmanager
    def staging(self) -> Iterator[Staging]:
        """A temporary folder for files that are then published together. It is removed with what is left in it."""
        path = self.path / self._token
        path.mkdir()
        staged = Staging(path)
        try:
            yield staged
        finally:
            with signals_deferred():
                staged.close()
                remove_temporaries(self.path, self._token)

    def publish(self, staged: Staging, marker: str) -> None:
        """Replace all files that the scripts wrote here by the staged ones, and say so.

        The presence of `marker` says that the folder is complete: it is removed first, and moved last, if it is staged.
        """

        def move(names: Iterable[str]) -> None:
            for name in names:
                with suppress(FileNotFoundError):
                    (staged.path / name).rename(self.path / name)

        staged.close()
        for name in _sub_folders(self.files() or ()):
            if (self.path / name).is_dir() and not os.access(self.path / name, os.W_OK | os.X_OK):
                raise SuiteError(f"{self.path / name}: nothing can be written into this folder; change its permissions")
        earlier = read_run(self.path)
        if earlier is not None:
            say_replaced(self.path, earlier, is_whole=(self.path / marker).exists())
        with signals_deferred():
            self.check_free(marker)
            _remove(self.path / marker)
            self._note_staged(staged)
            files = self.files() or ()
            for name in files:
                if not os.path.lexists(staged.path / name):
                    _remove(self.path / name)
            # First run.json, which says whose folder it is; at the end the list without the earlier files.
            self._known = None
            first, last = (RUN_NAME,), (LIST_NAME, marker)
            move(first)
            for name in _sub_folders(files):
                if (staged.path / name).is_dir():
                    (self.path / name).mkdir(exist_ok=True)
                else:
                    _remove_if_empty(self.path / name)
            move(name for name in files if name not in (*first, *last))
            move(last)

    def adopt(self, staged: Staging) -> None:
        """Move the staged files here. They replace earlier files of their names, and no others."""
        staged.close()
        names = read_list(staged.path) or ()
        self.check_free(*names)
        with signals_deferred():
            self._note_staged(staged)
            for name in names:
                (staged.path / name).replace(self.path / name)

    def _note_staged(self, staged: Staging) -> None:
        with (staged.path / LIST_NAME).open("rb") as lines:
            lines.seek(len(HEADER))
            self._note(lines.read())

    def mend(self) -> None:
        """Make the list ready to be appended to. Raises SuiteError if it is a file of the user.

        A run may have been killed while it appended a line. And the list may be a file of another folder as well, of a
        backup with hard links, which must stay as it is.
        """
        path = self.path / LIST_NAME
        if not os.path.lexists(path):
            return
        content = read_bytes(path, "choose another folder")
        if not content.startswith(HEADER) or not content.endswith(b"\n"):
            self.files()
        if not content.endswith(b"\n") or path.lstat().st_nlink > 1:
            self._replace_list([content[len(HEADER) : content.rfind(b"\n") + 1]])

    def _note(self, lines: bytes) -> None:
        path = self.path / LIST_NAME
        if not os.path.lexists(path):
            self._replace_list([])
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW), "ab") as file:
            file.write(lines)

    def _replace_list(self, lines: Iterable[bytes]) -> None:
        temporary = self.path / f"{self._token}.list"
        with new_file(temporary) as new:
            new.write(HEADER)
            for line in lines:
                new.write(line)
        temporary.replace(self.path / LIST_NAME)
        self._known = None


def _sub_folders(names: Iterable[str]) -> set[str]:
    """The sub-folders of the files with these names."""
    return {name.rpartition("/")[0] for name in names} - {""}


def _remove_if_empty(folder: Path) -> None:
    """Remove a sub-folder, unless the user has put something into it."""
    with suppress(OSError):
        folder.rmdir()


def _remove(path: Path) -> None:
    """Remove a recorded file, if it is there and still a regular file."""
    try:
        if stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
    except FileNotFoundError:
        pass


@contextmanager
def output_folder(path: Path, script: str | None = None, *, wait: bool = False) -> Iterator[OutputFolder]:
    """Lock a folder for writing; it is made if need be.

    The folder may hold nothing but files of `script`. If none is named, the caller checks the names that it will write
    by `check_free`. Raises SuiteError if the folder may not be used, or if another run holds it (`wait`: waits for it).
    """
    with locked(path, wait) as token:
        folder = OutputFolder(path, token)
        if script is not None:
            folder.check_alone(script)
        folder.mend()
        yield folder
