# SPDX-License-Identifier: Apache-2.0
"""Proves that manifests and utterances are read as data, and that every file they describe is checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import manifest
from wav2vec2_eval.files.manifest import Entry, Utterance


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("0 ./pre_data/clean/0.bin (1,160000)", Entry("0", Path("pre_data/clean/0.bin"), (1, 160_000))),
        ("7 /data/my set (new)/7.bin (1,10000)", Entry("7", Path("/data/my set (new)/7.bin"), (1, 10_000))),
        ("a-b_c.d x.bin (3,)", Entry("a-b_c.d", Path("x.bin"), (3,))),
        ("0 x.bin (1, 2, 3)", Entry("0", Path("x.bin"), (1, 2, 3))),
        ("0 x.bin (400)\n", Entry("0", Path("x.bin"), (400,))),
    ],
)
def test_parse_line_reads_key_path_and_shape(line, entry):
    assert manifest.parse_line(line) == entry


@pytest.mark.parametrize(
    "line",
    [
        "",
        "0",
        "0 x.bin",
        "0 (1,2)",
        "0 x.bin ()",
        "0 x.bin (,)",
        "0 x.bin (1,,2)",
        "0 x.bin (0,5)",
        "0 x.bin (-1,5)",
        "0 x.bin (1.5)",
        "0 x.bin 1,5",
        "0 x.bin (__import__('os').system('touch pwned'))",
        "0 x.bin (exit())",
        "../0 x.bin (1,5)",
        "a/b x.bin (1,5)",
        ".. x.bin (1,5)",
        ".hidden x.bin (1,5)",
        "0 x.bin (\u0661,\u0665)",
    ],
)
def test_parse_line_refuses(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SuiteError):
        manifest.parse_line(line)
    assert not list(tmp_path.iterdir())


def test_format_and_parse_are_inverse():
    line = manifest.format_line("3", "./my data/3.bin", (1, 20_000))
    assert line == "3 ./my data/3.bin (1,20000)"
    assert manifest.parse_line(line) == Entry("3", Path("my data/3.bin"), (1, 20_000))


def test_read_manifest_groups_the_inputs_of_an_utterance(tmp_path):
    path = tmp_path / "bin_file.info"
    path.write_text("0 0.bin (1,5)\n0 0.mask.bin (1,5)\n1 1.bin (1,6)\n1 1.mask.bin (1,6)\n")
    utterances = manifest.read_manifest(path)
    assert {key: [entry.path.name for entry in entries] for key, entries in utterances.items()} == {
        "0": ["0.bin", "0.mask.bin"],
        "1": ["1.bin", "1.mask.bin"],
    }


def test_read_manifest_finds_tensors_beside_itself_when_moved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "bin_file.info").write_text("0 ./pre_data/clean/0.bin (1,5)\n")
    assert manifest.read_manifest(moved / "bin_file.info")["0"][0].path == moved / "0.bin"
    here = tmp_path / "pre_data/clean/0.bin"
    here.parent.mkdir(parents=True)
    here.touch()
    assert manifest.read_manifest(moved / "bin_file.info")["0"][0].path.samefile(here)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "empty"), (b"\xff\xfe\x00", "UTF-8"), (b"0 x (1,5)\nnonsense\n", "line 2")],
)
def test_read_manifest_refuses(tmp_path, content, message):
    path = tmp_path / "bin_file.info"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SuiteError, match=message):
        manifest.read_manifest(path)


def test_utterances_are_read_as_they_were_written(tmp_path):
    utterances = [Utterance("0", "61-70968-0000", 78_480, "HE BEGAN"), Utterance("1", "x", 400, "")]
    path = tmp_path / "utterances.tsv"
    path.write_text(manifest.format_utterances(utterances))
    assert list(manifest.read_utterances(path).values()) == utterances


def test_the_text_of_an_utterance_stays_on_one_line():
    text = manifest.format_utterances([Utterance("0", "x", 400, "TWO\tWORDS\nMORE\u2028LINES")])
    assert text == "0\tx\t400\tTWO WORDS MORE LINES\n"


@pytest.mark.parametrize(
    "line", ["0\tx\t400", "0\tx\tmany\tA", "0\tx\t400\tA\tB", "../0\tx\t400\tA", "a\tx\t1\tA\na\tx\t1\tA"]
)
def test_read_utterances_refuses(tmp_path, line):
    path = tmp_path / "utterances.tsv"
    path.write_text(f"{line}\n")
    with pytest.raises(SuiteError):
        manifest.read_utterances(path)


def test_check_same_keys_names_the_missing_and_the_extra_keys():
    manifest.check_same_keys({"a": 1}, {"a": 2}, "results")
    with pytest.raises(SuiteError, match=r"results: expected 2 keys, found 2: 1 missing \(b\), 1 extra \(c\)"):
        manifest.check_same_keys({"a": 1, "b": 1}, {"a": 1, "c": 1}, "results")


FLOAT, BYTE = np.dtype("float32"), np.dtype("int8")


@pytest.fixture
def inputs(tmp_path):
    """Two utterances with two inputs each: (1, 2) float32 and (1, 2) int8."""
    entries = {}
    for index, key in enumerate(("0", "a")):
        for name, dtype in (("", FLOAT), (".mask", BYTE)):
            path = tmp_path / f"{key}{name}.bin"
            np.array([[index, 1]], dtype).tofile(path)
            entries.setdefault(key, []).append(Entry(key, path, (1, 2)))
    return entries


def test_read_arrays_reads_each_input_in_its_type(inputs):
    for index, entries in enumerate(inputs.values()):
        arrays = manifest.read_arrays(entries, (FLOAT, BYTE))
        assert [array.dtype for array in arrays] == [FLOAT, BYTE]
        assert [array.tolist() for array in arrays] == [[[index, 1]]] * 2


def test_tensors_that_fit_pass_the_check(inputs):
    manifest.check_tensors(Path("bin_file.info"), inputs, (FLOAT, BYTE))


@pytest.mark.parametrize(
    ("dtypes", "message"),
    [
        ((FLOAT,), "bin_file.info: utterance 0 has 2 inputs, but --input_dtypes names 1"),
        ((FLOAT, BYTE, BYTE), "bin_file.info: utterance 0 has 2 inputs, but --input_dtypes names 3"),
        ((BYTE, FLOAT), r"0\.bin: 8 bytes, expected 2 = \(1,2\) int8"),
    ],
)
def test_other_dtypes_than_those_of_the_tensors_are_refused(inputs, dtypes, message):
    with pytest.raises(SuiteError, match=message):
        manifest.check_tensors(Path("bin_file.info"), inputs, dtypes)


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), (b"1", "1 bytes, expected 2")])
def test_the_tensors_of_every_utterance_are_checked(inputs, content, message):
    """The last tensor of the last utterance is missing or cut."""
    path = inputs["a"][1].path
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SuiteError, match=rf"a\.mask\.bin: {message}.*run preprocess\.py again"):
        manifest.check_tensors(Path("bin_file.info"), inputs, (FLOAT, BYTE))
    with pytest.raises(SuiteError, match=rf"a\.mask\.bin: {message}"):
        manifest.read_arrays(inputs["a"], (FLOAT, BYTE))


def test_references_beside_the_manifest_are_those_of_its_utterances(inputs, tmp_path):
    """utterances.tsv may hold more utterances, in another order."""
    known = [Utterance(key, f"id {key}", 400, "A") for key in ("a", "more", "0")]
    (tmp_path / "utterances.tsv").write_text(manifest.format_utterances(known))
    references = manifest.references_beside(tmp_path / "bin_file.info", inputs)
    assert list(references.items()) == [("0", known[2]), ("a", known[0])]


def test_a_manifest_without_utterances_tsv_has_no_references(inputs, tmp_path):
    assert manifest.references_beside(tmp_path / "bin_file.info", inputs) is None


def test_references_that_lack_an_utterance_are_refused(inputs, tmp_path):
    (tmp_path / "utterances.tsv").write_text("0\tx\t400\tA\n")
    with pytest.raises(SuiteError, match=r"utterances\.tsv: expected 2 keys, found 1: 1 missing \(a\)"):
        manifest.references_beside(tmp_path / "bin_file.info", inputs)


def test_a_tensor_that_is_found_in_two_places_is_refused(tmp_path, monkeypatch):
    """The path from the current folder names one file; the manifest's folder holds another file of that name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved/bin_file.info").write_text("0 ./0.bin (1,5)\n")
    for folder in (tmp_path, tmp_path / "moved"):
        (folder / "0.bin").touch()
    with pytest.raises(SuiteError, match=r"line 1: 0\.bin exists in the current folder, and another file of that name"):
        manifest.read_manifest(tmp_path / "moved/bin_file.info")
