# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or absent: written under another name and renamed, so `kill -9` leaves no half of a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .locks import locked
from .names import TEMPORARY_SUFFIX


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file."""
    write_whole(path, lambda file: file.write(text.encode("utf-8")))


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`; on failure leave no trace."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            write(file)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # "No space left on device" does not say where
            error.filename = str(path)
        raise


@contextmanager
def candidate(path: Path) -> Iterator[Path]:
    """Where to write a model that becomes `path` if the block ends without an exception, and is removed otherwise.

    The folder of `path` is made if need be, and locked. The candidate keeps the suffix of `path`, because libraries
    read it.
    """
    new = path.with_name(f".{path.stem}{TEMPORARY_SUFFIX}{path.suffix}")
    with locked(path.parent):
        try:
            yield new
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
