# SPDX-License-Identifier: Apache-2.0
"""New files, which are created exclusively and without following links, and the digests of files."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NewFile:
    """A new file that is being written, with the size in bytes and the CRC-32 of what was written so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0
        self.crc32 = 0

    def write(self, data: bytes | memoryview) -> int:
        self._file.write(data)
        self.size += memoryview(data).nbytes
        self.crc32 = zlib.crc32(data, self.crc32)
        return len(data)

    def flush(self) -> None:
        """Hand over to the system what was written so far: raises OSError if the disk is full."""
        self._file.flush()


@contextmanager
def new_file(path: Path) -> Iterator[NewFile]:
    """Create `path`, which must not exist, also not as a link; on failure remove it."""
    descriptor = os.open(path, _NEW, 0o666)  # if this fails, the file is not ours
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield NewFile(file)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # "No space left on device" does not say where
            error.filename = str(path)
        raise


def file_digest(path: Path, size: int | None = None) -> str:
    """SHA-256 of a file's content, or of its first `size` bytes."""
    digest = hashlib.sha256()
    left = path.stat().st_size if size is None else size
    with path.open("rb") as file:
        while block := file.read(min(left, 1 << 20)):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()
