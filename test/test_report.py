# SPDX-License-Identifier: Apache-2.0
"""Proves the figures, ratios and conditions of the report, and that it refuses folders that cannot be compared."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import starmap

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.file_list import Source
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.run import Run, format_run
from wav2vec2_eval.files.scored import Transcript
from wav2vec2_eval.files.scores import format_wer, scores_folder, write_scores
from wav2vec2_eval.files.utterances import Utterance
from wav2vec2_eval.report import command as report
from wav2vec2_eval.speech.latency import Latency, format_figures, summarise
from wav2vec2_eval.speech.wer import WordErrors

TIMES = summarise([Latency(20, 40)] * 3)


@pytest.fixture
def results(tmp_path):
    """Two result folders: the suite at 20 ms and WER 0.1, PyTorch at 40 ms and WER 0.05."""

    def write(name, latency_ms, score):
        folder = tmp_path / name
        figures = summarise([Latency(latency_ms, latency_ms * 2)] * 3, lengths_s=[1.0, 1.0, 1.0])
        with output_folder(folder, "x.py") as out:
            out.write_text("infer_time.txt", format_figures(figures))
            out.write_text("wer.txt", format_wer(score))
            out.write_run(Run("x.py", engine=name, data=Run(which_dataset="clean", padded=True)))
        return f"--{name}={folder}"

    return (
        write("suite", 20, WordErrors(5, 3, 2, 100)),
        write("baseline", 40, WordErrors(5, 0, 0, 100)),
        f"--output={tmp_path / 'out'}",
    )


def test_the_summary_holds_figures_ratios_and_conditions(results, tmp_path, capsys):
    assert report.main(results) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    suite = summary["figures"]["suite"]
    assert (suite["WER"], suite["words"]) == (0.1, 100)
    assert (suite["time per utterance (ms)"], suite["utterances/s per card"]) == (20, 50)
    assert (suite["RTFx"], suite["wall RTFx"]) == (50, 25)
    assert summary["ratios"]["WER"] == 2
    assert summary["ratios"]["utterances/s per card"] == 2
    assert "deletions" not in summary["ratios"]  # nothing to divide by
    assert summary["conditions"]["suite"]["engine"] == "suite"
    table = (tmp_path / "out/summary.md").read_text()
    assert table in capsys.readouterr().out
    assert "| WER                     | 0.1000 |  0.0500 | 2.000 |" in table
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize(
    ("run", "described"),
    [
        (Run("x.py"), {"data set": "not known"}),
        (Run("x.py", data=Run(which_dataset="other")), {"data set": "other, from the hub, not padded"}),
        (
            Run("x.py", data=Run(which_dataset="clean", dataset_path="/d", padded=True, attention_mask=True)),
            {"data set": "clean, from /d, padded to gears with attention mask"},
        ),
        (
            Run("x.py", num_threads=2, batch_size=8, in_flight=2, warm_up=0, resumed=True),
            {
                "data set": "not known",
                "threads": 2,
                "utterances at a time": 8,
                "executions in flight": 2,
                "warm-up": 0,
                "resumed": True,
            },
        ),
    ],
)
def test_conditions_are_described_in_words(tmp_path, run, described):
    (tmp_path / "run.json").write_text(format_run(replace(run, format=1)))
    assert report.describe(Source(tmp_path), "y.py") == described


@pytest.mark.parametrize(("soc", "chips"), [("Ascend310P3", 1), ("Ascend310", 4), (None, 1)])
def test_throughput_counts_the_chips_of_a_card(results, tmp_path, soc, chips):
    suite, _, output = results
    report.main((suite, output, *([f"--soc_version={soc}"] if soc else [])))
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["figures"]["suite"]["utterances/s per card"] == 50 * chips
    assert "ratios" not in summary


def test_the_scores_have_rows_of_their_own(results, tmp_path):
    """An interval is one row, whose ends have no ratio; only normalisers that both columns have are compared."""
    more = {"CER": 0.02, "character errors": 9, "WER 95% low": 0.08, "WER 95% high": 0.12, "unscored utterances": 1}
    for name, choice in (("suite", "english"), ("baseline", "basic")):
        labels = {f"normalized WER ({choice})": 0.01, "normalized WER (both)": 0.04, "scored utterances": 2}
        with output_folder(tmp_path / name, "x.py") as out:
            out.write_text("wer.txt", format_wer(WordErrors(5, 3, 2, 100), {**more, **labels}))
    assert report.main(results) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    expected = ["WER", "CER", "WER 95% low", "WER 95% high", "normalized WER (both)", "substitutions", "deletions"]
    for column in ("suite", "PyTorch"):
        assert list(summary["figures"][column])[:7] == expected
        assert summary["figures"][column]["scored utterances"] == 2
    assert summary["ratios"]["CER"] == summary["ratios"]["normalized WER (both)"] == 1
    assert not [name for name in summary["ratios"] if "95%" in name]
    table = (tmp_path / "out/summary.md").read_text()
    assert "| WER 95 % interval       | 0.0800 to 0.1200 | 0.0800 to 0.1200 |       |" in table
    assert "95% low" not in table and "(english)" not in table
    report.main((results[0], results[2]))
    assert "| normalized WER (english) " in (tmp_path / "out/summary.md").read_text()


def scores_of(folder, hypotheses, normalize_text="none"):
    """Scores of utterances with the reference `A B`, in a folder that has times already."""
    pairs = [(Utterance(str(key), f"x-{key}", 400, "A B"), text) for key, text in enumerate(hypotheses)]
    with scores_folder(folder / "t.txt", "x.py", folder, normalize_text) as out:
        write_scores(out, "t.txt", starmap(Transcript, pairs), "y.py", normalize_text=normalize_text)


@pytest.mark.parametrize(
    ("suite", "baseline", "difference", "improvement"),
    [
        (["A B", "A X", "A B"], ["A B", "A X", "A B"], 0, 0.5),
        (["A B", "A B", "A B"], ["A X", "A X", "A X"], -0.5, 1),
        (["X X", "A B", "A B"], ["A B", "A B", "A B"], 1 / 3, None),
    ],
)
def test_two_columns_are_compared_utterance_by_utterance(results, tmp_path, suite, baseline, difference, improvement):
    scores_of(tmp_path / "suite", suite)
    scores_of(tmp_path / "baseline", baseline)
    assert report.main(results) == 0
    found = json.loads((tmp_path / "out/summary.json").read_text())["comparison"]
    assert found["WER difference"] == pytest.approx(difference)
    assert found["WER difference 95% low"] <= difference <= found["WER difference 95% high"]
    if improvement is not None:
        assert found["probability of improvement"] == improvement
    table = (tmp_path / "out/summary.md").read_text()
    assert f"\n\nWER of suite minus WER of PyTorch: {100 * difference:.2f} points (95 % interval " in table


def test_tables_without_counts_are_not_compared(results, tmp_path):
    report.main(results)
    assert "comparison" not in json.loads((tmp_path / "out/summary.json").read_text())
    assert "minus" not in (tmp_path / "out/summary.md").read_text()


def without_references(folder):
    with scores_folder(folder / "t.txt", "x.py", folder) as out:
        transcripts = [Transcript(Utterance(str(key), "x", 400, None), "A") for key in range(3)]
        write_scores(out, "t.txt", transcripts, "y.py")


def test_recordings_without_references_have_a_table_of_speed(results, tmp_path, capsys):
    without_references(tmp_path / "suite")
    assert report.main((results[0], results[2])) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["figures"]["suite"]["utterances"] == 3
    assert not {"WER", "words"} & set(summary["figures"]["suite"])
    assert "- scores: none, because no utterance has a reference" in capsys.readouterr().out

    with pytest.raises(SuiteError, match="cannot be compared: words are"):
        report.main(results)
    without_references(tmp_path / "baseline")
    assert report.main(results) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["ratios"]["time per utterance (ms)"] == 0.5
    assert "comparison" not in summary

    with pytest.raises(SuiteError, match="--max_wer expects a WER, but no utterance has a reference"):
        report.main((*results, "--max_wer=0.1"))


def test_the_normalizer_is_a_condition(results, tmp_path):
    scores_of(tmp_path / "suite", ["a b", "A B", "A b"], "basic")
    scores_of(tmp_path / "baseline", ["A B", "A B", "A B"])
    assert report.main(results) == 0
    conditions = json.loads((tmp_path / "out/summary.json").read_text())["conditions"]
    assert conditions["suite"]["text normalization"] == "basic"
    assert "text normalization" not in conditions["PyTorch"]


def test_a_soc_name_without_its_beginning_is_refused(results, capfd):
    with pytest.raises(SystemExit) as end:
        report.main((*results, "--soc_version=310"))
    assert end.value.code == 2
    assert "expected a SoC name like Ascend310P3, found '310'" in capfd.readouterr().err


@pytest.mark.parametrize(("max_wer", "status"), [("0.1", 0), ("0.0999", 1)])
def test_a_wer_above_max_wer_fails(results, max_wer, status, capsys):
    assert report.main((*results, f"--max_wer={max_wer}")) == status
    assert ("is above" in capsys.readouterr().err) == bool(status)


@pytest.mark.parametrize("option", ["suite", "baseline"])
def test_a_folder_of_the_other_script_is_refused(results, tmp_path, option):
    script = {"suite": "pth_online_infer.py", "baseline": "pyacl_infer.py"}[option]
    with output_folder(tmp_path / option, "x.py") as out:
        out.write_run(Run(script))
    with pytest.raises(SuiteError, match=rf"holds results of {script}; see --suite and --baseline"):
        report.main(results)


def test_a_summary_is_not_written_into_the_folder_of_another_script(results, tmp_path):
    before = (tmp_path / "suite/run.json").read_text()
    with pytest.raises(SuiteError, match=r"suite: holds files of x\.py; choose another folder"):
        report.main((*results[:2], f"--output={tmp_path / 'suite'}"))
    assert (tmp_path / "suite/run.json").read_text() == before


@pytest.mark.parametrize(("line", "is_same"), [("0\ta\t0\t0\t0\t0\t1\tONE\tTWO", True), ("0\tb\t0", False)])
def test_other_utterances_are_refused_even_if_there_are_as_many(results, tmp_path, line, is_same):
    """Only keys, scores and hypotheses may differ."""
    for name, row in (("suite", line), ("baseline", "9\ta\t0\t0\t0\t0\t1\tONE\tONE")):
        with output_folder(tmp_path / name, "x.py") as out:
            out.write_text("utterance_scores.tsv", f"header\n{row}\n")
    if is_same:
        assert report.main(results) == 0
    else:
        with pytest.raises(SuiteError, match="cannot be compared: their utterances differ"):
            report.main(results)


@pytest.mark.parametrize("name", ["wer.txt", "infer_time.txt", "run.json"])
def test_missing_files_are_refused(results, tmp_path, name):
    (tmp_path / "suite" / name).unlink()
    with pytest.raises(SuiteError, match=name):
        report.main(results)


def test_damaged_figures_are_refused(results, tmp_path):
    path = tmp_path / "suite/wer.txt"
    path.write_text(path.read_text().replace("0.1", "0.2"))
    with pytest.raises(SuiteError, match=r"wer\.txt: damaged or replaced"):
        report.main(results)


def test_a_summary_replaces_an_earlier_one_and_no_other_file(results, tmp_path):
    report.main(results)
    report.main(results)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"summary.md", "summary.json", "run.json"}
    other = tmp_path / "other"
    other.mkdir()
    (other / "summary.md").write_text("mine")
    with pytest.raises(SuiteError, match=r"summary\.md: no script wrote this file"):
        report.main((*results[:2], f"--output={other}"))
    assert (other / "summary.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("wer.txt", "WER: 0.1\n", "lacks 'substitutions'"),
        ("wer.txt", "garbage", "expected lines 'label: number'"),
        ("infer_time.txt", "", "lacks 'total infer num'"),
        ("wer.txt", format_wer(WordErrors(0, 0, 0, 99)), "cannot be compared: words are"),
        ("wer.txt", format_wer(WordErrors(0, 0, 0, 99)).replace("0.0", "nan"), "expected lines 'label: number'"),
        ("wer.txt", "WER: 0\nsubstitutions: 1e400\n", "expected lines 'label: number'"),
        ("infer_time.txt", format_figures(TIMES).replace(": 20.0", ": 0"), "impossible figures"),
    ],
)
def test_files_that_do_not_fit_are_refused(results, tmp_path, name, text, message):
    with output_folder(tmp_path / "suite", "x.py") as out:
        out.write_text(name, text)
    with pytest.raises(SuiteError, match=message):
        report.main(results)
