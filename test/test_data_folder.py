# SPDX-License-Identifier: Apache-2.0
"""Proves that publish replaces exactly the files of an earlier run, and that an incomplete folder has no manifest."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import data_folder
from wav2vec2_eval.files.data_folder import Preprocessed, Tensors
from wav2vec2_eval.files.file_list import Source, content_of
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.manifest import Manifest
from wav2vec2_eval.files.model_record import ModelRecord, read_record
from wav2vec2_eval.files.run import Run, read_run
from wav2vec2_eval.files.utterances import Utterance
from wav2vec2_eval.speech.ctc import Symbols
from wav2vec2_eval.speech.feature_extractor import FeatureExtractor

WRITTEN = {
    *("bin_file.info", "utterances.tsv", "padding_lens.txt", "run.json", "model.json"),
    *("files.tsv", ".wav2vec2_eval.lock"),
}
RECORD = ModelRecord("m", FeatureExtractor(), Symbols(("<pad>", "A")))


def arrays(length, attention_mask):
    samples = np.linspace(0, 1, length, dtype=np.float32)[None]
    return [samples, np.ones_like(samples)] if attention_mask else [samples]


def run_of(attention_mask=False, which="clean"):
    return Run("a.py", which_dataset=which, attention_mask=attention_mask)


def preprocess(folder, lengths, attention_mask=False, which="clean", layout="suite"):
    """Publish one utterance for each padded length, as preprocess.py does."""
    with output_folder(folder, "a.py") as out, out.staging() as staged:
        items = []
        for index, length in enumerate(lengths):
            key, inputs = str(index), arrays(length, attention_mask)
            part = data_folder.write_tensors(staged.path, key, length - 1, inputs, layout)
            items.append(Preprocessed(Utterance(key, f"id{index}", length - 1, "A"), [part], 16_000, 1))
        totals = data_folder.stage(staged, f"{folder}/", items, run_of(attention_mask, which), RECORD)
        assert (totals.utterances, totals.num_samples) == (len(lengths), sum(lengths) - len(lengths))
        assert (totals.padded_samples, totals.gears) == (sum(lengths), set(lengths))
        data_folder.publish(out, staged, "a.py")
    return [item.utterance for item in items]


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("attention_mask", [False, True])
def test_write_tensors_writes_the_inputs_and_their_checksums(tmp_path, attention_mask):
    inputs = arrays(5, attention_mask)
    item = data_folder.write_tensors(tmp_path, "7", 3, inputs)
    expected = ["7.bin", "7.mask.bin"][: len(inputs)]
    assert item == Tensors("7", 3, 5, {name: content_of(array.tobytes()) for name, array in zip(expected, inputs)})
    assert names(tmp_path) == set(expected)
    assert [(tmp_path / name).read_bytes() for name in expected] == [array.tobytes() for array in inputs]


@pytest.mark.parametrize("attention_mask", [False, True])
def test_publish_describes_the_tensors(tmp_path, attention_mask):
    utterances = preprocess(tmp_path, [20, 10, 20], attention_mask)
    kinds = ("", ".mask") if attention_mask else ("",)
    tensors = {f"{index}{kind}.bin" for index in range(3) for kind in kinds}
    assert names(tmp_path) == WRITTEN | tensors
    manifest = (tmp_path / "bin_file.info").read_text().splitlines()
    assert manifest[-1] == f"2 {tmp_path}/2{kinds[-1]}.bin (1,20)"
    found = Manifest(tmp_path / "bin_file.info")
    assert {key: [entry.name for entry in entries] for key, entries in found.items()} == {
        str(index): [f"{index}{kind}.bin" for kind in kinds] for index in range(3)
    }
    assert list(found.references().values()) == utterances
    assert (tmp_path / "padding_lens.txt").read_text() == "10\n20\n"
    source = Source(tmp_path)
    assert set(source.list) == (WRITTEN | tensors) - {"files.tsv", ".wav2vec2_eval.lock"}
    assert all(source.read(name) == (tmp_path / name).read_bytes() for name in source.list)
    assert read_record(source) == RECORD
    expected = run_of(attention_mask)
    assert vars(source.run) == {**vars(expected), "format": 2, "utterances": 3, "checksum": source.run.checksum}


@pytest.mark.parametrize("attention_mask", [False, True])
def test_a_layout_with_a_folder_for_each_input(tmp_path, attention_mask):
    preprocess(tmp_path, [20, 10], attention_mask, layout="ais_bench")
    folders = ["input", "attention_mask"][: 1 + attention_mask]
    assert names(tmp_path) == WRITTEN | set(folders)
    lines = [
        f"{key} {tmp_path}/{each}/{key}.npy (1,{length})\n" for key, length in ((0, 20), (1, 10)) for each in folders
    ]
    assert (tmp_path / "bin_file.info").read_text() == "".join(lines)
    for key, length in ((0, 20), (1, 10)):
        for each, array in zip(folders, arrays(length, attention_mask)):
            found = np.load(tmp_path / each / f"{key}.npy")
            assert (found.dtype, found.shape, found.tobytes()) == (np.float32, (1, length), array.tobytes())
    source = Source(tmp_path)
    assert {name for name in source.list if "/" in name} == {f"{each}/{key}.npy" for each in folders for key in "01"}
    assert all(source.read(name) == (tmp_path / name).read_bytes() for name in source.list)


def test_the_layout_may_change(tmp_path):
    for layout, attention_mask, expected in (
        ("suite", True, {"0.bin", "0.mask.bin"}),
        ("ais_bench", True, {"input", "attention_mask"}),
        ("ais_bench", False, {"input"}),
        ("suite", False, {"0.bin"}),
    ):
        preprocess(tmp_path, [10], attention_mask, layout=layout)
        assert names(tmp_path) == WRITTEN | expected


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
    preprocess(tmp_path, [30, 30], which="other")
    assert names(tmp_path) == WRITTEN | {"0.bin", "1.bin"}
    assert (tmp_path / "1.bin").stat().st_size == 120
    assert read_run(tmp_path).which_dataset == "other"


@pytest.mark.parametrize("name", ["thesis.txt", "3.bin", "results.tsv", "1.bin.tmp", "2.mask.bin", ".partial"])
def test_publish_refuses_files_that_appeared_meanwhile(tmp_path, name):
    preprocess(tmp_path, [10, 10, 10])
    before = names(tmp_path)
    with output_folder(tmp_path, "a.py") as out, out.staging() as staged:
        data_folder.stage(staged, "x", [], run_of(), RECORD)
        (tmp_path / name).touch()
        with pytest.raises(SuiteError, match=rf"holds files that a\.py did not write \({name}\)"):
            data_folder.publish(out, staged, "a.py")
    assert names(tmp_path) == before | {name}
    assert (tmp_path / "0.bin").stat().st_size == 40


@pytest.mark.parametrize("layout", ["suite", "ais_bench"])
@pytest.mark.parametrize("failing", range(12))
def test_a_folder_whose_publication_failed_has_no_manifest(tmp_path, monkeypatch, failing, layout):
    preprocess(tmp_path, [10])
    moved = []
    rename = type(tmp_path).rename

    def fail(path, target):
        moved.append(target.name)
        if len(moved) > failing:
            raise OSError("disk")
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk"):
        patch.setattr(type(tmp_path), "rename", fail)
        preprocess(tmp_path, [20] * 12, layout=layout)
    assert "bin_file.info" not in names(tmp_path)
    preprocess(tmp_path, [30])
    assert names(tmp_path) == WRITTEN | {"0.bin"}
