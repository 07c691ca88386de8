# SPDX-License-Identifier: Apache-2.0
"""Proves that a misspelt local path is reported before the hub is asked for anything."""

from __future__ import annotations

import os

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.choose import check_paths, open_dataset


@pytest.mark.parametrize(
    ("dataset_path", "model", "message"),
    [
        ("./none", "facebook/wav2vec2-base-960h", "./none: expected a LibriSpeech folder, found none"),
        ("./pipe", None, "./pipe: expected a LibriSpeech folder, found none"),
        ("", None, None),
        (None, "./none", "./none: expected a model folder or a hub id, found no such folder"),
        ("./data", "pipe", "pipe: expected a model folder or a hub id, found no such folder"),
        ("./data", "facebook/wav2vec2-base-960h", None),
        ("./data", "./data", None),
        (None, None, None),
    ],
)
def test_local_paths_are_checked_without_the_hub(tmp_path, monkeypatch, dataset_path, model, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    os.mkfifo("pipe")
    monkeypatch.setattr("wav2vec2_eval.sources.hub.ask", None)
    if message is None:
        check_paths("clean", dataset_path, model)
    else:
        with pytest.raises(SuiteError, match=f"^{message}"):
            check_paths("clean", dataset_path, model)


def test_a_data_set_is_not_searched_for_in_a_folder_that_is_not_there():
    with pytest.raises(SuiteError, match=r"^/no/such: expected a LibriSpeech folder, found none; see --dataset_path"):
        open_dataset("clean", "/no/such")
