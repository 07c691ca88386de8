# SPDX-License-Identifier: Apache-2.0
"""Proves the way of a user's own recordings, short and long, from a table to texts, against transformers' pipeline."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile

from wav2vec2_eval.files.run import read_run
from wav2vec2_eval.report import command as report
from wav2vec2_eval.speech.latency import parse_figures

from conftest import check_clean, infer_on_ascend, noise, run_ok, run_script

RECORDINGS = {"short.wav": (44_100, 2, 2.0), "sub/mono.flac": (16_000, 1, 1.3), "long.wav": (16_000, 1, 90.0)}
CHUNK_S, STRIDE_S = 12.0, 2.0


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder of recordings with a table."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "sub").mkdir()
    lines = ["file_name,transcription"]
    for seed, (name, (rate, channels, seconds)) in enumerate(RECORDINGS.items()):
        samples = noise(int(rate * seconds), seed)
        soundfile.write(folder / name, np.repeat(samples[:, None], channels, 1), rate)
        lines.append(f'{name},"Hello, you."')
    (folder / "metadata.csv").write_text(
        "\n".join([*lines, ""]).replace('sub/mono.flac,"Hello, you."', "sub/mono.flac,")
    )
    return folder


@pytest.fixture(scope="module")
def work(own, model_folder, tmp_path_factory):
    """Where both models are exported, and the recordings are preprocessed: unpadded in chunks, and for gears."""
    folder = tmp_path_factory.mktemp("work")
    data = ["--which_dataset=custom", f"--dataset_path={own}", f"--model_name_or_path={model_folder}"]
    chunks = [f"--chunk_s={CHUNK_S}", f"--stride_s={STRIDE_S}"]
    for masked in ([], ["--attention_mask"]):
        run_ok("export_onnx.py", "--model_save_dir=./models", data[-1], *masked, cwd=folder)
    run_ok("preprocess.py", "--pre_data_save_path=./unpadded", "--gears=none", *data, *chunks, cwd=folder)
    said = run_ok("preprocess.py", "--pre_data_save_path=./pre", "--attention_mask", *data, cwd=folder)
    assert "1 of 3 have no reference: they are transcribed and not scored\n1 of 3 resampled" in said
    assert "1 of 3 resampled from 44100 Hz\n1 of 3 mixed down from 2 channels\n1 of 3 cut into chunks: 35 s" in said
    baseline = "--pred_res_save_path=./baseline/t.txt"
    run_ok("pth_online_infer.py", baseline, *data, *chunks, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def pipeline(model_folder):
    """Text of a recording by transformers' own pipeline."""
    from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer, pipeline

    model = AutoModelForCTC.from_pretrained(model_folder)
    parts = {"tokenizer": AutoTokenizer, "feature_extractor": AutoFeatureExtractor}
    loaded = {name: kind.from_pretrained(model_folder) for name, kind in parts.items()}
    recognise = pipeline("automatic-speech-recognition", model=model, **loaded)

    def text(waveform, **options):
        return recognise(waveform.copy(), **options)["text"]

    return text


@pytest.fixture(scope="module")
def waveforms(own):
    from wav2vec2_eval.sources.choose import open_dataset

    dataset = open_dataset("custom", str(own))
    return [dataset.waveform(index) for index in range(len(dataset))]


def infer(work, model, manifest, results, *options):
    arguments = [f"--model_path=./models/{model}.onnx", f"--input_info_file_path=./{manifest}/bin_file.info"]
    run_ok("pyacl_infer.py", *arguments, f"--infer_res_save_path=./{results}", *options, cwd=work)
    run_ok("postprocess.py", f"--bin_file_path=./{results}", f"--res_save_path=./{results}/t.txt", cwd=work)
    return (work / results / "t.txt").read_text().split("\n")[:-1]


def test_long_recordings_read_as_in_transformers(work, waveforms, pipeline):
    expected = [pipeline(each, chunk_length_s=CHUNK_S, stride_length_s=STRIDE_S) for each in waveforms]
    assert len(expected[2]) > 200, "a poor test: the long recording has almost no text"
    assert infer(work, "wav2vec2-base-960h", "unpadded", "res_unpadded") == expected
    assert (work / "baseline/t.txt").read_text().split("\n")[:-1] == expected


def test_gears_of_a_masked_model_on_cpu_and_npu_read_alike(work, waveforms, pipeline):
    """35 s, the last gear, is the length of a chunk; its stride is the pipeline's own."""
    expected = [pipeline(each, chunk_length_s=35) for each in waveforms]
    assert expected[0] == pipeline(waveforms[0]), "a recording shorter than a chunk is not cut"
    both = "--input_dtypes=float32,float32"
    assert infer(work, "wav2vec2-base-960h-masked", "pre", "res_cpu", both) == expected
    infer_on_ascend(work, "wav2vec2-base-960h-masked", both)
    check_clean(work)
    run_ok("postprocess.py", "--bin_file_path=./res", "--res_save_path=./scores/t.txt", cwd=work)
    assert (work / "scores/t.txt").read_text() == (work / "res_cpu/t.txt").read_text()


def test_the_final_table_counts_recordings_and_not_chunks(work):
    infer(work, "wav2vec2-base-960h", "unpadded", "res_table")
    assert report.main([f"{work}/res_table", f"{work}/baseline", f"--output={work}/table"]) == 0
    summary = json.loads((work / "table/summary.json").read_text())
    assert summary["details"]["onnxruntime float32"]["latency by length"]["latency of"] == "a chunk"
    seconds = {"onnxruntime float32": "res_table", "PyTorch float32": "baseline"}
    for title, folder in seconds.items():
        figures, times = summary["figures"][title], parse_figures((work / folder / "infer_time.txt").read_text())
        assert (figures["utterances"], figures["chunks"]) == (3, 13)
        average = times["average pure infer time after workspace(ms)"] * 13 / 3
        assert figures["time per utterance (ms)"] == pytest.approx(average)
        assert figures["utterances/s per card"] == pytest.approx(1000 / average)
        described = summary["conditions"][title]["data set"]
        assert "1 cut into chunks of 12 s that overlap by 2 s on either side: their texts are approximate" in described


def test_the_audio_of_overlaps_counts_once(work, waveforms):
    infer(work, "wav2vec2-base-960h", "unpadded", "res_times")
    seconds = sum(map(len, waveforms)) / 16_000
    for folder in ("res_times", "baseline"):
        figures = parse_figures((work / folder / "infer_time.txt").read_text())
        assert figures["total audio(s)"] == pytest.approx(seconds)
        assert figures["total infer num"] == 2 + 11
    assert (read_run(work / "res_times").of_data.chunked, read_run(work / "baseline").of_data.chunked) == (1, 1)


def test_resume_infers_the_missing_chunks(work):
    infer(work, "wav2vec2-base-960h", "unpadded", "res_resumed")
    before = (work / "res_resumed/t.txt").read_text()
    (work / "res_resumed/2-3.0.bin").unlink()
    arguments = ["--model_path=./models/wav2vec2-base-960h.onnx", "--input_info_file_path=./unpadded/bin_file.info"]
    said = run_ok("pyacl_infer.py", *arguments, "--infer_res_save_path=./res_resumed", "--resume", cwd=work)
    assert "resumed: 12 of 13 results are kept" in said
    run_ok("postprocess.py", "--bin_file_path=./res_resumed", "--res_save_path=./res_resumed/t.txt", cwd=work)
    assert (work / "res_resumed/t.txt").read_text() == before


@pytest.mark.parametrize("lost", ["2-3.0.bin", "0.0.bin"])
def test_a_lost_chunk_is_noticed(work, lost):
    if not (work / "res_lost").exists():
        infer(work, "wav2vec2-base-960h", "unpadded", "res_lost")
    path = work / "res_lost" / lost
    content = path.read_bytes()
    path.unlink()
    done = run_script("postprocess.py", "--bin_file_path=./res_lost", "--res_save_path=./res_lost/t.txt", cwd=work)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert lost in done.stderr
    path.write_bytes(content)


BAD = {
    "0 damaged.wav": (b"RIFF nothing", "cannot be decoded|its length"),
    "1 short.wav": (np.zeros(399), "399 samples are too short"),
    "2 nan.wav": (np.full(9_000, np.nan), "expected samples between -1 and 1, found nan"),
    "4 cut.flac": (noise(30_000), "cannot be decoded|expected 30000 samples"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """Two recordings that can be used among others that cannot."""
    folder = tmp_path_factory.mktemp("bad")
    for name, (content, _) in BAD.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            soundfile.write(folder / name, content, 16_000, subtype="FLOAT" if name.endswith("wav") else None)
    cut = folder / "4 cut.flac"
    cut.write_bytes(cut.read_bytes()[:-9_000])
    for name in ("3 good.wav", "6 good.wav"):
        soundfile.write(folder / name, noise(20_000), 16_000)
    rows = [
        json.dumps({"file": name, "text": "A"}) for name in sorted([*BAD, "3 good.wav", "5 missing.wav", "6 good.wav"])
    ]
    (folder / "t.jsonl").write_text("\n".join(rows))
    return folder


@pytest.mark.parametrize("chunk_s", [0, 1])
@pytest.mark.parametrize(
    ("script", "output"),
    [("preprocess.py", "--pre_data_save_path=./out"), ("pth_online_infer.py", "--pred_res_save_path=./out/t.txt")],
)
def test_recordings_that_cannot_be_used_are_left_out_on_wish(bad, model_folder, tmp_path, script, output, chunk_s):
    data = ["--which_dataset=custom", f"--dataset_path={bad}/t.jsonl", f"--model_name_or_path={model_folder}"]
    data += [f"--chunk_s={chunk_s}", output]
    done = run_script(script, *data, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "1 of 7 audio files are missing, first 5 missing.wav" in done.stderr
    assert "--skip_unusable leaves such recordings out" in done.stderr
    run_ok(script, *data, "--skip_unusable", cwd=tmp_path)
    header, *rows = (tmp_path / "out/skipped.tsv").read_text().splitlines()
    assert header == "key\tutterance_id\treason"
    assert [row.split("\t")[1] for row in rows] == [*list(BAD)[:3], "4 cut.flac", "5 missing.wav"]
    for row, (_, reason) in zip(rows, BAD.values()):
        assert any(part in row for part in reason.split("|")), row
    run = read_run(tmp_path / "out")
    assert run.of_data.skipped == 5
    if script == "preprocess.py":
        lines = [line.split("\t") for line in (tmp_path / "out/utterances.tsv").read_text().splitlines()]
        assert [line[:3] for line in lines] == [["3", "3 good.wav", "20000"], ["6", "6 good.wav", "20000"]]
        written = {path.name for path in (tmp_path / "out").iterdir()}
        tensors = {f"{key}{part}.bin" for key in "36" for part in (("-0", "-1") if chunk_s else ("",))}
        assert {name for name in written if name.endswith(".bin")} == tensors
    else:
        assert (tmp_path / "out/t.txt").read_text().count("\n") == 2


def test_a_recording_that_cannot_be_used_ends_the_run_and_names_the_option(bad, model_folder, tmp_path):
    """A LibriSpeech tree, too: the message names utterance and option, and nothing is left."""
    (tmp_path / "rows").mkdir()
    shutil.copy(bad / "1 short.wav", tmp_path / "rows")
    data = ["--which_dataset=custom", "--dataset_path=./rows", f"--model_name_or_path={model_folder}"]
    done = run_script("preprocess.py", *data, "--pre_data_save_path=./out", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "1 short.wav: 399 samples are too short" in done.stderr
    assert "--skip_unusable leaves such utterances out" in done.stderr
    assert not (tmp_path / "out/bin_file.info").exists()
    done = run_script("preprocess.py", *data, "--pre_data_save_path=./out", "--skip_unusable", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "none of the 1 utterances can be used; first: 1 short.wav" in done.stderr


def test_the_baseline_leaves_out_what_the_suite_has_left_out(bad, model_folder, tmp_path):
    """A recording may be too long for the suite's gears alone."""
    data = ["--which_dataset=custom", f"--dataset_path={bad}/t.jsonl", f"--model_name_or_path={model_folder}"]
    skip = ["--skip_unusable", "--chunk_s=0"]
    run_ok("preprocess.py", *data, *skip, "--gears=10000,20000", "--pre_data_save_path=./pre", cwd=tmp_path)
    listed = (tmp_path / "pre/skipped.tsv").read_text() + "6\t6 good.wav\ttoo long\n"
    (tmp_path / "more.tsv").write_text(listed)
    options = [*data, *skip, "--pred_res_save_path=./out/t.txt"]
    run_ok("pth_online_infer.py", *options, "--skip_listed=./more.tsv", cwd=tmp_path)
    assert (tmp_path / "out/t.txt").read_text().count("\n") == 1
    assert (tmp_path / "out/skipped.tsv").read_text() == listed
    assert parse_figures((tmp_path / "out/infer_time.txt").read_text())["total infer num"] == 1
    run_ok("pth_online_infer.py", *options, cwd=tmp_path)
    assert (tmp_path / "out/skipped.tsv").read_text() != listed
    done = run_script("pth_online_infer.py", *options, "--workspace=2", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--workspace=2 leaves none of the 2 inferences to average" in done.stderr
    for content in ("", "key\tid\n", "key\tutterance_id\treason\n1\n"):
        (tmp_path / "more.tsv").write_text(content)
        done = run_script("pth_online_infer.py", *options, "--skip_listed=./more.tsv", cwd=tmp_path)
        assert "more.tsv: expected a skipped.tsv of preprocess.py" in done.stderr


@pytest.mark.parametrize(("name", "options"), [("skipped.tsv", ["--skip_unusable"]), ("words.ctm", ["--word_times"])])
def test_files_of_the_user_are_seen_before_the_inference(own, model_folder, tmp_path, name, options):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    data = ["--which_dataset=custom", f"--dataset_path={own}", f"--model_name_or_path={model_folder}"]
    done = run_script("pth_online_infer.py", *data, *options, "--pred_res_save_path=./out/t.txt", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert name in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")] == [name]
