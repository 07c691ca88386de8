# SPDX-License-Identifier: Apache-2.0
"""Proves with whole scripts that a damaged, mixed or surplus file ends in an error, never in a wrong WER or a loss."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from wav2vec2_eval.files.locks import locked, reading
from wav2vec2_eval.files.names import LIST_NAME, LOCK_NAME

from conftest import DEMO_DATA, DEMO_MODEL, SPEECH, run_ok, run_script

DATA, RESULTS, BASELINE = "pre_data/clean", "om_infer_res_clean", "pth_online_infer_res/clean"
INFER = (
    "pyacl_infer.py",
    "--model_path=./models/wav2vec2-base-960h.onnx",
    f"--input_info_file_path={DATA}/bin_file.info",
    f"--infer_res_save_path={RESULTS}",
)
RESUME = (*INFER, "--resume")
SCORE = ("postprocess.py", f"--bin_file_path={RESULTS}", f"--res_save_path={RESULTS}/transcriptions.txt")


@pytest.fixture
def user(chain, tmp_path, monkeypatch):
    """A copy of the finished chain, to be changed; the current folder."""
    cwd = shutil.copytree(chain, tmp_path / "user")
    monkeypatch.chdir(cwd)
    return cwd


def digest(folder):
    """Every file below the folder with its content, but without the locks."""
    paths = (path for path in folder.rglob("*") if path.name != LOCK_NAME)
    return {path: path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes() for path in paths}


def refuse(user, command, message):
    """The command ends with one line and status 2, and changes nothing."""
    before = digest(user)
    done = run_script(*command, cwd=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert digest(user) == before


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def cut(path):
    """Remove the last line."""
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def removed(folder, name):
    """The place of a file that is there no longer."""
    Path(folder, name).unlink()
    return Path(folder, name)


def write_mine(name):
    Path(RESULTS, name).write_text("mine")


DAMAGED = "damaged or replaced"
CASES = {
    "a manifest cut at a line": (lambda: cut(Path(DATA, "bin_file.info")), INFER, DAMAGED),
    "references cut at a line": (lambda: cut(Path(DATA, "utterances.tsv")), INFER, DAMAGED),
    "another reference": (lambda: replace(Path(DATA, "utterances.tsv"), "HE BEGAN", "HE ENDED"), INFER, DAMAGED),
    "a list cut at a line": (lambda: cut(Path(DATA, LIST_NAME)), INFER, "not in files.tsv"),
    "a missing list": (lambda: Path(DATA, LIST_NAME).unlink(), INFER, "no such file, but"),
    "another model's symbols in the data": (
        lambda: replace(Path(DATA, "model.json"), '"E",\n   "T"', '"T",\n   "E"'),
        INFER,
        DAMAGED,
    ),
    "a zeroed result": (lambda: zero(Path(RESULTS, "3.0.bin")), SCORE, DAMAGED),
    "a journal cut at a line": (lambda: cut(Path(RESULTS, "results.tsv")), SCORE, DAMAGED),
    "references of the results cut": (lambda: cut(Path(RESULTS, "utterances.tsv")), SCORE, DAMAGED),
    "symbols of the results changed": (lambda: replace(Path(RESULTS, "model.json"), '"E"', '"e"'), SCORE, DAMAGED),
    "other conditions": (lambda: replace(Path(DATA, "run.json"), '"clean"', '"other"'), INFER, DAMAGED),
    "a run that did not finish": (lambda: Path(RESULTS, "infer_time.txt").unlink(), SCORE, "did not finish"),
    "a recorded name that leads elsewhere": (
        lambda: replace(Path(RESULTS, "run.json"), '"transcriptions.txt"', '"../models/x"'),
        SCORE,
        "run.json",
    ),
    "a folder in the place of a tensor": (
        lambda: removed(RESULTS, "3.0.bin").mkdir(),
        INFER,
        "regular file",
    ),
    "a link in the place of a result": (
        lambda: removed(RESULTS, "3.0.bin").symlink_to("../thesis.txt"),
        INFER,
        "regular file",
    ),
    **{
        f"a file of the user, {name}": (
            partial(write_mine, name),
            INFER,
            f"did not write ({name})",
        )
        for name in ("notes.txt.tmp", "2.0.npy", "0.mask.bin", "2.1.bin", "wer.txt.tmp", ".partial")
    },
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_as_it_was_written_is_refused(user, case):
    (user / "thesis.txt").write_text("mine")
    change, command, message = CASES[case]
    change()
    refuse(user, command, message)


def test_a_zeroed_tensor_is_noticed_while_it_is_read(user):
    zero(user / DATA / "3.bin")
    done = run_script(*INFER, cwd=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"3.bin: {DAMAGED}" in done.stderr
    assert not (user / RESULTS / "infer_time.txt").exists()
    done = run_script(*SCORE, cwd=user)
    assert (done.returncode, "did not finish" in done.stderr) == (2, True)


def test_a_zeroed_result_does_not_survive_resume(user):
    before = (user / RESULTS / "wer.txt").read_text()
    zero(user / RESULTS / "3.0.bin")
    assert "resumed: 4 of 5 results are kept" in run_ok(*RESUME, cwd=user)
    run_ok(*SCORE, cwd=user)
    assert (user / RESULTS / "wer.txt").read_text() == before


@pytest.mark.parametrize("lock", [locked, reading])
@pytest.mark.parametrize(
    ("folder", "command"),
    [
        (DATA, ("preprocess.py", f"--pre_data_save_path={DATA}", *DEMO_DATA, DEMO_MODEL)),
        (DATA, INFER),
        (RESULTS, INFER),
        (RESULTS, SCORE),
        (RESULTS, (*SCORE[:2], "--res_save_path=scores/t.txt")),
        (BASELINE, ("pth_online_infer.py", f"--pred_res_save_path={BASELINE}/t.txt", *DEMO_DATA, DEMO_MODEL)),
    ],
)
def test_nobody_writes_what_another_reads_or_reads_what_another_writes(user, folder, command, lock):
    reads_only = (folder, command[0]) == (DATA, "pyacl_infer.py") or "scores/t.txt" in command[-1]
    with lock(user / folder):
        if lock is reading and reads_only:
            run_ok(*command, cwd=user)
        else:
            refuse(user, command, "another run is")


def test_a_stray_result_in_the_other_format_changes_nothing(user):
    before = (user / RESULTS / "wer.txt").read_text()
    np.save(user / RESULTS / "3.0.npy", np.zeros((1, 3, 32), np.float32))
    run_ok(*SCORE, cwd=user)
    assert (user / RESULTS / "wer.txt").read_text() == before


def permuted(model_folder, target):
    """A copy of the model's folder in which two letters have changed places."""
    shutil.copytree(model_folder, target)
    vocabulary = json.loads((target / "vocab.json").read_text())
    vocabulary["E"], vocabulary["T"] = vocabulary["T"], vocabulary["E"]
    (target / "vocab.json").write_text(json.dumps(vocabulary))
    return f"--model_name_or_path={target}"


def test_results_are_scored_with_the_symbols_of_their_own_model(user, model_folder):
    before = (user / RESULTS / "transcriptions.txt").read_text()
    refuse(user, (*SCORE, permuted(model_folder, user / "other")), "are not of one model: the symbols of")
    shutil.move(user / RESULTS, user / "moved")
    for name in (DATA, "models", "other"):
        shutil.rmtree(user / name)
    run_ok("postprocess.py", "--bin_file_path=moved", "--res_save_path=scores/t.txt", cwd=user)
    assert (user / "scores/t.txt").read_text() == before
    refuse(user, (*SCORE[:1], "--bin_file_path=moved", "--res_save_path=x/t.txt", "--which_dataset=other"), "not other")


def test_a_model_does_not_run_on_data_of_another(user, speech, model_folder):
    model = permuted(model_folder, user / "other")
    run_ok("preprocess.py", "--pre_data_save_path=pre", "--which_dataset=clean", f"--dataset_path={speech}", model,
           cwd=user)  # fmt: skip
    command = (*INFER[:2], "--input_info_file_path=pre/bin_file.info", "--infer_res_save_path=res")
    refuse(user, command, "are not of one model: the symbols of")


def test_a_reference_is_the_same_for_all_scripts(user, speech, model_folder):
    """Whatever white space is in it."""
    tree = shutil.copytree(speech, user / "tree")
    for path in tree.rglob("*.trans.txt"):
        words = [line.split(" ") for line in path.read_text().splitlines()]
        path.write_text("".join(f"{name} {text[0]}\t{'  '.join(text[1:])}\n" for name, *text in words))
    data = ("--which_dataset=clean", f"--dataset_path={tree}", f"--model_name_or_path={model_folder}")
    run_ok("pth_online_infer.py", "--pred_res_save_path=b/t.txt", *data, cwd=user)
    for name in ("utterances.tsv", "bin_file.info", "results.tsv", "files.tsv", "run.json"):
        (user / RESULTS / name).unlink()  # as another tool leaves its results
    run_ok("postprocess.py", f"--bin_file_path={RESULTS}", "--res_save_path=s/t.txt", *data, cwd=user)
    rows = [
        [line.split("\t") for line in Path(folder, "utterance_scores.tsv").read_text().splitlines()] for folder in "bs"
    ]
    assert {len(row) for row in (*rows[0], *rows[1])} == {10}
    assert sorted(row[7] for row in rows[0]) == sorted(row[7] for row in rows[1])
    assert sorted(row[7] for row in rows[0][1:]) == sorted(text for _, text in SPEECH.values())


def test_results_that_do_not_name_their_model_need_one(user, model_folder):
    """Results of an older version."""
    for name in (LIST_NAME, "model.json"):
        (user / RESULTS / name).unlink()
    replace(user / RESULTS / "run.json", '"format": 2,', "")
    command = (*SCORE[:2], "--res_save_path=scores/t.txt")
    refuse(user, command, "give --model_name_or_path")
    run_ok(*command, f"--model_name_or_path={model_folder}", cwd=user)
    assert (user / "scores/t.txt").read_text() == (user / RESULTS / "transcriptions.txt").read_text()
    refuse(user, INFER, "older version")


def test_a_part_of_a_manifest_under_another_name_is_fine(user):
    lines = (user / DATA / "bin_file.info").read_text().splitlines(keepends=True)
    (user / DATA / "part.info").write_text("".join(lines[1:3]))
    run_ok(*INFER[:2], f"--input_info_file_path={DATA}/part.info", "--infer_res_save_path=res", cwd=user)
    run_ok("postprocess.py", "--bin_file_path=res", "--res_save_path=res/t.txt", cwd=user)
    whole = (user / RESULTS / "transcriptions.txt").read_text().splitlines()
    assert (user / "res/t.txt").read_text().splitlines() == whole[1:3]
