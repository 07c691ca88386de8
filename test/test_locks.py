# SPDX-License-Identifier: Apache-2.0
"""Proves that one run at a time has a folder, and that a folder made for the lock is removed if it stays empty."""

from __future__ import annotations

import threading

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.locks import locked


def test_two_runs_do_not_share_a_folder(tmp_path):
    with locked(tmp_path / "out"):
        with pytest.raises(SuiteError, match="another run is writing into it"), locked(tmp_path / "out"):
            pass
        (tmp_path / "out/result").touch()
    with locked(tmp_path / "out"):
        pass
    with locked(tmp_path / "empty"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_that_was_there_before_is_kept(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    assert tmp_path.is_dir()


def test_a_run_may_wait_for_the_end_of_another(tmp_path):
    started, events = threading.Event(), []

    def wait():
        started.set()
        with locked(tmp_path, wait=True):
            events.append("second")

    thread = threading.Thread(target=wait)
    with locked(tmp_path):
        thread.start()
        assert started.wait(5)
        thread.join(0.05)  # long enough to notice a thread that does not wait
        events.append("first")
    thread.join(5)
    assert events == ["first", "second"]
