# SPDX-License-Identifier: Apache-2.0
"""Several executions at once on one host: a thread for each executor, and results in the order of the jobs."""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..machine.signals import signals_deferred
from .clock import SharedTime

Job = TypeVar("Job")
Outputs = TypeVar("Outputs")


class Executor(ABC, Generic[Job, Outputs]):
    """Runs one job at a time, always in the same thread."""

    @abstractmethod
    def execute(self, job: Job) -> None:
        """Compute. Only this call is timed."""

    @abstractmethod
    def outputs(self) -> Outputs:
        """What was computed, in memory that the next execution leaves alone."""


@dataclass(frozen=True)
class Execution(Generic[Job, Outputs]):
    """A job that was executed."""

    job: Job
    outputs: Outputs
    share_ns: int  # of the time in which at least one execution ran
    elapsed_ns: int  # from start to end


@dataclass(frozen=True)
class _Ended(Generic[Outputs]):
    """What a thread reports. Times are nanoseconds of `time.perf_counter_ns`."""

    position: int
    outputs: Outputs | Exception
    start_ns: int
    end_ns: int


def run_side_by_side(
    jobs: Iterable[Job], executors: Sequence[Executor[Job, Outputs]]
) -> Generator[Execution[Job, Outputs], None, None]:
    """Keep every executor busy; yield one Execution for each job, in order.

    An exception of an executor, or of `jobs`, is raised after the executions before it were yielded. Closing the
    generator waits for the executions that run.
    """
    # SimpleQueue is written in C: a Python signal handler cannot interrupt it halfway.
    waiting: queue.SimpleQueue[tuple[int, Job] | None] = queue.SimpleQueue()
    ended: queue.SimpleQueue[_Ended[Outputs]] = queue.SimpleQueue()
    threads = [threading.Thread(target=_work, args=(each, waiting, ended), daemon=True) for each in executors]
    numbered = enumerate(jobs)
    running: dict[int, Job] = {}  # by position
    finished: dict[int, Execution[Job, Outputs] | Exception] = {}  # by position
    time_shared = SharedTime()
    turn = 0
    failure: Exception | None = None
    try:
        with signals_deferred():
            for thread in threads:
                thread.start()
        while True:
            while failure is None and len(running) < len(threads):
                try:
                    position, job = next(numbered)
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                running[position] = job
                time_shared.start(position, time.perf_counter_ns())
                waiting.put((position, job))
            if not running:
                break
            end = ended.get()
            job, share_ns = running.pop(end.position), time_shared.end(end.position, end.end_ns)
            finished[end.position] = (
                end.outputs
                if isinstance(end.outputs, Exception)
                else Execution(job, end.outputs, share_ns, end.end_ns - end.start_ns)
            )
            while turn in finished:
                execution = finished.pop(turn)
                if isinstance(execution, Exception):
                    raise execution
                yield execution
                turn += 1
        if failure is not None:
            raise failure
    finally:
        with signals_deferred():
            for _ in threads:
                waiting.put(None)
            for thread in threads:
                if thread.ident is not None:
                    thread.join()


def _work(
    executor: Executor[Job, Outputs],
    waiting: queue.SimpleQueue[tuple[int, Job] | None],
    ended: queue.SimpleQueue[_Ended[Outputs]],
) -> None:
    """Run jobs until None is received."""
    while (numbered := waiting.get()) is not None:
        position, job = numbered
        outputs: Outputs | Exception
        start_ns = time.perf_counter_ns()
        try:
            executor.execute(job)
            end_ns = time.perf_counter_ns()
            outputs = executor.outputs()
        except Exception as error:  # raised again in the consumer's thread
            outputs, end_ns = error, time.perf_counter_ns()
        ended.put(_Ended(position, outputs, start_ns, end_ns))
