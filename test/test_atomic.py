# SPDX-License-Identifier: Apache-2.0
"""Proves that a failed write leaves no file, that links are not followed, and that a digest covers all content."""

from __future__ import annotations

import hashlib
import resource
import zlib
from contextlib import ExitStack

import pytest

from wav2vec2_eval.files import atomic


def test_a_new_file_counts_what_is_written(tmp_path):
    with atomic.new_file(tmp_path / "x") as file:
        file.write(b"first")
        file.write(memoryview(b"second"))
    assert (tmp_path / "x").read_bytes() == b"firstsecond"
    assert (file.size, file.crc32) == (11, zlib.crc32(b"firstsecond"))


def test_a_file_that_cannot_be_opened_is_not_removed(tmp_path):
    """Linux says that too many files are open before it says that there is a file of this name."""
    (tmp_path / "x").write_text("mine")
    with ExitStack() as files:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        files.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        with pytest.raises(OSError, match="Too many open files"), atomic.new_file(tmp_path / "x"):
            pass
    assert (tmp_path / "x").read_text() == "mine"


@pytest.mark.parametrize(
    "error",
    [RuntimeError("disk"), KeyboardInterrupt(), FileExistsError(), OSError(28, "No space left on device")],
)
def test_a_failed_write_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)), atomic.new_file(tmp_path / "x") as file:
        file.write(b"half")
        raise error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["thesis.txt", "new.txt", None])
def test_what_is_there_is_not_replaced_and_links_are_not_followed(tmp_path, target):
    (tmp_path / "thesis.txt").write_text("mine")
    path = tmp_path / "x"
    if target is None:
        path.write_text("mine")
    else:
        path.symlink_to(tmp_path / target)
    with pytest.raises(FileExistsError), atomic.new_file(path):
        pass
    assert {child.name for child in tmp_path.iterdir()} == {"thesis.txt", "x"}
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(28, "No space left on device"), "x.bin"),
        (PermissionError(13, "Permission denied", "another"), "another"),
    ],
)
def test_an_error_of_the_system_names_the_file(tmp_path, error, named):
    with pytest.raises(OSError) as raised, atomic.new_file(tmp_path / "x.bin"):
        raise error
    assert raised.value.filename.endswith(named)


def test_the_digest_covers_the_whole_content(tmp_path):
    content = bytes(range(256)) * (3 << 12)  # 3 MiB, several blocks
    for size in (0, 1, 1 << 20, (1 << 20) + 1, len(content)):
        (tmp_path / "x").write_bytes(content[:size])
        assert atomic.file_digest(tmp_path / "x") == hashlib.sha256(content[:size]).hexdigest()
