# SPDX-License-Identifier: Apache-2.0
"""Proves that run.json is read as it was written, and that anything else in it is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.run import FORMAT, Run, format_run, read_run

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
    (tmp_path / "run.json").write_text(format_run(run))
    assert read_run(tmp_path) == replace(run, format=FORMAT)


def test_run_json_holds_every_field_that_is_not_none(tmp_path):
    content = json.loads(format_run(Run("b.py", sync_infer=False, warm_up=0, data=Run(which_dataset="other"))))
    expected = {"script": "b.py", "format": 2, "sync_infer": False, "warm_up": 0, "data": {"which_dataset": "other"}}
    assert content == expected


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
        {"transcriptions": "../thesis.txt"},
        {"transcriptions": "a/b"},
        {"transcriptions": ".."},
        {"transcriptions": ""},
        {"transcriptions": "a\nb"},
        {"transcriptions": "\ud800"},
        {"data": {"transcriptions": "/etc/passwd"}},
        {"format": "2"},
        {"model": "\ud800"},
        {"resumed": 1},
    ],
    ids=json.dumps,
)
def test_a_field_of_a_wrong_type_is_refused(tmp_path, field):
    (tmp_path / "run.json").write_text(json.dumps({"script": "a.py", **field}))
    with pytest.raises(SuiteError, match=r"run\.json: expected the JSON that this suite writes"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "{", "null", "true", "1", '"a.py"', "\xff", "[" * 200_000, '{"script": ' * 100_000, "1" * 5_000],
    ids=lambda content: content[:12],
)
def test_anything_but_a_run_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(SuiteError, match=r"run\.json: expected"):
        read_run(tmp_path)


def test_a_folder_of_a_newer_format_is_refused(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"script": "a.py", "format": FORMAT + 1}))
    with pytest.raises(SuiteError, match="newer version"):
        read_run(tmp_path)
