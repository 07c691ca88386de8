# SPDX-License-Identifier: Apache-2.0
"""Runs a script of the suite, and has it killed (-9) at its n-th change of a file in a folder.

python kill_at_step.py N FOLDER SCRIPT OPTIONS …    N counts from 0; FOLDER is an absolute path
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path

CHANGES = {"os.mkdir", "os.rmdir", "os.rename", "os.remove", "os.truncate", "os.link", "os.symlink"}


def main() -> None:
    number, folder, script = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    step = 0

    def count(event: str, arguments: tuple) -> None:
        """Python tells of everything that it is about to do: https://docs.python.org/3/library/audit_events.html"""
        nonlocal step
        if event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            path = arguments[0]  # or the number of an open file
            if not isinstance(path, int) and Path(os.fsdecode(path)).resolve().is_relative_to(folder):
                step += 1
                if step == number + 1:  # once: the next line comes here, too
                    if event == "open":  # killed right behind it, which leaves an empty file
                        os.close(os.open(path, arguments[2]))
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.argv = sys.argv[3:]
    sys.path[0] = str(Path(script).parent)
    sys.addaudithook(count)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
