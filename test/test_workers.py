# SPDX-License-Identifier: Apache-2.0
"""Proves run_in_processes: order, errors, processes that die, and processes that end when nobody wants their work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from wav2vec2_eval.machine.workers import WorkerKilled, run_in_processes

from conftest import ROOT

# The processes import this module, and so find the functions that they run. Each takes a job and a number.


def multiply(factor: int, index: int) -> int:
    return factor * index


def process_id(_job: None, _index: int) -> int:
    return os.getpid()


def length(job: str, _index: int) -> int:
    return len(job)


def fail_at(bad: int, index: int) -> int:
    if index == bad:
        raise ValueError(f"of number {index}")
    return index


def die_at(bad: int, index: int) -> int:
    if index == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return index


def touch_slowly(folder: Path, index: int) -> int:
    time.sleep(0.2)
    (folder / str(index)).touch()
    return index


def blocked_signals(_job: None, _index: int) -> set[int]:
    return set(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))


class CountedJob:
    """A job that counts how often it is sent to a process."""

    sent = 0

    def __getstate__(self) -> dict[str, int]:
        CountedJob.sent += 1
        return {"some": 1}


def use(job: CountedJob, index: int) -> int:
    return index


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    """No test leaves a process behind, or the variable that run_in_processes sets for its processes."""
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    yield
    assert multiprocessing.active_children() == []
    assert os.environ["PYTHONSAFEPATH"] == ""


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_results_come_in_order(workers, count):
    assert list(run_in_processes(multiply, 7, count, workers)) == [7 * index for index in range(count)]


def test_the_processes_run_nothing_from_the_current_folder(tmp_path, monkeypatch):
    """Python starts them with `-c`, which would import the user's ./re.py instead of its own module."""
    monkeypatch.chdir(tmp_path)
    for name in ("re", "json", "platform", "argparse"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n", encoding="utf-8")
    assert list(run_in_processes(multiply, 7, 3, 2)) == [0, 7, 14]
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(("workers", "count"), [(1, 3), (4, 1)])
def test_a_single_worker_or_piece_of_work_needs_no_process(workers, count):
    assert set(run_in_processes(process_id, None, count, workers)) == {os.getpid()}


def test_several_workers_are_processes_of_their_own():
    used = set(run_in_processes(process_id, None, 40, 2))
    assert os.getpid() not in used
    assert len(used) in (1, 2)  # the first may be so fast that the second gets no work


def test_the_job_is_sent_once_to_each_process():
    CountedJob.sent = 0
    assert list(run_in_processes(use, CountedJob(), 40, 2)) == list(range(40))
    assert CountedJob.sent <= 2


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_comes_in_its_turn(workers):
    results = run_in_processes(fail_at, 20, 40, workers)
    before = []
    with pytest.raises(ValueError, match="of number 20"):
        before.extend(results)
    assert before == list(range(20))


@pytest.mark.parametrize("bad", [0, 39])
def test_a_process_that_dies_is_reported(bad):
    with pytest.raises(WorkerKilled):
        list(run_in_processes(die_at, bad, 40, 2))


def reply_in_part(bad: int, index: int) -> int:
    """As a process that is killed while it writes into its pipe."""
    if index == bad:
        for path in Path("/proc/self/fd").iterdir():
            if int(path.name) > 2 and (path.is_socket() or path.is_fifo()):
                with suppress(OSError):  # it is for reading
                    os.write(int(path.name), b"\0\0\1\0 is the length of more than this")
        os.kill(os.getpid(), signal.SIGKILL)
    return index


def test_a_process_that_dies_amid_its_reply_is_reported():
    """A queue that several processes share would wait for the rest of the reply."""
    with pytest.raises(WorkerKilled):
        list(run_in_processes(reply_in_part, 20, 40, 2))


def test_a_job_larger_than_a_pipe_reaches_every_process():
    job = "x" * 1_000_000
    assert list(run_in_processes(length, job, 8, 3)) == [len(job)] * 8


def test_closing_early_ends_the_processes(tmp_path):
    results = run_in_processes(touch_slowly, tmp_path, 60, 2)
    next(results)
    results.close()
    assert multiprocessing.active_children() == []
    done = len(list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert done == len(list(tmp_path.iterdir())) < 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_does_not_wait_for_the_whole_data_set(tmp_path, number):
    """The signal's own handler runs after the processes have ended."""
    ended = []
    before = signal.signal(number, lambda *_: ended.append(not multiprocessing.active_children()))
    try:
        results = run_in_processes(touch_slowly, tmp_path, 60, 2)
        next(results)
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            list(results)
    finally:
        signal.signal(number, before)
    assert ended == [True]
    assert len(list(tmp_path.iterdir())) < 60


def test_the_processes_leave_signals_to_their_parent():
    """In a new Python: the start of multiprocessing's own helper would unblock the signals for the first process."""
    program = (
        f"import signal, sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'test')]!r}\n"
        "from test_workers import blocked_signals, run_in_processes\n"
        "assert all(each >= {2, 15} for each in run_in_processes(blocked_signals, None, 40, 2))\n"
        "assert not {2, 15} & signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_parent_with_threads_may_start_processes():
    """A fork of a process with threads may deadlock, so the processes are spawned."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert list(run_in_processes(multiply, 1, 4, 2)) == [0, 1, 2, 3]
    finally:
        stop.set()
        thread.join()
