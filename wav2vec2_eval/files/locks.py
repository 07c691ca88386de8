# SPDX-License-Identifier: Apache-2.0
"""One run at a time in a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import SuiteError
from ..machine.signals import signals_deferred


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Make `folder` if need be, and keep other runs of the suite out of it until the block ends.

    If another run holds it: raise SuiteError, or wait with `wait=True`. The lock is released when the process ends,
    however it ends. A folder that was made here and stays empty is removed.
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
