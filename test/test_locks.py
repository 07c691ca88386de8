# SPDX-License-Identifier: Apache-2.0
"""Proves who may be in a folder together with whom, and that a lock leaves nothing behind but what it must."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.locks import locked, reading
from wav2vec2_eval.files.names import LIST_NAME, LOCK_NAME

from conftest import ROOT


@pytest.fixture
def folder(tmp_path):
    """A folder of the suite."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LIST_NAME).touch()
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (locked, locked, "another run is writing into it or reading it"),
        (locked, reading, "another run is writing into it"),
        (reading, locked, "another run is writing into it or reading it"),
        (reading, reading, None),
    ],
)
def test_one_writer_or_several_readers(folder, first, second, message):
    with first(folder):
        if message:
            with pytest.raises(SuiteError, match=message), second(folder):
                pass
        else:
            with second(folder):
                pass
    with second(folder):
        pass


def test_a_folder_that_was_made_and_stays_empty_is_removed(tmp_path):
    with locked(tmp_path / "empty"):
        pass
    with locked(tmp_path / "a/b/c"):
        pass
    with locked(tmp_path / "used"):
        (tmp_path / "used/result").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["used"]
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["result"]


def test_an_empty_folder_that_was_there_before_is_kept(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_tool_is_read_without_a_trace(tmp_path):
    with reading(tmp_path), reading(tmp_path / "missing"):
        assert not list(tmp_path.iterdir())


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


def test_the_lock_of_a_removed_file_does_not_count(folder):
    """A run that opened the lock file before its holder removed it must not share the folder with a third run."""
    (folder / LIST_NAME).unlink()
    inside, released = [], threading.Event()

    def wait():
        with locked(folder, wait=True):
            with pytest.raises(SuiteError), locked(folder):
                pass
            inside.append(True)
            released.wait(5)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    with locked(folder):
        for thread in threads:
            thread.start()
    released.set()
    for thread in threads:
        thread.join(5)
    assert inside == [True, True]


PLANTED = {
    "a link to a file": lambda path, thesis: path.symlink_to(thesis),
    "a dangling link": lambda path, thesis: path.symlink_to(thesis.with_name("new")),
    "a pipe": lambda path, thesis: os.mkfifo(path),
    "a folder": lambda path, thesis: path.mkdir(),
    "a file of the user": lambda path, thesis: path.write_text("mine"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_no_lock_file_is_left_alone(folder, tmp_path, what):
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("mine")
    PLANTED[what](folder / LOCK_NAME, thesis)
    with pytest.raises((SuiteError, OSError)), locked(folder):
        pass
    assert thesis.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "thesis.txt"]
    assert os.path.lexists(folder / LOCK_NAME)


def test_the_temporary_files_of_a_killed_run_are_removed_and_no_others(folder):
    program = (
        "import os, sys; from pathlib import Path; from wav2vec2_eval.files.locks import locked\n"
        "folder = Path(sys.argv[1])\n"
        "with locked(folder) as token:\n"
        "    (folder / f'{token}.1').touch(); (folder / token).mkdir(); (folder / token / '0.bin').touch()\n"
        "    os._exit(9)\n"
    )
    others = {".hidden", "notes.txt.tmp", ".0123456789abcdef", ".0123456789abcdef.1"}
    for name in others:
        (folder / name).touch()
    command = [sys.executable, "-c", program, str(folder)]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode == 9
    assert len(list(folder.iterdir())) == len(others) + 4
    with locked(folder):
        pass
    assert {path.name for path in folder.iterdir()} == others | {LIST_NAME, LOCK_NAME}


def test_a_folder_that_cannot_be_written_to_is_read(folder, monkeypatch):
    """As on a read-only medium."""
    open_file = os.open

    def refuse(path, flags, *arguments, **options):
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    with reading(folder):
        assert not (folder / LOCK_NAME).exists()


@pytest.mark.parametrize("enter", [locked, reading])
@pytest.mark.parametrize("content", ["precious", "", ".0123456789abcdef and more"])
def test_a_file_of_the_user_under_the_name_of_the_lock_is_left_alone(folder, enter, content):
    """An empty one is as good as a lock at rest."""
    path = folder / LOCK_NAME
    path.write_text(content)
    if content:
        with pytest.raises(SuiteError, match="expected a lock file of this suite, found other content"), enter(folder):
            pass
    else:
        with enter(folder):
            pass
    assert path.read_text() == content
