# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

import jiwer
import pytest

from wav2vec2_eval import folders, scoring
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.manifest import Utterance
from wav2vec2_eval.scoring import WordErrors


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("A B C", "A B C", WordErrors(0, 0, 0, 3)),
        ("A B C", "A X C", WordErrors(1, 0, 0, 3)),
        ("A B C", "A C", WordErrors(0, 1, 0, 3)),
        ("A B", "A X B Y", WordErrors(0, 0, 2, 2)),
        ("A B C", "", WordErrors(0, 3, 0, 3)),
        ("A  B ", " A B", WordErrors(0, 0, 0, 2)),
    ],
)
def test_word_errors(reference, hypothesis, expected):
    assert scoring.word_errors({"0": reference}, {"0": hypothesis}) == {"0": expected}


def test_joined_by_key_and_not_by_position():
    scores = scoring.word_errors({"1": "ONE", "0": "ZERO"}, {"0": "ZERO", "1": "ONE"})
    assert scoring.total(scores).errors == 0


def test_total_equals_jiwer():
    generator = random.Random(0)
    words = ["A", "B", "C", "D"]
    references = {str(key): " ".join(generator.choices(words, k=generator.randint(1, 9))) for key in range(200)}
    hypotheses = {key: " ".join(generator.choices(words, k=generator.randint(0, 9))) for key in references}
    score = scoring.total(scoring.word_errors(references, hypotheses))
    expected = jiwer.process_words(list(references.values()), list(hypotheses.values()))
    assert score == (expected.substitutions, expected.deletions, expected.insertions, score.words)
    assert score == scoring.corpus_errors(list(references.values()), list(hypotheses.values()))
    assert score.wer == pytest.approx(expected.wer, rel=1e-12)


def test_an_empty_reference_among_others():
    scores = scoring.word_errors({"0": "", "1": "A B"}, {"0": "X", "1": "A B"})
    assert scores["0"].wer == float("inf")
    assert scoring.total(scores).wer == 0.5


@pytest.mark.parametrize("references", [{}, {"0": ""}, {"0": " "}])
def test_nothing_to_score_is_an_error(references):
    with pytest.raises(SuiteError, match="found none"):
        scoring.word_errors(references, references)


@pytest.mark.parametrize("hypotheses", [{}, {"0": "A"}, {"0": "A", "1": "B", "2": "C"}])
def test_missing_and_extra_hypotheses_are_errors(hypotheses):
    with pytest.raises(SuiteError, match="scoring: expected 2 keys"):
        scoring.word_errors({"0": "A", "1": "B"}, hypotheses)


def test_worst():
    scores = {
        "right": WordErrors(0, 0, 0, 5),
        "long": WordErrors(2, 0, 0, 4),
        "short": WordErrors(1, 0, 0, 2),
        "wrong": WordErrors(0, 1, 0, 1),
    }
    assert scoring.worst(scores) == ["wrong", "long", "short"]
    assert scoring.worst(scores, count=1) == ["wrong"]


UTTERANCES = {"0": Utterance("0", "61-1-0", 400, "A B"), "1": Utterance("1", "61-1-1", 400, "C")}
HYPOTHESES = {"1": "", "0": "A X"}


def test_report(tmp_path, capsys):
    path = tmp_path / "new/transcriptions.txt"
    scoring.check_output(path, "a.py")
    scoring.report(path, UTTERANCES, HYPOTHESES, "a.py", {"device": "cpu"})
    assert path.read_text() == "A X\n\n"
    assert (path.parent / "wer.txt").read_text().splitlines()[0] == f"WER: {2 / 3}"
    lines = (path.parent / "utterance_scores.tsv").read_text().splitlines()
    assert lines[1].split("\t") == ["0", "61-1-0", "0.5", "1", "0", "0", "2", "A B", "A X"]
    assert "61-1-1: 1 errors in 1 words" in capsys.readouterr().out
    assert folders.read_run(path.parent) == {"script": "a.py", "device": "cpu", "transcriptions": "transcriptions.txt"}


def test_report_writes_nothing_unless_all_is_there(tmp_path):
    with pytest.raises(SuiteError):
        scoring.report(tmp_path / "t.txt", UTTERANCES, {}, "a.py")
    assert not list(tmp_path.iterdir())


def test_a_second_report_replaces_the_first(tmp_path):
    """Beside the results and in a folder of its own, also under another name."""
    results, new = tmp_path / "results", tmp_path / "new"
    results.mkdir()
    folders.write_run(results, "pyacl_infer.py", engine="x")
    for name in ("a.txt", "a.txt", "b.txt"):
        for folder in (results, new):
            scoring.check_output(folder / name, "a.py", results)
            scoring.report(folder / name, UTTERANCES, HYPOTHESES, "a.py")
            expected = {name, "wer.txt", "utterance_scores.tsv", "run.json"}
            assert {path.name for path in folder.iterdir()} == expected
    assert folders.read_run(results) == {"script": "pyacl_infer.py", "engine": "x", "transcriptions": "b.txt"}
    assert folders.read_run(new) == {"script": "a.py", "transcriptions": "b.txt"}
    with pytest.raises(SuiteError, match=r"holds files of a\.py"):
        scoring.check_output(new / "b.txt", "b.py")


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("name", ["notes.txt", "wer.txt", "utterance_scores.tsv", "infer_time.txt"])
def test_files_of_others_are_not_replaced(tmp_path, name, beside):
    (tmp_path / name).write_text("mine")
    if beside and name == "infer_time.txt":  # that of the results
        scoring.check_output(tmp_path / "notes.txt", "a.py", tmp_path)
        return
    with pytest.raises(SuiteError, match=f"{name}: a.py did not write this file"):
        scoring.check_output(tmp_path / "notes.txt", "a.py", tmp_path if beside else None)


@pytest.mark.parametrize("name", [*scoring.RESERVED_NAMES, "0.0.bin", "a.1.npy"])
def test_check_output_refuses_names_of_other_files(tmp_path, name):
    with pytest.raises(SuiteError, match="this name"):
        scoring.check_output(tmp_path / name, "a.py")
    assert not list(tmp_path.iterdir())
