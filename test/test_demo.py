# SPDX-License-Identifier: Apache-2.0
"""Proves, on the demo's real speech and trained model, what random weights cannot show: the recognition is right.

The demo's model reaches a WER of 0.040; MAX_WER is a little higher. Three mistakes raise the WER above MAX_WER, as the
last test shows: dropping blanks before repeats are merged, no normalisation, and a waveform shifted inside its gear.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.sources import model_folder
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.speech import ctc
from wav2vec2_eval.speech.latency import parse_figures
from wav2vec2_eval.speech.wer import total, word_errors

from conftest import DEMO, DEMO_DATA, DEMO_MODEL, ROOT, infer_on_ascend, run_ok

MAX_WER = 0.05


def evaluate(cwd: Path, *options: str) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "test/eval_acc_perf.sh"), "--demo", *options],
        cwd=cwd,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count(" / ") >= 5, "no example lines"
    page = Path(done.stdout.splitlines()[-1].removeprefix("The page: "))
    assert page == (cwd / "demo_res/eval_res/clean/report.html").resolve()
    assert page.is_file()


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """What `bash test/eval_acc_perf.sh --demo` leaves."""
    cwd = tmp_path_factory.mktemp("demo")
    evaluate(cwd)
    return cwd / "demo_res"


def transcripts(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_the_demo_recognises_speech(demo):
    suite, baseline = (demo / "eval_res/clean" / name for name in ("f32", "pytorch"))
    wer = parse_figures((suite / "wer.txt").read_text())
    assert wer["scored utterances"] >= 50
    assert wer["WER"] <= MAX_WER
    assert wer == parse_figures((baseline / "wer.txt").read_text())
    assert transcripts(suite / "transcriptions.txt") == transcripts(baseline / "transcriptions.txt")


def test_twice_the_same(demo, tmp_path):
    evaluate(tmp_path, "--skip_baseline")
    for name in ("wer.txt", "transcriptions.txt"):
        again = tmp_path / "demo_res/eval_res/clean/f32" / name
        assert again.read_bytes() == (demo / "eval_res/clean/f32" / name).read_bytes()


def test_two_precisions_in_one_go(tmp_path):
    pytest.importorskip("nncf")
    evaluate(tmp_path, "--skip_baseline", "--attention_mask", "--precision=f32,int8")
    for variant, precision in {"f32-masked": "float32", "int8-masked": "int8"}.items():
        results = tmp_path / "demo_res/eval_res/clean" / variant
        assert parse_figures((results / "wer.txt").read_text())["WER"] <= MAX_WER
        assert json.loads((results / "run.json").read_text())["precision"].startswith(precision)


def test_gears_and_masks_on_the_emulated_npu(demo, tmp_path):
    """The padding-exact model, through onnx2om.sh and pyACL, gives unpadded PyTorch's transcripts in every gear."""
    run_ok("export_onnx.py", "--model_save_dir=./models", "--attention_mask", DEMO_MODEL, cwd=tmp_path)
    run_ok("preprocess.py", "--pre_data_save_path=./pre", "--attention_mask", *DEMO_DATA, DEMO_MODEL, cwd=tmp_path)
    infer_on_ascend(tmp_path, "wav2vec2-base-960h-masked", "--sync_infer=False", "--input_dtypes=float32,float32")
    run_ok("postprocess.py", "--bin_file_path=res", "--res_save_path=res/t.txt", *DEMO_DATA, DEMO_MODEL, cwd=tmp_path)
    assert transcripts(tmp_path / "res/t.txt") == transcripts(demo / "eval_res/clean/pytorch/transcriptions.txt")


@pytest.fixture(scope="module")
def waveforms():
    dataset = open_dataset("clean", str(DEMO / "LibriSpeech"))
    return [(dataset.waveform(index), dataset.texts[index]) for index in range(len(dataset.ids))]


def word_error_rate(demo: Path, waveforms, prepare, decode=ctc.greedy_decode) -> float:
    """WER with another way to prepare a waveform, (T,) -> (T,), or to decode its logits."""
    symbols = model_folder.symbols(str(DEMO / "model"))
    with open_engine(demo / "models/wav2vec2-base-960h.onnx", num_threads=2) as engine:
        results = engine.stream([prepare(waveform)[None]] for waveform, _ in waveforms)
        texts = [decode(result.outputs[0][0], symbols) for result in results]
    return total(word_errors([text for _, text in waveforms], texts)).wer


def normalise(waveform: np.ndarray) -> np.ndarray:
    return model_folder.feature_extractor(str(DEMO / "model"))(waveform, len(waveform))[0]


def drop_blanks_first(logits: np.ndarray, symbols: ctc.Symbols) -> str:
    """A well-known mistake, by which HELLO becomes HELO."""
    ids = logits.argmax(-1)
    return ctc.greedy_decode(logits[ids != symbols.table.index(symbols.blank)], symbols)


def test_the_right_way_gives_the_demos_wer(demo, waveforms):
    wer = parse_figures((demo / "eval_res/clean/f32/wer.txt").read_text())["WER"]
    assert word_error_rate(demo, waveforms, normalise) == wer


@pytest.mark.parametrize(
    ("prepare", "decode"),
    [
        (normalise, drop_blanks_first),
        (lambda waveform: waveform, ctc.greedy_decode),
        (lambda waveform: np.roll(np.pad(normalise(waveform), (0, 10_000)), 12_345), ctc.greedy_decode),
    ],
    ids=["blanks dropped first", "not normalised", "shifted in its gear"],
)
def test_mistakes_are_seen(demo, waveforms, prepare, decode):
    assert word_error_rate(demo, waveforms, prepare, decode) > MAX_WER
