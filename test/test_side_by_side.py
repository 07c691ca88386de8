# SPDX-License-Identifier: Apache-2.0
"""Proves run_side_by_side with a fake executor: order, simultaneous executions, failures in turn, threads, shares."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytest

from wav2vec2_eval.engines.side_by_side import Executor, run_side_by_side

Work = Callable[[], object]
PATIENCE_S = 30  # a test that waits longer than this for another thread has failed


class Runner(Executor[Work, object]):
    """Its jobs are functions. It records its thread, and the start and end of each execution."""

    def __init__(self, outputs_s: float = 0) -> None:
        self.threads: set[int] = set()
        self.spans_ns: list[tuple[int, int]] = []
        self._outputs_s = outputs_s

    def execute(self, job: Work) -> None:
        self.threads.add(threading.get_ident())
        start_ns = time.perf_counter_ns()
        self._result = job()
        self.spans_ns.append((start_ns, time.perf_counter_ns()))

    def outputs(self) -> object:
        time.sleep(self._outputs_s)
        return self._result


def fail() -> None:
    raise ValueError("of the second job")


@pytest.fixture(autouse=True)
def threads_end():
    """No test leaves a thread behind."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("executors", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 40])
def test_every_job_is_run_once_in_order(executors, count):
    jobs = [lambda number=number: number for number in range(count)]
    executions = list(run_side_by_side(iter(jobs), [Runner() for _ in range(executors)]))
    assert [execution.outputs for execution in executions] == list(range(count))
    assert [execution.job for execution in executions] == jobs


def test_results_come_in_order_when_executions_end_in_another():
    later_has_ended = threading.Event()

    def first() -> bool:
        return later_has_ended.wait(PATIENCE_S)

    def second() -> str:
        later_has_ended.set()
        return "second"

    outputs = [execution.outputs for execution in run_side_by_side([first, second], [Runner(), Runner()])]
    assert outputs == [True, "second"]


def test_as_many_executions_as_executors_run_at_once():
    """Each of three executions waits for the two others."""
    together = threading.Barrier(3)
    jobs = [lambda: together.wait(PATIENCE_S)] * 9
    runners = [Runner() for _ in range(3)]
    assert len(list(run_side_by_side(jobs, runners))) == 9
    assert all(len(runner.threads) == 1 for runner in runners), "an executor changed its thread"
    assert len(set.union(*(runner.threads for runner in runners))) == 3


def test_jobs_are_read_only_when_an_executor_is_free():
    """So memory stays flat, whatever the number of jobs."""
    read = []

    def jobs():
        for number in range(10):
            read.append(number)
            yield lambda number=number: number

    executions = run_side_by_side(jobs(), [Runner(), Runner()])
    next(executions)
    assert read in ([0, 1], [0, 1, 2], [0, 1, 2, 3])  # the later two if executions ended before they were looked at
    executions.close()


def test_a_failure_of_an_executor_comes_after_the_earlier_results():
    second_has_failed = threading.Event()

    def first() -> str:
        assert second_has_failed.wait(PATIENCE_S)
        return "first"

    def second() -> None:
        second_has_failed.set()
        fail()

    executions = run_side_by_side([first, second, lambda: "third"], [Runner(), Runner()])
    assert next(executions).outputs == "first"
    with pytest.raises(ValueError, match="of the second job"):
        next(executions)


def test_a_failure_of_the_outputs_is_a_failure_of_the_executor():
    class Broken(Runner):
        def outputs(self) -> object:
            raise ValueError("no outputs")

    with pytest.raises(ValueError, match="no outputs"):
        list(run_side_by_side([lambda: 1], [Broken()]))


@pytest.mark.parametrize("good", [0, 1, 2, 3])
def test_a_failure_of_the_jobs_comes_in_its_turn(good):
    def jobs():
        for number in range(good):
            yield lambda number=number: number
        raise ValueError("no more jobs")

    executions = run_side_by_side(jobs(), [Runner(), Runner()])
    assert [next(executions).outputs for _ in range(good)] == list(range(good))
    with pytest.raises(ValueError, match="no more jobs"):
        next(executions)


def test_closing_early_waits_for_the_executions_that_run():
    runners = [Runner(), Runner()]
    slow_started = threading.Event()

    def slow() -> None:
        slow_started.set()
        time.sleep(0.2)

    executions = run_side_by_side([lambda: 1, slow, lambda: 3], runners)
    next(executions)
    assert slow_started.wait(PATIENCE_S)
    executions.close()
    ended = max(end_ns for runner in runners for _, end_ns in runner.spans_ns)
    assert ended - min(start_ns for runner in runners for start_ns, _ in runner.spans_ns) >= 0.2e9


def test_a_generator_that_was_never_started_starts_no_thread():
    run_side_by_side([lambda: 1], [Runner()]).close()


def test_ctrl_c_ends_the_threads():
    def jobs():
        yield lambda: 1
        signal.raise_signal(signal.SIGINT)
        yield lambda: 2

    with pytest.raises(KeyboardInterrupt):
        list(run_side_by_side(jobs(), [Runner(), Runner()]))


def busy_ns(spans_ns: list[tuple[int, int]]) -> int:
    """The time in which at least one of the spans runs."""
    total, covered_until = 0, 0
    for start_ns, end_ns in sorted(spans_ns):
        total += max(0, end_ns - max(start_ns, covered_until))
        covered_until = max(covered_until, end_ns)
    return total


@pytest.mark.parametrize("executors", [1, 2, 3])
def test_the_shares_add_up_to_the_busy_time(executors):
    """Pauses between jobs are not busy time; a moment with several executions counts once."""

    def jobs():
        for number in range(8):
            time.sleep(0.05 if number % 4 == 3 else 0)
            yield lambda: time.sleep(0.02)

    runners = [Runner() for _ in range(executors)]
    start_ns = time.perf_counter_ns()
    executions = list(run_side_by_side(jobs(), runners))
    wall_ns = time.perf_counter_ns() - start_ns
    busy = busy_ns([span for runner in runners for span in runner.spans_ns])
    shares = sum(execution.share_ns for execution in executions)
    assert busy <= shares + len(executions)  # each share is rounded
    assert shares <= wall_ns - 0.05e9, "a pause before a job with idle executors was charged"
    assert all(execution.elapsed_ns >= 0.02e9 for execution in executions)


def test_the_outputs_are_not_timed():
    """Elapsed time is that of `execute` alone."""
    (execution,) = run_side_by_side([lambda: None], [Runner(outputs_s=0.3)])
    assert 0 <= execution.elapsed_ns < 0.15e9
    assert 0 <= execution.share_ns < 0.15e9
