# SPDX-License-Identifier: Apache-2.0
"""`files.tsv`: which files of a folder the scripts wrote, and what was in them.

A line is appended before a file appears, with `-` for what is not known yet, and another one when the file is whole,
with its size in bytes and its CRC-32. So the list names every file that a killed run left, and what is read can be
verified. Files that are not in the list are the user's.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import SuiteError
from .names import LIST_NAME, RUN_NAME, is_recordable
from .run import read_run
from .table import Table
from .text import open_file, read_bytes

HEADER = b"file\tbytes\tcrc32\n"
_SIZE, _CRC32 = re.compile(r"[0-9]{1,18}"), re.compile(r"[0-9a-f]{8}")
COPY_AGAIN = "copy the folder again, or run the script that wrote it again"


class Content(NamedTuple):
    """What is in a whole file."""

    size: int  # bytes
    crc32: int


def content_of(data: bytes | memoryview) -> Content:
    """Size and checksum of the content of a file."""
    return Content(memoryview(data).nbytes, zlib.crc32(data))


def content_of_file(path: Path) -> Content:
    """Size and checksum of a file, read in parts."""
    size = crc32 = 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            size, crc32 = size + len(part), zlib.crc32(part, crc32)
    return Content(size, crc32)


FileList = Table["Content | None"]  # None: the file was begun, and perhaps not finished


def read_list(folder: Path) -> FileList | None:
    """The folder's list, or None if there is none. Raises SuiteError if something else is in the file."""
    path = folder / LIST_NAME
    if not os.path.lexists(path):
        return None
    return Table(path, read_bytes(path, COPY_AGAIN), _parse, COPY_AGAIN, appended=True, header=HEADER)


def format_line(name: str, content: Content | None) -> bytes:
    """A line of the list, with its newline."""
    return (f"{name}\t-\t-\n" if content is None else f"{name}\t{content.size}\t{content.crc32:08x}\n").encode()


def _parse(lines: Sequence[str]) -> Content | None:
    name, size, crc32 = lines[0].split("\t")
    if not is_recordable(name):
        raise ValueError(name)
    if (size, crc32) == ("-", "-"):
        return None
    if not _SIZE.fullmatch(size) or not _CRC32.fullmatch(crc32):
        raise ValueError(size)
    return Content(int(size), int(crc32, 16))


class Source:
    """A folder that is read. Whatever is read of it is verified; a folder without a list is read as it is."""

    def __init__(self, folder: Path) -> None:
        """Raises SuiteError if the list is damaged, or missing where there must be one."""
        self.folder = folder
        self.run = read_run(folder)
        self.list = read_list(folder)
        begun = self.list is not None and RUN_NAME in self.list and self.list[RUN_NAME] is None
        if not begun and (self.run is not None or self.has(RUN_NAME)):  # a killed run may have left the earlier one
            self.read(RUN_NAME)
        if self.list is None and self.run is not None and (self.run.format or 1) > 1:
            raise SuiteError(f"{folder / LIST_NAME}: no such file, but {folder} was written with one; {COPY_AGAIN}")

    def has(self, name: str) -> bool:
        """Whether the folder has the file; in a folder with a list, whether the scripts wrote it."""
        return (self.folder / name).exists() if self.list is None else name in self.list

    def read(self, name: str, advice: str = COPY_AGAIN) -> bytes:
        """The verified content of a file. Raises SuiteError, with `advice`, if it is missing or damaged."""
        content = read_bytes(self.folder / name, advice)
        self.verify(name, content, advice)
        return content

    def lines(self, name: str, advice: str = COPY_AGAIN) -> Iterator[bytes]:
        """The lines of a file, without holding all of them. Raises SuiteError as `read` does, but after the last one.

        So nothing that was computed from the lines may be kept before all of them were read.
        """
        if self.list is not None:
            self.expected(name, advice)
        size = crc32 = 0
        with open_file(self.folder / name, advice) as file:
            for line in file:
                size, crc32 = size + len(line), zlib.crc32(line, crc32)
                yield line
        if self.list is not None:
            self._check(name, Content(size, crc32), advice)

    def verify(self, name: str, content: bytes | memoryview, advice: str = COPY_AGAIN) -> None:
        """Raise SuiteError, with `advice`, unless this is what was written into the file."""
        if self.list is not None:
            self._check(name, content_of(content), advice)

    def verify_file(self, name: str, advice: str = COPY_AGAIN) -> None:
        """Do the same for a file that a library reads itself."""
        if self.list is not None:
            self._check(name, content_of_file(self.folder / name), advice)

    def _check(self, name: str, found: Content, advice: str) -> None:
        expected = self.expected(name, advice)
        if found != expected:
            raise SuiteError(
                f"{self.folder / name}: damaged or replaced: expected {_describe(expected)} as {LIST_NAME} says, "
                f"found {_describe(found)}; {advice}"
            )

    def expected(self, name: str, advice: str = COPY_AGAIN) -> Content:
        """What the list says of a file. Raises SuiteError if it does not have the file, or not as whole."""
        files: Mapping[str, Content | None] = {} if self.list is None else self.list
        try:
            content = files[name]
        except KeyError:
            raise SuiteError(f"{self.folder / name}: not in {LIST_NAME}, so no script wrote it; {advice}") from None
        if content is None:
            raise SuiteError(f"{self.folder / name}: not finished, as {LIST_NAME} says; {advice}")
        return content


def _describe(content: Content) -> str:
    return f"{content.size} bytes with CRC-32 {content.crc32:08x}"
