# SPDX-License-Identifier: Apache-2.0
"""Runs a script of the suite, and kills it (-9) at its n-th change of a file in a folder. A rename counts twice.

python kill_at_step.py N FOLDER SCRIPT OPTIONS …    N counts from 0; FOLDER is an absolute path
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

CHANGES = {"os.mkdir", "os.rmdir", "os.rename", "os.remove", "os.truncate", "os.link", "os.symlink"}


def main() -> None:
    number, folder, script = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    step = 0

    def is_killed_here() -> bool:
        nonlocal step
        step += 1
        return step == number + 1

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        """Python calls this before it changes a file (https://docs.python.org/3/library/audit_events.html)."""
        if event not in CHANGES and not (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = arguments[0]  # or the number of an open file
        if isinstance(path, int) or not Path(os.fsdecode(path)).resolve().is_relative_to(folder):
            return
        if is_killed_here():
            if event == "open":  # kill right after the file is opened, which leaves an empty file
                os.close(os.open(path, arguments[2]))
            os.kill(os.getpid(), signal.SIGKILL)
        if event == "os.rename" and is_killed_here():  # kill right after the rename, before any other write
            Path(path).replace(arguments[1])
            os.kill(os.getpid(), signal.SIGKILL)

    sys.argv = sys.argv[3:]
    sys.path[0] = str(Path(script).parent)
    sys.addaudithook(watch)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
