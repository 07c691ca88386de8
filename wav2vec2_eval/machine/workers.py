# SPDX-License-Identifier: Apache-2.0
"""Worker processes: one function, one job description that is sent once, and many numbered pieces of work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from .signals import signals_deferred

Job = TypeVar("Job")
Done = TypeVar("Done")


class WorkerKilled(Exception):
    """A worker process ended before its work was done, usually because the system ran out of memory."""


def run_in_processes(
    work: Callable[[Job, int], Done], job: Job, count: int, num_workers: int
) -> Generator[Done, None, None]:
    """Yield `work(job, 0)` to `work(job, count - 1)` in this order, computed by `num_workers` processes.

    `work` and `job` must be picklable. With one worker, or one piece of work, everything happens in this process. An
    exception of `work` is raised here. Raises WorkerKilled if a process dies. Closing the generator ends the workers.
    """
    if num_workers == 1 or count <= 1:
        yield from (work(job, index) for index in range(count))
        return
    # Spawned, not forked: the fork of a process that has threads (pyarrow, tqdm) may deadlock.
    context = multiprocessing.get_context("spawn")
    workers = min(num_workers, count)
    chunk = max(1, min(16, count // (4 * workers)))
    # A signal handler that raises inside the executor's code can leave its locks held. So signals wait until the
    # workers have ended.
    with signals_deferred() as received:
        executor = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(work, job))
        try:
            with _what_workers_inherit():
                results = executor.map(_work, range(count), chunksize=chunk)  # starts all processes
            for result in results:
                if received:
                    raise KeyboardInterrupt
                yield result
        except BrokenProcessPool:
            raise WorkerKilled from None
        finally:
            executor.shutdown(cancel_futures=True)


@contextmanager
def _what_workers_inherit() -> Iterator[None]:
    """Set, while processes start, what they must inherit: Ctrl-C blocked, and no imports from the current folder.

    Ctrl-C reaches every process of the group; the workers leave it to their parent. Without PYTHONSAFEPATH, a file
    ./re.py of the user would be executed in them.
    """
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    safe_path = os.environ.get("PYTHONSAFEPATH", "")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        os.environ["PYTHONSAFEPATH"] = safe_path  # an empty value is as good as none
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)


_run: Callable[[int], Any]  # in a worker process: `work` with its job


def _start_worker(work: Callable[[Any, int], Any], job: object) -> None:
    global _run
    _run = partial(work, job)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is killed, so that it does not go on writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _work(index: int) -> Any:
    return _run(index)
