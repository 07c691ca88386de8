# SPDX-License-Identifier: Apache-2.0
"""Proves that manifests and utterances are read as data, and that every file they describe is checked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import data_folder, manifest
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.manifest import Entry, Manifest
from wav2vec2_eval.files.model_record import ModelRecord
from wav2vec2_eval.files.names import LAYOUTS
from wav2vec2_eval.files.run import Run
from wav2vec2_eval.files.utterances import Utterance, format_utterance
from wav2vec2_eval.speech.ctc import Symbols
from wav2vec2_eval.speech.feature_extractor import FeatureExtractor


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("0 ./pre_data/clean/0.bin (1,160000)", Entry("0", "./pre_data/clean/0.bin", (1, 160_000))),
        ("7 /data/my set (new)/7.bin (1,10000)", Entry("7", "/data/my set (new)/7.bin", (1, 10_000))),
        ("a-b_c.d x.bin (3,)", Entry("a-b_c.d", "x.bin", (3,))),
        ("0 x.bin (1, 2, 3)", Entry("0", "x.bin", (1, 2, 3))),
        ("0 x.bin (400)\n", Entry("0", "x.bin", (400,))),
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
        "0 x\0.bin (1,5)",
        f"0 x.bin ({'9' * 5_000})",
        f"0 x.bin (1,{2**62})",
        f"0 x.bin ({'1,' * 20}1)",
        f"{'k' * 201} x.bin (1,5)",
        f"0 x{' ' * 300_000}",
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
    assert manifest.parse_line(line) == Entry("3", "./my data/3.bin", (1, 20_000))


def test_a_manifest_groups_the_inputs_of_an_utterance(tmp_path):
    path = tmp_path / "bin_file.info"
    path.write_text("0 0.bin (1,5)\n0 0.mask.bin (1,5)\n1 1.bin (1,6)\n1 1.mask.bin (1,6)\n")
    utterances = Manifest(path)
    assert {key: [entry.name for entry in entries] for key, entries in utterances.items()} == {
        "0": ["0.bin", "0.mask.bin"],
        "1": ["1.bin", "1.mask.bin"],
    }


def place(manifest_path):
    """Where the first tensor of a manifest is."""
    inputs = Manifest(manifest_path)
    return inputs.locate(inputs["0"][0])[0]


def test_a_manifest_finds_tensors_beside_itself_when_moved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "bin_file.info").write_text("0 ./pre_data/clean/0.bin (1,5)\n")
    assert place(moved / "bin_file.info") == str(moved / "0.bin")
    here = tmp_path / "pre_data/clean/0.bin"
    here.parent.mkdir(parents=True)
    here.touch()
    assert place(moved / "bin_file.info") == "./pre_data/clean/0.bin"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (b"\xff\xfe\x00", "line 1: expected UTF-8"),
        (b"0 x (1,5)\nnonsense\n", "line 2"),
        (b"0 x (1,5)\n\n1 x (1,5)\n", "line 2"),
        (b" " * 300 + b"0 x (1,5)\n", "line 1: malformed"),
        (b"0 x (1,5)\n\t1 x (1,5)\n", "line 2: malformed"),
        ("0 x (1,5)\n\u00a01 x (1,5)\n".encode(), "line 2: expected a (key|line)"),
        ("0 x (1,5)\n\u00a00 x (1,5)\n".encode(), "line 2: expected a (key|line)"),
        (b"0 x (1,5)\n1 x (1,5)\n0 y (1,5)\n", "line 3: 0 is there a second time"),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path, content, message):
    path = tmp_path / "bin_file.info"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SuiteError, match=message):
        Manifest(path).check()


def test_check_same_keys_names_the_missing_and_the_extra_keys():
    manifest.check_same_keys({"a": 1}, {"a": 2}, "results")
    with pytest.raises(SuiteError, match=r"results: expected 2 keys, found 2: 1 missing \(b\), 1 extra \(c\)"):
        manifest.check_same_keys({"a": 1, "b": 1}, {"a": 1, "c": 1}, "results")


FLOAT, BYTE = np.dtype("float32"), np.dtype("int8")


@pytest.fixture
def inputs(tmp_path):
    """Two utterances with two inputs each: (1, 2) float32 and (1, 2) int8."""
    lines = []
    for index, key in enumerate(("0", "a")):
        for name, dtype in (("", FLOAT), (".mask", BYTE)):
            path = tmp_path / f"{key}{name}.bin"
            np.array([[index, 1]], dtype).tofile(path)
            lines.append(manifest.format_line(key, str(path), (1, 2)) + "\n")
    (tmp_path / "bin_file.info").write_text("".join(lines))
    return Manifest(tmp_path / "bin_file.info")


def test_read_arrays_reads_each_input_in_its_type(inputs):
    for index, key in enumerate(inputs):
        arrays = inputs.read_arrays(key, (FLOAT, BYTE))
        assert [array.dtype for array in arrays] == [FLOAT, BYTE]
        assert [array.tolist() for array in arrays] == [[[index, 1]]] * 2


def test_tensors_that_fit_pass_the_check(inputs):
    inputs.check_tensors((FLOAT, BYTE))


@pytest.mark.parametrize(
    ("dtypes", "message"),
    [
        ((FLOAT,), "bin_file.info: utterance 0 has 2 inputs, but --input_dtypes names 1"),
        ((FLOAT, BYTE, BYTE), "bin_file.info: utterance 0 has 2 inputs, but --input_dtypes names 3"),
        ((BYTE, FLOAT), r"0\.bin: 8 bytes, expected 2 = \(1,2\) int8; .* give pyacl_infer\.py the --input_dtypes"),
    ],
)
def test_other_dtypes_than_those_of_the_tensors_are_refused(inputs, dtypes, message):
    with pytest.raises(SuiteError, match=message):
        inputs.check_tensors(dtypes)


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), (b"1", "1 bytes, expected 2")])
def test_the_tensors_of_every_utterance_are_checked(inputs, content, message):
    """The last tensor of the last utterance is missing or cut."""
    path = Path(inputs["a"][1].path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SuiteError, match=rf"a\.mask\.bin: {message}.*run preprocess\.py again"):
        inputs.check_tensors((FLOAT, BYTE))
    with pytest.raises(SuiteError, match=rf"a\.mask\.bin: {message}"):
        inputs.read_arrays("a", (FLOAT, BYTE))


def test_references_beside_the_manifest_are_those_of_its_utterances(inputs, tmp_path):
    """utterances.tsv may hold more utterances, in another order."""
    known = [Utterance(key, f"id {key}", 400, "A") for key in ("a", "more", "0")]
    (tmp_path / "utterances.tsv").write_text("".join(map(format_utterance, known)))
    references = inputs.references()
    assert [references[key] for key in inputs] == [known[2], known[0]]


def test_a_manifest_without_utterances_tsv_has_no_references(inputs):
    assert inputs.references() is None


def test_references_that_lack_an_utterance_are_refused(inputs, tmp_path):
    (tmp_path / "utterances.tsv").write_text("0\tx\t400\tA\n")
    with pytest.raises(SuiteError, match=r"utterances\.tsv: 1 utterances are missing \(a\)"):
        inputs.references()


def test_the_digest_depends_on_key_name_shape_and_content(tmp_path):
    """The content is known by its time where there is no list of files, by its checksum where there is one."""

    def digest(line="0 0.bin (1,5)\n", time_s=1):
        (tmp_path / "bin_file.info").write_text(line)
        for name in ("0.bin", "1.bin"):
            (tmp_path / name).write_bytes(bytes(24 if "6" in line else 20))
            os.utime(tmp_path / name, (time_s, time_s))
        return Manifest(tmp_path / "bin_file.info").check_tensors([FLOAT])

    assert digest() == digest()
    (tmp_path / "utterances.tsv").write_text("0\tx\t400\tA\n")
    with_references = digest()
    (tmp_path / "utterances.tsv").write_text("0\tx\t400\tB\n")
    assert len({digest(), with_references}) == 2
    (tmp_path / "utterances.tsv").unlink()
    lines = ("0 0.bin (1,5)\n", "1 0.bin (1,5)\n", "0 1.bin (1,5)\n", "0 0.bin (1,6)\n")
    assert len({digest(), *map(digest, lines), digest(time_s=2)}) == 5

    def listed(content, time_s):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        write_data(tmp_path / "out", content)
        os.utime(tmp_path / "out/0.bin", (time_s, time_s))
        return Manifest(tmp_path / "out/bin_file.info").check_tensors([FLOAT])

    assert listed(b"1234", 1) == listed(b"1234", 2) != listed(b"1235", 2)


def write_data(folder, content=b"1234", lines="0 ./0.bin (1,1)\n", utterances=1):
    """A data folder as the suite writes it, with one tensor."""
    with output_folder(folder, "preprocess.py") as out:
        for name in (f"{index}.bin" for index in range(lines.count("\n"))):
            with out.writing(name) as file:
                file.write(content)
        out.write_text("bin_file.info", lines)
        out.write_run(Run("preprocess.py", utterances=utterances))
    return folder / "bin_file.info"


@pytest.mark.parametrize("folder", [".", "other"])
def test_tensors_are_verified_by_the_list_of_their_folder(tmp_path, monkeypatch, folder):
    """Also those of a manifest under another name, and of one in another folder."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "out")
    (tmp_path / folder).mkdir(exist_ok=True)
    part = tmp_path / folder / "part.info"
    part.write_text("k ./out/0.bin (1,1)\n")
    assert Manifest(part).read_arrays("k", [FLOAT])[0].tobytes() == b"1234"
    (tmp_path / "out/0.bin").write_bytes(b"1235")
    inputs = Manifest(part)
    inputs.check_tensors([FLOAT])
    with pytest.raises(SuiteError, match=r"0\.bin: damaged or replaced"):
        inputs.read_arrays("k", [FLOAT])
    (tmp_path / "out/5.bin").write_bytes(b"1234")
    part.write_text("k ./out/5.bin (1,1)\n")
    with pytest.raises(SuiteError, match=r"5\.bin: not in files\.tsv"):
        Manifest(part).check_tensors([FLOAT])


@pytest.mark.parametrize("name", ["bin_file.info", "utterances.tsv"])
def test_a_manifest_that_was_cut_at_a_line_is_refused(tmp_path, name):
    path = write_data(tmp_path, lines="0 ./0.bin (1,1)\n1 ./1.bin (1,1)\n", utterances=2)
    with output_folder(tmp_path) as out:
        out.write_text("utterances.tsv", "0\ta\t400\tA\n1\tb\t400\tB\n")
    cut = tmp_path / name
    cut.write_text(cut.read_text().partition("\n")[0] + "\n")
    with pytest.raises(SuiteError, match=rf"{name}: damaged or replaced"):
        Manifest(path).references()


def test_another_number_of_utterances_than_recorded_is_refused(tmp_path):
    """Also in a folder of an older version, which has no list of files."""
    (tmp_path / "run.json").write_text('{"script": "preprocess.py", "utterances": 2}')
    (tmp_path / "bin_file.info").write_text("0 ./0.bin (1,1)\n")
    with pytest.raises(SuiteError, match=r"expected 2 utterances as run\.json says, found 1"):
        Manifest(tmp_path / "bin_file.info")


def test_nobody_writes_into_the_folders_of_an_open_manifest(tmp_path):
    path = write_data(tmp_path / "out")
    (tmp_path / "part.info").write_text(f"k {tmp_path}/out/0.bin (1,1)\n")
    for opened in (path, tmp_path / "part.info"):
        with manifest.open_manifest(opened), pytest.raises(SuiteError, match="another run is"):
            write_data(tmp_path / "out")
    write_data(tmp_path / "out")


def published(folder, *contents, layout="suite"):
    """A whole data folder with one tensor for each content, as preprocess.py publishes it."""
    with output_folder(folder, "preprocess.py") as out, out.staging() as staged:
        job = [
            data_folder.Preprocessed(
                Utterance(key, f"id {key}", 400, "A"),
                [data_folder.write_tensors(staged.path, key, 1, [np.float32(content).reshape(1, 1)], layout)],
                rate=16_000,
                channels=1,
            )
            for key, content in zip("0123456789", contents)
        ]
        record = ModelRecord("m", FeatureExtractor(), Symbols(("<pad>", "A")))
        data_folder.stage(staged, str(folder), job, Run("preprocess.py"), record)
        data_folder.publish(out, staged, "preprocess.py")
    return folder / "bin_file.info"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_that_were_replaced_since_the_manifest_was_copied(tmp_path, layout):
    """The copy in a backup names the tensors' folder, in which there are others now."""
    path = published(tmp_path / "data", 1, 2, layout=layout)
    backup = tmp_path / "backup"
    backup.mkdir()
    for file in path.parent.iterdir():
        if file.suffix != ".bin" and file.is_file():
            shutil.copy(file, backup)
    assert len(Manifest(backup / path.name).check_tensors([FLOAT])) == 64
    published(tmp_path / "data", 1, 3, layout=layout)
    with pytest.raises(SuiteError, match="the tensors that it names were replaced by others since it was written"):
        Manifest(backup / path.name).check_tensors([FLOAT])
    (tmp_path / "data/files.tsv").unlink()
    (tmp_path / "data/run.json").unlink()
    with pytest.raises(SuiteError, match="the tensors that it names were replaced by others since it was written"):
        Manifest(backup / path.name).check_tensors([FLOAT])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("data", ["data", "input"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_copy_of_a_data_folder_has_its_own_tensors(tmp_path, layout, data, is_there):
    """Also while the folder that it is a copy of is still there, and if that has the name of a model input."""
    path = published(tmp_path / data, 1, 2, layout=layout)
    copy = shutil.copytree(path.parent, tmp_path / "copy")
    if is_there:
        published(tmp_path / data, 3, 4, layout=layout)
    else:
        shutil.rmtree(tmp_path / data)
    inputs = Manifest(copy / path.name)
    inputs.check_tensors([FLOAT])
    assert [float(inputs.read_arrays(key, [FLOAT])[0][0, 0]) for key in inputs] == [1, 2]


@pytest.mark.parametrize("name", ["0.npy", "1.npy"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-4] + b"\0\0\1\1"), "damaged or replaced"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "3 bytes, expected 4"),
        (lambda path: np.save(path, np.ones((1, 1))), r"expected float32 \(1,1\), found float64"),
        (lambda path: np.save(path, np.ones((1, 2), np.float32)), r"expected float32 \(1,1\), found float32 \(1,2\)"),
        (lambda path: path.write_text("mine"), r"expected a whole \.npy tensor"),
        (lambda path: path.unlink(), "no such file"),
    ],
)
def test_npy_tensors_are_checked_and_verified(tmp_path, name, damage, message):
    path = published(tmp_path, 1, 2, layout="ais_bench")
    damage(tmp_path / "input" / name)

    def read_all():
        inputs = Manifest(path)
        inputs.check_tensors([FLOAT])
        for key in inputs:
            inputs.read_arrays(key, [FLOAT])

    with pytest.raises(SuiteError, match=rf"input/{name}: {message}") as error:
        read_all()
    assert "\n" not in str(error.value)


def test_npy_tensors_of_the_user_are_read_from_any_folder(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1, 2]], np.float32))
    (tmp_path / "bin_file.info").write_text(f"k {tmp_path}/a.npy (1,2)\n")
    inputs = Manifest(tmp_path / "bin_file.info")
    inputs.check_tensors([FLOAT])
    assert inputs.read_arrays("k", [FLOAT])[0].tolist() == [[1, 2]]


def test_a_key_that_has_the_tensor_of_another_is_refused(tmp_path):
    """The references know utterances by their keys."""
    path = published(tmp_path, 1, 2)
    part = tmp_path / "part.info"
    part.write_text(path.read_text().splitlines()[1] + "\n")
    assert len(Manifest(part).check_tensors([FLOAT])) == 64
    part.write_text(part.read_text().replace("1 ", "0 ", 1))
    with pytest.raises(SuiteError, match=r"utterance 0 has the tensor 1\.bin, expected 0\.bin"):
        Manifest(part).check_tensors([FLOAT])


def test_a_tensor_that_is_found_in_two_places_is_refused(tmp_path, monkeypatch):
    """The path from the current folder names one file; the manifest's folder holds another file of that name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved/bin_file.info").write_text("0 ./0.bin (1,5)\n")
    for folder in (tmp_path, tmp_path / "moved"):
        (folder / "0.bin").touch()
    with pytest.raises(SuiteError, match=r"^\./0\.bin exists in the current folder, and another file of that name"):
        place(tmp_path / "moved/bin_file.info")
