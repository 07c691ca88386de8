# SPDX-License-Identifier: Apache-2.0
"""Proves that publish replaces exactly the files of an earlier run, and that an incomplete folder has no manifest."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import data_folder, run_folder
from wav2vec2_eval.files.data_folder import Preprocessed
from wav2vec2_eval.files.manifest import Utterance, read_manifest, read_utterances
from wav2vec2_eval.files.run_folder import Run, read_run, staging, write_run

WRITTEN = {"bin_file.info", "utterances.tsv", "padding_lens.txt", "run.json"}


def arrays(length, attention_mask):
    samples = np.linspace(0, 1, length, dtype=np.float32)[None]
    return [samples, np.ones_like(samples)] if attention_mask else [samples]


def run_of(attention_mask=False, which="clean"):
    return Run("a.py", which_dataset=which, attention_mask=attention_mask)


def preprocess(folder, lengths, attention_mask=False, which="clean"):
    """Publish one utterance for each padded length, as preprocess.py does."""
    folder.mkdir(exist_ok=True)
    with staging(folder, "a.py", ".partial") as staged:
        items = [
            data_folder.write_tensors(staged, index, length - 1, arrays(length, attention_mask))
            for index, length in enumerate(lengths)
        ]
        utterances = [Utterance(str(index), f"id{index}", item.num_samples, "A") for index, item in enumerate(items)]
        data_folder.publish(folder, f"{folder}/", utterances, items, run_of(attention_mask, which))
    return utterances


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("attention_mask", [False, True])
def test_write_tensors_writes_the_inputs_and_their_checksum(tmp_path, attention_mask):
    inputs = arrays(5, attention_mask)
    item = data_folder.write_tensors(tmp_path, 7, 3, inputs)
    assert item == Preprocessed(3, 5, zlib.crc32(b"".join(array.tobytes() for array in inputs)))
    expected = ["7.bin", "7.mask.bin"][: len(inputs)]
    assert names(tmp_path) == set(expected)
    assert [(tmp_path / name).read_bytes() for name in expected] == [array.tobytes() for array in inputs]


@pytest.mark.parametrize("attention_mask", [False, True])
def test_publish_describes_the_tensors(tmp_path, attention_mask):
    utterances = preprocess(tmp_path, [20, 10, 20], attention_mask)
    kinds = ("", ".mask") if attention_mask else ("",)
    assert names(tmp_path) == WRITTEN | {f"{index}{kind}.bin" for index in range(3) for kind in kinds}
    manifest = (tmp_path / "bin_file.info").read_text().splitlines()
    assert manifest[-1] == f"2 {tmp_path}/2{kinds[-1]}.bin (1,20)"
    found = read_manifest(tmp_path / "bin_file.info")
    assert {key: [entry.path.name for entry in entries] for key, entries in found.items()} == {
        str(index): [f"{index}{kind}.bin" for kind in kinds] for index in range(3)
    }
    assert list(read_utterances(tmp_path / "utterances.tsv").values()) == utterances
    assert (tmp_path / "padding_lens.txt").read_text() == "10\n20\n"
    run = read_run(tmp_path)
    assert run == Run("a.py", which_dataset="clean", attention_mask=attention_mask, utterances=3, checksum=run.checksum)


def test_the_checksum_of_a_run_depends_on_content_and_order(tmp_path):
    checksums = set()
    for index, lengths in enumerate(([10, 20], [20, 10], [10, 21], [10])):
        preprocess(tmp_path / str(index), lengths)
        checksums.add(read_run(tmp_path / str(index)).checksum)
    assert len(checksums) == 4
    preprocess(tmp_path / "again", [10, 20])
    assert read_run(tmp_path / "again").checksum in checksums


def test_publish_removes_what_an_earlier_run_left(tmp_path):
    preprocess(tmp_path, [10, 10, 10], attention_mask=True)
    (tmp_path / "1.bin.tmp").touch()  # left by a killed run
    preprocess(tmp_path, [30, 30], which="other")
    assert names(tmp_path) == WRITTEN | {"0.bin", "1.bin"}
    assert (tmp_path / "1.bin").stat().st_size == 120
    assert read_run(tmp_path).which_dataset == "other"


@pytest.mark.parametrize("name", ["thesis.txt", "3.bin", "results.tsv"])
def test_publish_refuses_files_that_appeared_meanwhile(tmp_path, name):
    preprocess(tmp_path, [10, 10, 10])
    before = names(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(SuiteError, match=rf"holds files that a\.py did not write \({name}\)"):
        preprocess(tmp_path, [20])
    assert names(tmp_path) == before | {name}
    assert (tmp_path / "0.bin").stat().st_size == 40


@pytest.mark.parametrize("failing", sorted(WRITTEN))
def test_a_folder_whose_publication_failed_has_no_manifest(tmp_path, monkeypatch, failing):
    preprocess(tmp_path, [10])
    write_text = data_folder.write_text

    def fail(path, text):
        if path.name == failing:
            raise OSError("disk")
        write_text(path, text)

    monkeypatch.setattr(data_folder, "write_text", fail)
    monkeypatch.setattr(run_folder, "write_text", fail)
    with pytest.raises(OSError, match="disk"):
        preprocess(tmp_path, [20, 20])
    assert "bin_file.info" not in names(tmp_path)


def test_only_the_tensors_of_the_earlier_run_are_replaceable(tmp_path):
    write_run(tmp_path, Run("a.py", utterances=2))
    own = {"0.bin", "1.bin", "1.mask.bin", ".partial", "padding_lens.txt", "bin_file.info", "utterances.tsv"}
    others = {"2.bin", "2.mask.bin", "x.bin", "0.npy", "0.0.bin", "results.tsv", "run.json"}
    is_replaceable = data_folder.replaceable_names(tmp_path)
    assert {name for name in own | others if is_replaceable(name)} == own


def test_a_folder_without_a_count_has_no_replaceable_tensors(tmp_path):
    for run in (None, Run("a.py")):
        if run:
            write_run(tmp_path, run)
        is_replaceable = data_folder.replaceable_names(tmp_path)
        assert [is_replaceable(name) for name in ("0.bin", "bin_file.info")] == [False, True]
