# SPDX-License-Identifier: Apache-2.0
"""Proves that scripts say how much disk space they need, and refuse to begin without it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import results, space
from wav2vec2_eval.files.data_folder import check_space as check_data
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.results import Store
from wav2vec2_eval.speech.audio import frame_count
from wav2vec2_eval.speech.latency import Latency

from conftest import ROOT, script_main


@pytest.fixture
def free(monkeypatch):
    """A function that sets the free space in bytes; it returns the list of the folders that are asked for it."""
    asked = []

    def set_free(num_bytes):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path: asked.append(str(path)) or SimpleNamespace(free=num_bytes)
        )
        return asked

    return set_free


@pytest.mark.parametrize(("num_bytes", "taken"), [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)])
def test_files_take_whole_blocks(num_bytes, taken):
    assert space.on_disk(num_bytes) == taken


def test_what_is_needed_is_said(tmp_path, free, capsys):
    asked = free(2_000_000)
    space.check_space(tmp_path / "new/x", 2_000_000, "5 results", "all of them")
    assert asked == [str(tmp_path)]  # the nearest folder that exists
    assert capsys.readouterr().out == f"disk: 2.0 MB for 5 results in {tmp_path}/new/x (all of them), 2.0 MB free\n"


@pytest.mark.parametrize("basis", ["", "a guess"])
def test_too_little_is_refused(tmp_path, free, basis):
    free(1_999_999)
    with pytest.raises(SuiteError) as error:
        space.check_space(tmp_path, 2_000_001, "5 results", basis)
    found = f"5 results{basis and f' ({basis})'}"
    assert str(error.value) == (
        f"{tmp_path}: expected 2.0 MB of free disk space for {found}, found 2.0 MB; free some, delete earlier results, "
        f"or choose a folder on another disk"
    )


@pytest.mark.parametrize(
    ("sampled", "utterances", "arrays", "needed"),
    [
        ([[1024]], 1, 1, 4096),
        ([[1024], [1025]], 2, 1, 3 * 4096),
        ([[1024, 1024], [2048]], 200, 2, 200 * 4 * 4096),  # the average of two utterances, with masks
    ],
)
def test_the_space_of_data(tmp_path, free, sampled, utterances, arrays, needed):
    free(needed)
    check_data(tmp_path, sampled, utterances, arrays)
    free(needed - 1)
    with pytest.raises(SuiteError, match="of free disk space for"):
        check_data(tmp_path, sampled, utterances, arrays)


def test_without_a_usable_utterance_nothing_is_known(tmp_path, free):
    free(0)
    check_data(tmp_path, [], 5, 1)


@pytest.mark.parametrize("save_type", ["bin", "npy"])
def test_the_space_of_results_is_what_they_take(tmp_path, free, save_type):
    lengths, symbols = [400, 33_360, 70_000], 32
    with output_folder(tmp_path / "res") as folder, Store(folder, save_type) as store:
        for key, length in enumerate(lengths):
            store(str(key), [np.zeros((1, frame_count(length), symbols), np.float32)], Latency(1, 1))
    needed = sum(space.on_disk(path.stat().st_size) for path in (tmp_path / "res").glob(f"*.{save_type}"))
    free(needed)
    results.check_space(tmp_path, lengths, symbols, save_type)
    free(needed - 1)
    with pytest.raises(SuiteError):
        results.check_space(tmp_path, lengths, symbols, save_type)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}


COMMANDS = {
    "preprocess.py": (
        "pre",
        *("--pre_data_save_path=pre", "--which_dataset=clean", f"--dataset_path={ROOT}/test/demo/LibriSpeech"),
        *(f"--model_name_or_path={ROOT}/test/demo/model", "--limit=3", "--num_workers=1"),
    ),
    "export_onnx.py": ("models", "--model_save_dir=models", f"--model_name_or_path={ROOT}/test/demo/model"),
    "pyacl_infer.py": (
        "res",
        *("--model_path=models/wav2vec2-base-960h.onnx", "--input_info_file_path=pre/bin_file.info"),
        "--infer_res_save_path=res",
    ),
}


def test_scripts_refuse_before_they_replace_anything(tmp_path, monkeypatch, free, capsys):
    monkeypatch.chdir(tmp_path)
    for name, (folder, *options) in COMMANDS.items():
        main = script_main(name)
        free(10**9)
        assert main(options) == 0
        before = content(tmp_path / folder)
        capsys.readouterr()
        free(1_000)
        with pytest.raises(SuiteError, match=f"^{folder}: expected .* of free disk space for .*, found 1.0 kB; "):
            main(options)
        assert content(tmp_path / folder) == before
        assert "replacing" not in capsys.readouterr().out


def test_results_that_are_kept_need_no_space(tmp_path, monkeypatch, free, capsys):
    monkeypatch.chdir(tmp_path)
    for name, (_, *options) in COMMANDS.items():
        script_main(name)(options)
    free(10)
    for lost in (0, 1):
        for path in list(Path("res").glob("*.0.bin"))[:lost]:
            path.unlink()
        capsys.readouterr()
        if lost:
            with pytest.raises(SuiteError, match=r"of free disk space for 1 results, found 10 bytes"):
                script_main("pyacl_infer.py")([*COMMANDS["pyacl_infer.py"][1:], "--resume"])
            assert len(list(Path("res").glob("*.0.bin"))) == 2
        else:
            assert script_main("pyacl_infer.py")([*COMMANDS["pyacl_infer.py"][1:], "--resume"]) == 0
        assert f"resumed: {3 - lost} of 3 results are kept\n" in capsys.readouterr().out
