# SPDX-License-Identifier: Apache-2.0
"""As sitecustomize.py: a script gets a signal at a chosen step, as on a busy host at any moment.

SIGNAL      its number
STEP        counts from 0
EVENT       what is a step: "import" of a module after those that take the signals over, "worker import" in each worker
            process, "os.rename", or "start" of a process, which counts before and after
GROUP       1 sends the signal to all processes of the group, as a terminal and batch systems do
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

TAKING_OVER = {f"wav2vec2_eval{name}" for name in ("", ".machine", ".machine.reporting", ".machine.start")}
number, last, wanted = int(os.environ["SIGNAL"]), int(os.environ["STEP"]), os.environ["EVENT"]
is_worker = "--multiprocessing-fork" in sys.argv
steps = 0


def step() -> None:
    global steps
    if steps == last:
        if os.environ.get("GROUP") == "1":
            os.killpg(0, number)
        else:
            signal.raise_signal(number)
    steps += 1


def is_counted(event: str, arguments: tuple[Any, ...]) -> bool:
    if wanted == "worker import":
        return is_worker and event == "import"
    in_script = not is_worker and "wav2vec2_eval" in sys.modules
    return in_script and event == wanted and not (event == "import" and arguments[0] in TAKING_OVER)


def counting(start: Callable[..., int]) -> Callable[..., int]:
    def counted(*arguments: Any) -> int:
        step()
        process_id = start(*arguments)
        step()
        return process_id

    return counted


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Python calls this before it looks for a module that is not loaded yet, and at many other steps."""
    if is_counted(event, arguments):
        step()
    if wanted == "start" and event == "import" and arguments[0] == "multiprocessing.popen_spawn_posix":
        from multiprocessing import util

        util.spawnv_passfds = counting(util.spawnv_passfds)


sys.addaudithook(watch)
