# SPDX-License-Identifier: Apache-2.0
"""Proves which model names mean a folder and which the hub, and what a failed hub access says."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import EntryNotFoundError

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources import hub


def test_a_folder_is_local_also_if_its_name_could_be_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facebook/model").mkdir(parents=True)
    for name in ("facebook", "facebook/model", "./facebook", str(tmp_path)):
        assert hub.is_local(name)


@pytest.mark.parametrize("name", ["facebook/wav2vec2-base-960h", "gpt2", "a.b/c_d-e.1"])
def test_a_hub_id_is_not_local(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not hub.is_local(name)


@pytest.mark.parametrize("name", ["./no such folder", "/no/such/folder", "../x", "a/b/c", ""])
def test_a_path_without_a_folder_is_refused(name):
    with pytest.raises(SuiteError, match="found no such folder"):
        hub.is_local(name)


def test_a_file_is_refused_as_a_model_folder(tmp_path):
    (tmp_path / "m.onnx").touch()
    with pytest.raises(SuiteError, match="found no such folder"):
        hub.is_local(str(tmp_path / "m.onnx"))


def test_a_failed_download_names_id_endpoint_and_remedy(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    with pytest.raises(SuiteError) as error:
        hub.download("nobody/no-such-model", "vocab.json", required=True)
    for part in ("nobody/no-such-model", "https://mirror.example", "--model_name_or_path"):
        assert part in str(error.value)


@pytest.mark.parametrize("required", [True, False])
def test_only_an_optional_file_may_be_missing_on_the_hub(monkeypatch, required):
    def refuse(model, name):
        raise EntryNotFoundError(f"{model} has no {name}")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    if required:
        with pytest.raises(SuiteError, match=r"a/b/x\.json: not loaded from the hub .*a/b has no x\.json"):
            hub.download("a/b", "x.json", required)
    else:
        assert hub.download("a/b", "x.json", required) is None


def test_a_downloaded_file_is_a_path(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda model, name: f"{tmp_path}/{model}/{name}")
    assert hub.download("a/b", "x.json", required=False) == tmp_path / "a/b/x.json"


def test_a_hub_error_is_one_line(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    message = str(hub.hub_error("a/b", OSError("no\n  route"), "--option"))
    assert message.startswith("a/b: not loaded from the hub (endpoint: the hub's default;")
    assert message.endswith("OSError: no route; offline, give a local copy by --option")
