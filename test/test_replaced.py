# SPDX-License-Identifier: Apache-2.0
"""Proves that a script says what it replaces."""

from __future__ import annotations

import pytest

from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.replaced import say_replaced
from wav2vec2_eval.files.run import Run, format_run

DATA = Run("preprocess.py", which_dataset="clean", model="m", padded=True, utterances=52)
MEASURED = Run("postprocess.py", engine="ais_bench", transcriptions="t.txt")
RESULTS = Run("pyacl_infer.py", model="./x.onnx", precision="float32", transcriptions="t.txt")


@pytest.mark.parametrize(
    ("run", "wer", "options", "said"),
    [
        (RESULTS, "WER: 0.0399239\nerrors: 21\n", {}, "the results of ./x.onnx (float32, WER 3.99 %)"),
        (RESULTS, "WER: 0.0399239\n", {"scores_alone": True}, "the scores of ./x.onnx (float32, WER 3.99 %)"),
        (RESULTS, None, {}, "the results of ./x.onnx (float32)"),
        (RESULTS, "WER: many\n", {}, "the results of ./x.onnx (float32)"),
        (RESULTS, "", {}, "the results of ./x.onnx (float32)"),
        (RESULTS, None, {"is_whole": False}, "the unfinished results of ./x.onnx (float32)"),
        (DATA, None, {}, "the data of clean (52 utterances)"),
        (MEASURED, "WER: 1.0\n", {}, "the results of ais_bench (WER 100.00 %)"),
        (Run("a.py"), None, {}, "the results of a.py"),
    ],
)
def test_what_is_replaced(tmp_path, capsys, run, wer, options, said):
    if wer is not None:
        (tmp_path / "wer.txt").write_text(wer)
    say_replaced(tmp_path, run, **options)
    assert capsys.readouterr().out == f"replacing {said} in {tmp_path}\n"


def test_a_folder_says_what_it_replaces_when_it_does(tmp_path, capsys):
    printed = []
    for _ in range(3):
        with output_folder(tmp_path / "res", "pyacl_infer.py") as folder:
            with folder.staging() as staged:
                staged.write_text("run.json", format_run(RESULTS))
                folder.publish(staged, marker="infer_time.txt")
            if len(printed) == 1:
                folder.write_text("infer_time.txt", "x")
        printed.append(capsys.readouterr().out)
    of = f"results of ./x.onnx (float32) in {tmp_path}/res\n"
    assert printed == ["", f"replacing the unfinished {of}", f"replacing the {of}"]
