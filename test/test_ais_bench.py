# SPDX-License-Identifier: Apache-2.0
"""Proves that results laid out as ais_bench leaves them are scored as our own are, and that mistakes in them are found.

The folders are made here, after ais_bench's source code; ais_bench itself needs an NPU.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import ais_bench
from wav2vec2_eval.files.names import LIST_NAME, LOCK_NAME
from wav2vec2_eval.files.run import Run, read_run
from wav2vec2_eval.report import command as report
from wav2vec2_eval.speech.latency import parse_figures

from conftest import DEMO, SPEECH, run_ok, script_main

SCORES = ("transcriptions.txt", "wer.txt", "utterance_scores.tsv", "ref.trn", "hyp.trn")  # not utterances.jsonl: times
KEYS = "01234"
NO_MANIFEST = "no manifest"
TIMES_MS = {key: 10.0 * (1 + int(key)) for key in KEYS}
LAYOUTS = {
    "one run": {"out": KEYS},
    "a run in a folder": {"out/clean": KEYS},
    "two devices": {"out/device0": "024", "out/device1": "13"},
    "two devices of the newer version": {"out/device0_0": "024", "out/device1_1": "13"},
    "a run for each length": {"out/2026_01_01-00_00_00": "123", "out/30000": "4", "out/40000": "0"},
    "runs with devices": {"out/a/device0": "12", "out/a/device3": "3", "out/b/device0": "40"},
}


def write_summary(folder, keys, save_type="bin", **changes):
    """The summary beside the folder of a run; `changes` replace what is in it."""
    outputs = {key: [f"{folder}/{key}_{index}.{save_type}" for index in (0, 1)] for key in keys}
    content = {
        "filesinfo": {
            str(index): {"infiles": [f"pre/input/{key}.npy"], "outfiles": outputs[key]}
            for index, key in enumerate(keys)
        },
        "args": ["-m", "--model", "x.om"],
        "NPU_compute_time": {"min": 1.0, "P99": 1.0, "count": len(keys)},
        "throughput": 1.0,
        "npu_compute_time_list": [TIMES_MS[key] for key in keys],
        "pid": 1,
        **changes,
    }
    folder.with_name(f"{folder.name}_summary.json").write_text(json.dumps(content))


def lay_out(root, results, runs, save_type="bin"):
    """Write the logits in our `results` as ais_bench would, with a second output that nobody reads."""
    for name, keys in runs.items():
        folder = root / name
        folder.mkdir(parents=True)
        for key in keys:
            logits = np.fromfile(results / f"{key}.0.bin", np.float32).reshape(1, -1, 32)
            for index, array in enumerate((logits, -logits)):
                path = folder / f"{key}_{index}.{save_type}"
                if save_type == "npy":
                    np.save(path, array)
                elif save_type == "txt":
                    np.savetxt(path, array.reshape(-1, 32))
                else:
                    array.tofile(path)
        write_summary(folder, keys, save_type)


@pytest.fixture
def user(chain, tmp_path, monkeypatch):
    """The current folder, with ./pre of preprocess.py; returns a function that lays results out in ./out."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(chain / "pre_data/clean", "pre")
    return lambda runs, save_type="bin": lay_out(tmp_path, chain / "om_infer_res_clean", runs, save_type)


def score(*options):
    manifest = [] if NO_MANIFEST in options else ["--input_info_file_path=pre"]
    others = [option for option in options if option != NO_MANIFEST]
    script_main("postprocess.py")(
        ["--bin_file_path=out", "--res_save_path=scores/transcriptions.txt", *manifest, *others]
    )


def scores(folder):
    return {name: Path(folder, name).read_bytes() for name in SCORES}


@pytest.mark.parametrize("save_type", ["bin", "npy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores_equal_those_of_pyacl_infer_to_the_bit(user, chain, layout, save_type, capsys):
    user(LAYOUTS[layout], save_type)
    score()
    assert scores("scores") == scores(chain / "om_infer_res_clean")
    text = Path("scores/infer_time.txt").read_text()
    figures = parse_figures(text)
    *_, written, result = capsys.readouterr().out.splitlines()
    assert written == f"written: scores/infer_time.txt, of times that {ais_bench.ENGINE} measured"
    assert result.startswith("WER ") and result.endswith(", RTFx 30.7, p50 30 ms, p99 50 ms")
    assert figures["total infer num"] == len(KEYS)
    assert figures["average pure infer time after workspace(ms)"] == 30
    assert (figures["p50 pure infer time(ms)"], figures["max pure infer time(ms)"]) == (30, 50)
    audio_s = sum(num_samples for num_samples, _ in SPEECH.values()) / 16_000
    assert figures["RTFx"] == pytest.approx(1000 * audio_s / sum(TIMES_MS.values()))
    assert not any("wall" in label or label == "average infer time(ms)" for label in figures)


@pytest.mark.parametrize("bin_file_path", ["out", "."])
@pytest.mark.parametrize("is_timed", [True, False])
def test_scores_beside_the_results_may_be_written_again(user, chain, tmp_path, monkeypatch, bin_file_path, is_timed):
    user({"out": KEYS})
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    options = [f"--bin_file_path={bin_file_path}", f"--input_info_file_path={tmp_path / 'pre/bin_file.info'}"]
    monkeypatch.chdir("out" if bin_file_path == "." else ".")
    folder = Path(bin_file_path)
    for _ in range(2):
        score(*options, f"--res_save_path={folder / SCORES[0]}")
        if not is_timed:
            (tmp_path / "out_summary.json").unlink(missing_ok=True)
        assert scores(folder) == scores(chain / "om_infer_res_clean")
    written = {path.name for path in folder.iterdir()} - {path.name for path in before}
    ours = {*SCORES, "utterances.jsonl", "run.json", LIST_NAME, LOCK_NAME}
    assert written == ours | ({"infer_time.txt"} if is_timed else set())
    monkeypatch.chdir(tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    assert not any("_0." in line for line in Path("out", LIST_NAME).read_text().splitlines())


def test_without_times_the_scores_are_written(user, chain, capsys):
    user({"out/a": "012", "out/b": "34"})
    Path("out/b_summary.json").unlink()
    score()
    assert scores("scores") == scores(chain / "om_infer_res_clean")
    *_, reason, result = capsys.readouterr().out.splitlines()
    assert reason == f"no times: {Path.cwd()}/out/b_summary.json: no such file"
    assert re.fullmatch(r"WER .* words\), 95 % interval .* %", result)
    assert not Path("scores/infer_time.txt").exists()


def test_results_are_found_through_a_link_with_their_times(user, chain):
    user({"out/clean": KEYS})
    Path("out/latest").symlink_to("clean")
    Path("out/clean/loop").symlink_to("loop")
    score("--bin_file_path=out/latest")
    assert scores("scores") == scores(chain / "om_infer_res_clean")
    assert Path("scores/infer_time.txt").exists()


def test_our_own_results_stay_ours_beside_files_of_such_names(chain, tmp_path, monkeypatch):
    shutil.copytree(chain / "om_infer_res_clean", tmp_path / "ours")
    monkeypatch.chdir(tmp_path)
    Path("ours/plot_0.npy").touch()
    assert ais_bench.find(Path("ours")) is None


def test_a_manifest_beside_the_results_does_not_lock_them_out(user, chain, model_folder):
    """The second time the scores' files.tsv is there, which does not have the copies of the user."""
    user({"out/clean": KEYS})
    for name in ("bin_file.info", "utterances.tsv"):
        shutil.copy(chain / "pre_data/clean" / name, "out/clean")
    options = ("--bin_file_path=out/clean", "--input_info_file_path=out/clean/bin_file.info")
    options += (f"--model_name_or_path={model_folder}", "--res_save_path=out/clean/transcriptions.txt")
    score(*options)
    assert Path("out/clean/wer.txt").read_text() == (chain / "om_infer_res_clean/wer.txt").read_text()
    with pytest.raises(SuiteError, match=r"out/clean: has no utterances\.tsv; give --which_dataset"):
        score(*options)


def test_times_do_not_stay_beside_scores_of_other_results(user, chain):
    user({"out": KEYS})
    score()
    assert Path("scores/infer_time.txt").exists()
    score(NO_MANIFEST, f"--bin_file_path={chain / 'om_infer_res_clean'}")
    assert not Path("scores/infer_time.txt").exists()
    assert read_run(Path("scores")) == Run("postprocess.py", format=2, transcriptions=SCORES[0])


def test_the_report_tells_who_measured(user, chain, capsys):
    user({"out": KEYS})
    score()
    baseline = chain / "pth_online_infer_res/clean"
    assert report.main(["scores", str(baseline), "--output=report"]) == 0
    summary = json.loads(Path("report/summary.json").read_text())
    assert summary["figures"]["ais_bench"]["time per utterance (ms)"] == 30
    assert "wall RTFx" not in summary["figures"]["ais_bench"]
    conditions = summary["conditions"]["ais_bench"]
    assert conditions["engine"] == ais_bench.ENGINE
    assert conditions["data set"].startswith("clean, from ") and conditions["data set"].endswith("padded to gears")


def test_references_may_come_from_the_data_set(user, chain, speech, model_folder):
    user({"out": KEYS})
    data = ["--which_dataset=clean", f"--dataset_path={speech}", f"--model_name_or_path={model_folder}"]
    for place in ("scores", "out", "out"):
        script_main("postprocess.py")(["--bin_file_path=out", f"--res_save_path={place}/{SCORES[0]}", *data])
        assert scores(place) == scores(chain / "om_infer_res_clean")


def test_the_manifest_serves_results_of_other_tools_too(user, chain):
    Path("out").mkdir()
    for path in (chain / "om_infer_res_clean").glob("*.0.bin"):
        shutil.copy(path, "out")
    score()
    assert scores("scores") == scores(chain / "om_infer_res_clean")
    with Path("out/0.0.bin").open("ab") as file:
        file.write(bytes(32 * 4))
    with pytest.raises(SuiteError, match=r"utterance 0: 125 frames, expected 124 for its length"):
        score()


def change(name, edit):
    path = Path(name)
    path.write_bytes(edit(path.read_bytes()))


def pairs_of_times():
    write_summary(Path("out"), KEYS, npu_compute_time_list=[[1.0, 2.0]] * 5)


MISTAKES = {
    "a result missing": (lambda: Path("out/3_0.bin").unlink(), "expected 5 keys, found 4: 1 missing (3)"),
    "only the second output": (lambda: Path("out/3_0.bin").rename("out/3_2.bin"), "1 missing (3)"),
    "a result too many": (lambda: shutil.copy("out/3_0.bin", "out/7_0.bin"), "found 6: 1 extra (7)"),
    "a result in two types": (
        lambda: np.save("out/3_0.npy", np.zeros((1, 31, 32), np.float32)),
        "expected one result of utterance 3, found 3_0.bin and 3_0.npy",
    ),
    "a result of two runs": (
        lambda: shutil.copytree("out", "out/old"),
        "expected one result of utterance 0, found 0_0.bin and old/0_0.bin",
    ),
    "results of both tools": (
        lambda: shutil.copy("out/3_0.bin", "out/3.0.bin"),
        "out: holds results of ais_bench (0_0.bin) and of pyacl_infer.py (3.0.bin)",
    ),
    "a frame too many": (lambda: change("out/3_0.bin", lambda old: old + bytes(128)), "3: 32 frames, expected 31"),
    "a frame too few": (lambda: change("out/3_0.bin", lambda old: old[:-128]), "utterance 3: 30 frames, expected 31"),
    "a byte too few": (lambda: change("out/3_0.bin", lambda old: old[:-1]), "3_0.bin: 3967 bytes, expected whole"),
    "an empty result": (lambda: change("out/3_0.bin", lambda _: b""), "utterance 3: 0 frames, expected 31"),
    "numbers that are no logits": (
        lambda: np.full(31 * 32, 1e9, np.float32).tofile("out/3_0.bin"),
        "3_0.bin: expected float32 logits, found numbers that no model gives",
    ),
    "no numbers": (lambda: np.full(31 * 32, np.nan, np.float32).tofile("out/3_0.bin"), "expected finite logits"),
    "fewer utterances": (lambda: None, "3 extra (2, 3, 4)", "--limit=2"),
    "another data set": (lambda: None, "its results are of --which_dataset=clean, not other", "--which_dataset=other"),
    "no references": (lambda: None, "give --input_info_file_path of their data", NO_MANIFEST),
    "references of no utterance": (
        lambda: shutil.copy("pre/bin_file.info", "part.info"),
        "has no utterances.tsv; give --which_dataset",
        "--input_info_file_path=part.info",
        f"--model_name_or_path={DEMO / 'model'}",
    ),
    "a damaged manifest": (lambda: change("pre/bin_file.info", lambda old: old[:-1]), "damaged or replaced"),
    "no manifest": (lambda: None, "part.info: no such file", "--input_info_file_path=part.info"),
    "results that carry a manifest": (
        lambda: None,
        "its results carry their manifest; leave --input_info_file_path out",
        "--bin_file_path=res",
    ),
    "a name of ais_bench for the transcriptions": (
        lambda: None,
        "0_0.bin: no script wrote this file",
        "--res_save_path=out/0_0.bin",
    ),
    "the folder of the data for the scores": (
        lambda: None,
        "holds files of preprocess.py",
        "--res_save_path=pre/t.txt",
    ),
    "times of the user": (lambda: Path("out/infer_time.txt").touch(), "no script wrote", "--res_save_path=out/t.txt"),
    "an empty summary": (lambda: change("out_summary.json", lambda _: b""), "expected a summary of ais_bench"),
    "a cut summary": (lambda: change("out_summary.json", lambda old: old[:-9]), "expected a summary of ais_bench"),
    "another summary": (lambda: change("out_summary.json", lambda _: b"[1]"), "expected a summary of ais_bench"),
    "a summary without times": (lambda: change("out_summary.json", lambda _: b'{"filesinfo": {}}'), "time_list"),
    "a summary of other bytes": (lambda: change("out_summary.json", lambda _: b"\xff"), "expected UTF-8 text"),
    "files of another form": (
        lambda: write_summary(Path("out"), KEYS, filesinfo={"0": {"outfiles": [1]}}),
        "something",
    ),
    "pairs of times, of several threads": (pairs_of_times, "npu_compute_time_list is no list of numbers"),
    "several times for each execution": (
        lambda: write_summary(Path("out"), KEYS, npu_compute_time_list=[1.0] * 10),
        "found 10 times and 5 executions of 5 utterances; run ais_bench without --loop",
    ),
    "a time too few": (
        lambda: write_summary(Path("out"), KEYS, npu_compute_time_list=[1.0] * 4),
        "found 4 times and 5 executions",
    ),
    "an utterance twice": (lambda: write_summary(Path("out"), "01233"), "5 executions of 4 utterances"),
    "the summary of a part": (lambda: write_summary(Path("out"), "0123"), "utterance 4 is in one of them alone"),
    **{
        f"a time of {time_ms}": (
            lambda time_ms=time_ms: write_summary(Path("out"), KEYS, npu_compute_time_list=[1.0, 1, time_ms, 1.0, 1.0]),
            f"expected times in milliseconds, found {json.loads(json.dumps(time_ms))}",
        )
        for time_ms in (0, -1.0, math.nan, math.inf, 10**30)
    },
    "a time that is no number": (
        lambda: write_summary(Path("out"), KEYS, npu_compute_time_list=[1.0, 1, True, 1.0, 1.0]),
        "no list of numbers",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_in_one_line_before_anything_is_written(user, chain, tmp_path, mistake):
    user({"out": KEYS})
    shutil.copytree(chain / "om_infer_res_clean", "res")
    edit, message, *options = MISTAKES[mistake]
    edit()
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*") if path.name != LOCK_NAME}
    with pytest.raises(SuiteError) as error:
        score(*options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    after = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*") if path.name != LOCK_NAME}
    assert after == before


def test_text_is_refused(user):
    user({"out/a": KEYS}, "txt")
    with pytest.raises(SuiteError, match=r"out/a/0_0\.txt: expected logits as \.bin or \.npy; run ais_bench again"):
        score()


def test_transcriptions_may_look_like_text_of_ais_bench(user, chain):
    for folder in ("out", "res"):
        if folder == "out":
            user({"out": KEYS})
        else:
            shutil.copytree(chain / "om_infer_res_clean", "res")
        for _ in range(2):
            options = ["--which_dataset=clean"] if folder == "res" else ["--input_info_file_path=pre"]
            path = f"{folder}/run_1.txt"
            script_main("postprocess.py")([f"--bin_file_path={folder}", f"--res_save_path={path}", *options])
            assert Path(path).read_bytes() == (chain / "om_infer_res_clean" / SCORES[0]).read_bytes()


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([], None),
        (["0.0.bin", "deep/0_0.bin"], None),
        (["a/b/c/0_0.bin"], None),
        (["0_0.bin.tmp", "_0.bin", "0_.bin", "x.bin", "0_a.bin"], None),
        (["0_0.bin", "0_1.bin", "a_b_0.npy", "notes_1.txt"], {"0": "0_0.bin", "a_b": "a_b_0.npy"}),
        (["b/0_0.bin", "a/device0/1_0.bin"], {"1": "a/device0/1_0.bin", "0": "b/0_0.bin"}),
        (["a/0_0.bin", "old/0.0.bin"], {"0": "a/0_0.bin"}),
    ],
)
def test_results_are_found_by_their_names(tmp_path, files, found):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = found and {key: tmp_path / name for key, name in found.items()}
    assert ais_bench.find(tmp_path) == expected


@pytest.mark.parametrize(
    ("data", "lengths", "attention_mask", "options"),
    [
        (
            "./pre_data/clean/",
            {10_000, 20_000},
            False,
            ["--input", "./pre_data/clean/input", "--auto_set_dymdims_mode", "1"],
        ),
        ("a b", {20_000}, False, ["--input", "a b/input", "--dymDims", "input:1,20000"]),
        (
            "/a/b",
            {20_000},
            True,
            ["--input", "/a/b/input,/a/b/attention_mask", "--dymDims", "input:1,20000;attention_mask:1,20000"],
        ),
    ],
)
def test_the_commands_to_paste(data, lengths, attention_mask, options):
    first, second = (shlex.split(line) for line in ais_bench.commands(data, lengths, attention_mask).splitlines()[1::2])
    name = Path(data).name
    model = f"./models/wav2vec2-base-960h{'-masked' if attention_mask else ''}.om"
    assert first[:5] == ["python3", "-m", "ais_bench", "--model", model]
    assert first[5:] == [*options, "--outfmt", "BIN", "--output", "./ais_bench_res", "--output_dirname", name]
    assert second[:3] == ["python", "postprocess.py", f"--bin_file_path=./ais_bench_res/{name}"]
    assert second[3] == f"--input_info_file_path={data.rstrip('/')}/bin_file.info"


@pytest.mark.parametrize("masked", [False, True])
def test_the_layout_of_the_data_changes_no_result(chain, masked_export, speech, model_folder, tmp_path, masked):
    """preprocess.py, then pyacl_infer.py, on both layouts; the second one in a folder that was moved."""
    data = ("--which_dataset=clean", f"--dataset_path={speech}", f"--model_name_or_path={model_folder}")
    model = masked_export.path if masked else chain / "models/wav2vec2-base-960h.onnx"
    for layout in ("suite", "ais_bench"):
        options = ["--pre_data_save_path=./pre", f"--layout={layout}", *["--attention_mask"] * masked]
        printed = run_ok("preprocess.py", *options, *data, cwd=tmp_path)
        assert ("python3 -m ais_bench" in printed) == (layout == "ais_bench")
        (tmp_path / "pre").rename(tmp_path / layout)
        run_ok(
            "pyacl_infer.py",
            f"--model_path={model}",
            f"--input_dtypes={'float32,float32' if masked else 'float32'}",
            f"--input_info_file_path={layout}/bin_file.info",
            f"--infer_res_save_path=res_{layout}",
            cwd=tmp_path,
        )
    for key in KEYS:
        one, other = (tmp_path / f"res_{layout}/{key}.0.bin" for layout in ("suite", "ais_bench"))
        assert one.read_bytes() == other.read_bytes()
    run = read_run(tmp_path / "ais_bench")
    assert run is not None and run.utterances == len(KEYS)
