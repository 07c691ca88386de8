# SPDX-License-Identifier: Apache-2.0
"""Keeping libraries that are written in C from printing beside the suite's own lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Until the block ends, what this process writes to file descriptor 2 is dropped.

    Other threads are silent meanwhile, too; so keep the block short.
    """
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
