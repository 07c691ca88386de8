# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from wav2vec2_eval import folders
from wav2vec2_eval.errors import SuiteError


def is_own(name: str) -> bool:
    return name in ("0.bin", ".partial")


def check(folder):
    folders.check_replaceable(folder, "a.py", is_own)


def test_new_and_empty_folders_may_be_used(tmp_path):
    check(tmp_path / "new")
    check(tmp_path)


def test_own_files_may_be_replaced(tmp_path):
    folders.write_run(tmp_path, "a.py", engine="x")
    for name in ("0.bin", "0.bin.tmp", "run.json.tmp"):
        (tmp_path / name).touch()
    check(tmp_path)


@pytest.mark.parametrize(
    ("owner", "name", "message"),
    [
        (None, "0.bin", r"did not write \(0\.bin\)"),
        (None, "thesis.txt", r"did not write \(thesis\.txt\)"),
        ("a.py", "thesis.txt", r"did not write \(thesis\.txt\)"),
        ("a.py", "1.bin", r"did not write \(1\.bin\)"),
        ("a.py", "thesis.tmp", r"did not write \(thesis\.tmp\)"),
        ("b.py", "0.bin", r"holds files of b\.py"),
    ],
)
def test_foreign_files_are_refused(tmp_path, owner, name, message):
    if owner:
        folders.write_run(tmp_path, owner)
    (tmp_path / name).touch()
    with pytest.raises(SuiteError, match=message):
        check(tmp_path)
    assert (tmp_path / name).exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(SuiteError, match="found a file"):
        check(tmp_path / "x")


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", "null"])
def test_a_foreign_run_json_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(SuiteError, match=r"run\.json"):
        check(tmp_path)


def test_staging_is_removed_whatever_happens(tmp_path):
    folder = tmp_path / "out"
    with (
        pytest.raises(KeyError),
        folders.locked(folder),
        folders.staging(folder, "a.py", ".partial") as staging,
    ):
        (staging / "0.bin").touch()
        raise KeyError
    assert not folder.exists()


def test_staging_leaves_earlier_content_alone_and_clears_a_killed_runs(tmp_path):
    folders.write_run(tmp_path, "a.py", old=True)
    (tmp_path / "0.bin").write_text("old")
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial/7.bin").touch()
    with folders.staging(tmp_path, "a.py", ".partial") as staging:
        assert not list(staging.iterdir())
        (staging / "0.bin").write_text("new")
    assert (tmp_path / "0.bin").read_text() == "old"
    assert folders.read_run(tmp_path) == {"script": "a.py", "old": True}


def test_two_runs_do_not_share_a_folder(tmp_path):
    with folders.locked(tmp_path / "out"):
        with pytest.raises(SuiteError, match="another run is writing into it"), folders.locked(tmp_path / "out"):
            pass
        (tmp_path / "out/result").touch()
    with folders.locked(tmp_path / "out"):
        pass
    with folders.locked(tmp_path / "empty"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
