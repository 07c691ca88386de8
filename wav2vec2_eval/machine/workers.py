# SPDX-License-Identifier: Apache-2.0
"""Worker processes: one function, one job description that is sent once, and many numbered pieces of work.

Every worker has a pipe of its own, and shares no lock, queue or thread with another. So nobody waits for a worker that
dies at the wrong moment. (concurrent.futures can wait forever if a worker dies while another is being started.)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

from .signals import SIGNALS, signals_deferred

Job = TypeVar("Job")
Done = TypeVar("Done")

LARGEST_CHUNK = 16  # pieces of work that are sent together
CHUNKS_IN_HAND = 2  # of each worker, so that it never waits for the next
WAIT_S = 0.1  # for results, before the next look at the signals


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
    workers = min(num_workers, count)
    size = max(1, min(LARGEST_CHUNK, count // (4 * workers)))
    chunks = [range(start, min(start + size, count)) for start in range(0, count, size)]
    # Signals wait until the workers have ended.
    with signals_deferred() as received, ExitStack() as stack:
        pipes = []
        for _ in range(workers):
            _stop_at(received)
            pipes.append(stack.enter_context(_worker()))
        description = ForkingPickler.dumps((work, job))
        for pipe in pipes:
            with _worker_may_die():
                pipe.send_bytes(description)
        del description  # of a large data set it is large
        yield from _in_order(pipes, chunks, received)


def _in_order(pipes: Sequence[Connection], chunks: Sequence[range], received: Sequence[int]) -> Iterator[Any]:
    """Hand out the chunks to the workers, and yield their results in order. A `received` signal ends it."""
    to_do = iter(chunks)

    def hand_out(pipe: Connection) -> None:
        with suppress(StopIteration), _worker_may_die():
            pipe.send(next(to_do))

    for pipe in [*pipes] * CHUNKS_IN_HAND:
        hand_out(pipe)
    done: dict[range, tuple[list[Any], Exception | None]] = {}
    for chunk in chunks:
        while chunk not in done:
            _stop_at(received)
            for ready in wait(pipes, WAIT_S):
                assert isinstance(ready, Connection)
                with _worker_may_die():
                    done.update([ready.recv()])
                hand_out(ready)
        results, error = done.pop(chunk)
        yield from results
        if error is not None:
            raise error


def _stop_at(received: Sequence[int]) -> None:
    """Leave signals_deferred, which then hands the signal to its own handler."""
    if received:
        raise KeyboardInterrupt


@contextmanager
def _worker_may_die() -> Iterator[None]:
    """Around what uses a worker's pipe."""
    try:
        yield
    except (EOFError, OSError):
        raise WorkerKilled from None


@contextmanager
def _worker() -> Iterator[Connection]:
    """Start a worker, and yield the pipe to it. It is killed at the end of the block: it holds nothing of value."""
    # Spawned, not forked: the fork of a process that has threads (pyarrow, tqdm) may deadlock.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    with ours:
        try:
            with theirs, _what_workers_inherit():
                process.start()
        except BrokenPipeError:
            raise WorkerKilled from None
        try:
            yield ours
        finally:
            process.kill()
            process.join()


@contextmanager
def _what_workers_inherit() -> Iterator[None]:
    """Set, while a process starts, what it must inherit: signals blocked, and no imports from the current folder.

    Ctrl-C, and often SIGTERM, reaches every process of the group; the workers leave both to their parent, which kills
    them. Without PYTHONSAFEPATH, a file ./re.py of the user would be executed in them.
    """
    safe_path = os.environ.get("PYTHONSAFEPATH", "")
    os.environ["PYTHONSAFEPATH"] = "1"
    resource_tracker.ensure_running()  # a helper of multiprocessing, whose start would unblock the signals
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        os.environ["PYTHONSAFEPATH"] = safe_path  # an empty value is as good as none
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)


def _serve(pipe: Connection) -> None:
    """The life of a worker: what to do, then chunk after chunk, until it is killed or its parent has ended."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, BrokenPipeError):
        work, job = pipe.recv()
        while True:
            chunk = pipe.recv()
            results, error = [], None
            try:
                for index in chunk:
                    results.append(work(job, index))
            except Exception as raised:
                error = raised
            pipe.send((chunk, (results, error)))


def _end_with_parent() -> None:
    """End this worker when its parent is killed, so that it does not go on writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
