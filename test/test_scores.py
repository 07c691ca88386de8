# SPDX-License-Identifier: Apache-2.0
"""Proves that each utterance is scored with its own transcript, and which files the scoring writes and replaces."""

from __future__ import annotations

import json
import sys
from itertools import starmap

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import scored, scores
from wav2vec2_eval.files.file_list import Source
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.run import FORMAT, Run, read_run
from wav2vec2_eval.files.scored import Transcript
from wav2vec2_eval.files.utterances import Utterance
from wav2vec2_eval.speech.ctc import Symbols
from wav2vec2_eval.speech.latency import parse_figures
from wav2vec2_eval.speech.wer import WordErrors
from wav2vec2_eval.speech.words import Word

UTTERANCES = [Utterance("0", "61-1-0", 400, "A B"), Utterance("1", "61-1-1", 400, "C")]
PAIRS = list(zip(UTTERANCES, ["A X", ""]))
OURS = {"run.json", "files.tsv", ".wav2vec2_eval.lock"}
SCORES = {"wer.txt", "utterance_scores.tsv", "utterances.jsonl", "ref.trn", "hyp.trn"}


def write(path, script="a.py", scored=None, pairs=PAIRS, inference=None, normalize_text="none", **options):
    with scores.scores_folder(path, script, scored, normalize_text) as folder:
        return scores.write_scores(
            folder, path.name, starmap(Transcript, pairs), script, inference, normalize_text=normalize_text, **options
        )


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("count", [1, 2, 499, 500, 501, 1_200])
def test_each_utterance_gets_its_own_counts(count):
    pairs = [(Utterance(str(key), "x", 400, f"A {key}"), f"{key} A" if key % 3 else "") for key in range(count)]
    found = list(scored.score(starmap(Transcript, pairs)))
    assert [(item.utterance, item.hypothesis) for item in found] == pairs
    assert {item.raw.words for item in found[0::3]} == {WordErrors(0, 2, 0, 2)}
    assert {item.raw.words for item in (*found[1::3], *found[2::3])} <= {WordErrors(0, 1, 1, 2)}


@pytest.mark.parametrize("texts", [[], [""], [" ", ""]])
def test_nothing_to_score_is_refused_and_leaves_nothing(tmp_path, texts):
    pairs = [(Utterance(str(index), "x", 400, text), "A") for index, text in enumerate(texts)]
    with pytest.raises(SuiteError, match="expected reference words to score, found none"):
        write(tmp_path / "out/t.txt", pairs=pairs)
    assert not (tmp_path / "out").exists()


def test_write_scores_writes_the_files_and_prints_the_errors(tmp_path, capsys):
    path = tmp_path / "new/transcriptions.txt"
    found = write(path, inference=Run("a.py", device="cpu"))
    assert found.words == WordErrors(1, 1, 0, 3)
    low, high = (f"{100 * found.figures[label]:.2f}" for label in ("WER 95% low", "WER 95% high"))
    assert str(found) == f"WER 66.67 % (2 of 3 words), 95 % interval {low} to {high} %"
    assert path.read_text() == "A X\n\n"
    assert (path.parent / "wer.txt").read_text().splitlines()[0] == f"WER: {2 / 3}"
    lines = (path.parent / "utterance_scores.tsv").read_text().splitlines()
    assert lines[1].split("\t") == ["0", "61-1-0", "0.5", "1", "0", "0", "2", "A B", "A X", str(1 / 3)]
    assert "61-1-1: 1 errors in 1 words" in capsys.readouterr().out
    assert read_run(path.parent) == Run("a.py", format=FORMAT, device="cpu", transcriptions="transcriptions.txt")


def test_a_failure_while_scoring_leaves_the_earlier_scores(tmp_path):
    path = tmp_path / "out/t.txt"

    def fail():
        yield PAIRS[1]
        raise SuiteError("damaged")

    for before in (set(), OURS | SCORES | {"t.txt"}):
        with pytest.raises(SuiteError, match="damaged"):
            write(path, pairs=fail())
        assert (names(path.parent) if path.parent.exists() else set()) == before
        write(path)
    source = Source(path.parent)
    assert all(source.read(name) for name in source.list)


def test_scores_replace_earlier_scores(tmp_path):
    """The second scores replace the first beside the results and in a separate folder, also under another name."""
    results, new = tmp_path / "results", tmp_path / "new"
    with output_folder(results, "pyacl_infer.py") as folder:
        folder.write_run(Run("pyacl_infer.py", engine="x"))
    for name in ("a.txt", "a.txt", "b.txt"):
        for folder in (results, new):
            write(folder / name, scored=results)
            assert names(folder) == OURS | SCORES | {name}
    assert read_run(results) == Run("pyacl_infer.py", format=FORMAT, engine="x", transcriptions="b.txt")
    assert read_run(new) == Run("a.py", format=FORMAT, transcriptions="b.txt")
    with pytest.raises(SuiteError, match=r"holds files of a\.py"):
        write(new / "b.txt", script="b.py")


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("name", ["notes.txt", "infer_time.txt", *sorted(SCORES)])
def test_files_of_others_are_not_replaced(tmp_path, name, beside):
    (tmp_path / name).write_text("mine")
    if beside and name == "infer_time.txt":  # the times of the scored results
        write(tmp_path / "notes.txt", scored=tmp_path)
        return
    with pytest.raises(SuiteError, match=f"{name}: no script wrote this file"):
        write(tmp_path / "notes.txt", scored=tmp_path if beside else None)
    assert names(tmp_path) == {name}


@pytest.mark.parametrize("name", ["notes.txt.tmp", "wer.txt.tmp", "run.json.tmp", ".partial", "t.txt.1", "3.0.bin"])
def test_files_that_only_look_like_ours_are_left_alone(tmp_path, name):
    for content in ("mine", "mine"):
        (tmp_path / name).write_text(content)
        write(tmp_path / "t.txt")
        assert (tmp_path / name).read_text() == "mine"


def test_a_recorded_name_cannot_lead_out_of_the_folder(tmp_path):
    """run.json is a file that anybody may have written."""
    (tmp_path / "thesis.txt").write_text("mine")
    write(tmp_path / "out/t.txt")
    run = (tmp_path / "out/run.json").read_text()
    (tmp_path / "out/run.json").write_text(run.replace("t.txt", "../thesis.txt"))
    with pytest.raises(SuiteError, match=r"run\.json: expected the JSON"):
        write(tmp_path / "out/b.txt")
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_recorded_name_of_the_users_file_is_not_enough(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out/t.txt")
    run = (tmp_path / "out/run.json").read_text()
    (tmp_path / "out/thesis.txt").write_text("mine")
    (tmp_path / "out/run.json").write_text(run.replace("t.txt", "thesis.txt"))
    with pytest.raises(SuiteError, match=r"thesis\.txt: no script wrote this file"):
        write(tmp_path / "out/b.txt")
    assert (tmp_path / "out/thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "name",
    [
        *("wer.txt", "utterance_scores.tsv", "results.tsv", "bin_file.info", "utterances.tsv", "infer_time.txt"),
        *("utterances.jsonl", "ref.trn", "hyp.trn"),
        *("run.json", "files.tsv", "model.json", ".wav2vec2_eval.lock", "padding_lens.txt", "0.0.bin", "a.1.npy"),
    ],
)
def test_transcriptions_may_not_have_the_name_of_another_file(tmp_path, name):
    with pytest.raises(SuiteError, match="this name"):
        write(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_place_of_the_transcriptions_is_refused(tmp_path):
    (tmp_path / "t.txt").mkdir()
    with pytest.raises(SuiteError, match="found a folder"):
        write(tmp_path / "t.txt")


UNSCORED = Utterance("2", "61 (2)", 8_000, None)


def test_utterances_without_a_reference_are_transcribed_and_not_scored(tmp_path, capsys):
    expected = write(tmp_path / "known/t.txt")
    capsys.readouterr()
    found = write(tmp_path / "mixed/t.txt", pairs=[(UNSCORED, "WHO KNOWS"), *PAIRS])
    printed = capsys.readouterr().out
    assert (found.words, found.utterances) == (expected.words, 3)
    assert "3 utterances, 3 words\n1 utterance has no reference and is not scored\n" in printed
    folder = tmp_path / "mixed"
    assert (folder / "t.txt").read_text() == "WHO KNOWS\nA X\n\n"
    assert (folder / "utterance_scores.tsv").read_text().splitlines()[1] == "2\t61 (2)\t\t\t\t\t\t\tWHO KNOWS\t"
    assert json.loads((folder / "utterances.jsonl").read_text().splitlines()[0])["text"] is None
    for name in ("ref.trn", "hyp.trn"):
        assert (folder / name).read_text() == (tmp_path / "known" / name).read_text()
    one, other = (parse_figures((tmp_path / name / "wer.txt").read_text()) for name in ("known", "mixed"))
    assert {**one, "unscored utterances": 1} == other


def test_recordings_without_any_reference_have_transcriptions_alone(tmp_path, capsys):
    path = tmp_path / "t.txt"
    for _ in range(2):  # the second time over nothing, the third over scores
        found = write(path, pairs=[(UNSCORED, "WHO KNOWS")] * 3)
        assert (found.words, str(found)) == (None, "3 utterances transcribed, none scored")
        assert (
            "3 utterances, none with a reference: nothing is scored, and there is no wer.txt" in capsys.readouterr().out
        )
        assert names(tmp_path) == OURS | {"t.txt", "utterance_scores.tsv", "utterances.jsonl"}
        assert path.read_text() == "WHO KNOWS\n" * 3
        assert read_run(tmp_path).scored is False
        write(path)
        assert names(tmp_path) == OURS | SCORES | {"t.txt"}
        assert read_run(tmp_path).scored is None


def test_references_without_a_word_are_an_error_beside_unscored_utterances(tmp_path):
    with pytest.raises(SuiteError, match="found none"):
        write(tmp_path / "out/t.txt", pairs=[(UNSCORED, "A"), (Utterance("0", "x", 400, ""), "B")])
    assert not (tmp_path / "out").exists()


def test_the_choice_of_a_normalizer_is_in_every_output(tmp_path, capsys):
    pairs = [(Utterance("0", "x", 400, "The colour."), "the color"), (Utterance("1", "y", 400, "Uh."), "UH")]
    write(tmp_path / "t.txt", pairs=pairs, normalize_text="english")
    printed = capsys.readouterr().out
    figures = parse_figures((tmp_path / "wer.txt").read_text())
    assert list(figures)[:6] == ["WER", "substitutions", "deletions", "insertions", "errors", "words"]
    assert (figures["WER"], figures["normalized WER (english)"], figures["normalized CER (english)"]) == (1, 0, 0)
    assert "--normalize_text=english: WER 0.00 %, CER 0.00 %\n" in printed
    assert read_run(tmp_path).normalize_text == "english"
    assert (tmp_path / "t.txt").read_text() == "the color\nUH\n"
    assert (tmp_path / "utterance_scores.tsv").read_text().splitlines()[0].endswith("\tnormalized_cer_english")

    write(tmp_path / "t.txt", pairs=pairs[1:], normalize_text="english")
    assert "--normalize_text=english: no WER, because it leaves no word of the references" in capsys.readouterr().out
    write(tmp_path / "t.txt", pairs=pairs)
    assert "normalized" not in "".join(path.read_text() for path in tmp_path.iterdir())
    assert read_run(tmp_path).normalize_text is None


def test_the_summary_has_the_interval_and_explains_the_figure(tmp_path, capsys):
    pairs = [(Utterance(str(key), f"x-{key}", 400, "A B."), "a B" if key % 2 else "A B.") for key in range(40)]
    symbols = Symbols(("<pad>", "|", "A", "B"))
    found = write(tmp_path / "t.txt", pairs=pairs, symbols=symbols)
    figures = parse_figures((tmp_path / "wer.txt").read_text())
    low, high = figures["WER 95% low"], figures["WER 95% high"]
    assert 0.3 < low < 0.5 < high < 0.7
    lines = capsys.readouterr().out.splitlines()
    assert str(found) == f"WER 50.00 % (40 of 80 words), 95 % interval {100 * low:.2f} to {100 * high:.2f} %"
    assert "CER 25.00 % (40 of 160 characters)" in lines
    assert lines[-3:-1] == [
        "WER would be 0.2500 instead of 0.5000 if case were ignored; see --normalize_text",
        "the references have 1 character that the model cannot write: .  (in 40 of 40 utterances)",
    ]
    found = write(tmp_path / "t.txt", pairs=pairs[:1])
    assert str(found) == "WER 0.00 % (0 of 2 words)"
    assert f"replacing the results of a.py (WER 50.00 %) in {tmp_path}\n" in capsys.readouterr().out


def test_times_are_those_of_the_inference(tmp_path):
    write(tmp_path / "t.txt", pairs=[(*PAIRS[0], 0.25), PAIRS[1]])
    first, second = map(json.loads, (tmp_path / "utterances.jsonl").read_text().splitlines())
    assert first["time"] == 0.25 and "time" not in second


def test_a_missing_jiwer_is_reported_before_the_inference(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ModuleNotFoundError):
        write(tmp_path / "t.txt")


def test_a_missing_normalizer_is_reported_before_the_inference(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "whisper_normalizer", None)
    write(tmp_path / "t.txt")
    with pytest.raises(ModuleNotFoundError), scores.scores_folder(tmp_path / "t.txt", "a.py", None, "basic"):
        pytest.fail("the folder was opened")


def test_word_times_are_published_with_the_scores_and_removed_by_scores_without_them(tmp_path):
    said = [(*pair, None, [Word("X", 0.0, 0.02, 1.0)]) for pair in PAIRS]

    def failing():
        yield from said
        raise RuntimeError

    for _ in range(2):
        write(tmp_path / "t.txt", pairs=said, word_times=True)
        assert {"words.ctm", "0.srt", "1.srt", "wer.txt"} < names(tmp_path)
        before = names(tmp_path)
        for word_times in (True, False):
            with pytest.raises(RuntimeError):
                write(tmp_path / "t.txt", pairs=failing(), word_times=word_times)
            assert names(tmp_path) == before
        write(tmp_path / "t.txt")
        assert before - names(tmp_path) == {"words.ctm", "0.srt", "1.srt"}


def test_the_ids_of_words_are_those_of_trn_files(tmp_path):
    """Without blanks, and different."""
    pairs = [
        (Utterance(key, utterance_id, 400, "A"), "A", None, [Word("A", 0.0, 0.02, 1.0)])
        for key, utterance_id in (("0", "a b"), ("1", "a_b"), ("2", "c"))
    ]
    write(tmp_path / "t.txt", pairs=pairs, word_times=True)
    of_words = [line.split()[0] for line in (tmp_path / "words.ctm").read_text().splitlines()]
    assert of_words == [line.split("(")[1][:-1] for line in (tmp_path / "hyp.trn").read_text().splitlines()]
    assert len(set(of_words)) == 3


def test_long_texts_are_cut_where_they_are_printed(tmp_path, capsys):
    write(tmp_path / "t.txt", pairs=[(Utterance("0", "x", 400, "A " * 5_000), "B " * 5_000)])
    assert len(capsys.readouterr().out) < 3_000
    assert len((tmp_path / "t.txt").read_text()) == 10_001
