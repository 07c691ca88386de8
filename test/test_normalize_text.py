# SPDX-License-Identifier: Apache-2.0
"""Proves, by the scripts, what they say of a model that writes another case, and of recordings without references."""

from __future__ import annotations

import itertools
import json
import shutil

import numpy as np
import pytest

from wav2vec2_eval.speech.audio import frame_count
from wav2vec2_eval.speech.latency import parse_figures

from conftest import ORDER, SPEECH, SYMBOLS, run_ok, run_script, script_main


@pytest.fixture
def lower_case(speech, model_folder, tmp_path):
    """Options of postprocess.py for a model that spells every reference, in lower case; as another tool writes it."""
    model, results = tmp_path / "model", tmp_path / "res"
    model.mkdir()
    results.mkdir()
    for path in model_folder.glob("*.json"):
        shutil.copy(path, model)
    ids = {symbol if len(symbol) > 1 else symbol.lower(): index for index, symbol in enumerate(SYMBOLS)}
    (model / "vocab.json").write_text(json.dumps(ids))
    for key, utterance_id in enumerate(ORDER):
        num_samples, text = SPEECH[utterance_id]
        written = [ids[symbol] for symbol in text.lower().replace(" ", "|")]
        spoken = list(
            itertools.chain.from_iterable(
                (ids["<pad>"], each) if each == before else (each,) for before, each in zip([None, *written], written)
            )
        )
        frames = max(frame_count(num_samples), len(spoken))
        logits = np.zeros((1, frames, len(SYMBOLS)), np.float32)
        logits[0, np.arange(frames), np.pad(spoken, (0, frames - len(spoken)), constant_values=ids["<pad>"])] = 9
        logits.tofile(results / f"{key}.0.bin")
    return (
        *("--bin_file_path=res", "--res_save_path=out/t.txt", "--which_dataset=clean"),
        *(f"--dataset_path={speech}", "--model_name_or_path=model"),
    )


def test_a_lower_case_model_is_explained(lower_case, tmp_path):
    printed = run_ok("postprocess.py", *lower_case, cwd=tmp_path)
    assert "WER would be 0.0000 instead of 1.0000 if case were ignored; see --normalize_text\n" in printed
    assert "cannot write" not in printed
    assert parse_figures((tmp_path / "out/wer.txt").read_text())["WER"] == 1


@pytest.mark.parametrize("choice", ["basic", "english"])
def test_a_normalizer_ignores_case(lower_case, tmp_path, choice):
    printed = run_ok("postprocess.py", *lower_case, f"--normalize_text={choice}", cwd=tmp_path)
    assert f"--normalize_text={choice}: WER 0.00 %, CER 0.00 %\n" in printed
    figures = parse_figures((tmp_path / "out/wer.txt").read_text())
    assert (figures["WER"], figures[f"normalized WER ({choice})"]) == (1, 0)
    assert json.loads((tmp_path / "out/run.json").read_text())["normalize_text"] == choice


def test_another_normalizer_is_refused(lower_case, tmp_path):
    done = run_script("postprocess.py", *lower_case, "--normalize_text=french", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_the_baseline_normalizes_too(speech, model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ["--which_dataset=clean", f"--dataset_path={speech}", f"--model_name_or_path={model_folder}"]
    script_main("pth_online_infer.py")(["--pred_res_save_path=t.txt", "--limit=2", "--normalize_text=basic", *data])
    assert "normalized WER (basic)" in parse_figures((tmp_path / "wer.txt").read_text())
    lines = [json.loads(line) for line in (tmp_path / "utterances.jsonl").read_text().splitlines()]
    assert [line["audio_filepath"] for line in lines] == ORDER[:2]
    assert sum(line["time"] for line in lines) * 1000 == pytest.approx(
        parse_figures((tmp_path / "infer_time.txt").read_text())["total pure infer time(ms)"]
    )


@pytest.fixture
def unlabelled(chain, tmp_path):
    """A copy of results that lack references, except those of the first `count` utterances."""

    def make(count):
        folder = shutil.copytree(chain / "om_infer_res_clean", tmp_path / "res")
        (folder / "files.tsv").unlink()
        run = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({name: run[name] for name in run if name != "format"}))
        lines = (folder / "utterances.tsv").read_text().splitlines(keepends=True)
        lines[count:] = [line[: line.rindex("\t")] + "\t\tno reference\n" for line in lines[count:]]
        (folder / "utterances.tsv").write_text("".join(lines))
        return "--bin_file_path=res", "--res_save_path=out/t.txt"

    return make


def test_unlabelled_recordings_are_transcribed(unlabelled, chain, tmp_path):
    printed = run_ok("postprocess.py", *unlabelled(0), cwd=tmp_path)
    assert f"{len(ORDER)} utterances, none with a reference: nothing is scored" in printed
    out = tmp_path / "out"
    assert (out / "t.txt").read_text() == (chain / "om_infer_res_clean/transcriptions.txt").read_text()
    written = {path.name for path in out.iterdir()}
    assert written == {
        "t.txt",
        "utterance_scores.tsv",
        "utterances.jsonl",
        "run.json",
        "files.tsv",
        ".wav2vec2_eval.lock",
    }
    assert all(json.loads(line)["time"] > 0 for line in (out / "utterances.jsonl").read_text().splitlines())


def test_some_unlabelled_recordings_are_left_out_of_the_scores(unlabelled, tmp_path):
    printed = run_ok("postprocess.py", *unlabelled(2), cwd=tmp_path)
    assert f"{len(ORDER) - 2} utterances have no reference and are not scored\n" in printed
    figures = parse_figures((tmp_path / "out/wer.txt").read_text())
    assert figures["words"] == sum(len(SPEECH[key][1].split()) for key in ORDER[:2])
    assert len((tmp_path / "out/ref.trn").read_text().splitlines()) == 2
