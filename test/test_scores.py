# SPDX-License-Identifier: Apache-2.0
"""Proves that scores are joined by key, and which files the scoring writes and replaces."""

from __future__ import annotations

import sys

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import scores
from wav2vec2_eval.files.manifest import Utterance
from wav2vec2_eval.files.run_folder import Run, read_run, write_run
from wav2vec2_eval.speech.wer import WordErrors, total


def test_scores_are_joined_by_key_and_not_by_position():
    found = scores.score_by_key({"1": "ONE", "0": "ZERO"}, {"0": "ZERO", "1": "ONE"})
    assert total(found.values()).errors == 0


def test_each_key_gets_the_counts_of_its_utterance():
    found = scores.score_by_key({"b": "", "a": "A B"}, {"a": "A X", "b": "X"})
    assert found == {"b": WordErrors(0, 0, 1, 0), "a": WordErrors(1, 0, 0, 2)}


@pytest.mark.parametrize("references", [{}, {"0": ""}, {"0": " "}])
def test_nothing_to_score_is_refused(references):
    with pytest.raises(SuiteError, match="found none"):
        scores.score_by_key(references, references)


@pytest.mark.parametrize("hypotheses", [{}, {"0": "A"}, {"0": "A", "1": "B", "2": "C"}])
def test_missing_and_extra_hypotheses_are_refused(hypotheses):
    with pytest.raises(SuiteError, match="scoring: expected 2 keys"):
        scores.score_by_key({"0": "A", "1": "B"}, hypotheses)


def test_worst_sorts_by_wer_and_then_by_errors():
    found = {
        "right": WordErrors(0, 0, 0, 5),
        "long": WordErrors(2, 0, 0, 4),
        "short": WordErrors(1, 0, 0, 2),
        "wrong": WordErrors(0, 1, 0, 1),
    }
    assert scores.worst(found) == ["wrong", "long", "short"]
    assert scores.worst(found, count=1) == ["wrong"]


UTTERANCES = {"0": Utterance("0", "61-1-0", 400, "A B"), "1": Utterance("1", "61-1-1", 400, "C")}
HYPOTHESES = {"1": "", "0": "A X"}


def test_write_scores_writes_three_files_and_prints_the_errors(tmp_path, capsys):
    path = tmp_path / "new/transcriptions.txt"
    scores.check_output(path, "a.py")
    scores.write_scores(path, UTTERANCES, HYPOTHESES, "a.py", Run("a.py", device="cpu"))
    assert path.read_text() == "A X\n\n"
    assert (path.parent / "wer.txt").read_text().splitlines()[0] == f"WER: {2 / 3}"
    lines = (path.parent / "utterance_scores.tsv").read_text().splitlines()
    assert lines[1].split("\t") == ["0", "61-1-0", "0.5", "1", "0", "0", "2", "A B", "A X"]
    assert "61-1-1: 1 errors in 1 words" in capsys.readouterr().out
    assert read_run(path.parent) == Run("a.py", device="cpu", transcriptions="transcriptions.txt")


def test_nothing_is_written_unless_every_utterance_has_its_hypothesis(tmp_path):
    with pytest.raises(SuiteError):
        scores.write_scores(tmp_path / "t.txt", UTTERANCES, {}, "a.py")
    assert not list(tmp_path.iterdir())


def test_scores_replace_earlier_scores(tmp_path):
    """The second scores replace the first beside the results and in a separate folder, also under another name."""
    results, new = tmp_path / "results", tmp_path / "new"
    results.mkdir()
    write_run(results, Run("pyacl_infer.py", engine="x"))
    for name in ("a.txt", "a.txt", "b.txt"):
        for folder in (results, new):
            scores.check_output(folder / name, "a.py", results)
            scores.write_scores(folder / name, UTTERANCES, HYPOTHESES, "a.py")
            expected = {name, "wer.txt", "utterance_scores.tsv", "run.json"}
            assert {path.name for path in folder.iterdir()} == expected
    assert read_run(results) == Run("pyacl_infer.py", engine="x", transcriptions="b.txt")
    assert read_run(new) == Run("a.py", transcriptions="b.txt")
    with pytest.raises(SuiteError, match=r"holds files of a\.py"):
        scores.check_output(new / "b.txt", "b.py")


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("name", ["notes.txt", "wer.txt", "utterance_scores.tsv", "infer_time.txt"])
def test_files_of_others_are_not_replaced(tmp_path, name, beside):
    (tmp_path / name).write_text("mine")
    if beside and name == "infer_time.txt":  # the times of the scored results
        scores.check_output(tmp_path / "notes.txt", "a.py", tmp_path)
        return
    with pytest.raises(SuiteError, match=f"{name}: a.py did not write this file"):
        scores.check_output(tmp_path / "notes.txt", "a.py", tmp_path if beside else None)


@pytest.mark.parametrize(
    "name",
    [
        "wer.txt",
        "utterance_scores.tsv",
        "results.tsv",
        "bin_file.info",
        "utterances.tsv",
        "infer_time.txt",
        "run.json",
        "padding_lens.txt",
        "0.0.bin",
        "a.1.npy",
    ],
)
def test_transcriptions_may_not_have_the_name_of_another_file(tmp_path, name):
    with pytest.raises(SuiteError, match="this name"):
        scores.check_output(tmp_path / name, "a.py")
    assert not list(tmp_path.iterdir())


def test_a_missing_jiwer_is_reported_before_the_inference(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ModuleNotFoundError):
        scores.check_output(tmp_path / "t.txt", "a.py")
