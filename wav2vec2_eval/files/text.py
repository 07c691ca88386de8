# SPDX-License-Identifier: Apache-2.0
"""Reading the suite's text files: whatever is in a file, the answer is its content or one line of error."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import SuiteError


@contextmanager
def open_file(path: Path, advice: str) -> Iterator[BinaryIO]:
    """A regular file, opened to be read. Raises SuiteError, with `advice`, if there is none."""
    try:
        # Not blocking, because opening a named pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        raise SuiteError(f"{path}: no such file; {advice}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SuiteError(f"{path}: expected a regular file, found something else; {advice}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_bytes(path: Path, advice: str) -> bytes:
    """The content of a regular file. Raises SuiteError, with `advice`, if there is none."""
    with open_file(path, advice) as file:
        return file.read()


def read_text(path: Path, advice: str) -> str:
    """The content of a UTF-8 file. Raises SuiteError, with `advice`, if there is none."""
    return decode(read_bytes(path, advice), str(path), advice)


def decode(content: bytes, what: str, advice: str) -> str:
    """UTF-8 bytes as text. Raises SuiteError, with `what` and `advice`, for other bytes."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise SuiteError(f"{what}: expected UTF-8 text, found other bytes; {advice}") from None


def parse_json(text: str) -> object:
    """The value of a JSON text. Raises ValueError for anything else, in whatever way it is broken."""
    try:
        value: object = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # \ud800 is valid JSON, but no text
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value
