# SPDX-License-Identifier: Apache-2.0
"""Proves what each script says: readable lines, the result last, and with --quiet nothing but the result."""

from __future__ import annotations

import re

import pytest

from wav2vec2_eval.machine import terminal

from conftest import DEMO, run_ok

SPEECH = ("--which_dataset=clean", f"--dataset_path={DEMO}/LibriSpeech", "--limit=3")
MODEL = f"--model_name_or_path={DEMO}/model"
SPEED = r"RTFx [\d.]+, p50 [\d.]+ ms, p99 [\d.]+ ms"
SCORE = r"WER \d+\.\d\d % \(\d+ of \d+ words\), 95 % interval \d+\.\d\d to \d+\.\d\d %"
REPLACED = r"replacing the (data|results|export) of .+ in .+"
DISK = r"disk: [\d.]+ [kM]B for .+ in .+, [\d.]+ [MGT]B free"
ENGINE = r"(onnxruntime|PyTorch) .+ on .+, float32"

# In the order in which they run: options, the last line, and other lines in their order. The second run replaces what
# the first one wrote.
SCRIPTS = {
    "preprocess.py": (
        ["--pre_data_save_path=pre", *SPEECH, MODEL],
        r"3 utterances, \d+\.\d s of speech, 600\.0 kB",
        [DISK, REPLACED, "written: pre/bin_file.info"],
    ),
    "export_onnx.py": (
        ["--model_save_dir=models", MODEL],
        r"models/wav2vec2-base-960h\.onnx: 8\.\d MB, relative error \d\.\de-\d\d against PyTorch",
        [DISK, REPLACED, r"written: models/wav2vec2-base-960h\.onnx"],
    ),
    "pyacl_infer.py": (
        [
            *("--model_path=models/wav2vec2-base-960h.onnx", "--input_info_file_path=pre/bin_file.info"),
            "--infer_res_save_path=res",
        ],
        SPEED,
        [DISK, REPLACED, ENGINE, "written: res"],
    ),
    "postprocess.py": (
        ["--bin_file_path=res", "--res_save_path=res/t.txt"],
        f"{SCORE}, {SPEED}",
        [r"CER .+ characters\)", "written: res/t.txt, and beside it .+"],
    ),
    "pth_online_infer.py": (
        ["--pred_res_save_path=pth/t.txt", *SPEECH, MODEL],
        f"{SCORE}, {SPEED}",
        [ENGINE, REPLACED, "written: pth/t.txt, and beside it .+"],
    ),
}


@pytest.fixture(scope="module")
def quiet_run(tmp_path_factory):
    """Where each script has run with --quiet, and what it printed."""
    cwd = tmp_path_factory.mktemp("quiet")
    return cwd, {name: run_ok(name, *options, "--quiet", cwd=cwd) for name, (options, *_) in SCRIPTS.items()}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_quiet_script_prints_its_result_alone(quiet_run, name):
    _, printed = quiet_run
    assert re.fullmatch(f"{SCRIPTS[name][1]}\n", printed[name])


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_does_and_ends_with_its_result(quiet_run, name):
    cwd, _ = quiet_run
    options, result, others = SCRIPTS[name]
    *said, last = run_ok(name, *options, cwd=cwd).splitlines()
    assert re.fullmatch(result, last)
    found = [next((at for at, line in enumerate(said) if re.fullmatch(other, line)), None) for other in others]
    assert None not in found and found == sorted(found), said
    assert not re.search(r"\d\.\d{5}", "\n".join([*said, last])), "digits that nobody reads"


def test_quiet_leaves_out_what_is_said(capsys):
    try:
        for quiet in (False, True, False):
            terminal.be_quiet(quiet)
            terminal.say(f"quiet: {quiet}\nand more")
            assert terminal.is_quiet() == quiet
    finally:
        terminal.be_quiet(False)
    assert capsys.readouterr() == ("quiet: False\nand more\n" * 2, "")
