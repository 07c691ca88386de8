# SPDX-License-Identifier: Apache-2.0
"""Proves that a failed write leaves the old file and nothing else, and that a digest covers the whole content."""

from __future__ import annotations

import hashlib

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import atomic


def test_text_is_written_as_utf_8(tmp_path):
    path = tmp_path / "t.txt"
    atomic.write_text(path, "Čapek\n")
    assert path.read_bytes() == "Čapek\n".encode()
    assert [child.name for child in tmp_path.iterdir()] == ["t.txt"]


@pytest.mark.parametrize("error", [RuntimeError("disk"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failed_write_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "wer.txt"
    atomic.write_text(path, "old")

    def fail(file):
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        atomic.write_whole(path, fail)
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["wer.txt"]


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(28, "No space left on device"), "x.bin"),
        (PermissionError(13, "Permission denied", "another"), "another"),
    ],
)
def test_an_error_of_the_system_names_the_file(tmp_path, error, named):
    def fail(_file):
        raise error

    with pytest.raises(OSError) as raised:
        atomic.write_whole(tmp_path / "x.bin", fail)
    assert raised.value.filename.endswith(named)


def test_a_candidate_replaces_the_file_when_its_block_ends(tmp_path):
    path = tmp_path / "models/m.onnx"
    for content in ("old", "new"):
        with atomic.candidate(path) as new:
            assert new.suffix == ".onnx"
            assert new != path
            new.write_text(content)
        assert path.read_text() == content
        assert [child.name for child in path.parent.iterdir()] == ["m.onnx"]


def test_a_failed_candidate_is_removed(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_text("old")
    with pytest.raises(KeyError), atomic.candidate(path) as new:
        new.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["m.onnx"]


def test_two_runs_do_not_write_candidates_into_one_folder(tmp_path):
    with atomic.candidate(tmp_path / "a.onnx") as new:
        with (
            pytest.raises(SuiteError, match="another run is writing into it"),
            atomic.candidate(tmp_path / "b.onnx"),
        ):
            pass
        new.write_text("a")
    assert [child.name for child in tmp_path.iterdir()] == ["a.onnx"]


def test_the_digest_covers_the_whole_content(tmp_path):
    content = bytes(range(256)) * (3 << 12)  # 3 MiB, several blocks
    for size in (0, 1, 1 << 20, (1 << 20) + 1, len(content)):
        (tmp_path / "x").write_bytes(content[:size])
        assert atomic.file_digest(tmp_path / "x") == hashlib.sha256(content[:size]).hexdigest()
