# SPDX-License-Identifier: Apache-2.0
"""Proves that test/bench/engines.py plans, sums up, compares, resumes and records its rounds as it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import peers
import pytest
import records
from bound import Shape as ModelShape
from bound import Work, best_rates, bound_rtfx, work_of, work_per_second
from engines import LEAST_FREE_MB, Utterance, Workers, code_digest, engine_names, gear_of, model_digest, plan
from peers import BEFORE, ENTRIES, GPU, PEER, SUITE, Round, check_available, score, share_of_others
from records import (
    Progress,
    Row,
    comparisons,
    new_record,
    ratio,
    ratios,
    read_records,
    readme_table,
    readme_tables,
    record_name,
    resume,
    strongest,
    summarise,
    table,
)

from wav2vec2_eval.errors import SuiteError

from conftest import DEMO, ROOT

BENCH = ROOT / "test/bench"


def round_of(audio_s, seconds, **more):
    return Round(audio_s, seconds, 2 * seconds, 0.1, [1.0, 3.0], 100, **more)


def row(title, kind, precision, *rtfx, **more):
    middle = sorted(rtfx)[len(rtfx) // 2]
    return Row(title, kind, precision, middle, 5, 9, 100, rtfx_of_rounds=rtfx, **more)


ROWS = {
    each.title: each
    for each in (
        row("PyTorch float32", PEER, "f32", 8, 10, 12, wer=0.04),
        row("OpenVINO float32", PEER, "f32", 20, 20, 20, wer=0.04),
        row("OpenVINO bfloat16", PEER, "bf16", 40, 41, 42, wer=0.04),
        row("suite float32, before", BEFORE, "f32", 10, 10, 10, wer=0.04),
        row("suite float32", SUITE, "f32", 21, 19, 22, wer=0.04, bound_rtfx=42),
        row("suite bfloat16", SUITE, "bf16", 60, 62, 61, wer=0.05, first_result_s=3.5),
        row("PyTorch float32, cuda", GPU, "f32", 900, 900, 900),
    )
}


# Utterances


def test_the_warm_up_has_the_most_frequent_gears_and_no_round_has_an_utterance_twice():
    found = [Utterance(number, samples) for number, samples in enumerate([5, 15, 25, 15, 26, 27, 35, 16])]
    found = [each._replace(samples=1000 * each.samples) for each in found]
    warming, *rounds = plan(found, rounds=2, count=2, warm_up=2)
    assert [gear_of(each) for each in warming] == [20_000, 30_000]
    assert list(map(len, rounds)) == [2, 2]
    chosen = [*warming, *rounds[0], *rounds[1]]
    assert len(set(chosen)) == len(chosen) and set(chosen) <= set(found)


def test_a_warm_up_longer_than_all_gears_takes_more_of_them():
    found = [Utterance(length, length) for length in (1000, 2000, 3000, 4000)]
    assert [len(each) for each in plan(found, 1, 1, 3)] == [3, 1]


@pytest.mark.parametrize(("count", "warm_up"), [(2, 2), (3, 1), (1, 3)])
def test_too_few_utterances_are_refused(count, warm_up):
    with pytest.raises(SuiteError, match=r"at most 3 different utterances, found --warm_up=\d \+ --rounds=1 x"):
        plan([Utterance(length, length) for length in (1000, 2000, 3000)], 1, count, warm_up)
    with pytest.raises(SuiteError, match="at most 0"):
        plan([], 1, count, warm_up)


# Options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("suite-f32", ["suite-f32"]),
        ("suite", ["suite-f32", "suite-bf16", "suite-int8"]),
        ("cuda,pytorch-f32", ["pytorch-f32", "cuda-f32", "cuda-f16"]),
        ("int8", [name for name in ENTRIES if name.endswith("-int8")]),
    ],
)
def test_engine_names(text, expected):
    assert engine_names(text) == expected


@pytest.mark.parametrize("text", ["", "suite,", "f33", "PyTorch float32"])
def test_unknown_engines_are_refused(text):
    with pytest.raises(SuiteError, match="expected names of pytorch-f32, "):
        engine_names(text)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--engines=none", "expected names of"),
        ("--suite_before=/nowhere", "expected a checkout of the suite"),
        ("--dataset_path=/nowhere", "expected --model_name_or_path with it"),
    ],
)
def test_bad_options_end_in_one_line(option, message, tmp_path):
    command = [sys.executable, str(BENCH / "engines.py"), f"--work_dir={tmp_path}", option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and done.stderr.count("\n") == 1


# Engines


def test_every_precision_has_the_peers_of_its_kind():
    titles = [entry.title for entry in ENTRIES.values()]
    assert len(set(titles)) == len(titles)
    for precision in ("f32", "bf16", "int8"):
        kinds = [entry.kind for entry in ENTRIES.values() if entry.precision == precision]
        assert kinds.count(SUITE) == kinds.count(BEFORE) == 1 and kinds.count(PEER) >= 3
    assert all(entry.reads in {peers.MODEL, *peers.MAKERS} for entry in ENTRIES.values())


@pytest.mark.parametrize("name", [name for name in ENTRIES if name.endswith("-bf16")])
@pytest.mark.parametrize(("lacks", "capabilities", "has"), [(True, ["BF16"], 0), (False, [], 0), (False, ["BF16"], 1)])
def test_bfloat16_runs_where_the_processor_has_it(name, lacks, capabilities, has, monkeypatch):
    monkeypatch.setattr(peers, "lacks_bfloat16", lambda: lacks)
    monkeypatch.setattr(peers, "openvino_capabilities", lambda: capabilities)
    monkeypatch.setattr(peers.shutil, "which", lambda _: "/usr/bin/g++")
    if has:
        check_available(name)
    else:
        with pytest.raises(SuiteError, match="has no bfloat16 instructions"):
            check_available(name)


def test_torch_compile_needs_a_compiler(monkeypatch):
    monkeypatch.setattr(peers, "lacks_bfloat16", lambda: False)
    monkeypatch.setattr(peers, "openvino_capabilities", lambda: ["BF16"])
    monkeypatch.setattr(peers.shutil, "which", lambda _: None)
    with pytest.raises(SuiteError, match=r"finds no C\+\+ compiler"):
        check_available("compile-bf16")
    check_available("pytorch-bf16")


class FakeWorker:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log
        log.append(f"open {name}")

    def close(self) -> None:
        self.log.append(f"close {self.name}")


def test_workers_stay_while_memory_is_left():
    log = []
    workers = Workers(lambda name: FakeWorker(name, log), lambda: LEAST_FREE_MB + 1)
    for name in "abba":
        assert workers.get(name).name == name
    workers.close()
    assert log == ["open a", "open b", "close a", "close b"]


def test_workers_unused_for_longest_end_when_memory_is_short():
    """Here memory is short as soon as two are open; the engines take their turns in alternating order."""
    log = []

    def free_mb():
        opened = sum(1 if each.startswith("open") else -1 for each in log)
        return LEAST_FREE_MB - (opened >= 2)

    workers = Workers(lambda name: FakeWorker(name, log), free_mb)
    for name in "abccba":
        workers.get(name)
    assert log == ["open a", "open b", "close a", "open c", "close b", "open b", "close c", "open a"]


@pytest.mark.parametrize(
    ("before_s", "after_s", "own_s", "expected"),
    [
        (10.0, 14.0, 3.0, 0.25),  # of 2 s on two cores
        (10.0, 12.9, 3.0, 0.0),  # clocks differ a little
        (10.0, 99.0, 3.0, 1.0),
        (None, None, 3.0, None),
        (0.0, 0.0, 3.0, None),  # a system that does not count
    ],
)
def test_share_of_others(before_s, after_s, own_s, expected, monkeypatch):
    monkeypatch.setattr(peers.os, "sched_getaffinity", lambda _: {0, 1})
    assert share_of_others(before_s, after_s, own_s, 2.0) == expected


def test_utterances_without_a_reference_are_not_scored():
    setup = peers.demo_setup(1)
    assert score(setup, [None, ""], ["A", "B"]) == (0, 0, "")
    errors, words, transcripts = score(setup, [None, "ONE TWO"], ["A", "ONE TOO"])
    assert (errors, words, len(transcripts)) == (1, 2, 64)


# The bound

SHAPE = ModelShape([4, 6], [10, 3], [5, 2], 8, 16, 2, [4], 2, 5)


def test_operations_of_a_small_model():
    """21 positions after the first convolution, 10 frames."""
    convolutions = 2 * (21 * 10 * 4 + 10 * 3 * 4 * 6 + 10 * 4 * 8 * 8 / 2)
    products = 2 * 10 * (6 * 8 + 2 * (4 * 8 * 8 + 2 * 8 * 16) + 8 * 5)
    attention = 2 * 2 * 2 * 10 * 10 * 8
    assert work_of(SHAPE, 110) == Work(convolutions, products, attention)
    assert work_per_second(SHAPE, [110, 110]).total == pytest.approx(work_of(SHAPE, 110).total / 110 * 16000)


def test_operations_are_those_that_pytorch_counts():
    """The positional convolution computes one more frame, which is cut off."""
    import torch
    from bound import read_shape
    from torch.utils.flop_counter import FlopCounterMode

    from wav2vec2_eval.sources.pytorch_model import load_model

    model = load_model(str(DEMO / "model"), attention="eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 50_000))
    assert work_of(read_shape(str(DEMO / "model")), 50_000).total == pytest.approx(counter.get_total_flops(), rel=1e-3)


RATES = {
    "f32": {"layers": 1.0, "convolutions": 2.0, "squares": 4.0},
    "bf16": {"layers": 2.0, "convolutions": 4.0, "squares": 8.0},
    "int8": {"layers": 4.0, "convolutions": 8.0, "squares": 16.0},
}


@pytest.mark.parametrize(
    ("precision", "best", "seconds"),
    [
        ("f32", False, 4 / 2 + 8 / 1 + 2 / 1),
        ("f32", True, 14 / 4),
        ("bf16", False, 4 / 4 + 8 / 2 + 2 / 2),
        ("int8", False, 4 / 4 + 8 / 4 + 2 / 2),  # with convolutions and attention in bfloat16
        ("int8", True, 4 / 8 + 8 / 16 + 2 / 8),
    ],
)
def test_bound(precision, best, seconds):
    assert bound_rtfx(Work(4, 8, 2), RATES, precision, best) == pytest.approx(1 / seconds)


def test_bound_without_bfloat16():
    rates = {precision: RATES[precision] for precision in ("f32", "int8")}
    assert bound_rtfx(Work(4, 8, 2), rates, "bf16") is None
    assert bound_rtfx(Work(4, 8, 2), rates, "int8") == pytest.approx(1 / (4 / 2 + 8 / 4 + 2 / 1))


def test_rates_are_the_best_of_the_rounds():
    rounds = [{"f32": {"layers": each}} for each in (3.0, 9.0, 4.0)]
    assert best_rates(rounds) == {"f32": {"layers": 9.0}}


# Figures


def test_summary():
    rounds = [round_of(10, 1), round_of(20, 1), round_of(30, 4, errors=1, words=10)]
    demo = Round(1, 1, 1, 0, [], 1, errors=3, words=10, transcripts="x")
    found = summarise("suite-int8", [*rounds[:2], round_of(30, 4)], 1.5, demo, 40)
    assert (found.title, found.kind, found.precision) == ("suite int8", SUITE, "int8")
    assert (found.rtfx, found.rtfx_of_rounds, found.share) == (10, [10, 20, 7.5], 0.25)
    assert (found.cpu_s, found.others) == (12 / 60, pytest.approx(0.1))
    assert (found.first_result_s, found.wer, found.transcripts) == (1.5, 0.3, "x")
    assert summarise("suite-int8", rounds, None, None, None).wer == 0.1
    unknown = summarise("suite-int8", [rounds[0]._replace(others=None)], None, None, None)
    assert (unknown.others, unknown.wer, unknown.share) == (None, None, None)


def test_the_strongest_peer_is_no_engine_of_the_suite_and_no_gpu():
    found = {precision: strongest(ROWS, precision) for precision in ("f32", "bf16", "int8")}
    assert {precision: each and each.title for precision, each in found.items()} == {
        "f32": "OpenVINO float32",
        "bf16": "OpenVINO bfloat16",
        "int8": None,
    }


def test_a_ratio_is_the_median_over_rounds():
    assert ratio(ROWS["suite float32"], ROWS["PyTorch float32"]) == pytest.approx(19 / 10)
    assert ratio(row("a", PEER, "f32", 1, 10, 100), row("b", PEER, "f32", 1, 1, 1)) == 10


def test_columns_of_ratios():
    columns = ratios(ROWS)
    assert columns[records.X_PYTORCH]["OpenVINO float32"] == 2
    assert columns[records.X_STRONGEST]["PyTorch float32"] == 0.5
    assert columns[records.X_STRONGEST]["OpenVINO float32"] == 1
    assert "PyTorch float32, cuda" not in columns[records.X_STRONGEST]
    assert ratios({})[records.X_PYTORCH] == {}


def test_comparisons():
    lines = [each.line() for each in comparisons(ROWS)]
    assert lines == [
        "suite float32 / strongest f32 peer, OpenVINO float32: 1.05, target 1: reached",
        "  peak memory, suite float32 / OpenVINO float32: 1.00, target at most 1: reached",
        "suite float32 / before, and so the shares of the bound: 2.10",
        "  peak memory, suite float32 / before: 1.00, target at most 1: reached",
        "suite float32 / the machine's bound: 0.50, target 0.5: reached",
        "suite bfloat16 / strongest bf16 peer, OpenVINO bfloat16: 1.50, target 1.25: reached",
        "suite bfloat16, first result: 3.50 s, target at most 3 s: NOT REACHED",
        "suite bfloat16, WER against f32: 1.00 points, target at most 0.3 points: NOT REACHED",
    ]
    assert list(comparisons({})) == []


def test_int8_is_compared_with_our_bfloat16():
    found = {**ROWS, "suite int8": row("suite int8", SUITE, "int8", 70, 70, 70)}
    assert "suite int8 / suite bfloat16: 1.15, target 1.3: NOT REACHED" in [each.line() for each in comparisons(found)]


def test_the_table_has_a_line_for_each_engine_and_no_invented_figure():
    title, rule, *lines = table(ROWS)
    assert len(lines) == len(ROWS)
    assert {line.count("|") for line in (title, rule, *lines)} == {title.count("|")}
    assert lines[-1].startswith("| PyTorch float32, cuda | 900.0 | 5 | 9 | - | 100 | - | - | - | - |")


# What is kept of a run

SETUP = {"--count": 3, "versions": {"torch": "2"}, "processor": "x"}


def test_progress_is_resumed(tmp_path):
    path = tmp_path / "rounds.json"
    progress = Progress(SETUP, {"cuda-f32": "no GPU"}, {"suite-f32": 1.5}, rates=[RATES])
    progress.rounds.append({"suite-f32": round_of(10, 1)})
    progress.demo["suite-f32"] = round_of(1, 1, errors=1, words=2, transcripts="x")
    progress.save(path)
    assert resume(path, SETUP) == progress
    assert [each.name for each in tmp_path.iterdir()] == ["rounds.json"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--count": 4}, "--count 3, this one has 4"),
        ({"versions": {"torch": "3"}}, "versions {'torch': '2'}, this one has {'torch': '3'}"),
        ({"processor": "y"}, "processor x, this one has y"),
        ({"--more": 1}, "--more None, this one has 1"),
    ],
)
def test_another_run_is_not_resumed(changed, said, tmp_path):
    path = tmp_path / "rounds.json"
    Progress(SETUP).save(path)
    with pytest.raises(SuiteError) as error:
        resume(path, {**SETUP, **changed})
    assert said in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(SuiteError, match="had versions"):
        resume(path, {key: value for key, value in SETUP.items() if key != "versions"})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"setup": {}, "rounds": [{"a": {}}], "demo": {}}'])
def test_a_file_of_something_else_is_not_resumed(text, tmp_path):
    path = tmp_path / "rounds.json"
    with pytest.raises(SuiteError, match="no such file"):
        resume(path, SETUP)
    path.write_text(text)
    with pytest.raises(SuiteError, match=r"not what engines\.py saves"):
        resume(path, SETUP)


def test_exports_of_other_models_and_code_are_not_used(tmp_path):
    (tmp_path / "wav2vec2_eval").mkdir()
    for digest, name in ((model_digest, "config.json"), (code_digest, "wav2vec2_eval/a.py")):
        found = []
        for text in ("1", "2"):
            (tmp_path / name).write_text(text)
            found.append(digest(tmp_path) if digest is code_digest else digest(str(tmp_path)))
        assert found[0] != found[1]
    assert model_digest("a/b") != model_digest("a/c")


# Records


@pytest.mark.parametrize(
    ("name", "features", "expected"),
    [
        ("cpu (AMD EPYC)", {"avx2", "fma"}, "amd-epyc-avx2.json"),
        ("cpu (AMD EPYC)", {"avx2", "avx512f", "avx512_bf16", "avx512_vnni"}, "amd-epyc-avx512-bf16.json"),
        (
            "cpu (Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz)",
            {"avx2", "avx512f", "avx512_bf16", "amx_int8"},
            "intel-r-xeon-r-platinum-8481c-cpu-2-70ghz-amx.json",
        ),
        ("cpu (aarch64)", {"asimddp", "i8mm"}, "aarch64-i8mm.json"),
        ("cpu (../../x)", set(), "x-basic.json"),
        ("cpu ()", set(), "basic.json"),
    ],
)
def test_record_names(name, features, expected):
    assert record_name(name, features) == expected


def test_a_record_is_read_back(tmp_path):
    record = new_record(ROWS, 2, "abc1234", conditions=["x"])
    (tmp_path / "a.json").write_text(json.dumps(record))
    (read,) = read_records(tmp_path)
    assert read == json.loads(json.dumps(record))
    lines = readme_table(read)
    assert lines[0].endswith("**, 2 threads, commit abc1234:")
    assert [line.split(" | ")[0] for line in lines[4:]] == [
        "| PyTorch float32",
        "| OpenVINO float32",
        "| OpenVINO bfloat16",
        "| **suite float32**",
        "| **suite bfloat16**",
    ]
    assert lines[-1].endswith(" | 6.20 | 1.50 |")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": {}}'])
def test_a_broken_record_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SuiteError, match=r"a\.json: expected a record"):
        read_records(tmp_path)


def test_readme_has_the_tables_of_all_records():
    """README.zh-CN.md has the same figures, as test_docs.py proves."""
    assert readme_tables(read_records()) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_records_are_called_by_their_processors():
    assert all(re.fullmatch(r"[a-z0-9-]+\.json", path.name) for path in records.RECORDS.iterdir())


# The command


def test_a_small_run_and_the_same_resumed(tmp_path):
    command = [
        *(sys.executable, str(BENCH / "engines.py"), f"--work_dir={tmp_path}"),
        *("--engines=onnxruntime-f32,suite-f32", "--count=2", "--rounds=1", "--warm_up=1"),
        *("--threads=1", f"--model_name_or_path={DEMO / 'model'}", "--skip_starts"),
        *("--which_dataset=clean", f"--dataset_path={DEMO / 'LibriSpeech'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "suite float32 / strongest f32 peer, onnxruntime float32: " in done.stdout
    record = json.loads((tmp_path / "engines.json").read_text())
    assert list(record["rows"]) == ["onnxruntime float32", "suite float32"]
    assert record["rows"]["suite float32"]["wer"] == record["rows"]["onnxruntime float32"]["wer"] <= 0.5
    assert Path(tmp_path / "engines.png").stat().st_size > 1000
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=300, check=False)
    assert "round 1" not in again.stdout, "it measured again"
    assert json.loads((tmp_path / "engines.json").read_text())["rows"] == record["rows"]
