# SPDX-License-Identifier: Apache-2.0
"""Proves the figures, ratios and conditions of the report, and that it refuses folders that cannot be compared."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.file_list import Source
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.run import Run, format_run
from wav2vec2_eval.files.scored import Transcript
from wav2vec2_eval.files.scores import format_wer, scores_folder, write_scores
from wav2vec2_eval.files.utterances import Utterance
from wav2vec2_eval.report import command as report
from wav2vec2_eval.report import page
from wav2vec2_eval.report.results import Results, read_results, titles
from wav2vec2_eval.speech.latency import Latency, format_figures, summarise
from wav2vec2_eval.speech.wer import WordErrors

TIMES = summarise([Latency(20, 40)] * 3)


@pytest.fixture
def results(tmp_path):
    """Two result folders: the suite at 20 ms and WER 0.1, PyTorch, the reference, at 40 ms and WER 0.05."""

    def write(name, latency_ms, score, script):
        folder = tmp_path / name
        figures = summarise([Latency(latency_ms, latency_ms * 2)] * 3, lengths_s=[1.0, 1.0, 1.0])
        with output_folder(folder, script) as out:
            out.write_text("infer_time.txt", format_figures(figures))
            out.write_text("wer.txt", format_wer(score))
            out.write_run(Run(script, engine=f"{name} 1.0", data=Run(which_dataset="clean", padded=True)))
        return str(folder)

    suite = write("suite", 20, WordErrors(5, 3, 2, 100), "pyacl_infer.py")
    baseline = write("baseline", 40, WordErrors(5, 0, 0, 100), "pth_online_infer.py")
    return (suite, baseline, f"--reference={baseline}", f"--output={tmp_path / 'out'}")


@pytest.fixture
def alone(results):
    """Options for the suite's folder alone."""
    return results[0], results[3]


def summary_of(tmp_path):
    return json.loads((tmp_path / "out/summary.json").read_text())


def test_the_summary_holds_figures_ratios_and_conditions(results, tmp_path, capsys):
    assert report.main(results) == 0
    summary = summary_of(tmp_path)
    suite = summary["figures"]["suite"]
    assert (suite["WER"], suite["words"]) == (0.1, 100)
    assert (suite["time per utterance (ms)"], suite["utterances/s per card"]) == (20, 50)
    assert [suite[f"p{percent} latency (ms)"] for percent in (50, 90, 99)] == [20, 20, 20]
    assert (suite["RTFx"], suite["wall RTFx"]) == (50, 25)
    assert summary["reference"] == "baseline"
    assert list(summary["ratios"]) == ["suite"]
    ratios = summary["ratios"]["suite"]
    assert (ratios["WER"], ratios["RTFx"], ratios["utterances/s per card"]) == (2, 2, 2)
    assert not {"deletions", "words", "utterances"} & set(ratios)  # nothing to divide by, or always 1
    assert summary["conditions"]["suite"]["engine"] == "suite 1.0"
    assert summary["differing conditions"] == ["engine"]
    table = (tmp_path / "out/summary.md").read_text()
    assert table in capsys.readouterr().out
    assert "| WER                     | 0.1000 |   0.0500 |" in table
    assert "Divided by baseline:" in table and "| RTFx                    | 2.0000 |" in table
    assert "Conditions that differ: engine\n" in table


def test_any_number_of_folders_is_compared_with_the_first(results, tmp_path):
    with output_folder(tmp_path / "third", "pyacl_infer.py") as out:
        for name in ("infer_time.txt", "wer.txt"):
            out.write_text(name, (tmp_path / "suite" / name).read_text())
        out.write_run(Run("pyacl_infer.py", engine="suite 2.0", precision="int8, which is slow, and float32"))
    assert report.main([*results[:2], str(tmp_path / "third"), results[3]]) == 0
    summary = summary_of(tmp_path)
    assert list(summary["figures"]) == ["suite", "baseline", "suite int8"]
    assert summary["reference"] == "suite"
    assert summary["ratios"]["baseline"]["RTFx"] == 0.5 and summary["ratios"]["suite int8"]["RTFx"] == 1
    assert summary["differing conditions"] == ["data set", "engine", "precision"]


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([Run("pyacl_infer.py", engine="OpenVINO 2026.4", precision="bfloat16")], ["OpenVINO bfloat16"]),
        (
            [Run("pyacl_infer.py", engine="pyACL, CANN", device="Ascend310P3, device 0", precision="as")],
            ["Ascend310P3"],
        ),
        ([Run("postprocess.py", engine="ais_bench")], ["ais_bench"]),
        ([Run("pyacl_infer.py", engine="a 1"), Run("pyacl_infer.py", engine="a 2")], ["a (r0)", "a (r1)"]),
    ],
)
def test_columns_have_short_names(tmp_path, runs, expected):
    folders = []
    for number, run in enumerate(runs):
        folder = tmp_path / f"r{number}"
        folder.mkdir()
        (folder / "run.json").write_text(format_run(replace(run, format=1)))
        folders.append(Results(Source(folder), run, {}, {}, {}))
    assert titles(folders) == expected


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path):
    run = Run("pyacl_infer.py", engine="a 1")
    folders = [tmp_path / "monday/f32", tmp_path / "today/f32"]
    for folder in folders:
        folder.mkdir(parents=True)
    found = titles([Results(Source(folder), run, {}, {}, {}) for folder in folders])
    assert found == [f"a ({folder})" for folder in folders]


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
        (Run("pth_online_infer.py", model="m"), {"data set": "not known", "model": "m", "checkpoint": "m"}),
        (
            Run("x.py", device="Ascend310, device 0"),
            {"data set": "not known", "device": "Ascend310, device 0", "chips per card": 4},
        ),
    ],
)
def test_conditions_are_described_in_words(tmp_path, run, described):
    (tmp_path / "run.json").write_text(format_run(replace(run, format=1)))
    (tmp_path / "wer.txt").write_text(format_wer(WordErrors(0, 0, 0, 1)))
    (tmp_path / "infer_time.txt").write_text(format_figures(TIMES))
    assert read_results(Source(tmp_path), None).conditions == {**described, "results": str(tmp_path)}


@pytest.mark.parametrize(
    ("device", "soc", "chips"),
    [
        (None, "Ascend310P3", 1),
        (None, "Ascend310", 4),
        (None, None, 1),
        ("Ascend310, device 2", None, 4),
        ("Ascend310P3, device 0", "Ascend310", 1),  # the results know better
        ("cpu (x)", "Ascend310", 1),
    ],
)
def test_throughput_counts_the_chips_of_a_card(alone, tmp_path, device, soc, chips):
    with output_folder(tmp_path / "suite", "pyacl_infer.py") as out:
        threads = 2 if device == "cpu (x)" else None
        out.write_run(Run("pyacl_infer.py", engine="suite 1.0", device=device, num_threads=threads))
    report.main((*alone, *([f"--soc_version={soc}"] if soc else [])))
    summary = summary_of(tmp_path)
    (column,) = summary["figures"].values()
    assert column["utterances/s per card"] == 50 * chips
    assert "ratios" not in summary and "reference" not in summary


def test_the_scores_have_rows_of_their_own(results, alone, tmp_path):
    """An interval is one row, whose ends have no ratio; only normalisers that all columns have are compared."""
    more = {"CER": 0.02, "character errors": 9, "WER 95% low": 0.08, "WER 95% high": 0.12, "unscored utterances": 1}
    for name, choice, script in (
        ("suite", "english", "pyacl_infer.py"),
        ("baseline", "basic", "pth_online_infer.py"),
    ):
        labels = {f"normalized WER ({choice})": 0.01, "normalized WER (both)": 0.04, "scored utterances": 2}
        with output_folder(tmp_path / name, script) as out:
            out.write_text("wer.txt", format_wer(WordErrors(5, 3, 2, 100), {**more, **labels}))
    assert report.main(results) == 0
    summary = summary_of(tmp_path)
    expected = ["WER", "CER", "WER 95% low", "WER 95% high", "normalized WER (both)", "substitutions", "deletions"]
    for column in ("suite", "baseline"):
        assert list(summary["figures"][column])[:7] == expected
        assert summary["figures"][column]["scored utterances"] == 2
    ratios = summary["ratios"]["suite"]
    assert ratios["CER"] == ratios["normalized WER (both)"] == 1
    assert not [name for name in ratios if "95%" in name]
    table = (tmp_path / "out/summary.md").read_text()
    assert "| WER 95 % interval       | 0.0800 to 0.1200 | 0.0800 to 0.1200 |" in table
    assert "95% low" not in table and "(english)" not in table
    report.main(alone)
    assert "| normalized WER (english) " in (tmp_path / "out/summary.md").read_text()


def scores_of(folder, hypotheses, normalize_text="none", texts=None, num_samples=400):
    """Scores of utterances with the reference `A B`, in a folder that has times already."""
    inference = Source(folder).run
    utterances = [
        Utterance(str(key), f"x-{key}", num_samples, text)
        for key, text in enumerate(texts or ["A B"] * len(hypotheses))
    ]
    transcripts = map(Transcript, utterances, hypotheses)
    with scores_folder(folder / "t.txt", inference.script, folder, normalize_text) as out:
        write_scores(out, "t.txt", transcripts, "postprocess.py", normalize_text=normalize_text)


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
    found = summary_of(tmp_path)["comparisons"]["suite"]
    assert found["WER difference"] == pytest.approx(difference)
    assert found["WER difference 95% low"] <= difference <= found["WER difference 95% high"]
    if improvement is not None:
        assert found["probability of improvement"] == improvement
    table = (tmp_path / "out/summary.md").read_text()
    assert f"\n\nWER of suite minus WER of baseline: {100 * difference:.2f} points (95 % interval " in table


def test_folders_without_tables_of_scores_are_not_compared(results, tmp_path):
    """Those of the first release have none in the form that is read."""
    report.main(results)
    summary = summary_of(tmp_path)
    assert (summary["comparisons"], summary["details"]) == ({}, {})
    assert "minus" not in (tmp_path / "out/summary.md").read_text()


def without_references(folder):
    script = Source(folder).run.script
    with scores_folder(folder / "t.txt", script, folder) as out:
        transcripts = [Transcript(Utterance(str(key), f"x-{key}", 400, None), "A") for key in range(3)]
        write_scores(out, "t.txt", transcripts, "postprocess.py")


def test_recordings_without_references_have_a_table_of_speed(results, alone, tmp_path, capsys):
    without_references(tmp_path / "suite")
    assert report.main(alone) == 0
    summary = summary_of(tmp_path)
    assert summary["figures"]["suite"]["utterances"] == 3
    assert not {"WER", "words"} & set(summary["figures"]["suite"])
    assert "- scores: none, because no utterance has a reference" in capsys.readouterr().out

    with pytest.raises(SuiteError, match=r"cannot be compared: .* has no words, .*/baseline has 100"):
        report.main(results)
    without_references(tmp_path / "baseline")
    assert report.main(results) == 0
    summary = summary_of(tmp_path)
    assert summary["ratios"]["suite"]["time per utterance (ms)"] == 0.5
    assert summary["comparisons"] == {}

    with pytest.raises(SuiteError, match="--max_wer expects a WER, but no utterance has a reference"):
        report.main((*results, "--max_wer=0.1"))


def test_the_normalizer_is_a_condition(results, tmp_path):
    scores_of(tmp_path / "suite", ["a b", "A B", "A b"], "basic")
    scores_of(tmp_path / "baseline", ["A B", "A B", "A B"])
    assert report.main(results) == 0
    conditions = summary_of(tmp_path)["conditions"]
    assert conditions["suite"]["text normalization"] == "basic"
    assert "text normalization" not in conditions["baseline"]


def test_a_soc_name_without_its_beginning_is_refused(results, capfd):
    with pytest.raises(SystemExit) as end:
        report.main((*results, "--soc_version=310"))
    assert end.value.code == 2
    assert "expected a SoC name like Ascend310P3, found '310'" in capfd.readouterr().err


@pytest.mark.parametrize(("max_wer", "status"), [("0.1", 0), ("0.0999", 1), ("0.01", 1)])
def test_a_wer_above_max_wer_fails(results, max_wer, status, capsys):
    """PyTorch's WER of 0.05 is not judged."""
    assert report.main((*results, f"--max_wer={max_wer}")) == status
    assert capsys.readouterr().err.count("is above") == status


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["suite", "./suite"], "is there twice; give each folder once"),
        (["suite", "--reference=baseline"], "--reference=baseline: expected one of the folders"),
    ],
)
def test_folders_are_named_once(results, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SuiteError, match=message):
        report.main([*options, "--output=out"])


def test_a_summary_is_not_written_into_the_folder_of_another_script(alone, tmp_path):
    before = (tmp_path / "suite/run.json").read_text()
    with pytest.raises(SuiteError, match=r"suite: holds files of pyacl_infer\.py; choose another folder"):
        report.main((alone[0], f"--output={tmp_path / 'suite'}"))
    assert (tmp_path / "suite/run.json").read_text() == before


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["A B", "A B", "C B"], r"utterance 3 is x-2, whose reference is 'A B' in .*suite and 'C B' in .*baseline"),
        (["A B", "A B", None], r"utterance 3 is x-2, whose reference is 'A B' in .*suite and not known in .*baseline"),
        (["A B", "A B"], r"utterance 3 is x-2 in .*suite and missing in .*baseline"),
    ],
)
def test_other_utterances_are_refused_with_the_difference(results, tmp_path, texts, message):
    scores_of(tmp_path / "suite", ["A", "B", "C"])
    scores_of(tmp_path / "baseline", ["A", "B", "C"][: len(texts)], texts=texts)
    if len(texts) < 3:
        with output_folder(tmp_path / "baseline", "pth_online_infer.py") as out:
            out.write_text("infer_time.txt", format_figures(summarise([Latency(20, 40)] * len(texts))))
    with pytest.raises(SuiteError, match=f"^suite and baseline cannot be compared: {message}; run both on the same"):
        report.main(results)
    assert not (tmp_path / "out").exists()


def test_times_and_scores_of_different_runs_are_refused(results, tmp_path):
    scores_of(tmp_path / "suite", ["A", "B"])
    with pytest.raises(SuiteError, match=r"is of 3 inferences, utterance_scores\.tsv of 2"):
        report.main(results)


def test_runs_of_recordings_of_other_lengths_are_refused(results, tmp_path):
    scores_of(tmp_path / "suite", ["A", "B", "C"])
    scores_of(tmp_path / "baseline", ["A", "B", "C"], num_samples=800)
    with pytest.raises(SuiteError, match=r"utterance 1 is x-0, which has 400 samples in .*suite and 800 in .*baseline"):
        report.main(results)


def test_columns_without_scores_hide_no_difference_of_others(results, tmp_path):
    third = tmp_path / "third"
    shutil.copytree(tmp_path / "suite", third)
    scores_of(tmp_path / "baseline", ["A B", "A B", "A B"])
    scores_of(third, ["A B", "A B", "A B"], texts=["A B", "A B", "C B"])
    for name in ("suite", "baseline", "third"):
        script = Source(tmp_path / name).run.script
        with output_folder(tmp_path / name, script) as out:
            out.write_text("wer.txt", format_wer(WordErrors(0, 0, 0, 6)))
    with output_folder(third, "pyacl_infer.py") as out:
        out.write_text("wer.txt", format_wer(WordErrors(1, 0, 0, 6)))
    with pytest.raises(SuiteError, match="utterance 3 is x-2, whose reference is 'A B'"):
        report.main([*results[:2], str(third), results[3]])


@pytest.mark.parametrize("figures", [WordErrors(4, 0, 0, 6), WordErrors(3, 0, 0, 7)])
def test_scores_that_are_not_the_sums_are_refused(alone, tmp_path, figures):
    scores_of(tmp_path / "suite", ["A", "A", "A"])  # three deletions in six words
    with output_folder(tmp_path / "suite", "pyacl_infer.py") as out:
        out.write_text("wer.txt", format_wer(figures))
    with pytest.raises(
        SuiteError, match=r"wer\.txt says WER .* but utterance_scores\.tsv has \{'errors': 3, 'words': 6"
    ):
        report.main(alone)


def test_texts_are_normalized_in_all_columns_or_in_none(results, alone, tmp_path):
    scores_of(tmp_path / "suite", ["a b", "a b", "a b"], "basic")
    scores_of(tmp_path / "baseline", ["A B", "A B", "A B"])
    assert report.main(results) == 0
    summary = summary_of(tmp_path)
    assert summary["texts"] == "as they are"
    assert summary["details"]["suite"]["WER by length"][0]["WER"] == summary["figures"]["suite"]["WER"] == 1
    assert report.main(alone) == 0
    summary = summary_of(tmp_path)
    assert summary["texts"] == "normalized (basic)"
    assert summary["details"]["suite"]["WER by length"][0]["WER"] == 0
    assert "are those of the texts normalized (basic)" in (tmp_path / "out/report.html").read_text()


def test_a_report_inside_of_its_results_is_refused(alone, tmp_path):
    with pytest.raises(SuiteError, match=r"suite/sub: is inside of .*suite, whose script would refuse"):
        report.main([alone[0], f"--output={tmp_path / 'suite/sub'}"])
    assert not (tmp_path / "suite/sub").exists()


def test_a_disk_that_is_full_leaves_the_earlier_report(alone, tmp_path, monkeypatch):
    report.main(alone)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix in (".md", ".html")}
    monkeypatch.setattr(page, "render", lambda *_: "\ud800")  # cannot be written
    with pytest.raises(UnicodeEncodeError):
        report.main(alone)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name in before}


def test_a_title_with_a_bar_stays_in_its_column(results, tmp_path):
    folder = tmp_path / "a|b"
    shutil.copytree(tmp_path / "suite", folder)
    assert report.main([results[0], str(folder), results[3]]) == 0
    table = (tmp_path / "out/summary.md").read_text()
    assert "suite (a\\|b)" in table.splitlines()[0]


@pytest.mark.parametrize("name", ["wer.txt", "infer_time.txt", "run.json"])
def test_missing_files_are_refused(results, tmp_path, name):
    (tmp_path / "suite" / name).unlink()
    with pytest.raises(SuiteError, match=name):
        report.main(results)


@pytest.mark.parametrize("name", ["wer.txt", "utterance_scores.tsv", "utterances.jsonl"])
def test_damaged_files_are_refused(results, tmp_path, name):
    scores_of(tmp_path / "suite", ["A", "B", "C"])
    path = tmp_path / "suite" / name
    path.write_text(path.read_text().replace("0", "1", 1))
    with pytest.raises(SuiteError, match=rf"{re.escape(name)}: damaged or replaced|expected what the scoring writes"):
        report.main(results)


def test_a_summary_replaces_an_earlier_one_and_no_other_file(alone, tmp_path):
    report.main(alone)
    report.main(alone)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"summary.md", "summary.json", "report.html"}
    for name in ("summary.md", "report.html"):
        other = tmp_path / f"other {name}"
        other.mkdir()
        (other / name).write_text("mine")
        with pytest.raises(SuiteError, match=rf"{re.escape(name)}: no script wrote this file"):
            report.main((alone[0], f"--output={other}"))
        assert (other / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("wer.txt", "WER: 0.1\n", "lacks 'substitutions'"),
        ("wer.txt", "garbage", "expected lines 'label: number'"),
        ("infer_time.txt", "", "lacks 'total infer num'"),
        ("wer.txt", format_wer(WordErrors(0, 0, 0, 99)), "cannot be compared: .* has 99 words, .* has 100"),
        ("wer.txt", format_wer(WordErrors(0, 0, 0, 99)).replace("0.0", "nan"), "expected lines 'label: number'"),
        ("wer.txt", "WER: 0\nsubstitutions: 1e400\n", "expected lines 'label: number'"),
        ("wer.txt", format_wer(WordErrors(5, 3, 2, 100)).replace(": 100", ": 100.5"), "100.5 is no count"),
        ("wer.txt", format_wer(WordErrors(5, 3, 2, 100)).replace(": 0.1", ": -0.1"), "expected lines 'label: number'"),
        ("infer_time.txt", format_figures(TIMES).replace("num: 3", "num: 3.5"), "3.5 is no count"),
        ("infer_time.txt", format_figures(TIMES).replace(": 20.0", ": 1e-320"), "impossible figures"),
        ("infer_time.txt", format_figures(TIMES).replace(": 20.0", ": 1e300"), "expected lines 'label: number'"),
        ("infer_time.txt", format_figures(TIMES).replace(": 20.0", ": 0"), "impossible figures"),
    ],
)
def test_files_that_do_not_fit_are_refused(results, tmp_path, name, text, message):
    with output_folder(tmp_path / "suite", "pyacl_infer.py") as out:
        out.write_text(name, text)
    with pytest.raises(SuiteError, match=message):
        report.main(results)
