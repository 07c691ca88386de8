# SPDX-License-Identifier: Apache-2.0
"""Proves what run.json keeps and refuses, and that a script replaces only the files of its own earlier run."""

from __future__ import annotations

import json

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import run_folder
from wav2vec2_eval.files.locks import locked
from wav2vec2_eval.files.run_folder import Run, read_run, write_run

DATA = Run("preprocess.py", which_dataset="clean", padded=False, utterances=0, checksum=2**32 - 1)


@pytest.mark.parametrize(
    "run",
    [
        Run("a.py"),
        DATA,
        Run("b.py", engine="x", num_threads=8, sync_infer=False, warm_up=0, data=DATA, transcriptions="å.txt"),
        Run("c.py", data=Run(which_dataset="other", padded=True)),
    ],
)
def test_run_json_is_read_as_it_was_written(tmp_path, run):
    write_run(tmp_path, run)
    assert read_run(tmp_path) == run


def test_run_json_holds_every_field_that_is_not_none(tmp_path):
    write_run(tmp_path, Run("b.py", sync_infer=False, warm_up=0, data=Run(which_dataset="other")))
    content = json.loads((tmp_path / "run.json").read_text())
    assert content == {"script": "b.py", "sync_infer": False, "warm_up": 0, "data": {"which_dataset": "other"}}


def test_unknown_keys_of_run_json_are_ignored(tmp_path):
    content = {"script": "a.py", "new": [1], "data": {"utterances": 3, "newer": {"x": 1}}, "newest": {"script": 5}}
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert read_run(tmp_path) == Run("a.py", data=Run(utterances=3))


def test_a_folder_without_run_json_has_no_run(tmp_path):
    (tmp_path / "x").touch()
    for folder in (tmp_path, tmp_path / "none", tmp_path / "x"):
        assert read_run(folder) is None


@pytest.mark.parametrize(
    "field",
    [
        {"script": None},
        {"script": 1},
        {"script": {}},
        {"model": False},
        {"padded": 0},
        {"padded": "true"},
        {"utterances": "x"},
        {"utterances": True},
        {"utterances": 1.0},
        {"num_threads": []},
        {"data": [1]},
        {"data": "clean"},
        {"data": {"utterances": "x"}},
        {"data": {"data": {"padded": 1}}},
        {"transcriptions": []},
        {"transcriptions": {}},
        {"resumed": 1},
    ],
    ids=json.dumps,
)
def test_a_field_of_a_wrong_type_is_refused(tmp_path, field):
    (tmp_path / "run.json").write_text(json.dumps({"script": "a.py", **field}))
    with pytest.raises(SuiteError, match=r"run\.json: expected the JSON that this suite writes"):
        read_run(tmp_path)


def is_replaceable(name: str) -> bool:
    return name in ("0.bin", ".partial")


def check(folder):
    run_folder.check_replaceable(folder, "a.py", is_replaceable)


def test_new_and_empty_folders_may_be_used(tmp_path):
    check(tmp_path / "new")
    check(tmp_path)


def test_own_files_may_be_replaced(tmp_path):
    write_run(tmp_path, Run("a.py", engine="x"))
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
        write_run(tmp_path, Run(owner))
    (tmp_path / name).touch()
    with pytest.raises(SuiteError, match=message):
        check(tmp_path)
    assert (tmp_path / name).exists()


def test_a_file_instead_of_the_folder_is_refused(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(SuiteError, match="found a file"):
        check(tmp_path / "x")


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", "null", "true", "1", '"a.py"', "\xff"])
def test_a_foreign_run_json_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(SuiteError, match=r"run\.json"):
        check(tmp_path)


def test_staging_is_removed_whatever_happens(tmp_path):
    folder = tmp_path / "out"
    with (
        pytest.raises(KeyError),
        locked(folder),
        run_folder.staging(folder, "a.py", ".partial") as staging,
    ):
        (staging / "0.bin").touch()
        raise KeyError
    assert not folder.exists()


def test_staging_leaves_earlier_content_alone_and_clears_the_staging_of_a_killed_run(tmp_path):
    write_run(tmp_path, Run("a.py", engine="old"))
    (tmp_path / "0.bin").write_text("old")
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial/7.bin").touch()
    with run_folder.staging(tmp_path, "a.py", ".partial") as staging:
        assert not list(staging.iterdir())
        (staging / "0.bin").write_text("new")
    assert (tmp_path / "0.bin").read_text() == "old"
    assert read_run(tmp_path) == Run("a.py", engine="old")
