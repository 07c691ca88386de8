# SPDX-License-Identifier: Apache-2.0
"""Proves the scripts, run in order as a user runs them, against transformers and jiwer on the same weights."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jiwer
import numpy as np
import onnx
import pytest
import soundfile

from wav2vec2_eval import __version__
from wav2vec2_eval.files.names import SCORE_NAMES
from wav2vec2_eval.machine.overlap import Spent
from wav2vec2_eval.speech.audio import frame_count
from wav2vec2_eval.speech.latency import parse_figures

from conftest import (
    BARE_ENVIRONMENT,
    ORDER,
    ROOT,
    SPEECH,
    at_startup,
    run_ok,
    run_script,
    write_two_input_model,
)

PADDED = [40_000, 10_000, 10_000, 10_000, 30_000]
MODEL = "--model_path=./models/wav2vec2-base-960h.onnx"
MANIFEST = "--input_info_file_path=./pre_data/clean/bin_file.info"
SPENT = set(Spent().figures())


@pytest.fixture(scope="module")
def expected(model_folder, speech):
    """(logits, transcript) of each utterance by transformers alone: padded as the suite pads, and unpadded."""
    import torch
    from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

    processor = Wav2Vec2Processor.from_pretrained(model_folder)
    model = Wav2Vec2ForCTC.from_pretrained(model_folder).eval()

    def infer(pad):
        for utterance_id, length in zip(ORDER, PADDED):
            speaker, chapter, _ = utterance_id.split("-")
            waveform, rate = soundfile.read(speech / f"test-clean/{speaker}/{chapter}/{utterance_id}.flac")
            inputs = processor(waveform, sampling_rate=rate, return_tensors="pt").input_values
            if pad:
                inputs = torch.nn.functional.pad(inputs, (0, length - len(waveform)))
            with torch.no_grad():
                logits = model(inputs).logits
            yield logits.numpy(), processor.batch_decode(logits.argmax(-1))[0]

    return {"padded": list(infer(True)), "unpadded": list(infer(False))}


def transcripts(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def relative_error(actual, expected):
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


def test_preprocess_files(chain):
    folder = chain / "pre_data/clean"
    assert (folder / "bin_file.info").read_text() == "".join(
        f"{key} ./pre_data/clean/{key}.bin (1,{length})\n" for key, length in enumerate(PADDED)
    )
    assert (folder / "padding_lens.txt").read_text() == "10000\n30000\n40000\n"
    assert (folder / "utterances.tsv").read_text() == "".join(
        f"{key}\t{utterance_id}\t{SPEECH[utterance_id][0]}\t{SPEECH[utterance_id][1]}\n"
        for key, utterance_id in enumerate(ORDER)
    )


def test_model_input_equals_transformers_to_the_bit(chain, speech, model_folder):
    from transformers import Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor.from_pretrained(model_folder)
    for key, utterance_id in enumerate(ORDER):
        speaker, chapter, _ = utterance_id.split("-")
        waveform, rate = soundfile.read(speech / f"test-clean/{speaker}/{chapter}/{utterance_id}.flac", dtype="float32")
        alone = extractor(waveform, sampling_rate=rate).input_values[0]
        written = np.fromfile(chain / f"pre_data/clean/{key}.bin", np.float32)
        assert written.tobytes() == np.pad(alone, (0, PADDED[key] - len(alone))).astype(np.float32).tobytes()


def test_logits_equal_transformers(chain, expected):
    for key, (logits, _) in enumerate(expected["padded"]):
        actual = np.fromfile(chain / f"om_infer_res_clean/{key}.0.bin", np.float32).reshape(1, -1, 32)
        assert actual.shape[1] == frame_count(PADDED[key])
        assert relative_error(actual, logits) < 1e-5


def test_transcripts_equal_transformers(chain, expected):
    padded = [text for _, text in expected["padded"]]
    assert len(set(padded)) > 3, "a poor test: the random model gives the same text for everything"
    assert transcripts(chain / "om_infer_res_clean/transcriptions.txt") == padded
    assert transcripts(chain / "pth_online_infer_res/clean/transcriptions.txt") == padded


@pytest.mark.parametrize("folder", ["om_infer_res_clean", "pth_online_infer_res/clean"])
def test_wer_equals_jiwer(chain, expected, folder):
    output = jiwer.process_words([SPEECH[key][1] for key in ORDER], [text for _, text in expected["padded"]])
    figures = parse_figures((chain / folder / "wer.txt").read_text())
    assert figures["WER"] == pytest.approx(output.wer, rel=1e-12)
    counts = [figures[name] for name in ("substitutions", "deletions", "insertions")]
    assert counts == [output.substitutions, output.deletions, output.insertions]
    assert (chain / folder / "wer.txt").read_text().startswith("WER: ")


@pytest.mark.parametrize("folder", ["om_infer_res_clean", "pth_online_infer_res/clean"])
def test_infer_time(chain, folder):
    text = (chain / folder / "infer_time.txt").read_text()
    assert [line.split(":")[0] for line in text.splitlines()][:5] == [
        "total infer num",
        "total pure infer time(ms)",
        "average pure infer time(ms)",
        "average pure infer time after workspace(ms)",
        "average infer time(ms)",
    ]
    figures = parse_figures(text)
    assert figures["total infer num"] == len(ORDER)
    low, middle, high, highest = (figures[f"{name} pure infer time(ms)"] for name in ("min", "p50", "p99", "max"))
    assert 0 < low <= middle <= high <= highest
    assert figures["average infer time(ms)"] >= figures["average pure infer time(ms)"]
    assert figures["total audio(s)"] == pytest.approx(sum(length for length, _ in SPEECH.values()) / 16_000)
    assert SPENT & figures.keys() == (SPENT if folder == "om_infer_res_clean" else set())


def test_without_padding(chain, expected, speech, model_folder, tmp_path):
    data = ("--which_dataset=clean", f"--dataset_path={speech}", f"--model_name_or_path={model_folder}")
    run_ok("preprocess.py", "--pre_data_save_path=pre/", "--gears=none", "--num_workers=1", *data, cwd=tmp_path)
    run_ok(
        "pyacl_infer.py",
        f"--model_path={chain / 'models/wav2vec2-base-960h.onnx'}",
        "--input_info_file_path=pre/bin_file.info",
        "--infer_res_save_path=res",
        cwd=tmp_path,
    )
    run_ok("postprocess.py", "--bin_file_path=res", "--res_save_path=out/t.txt", *data, cwd=tmp_path)
    run_ok("pth_online_infer.py", "--pred_res_save_path=pth/t.txt", *data, cwd=tmp_path)
    unpadded = [text for _, text in expected["unpadded"]]
    assert transcripts(tmp_path / "out/t.txt") == transcripts(tmp_path / "pth/t.txt") == unpadded
    assert transcripts(chain / "om_infer_res_clean/transcriptions.txt") != unpadded, "padding changed nothing"


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(chain, speech, model_folder, tmp_path, workers):
    run_ok(
        "preprocess.py",
        "--pre_data_save_path=./pre_data/clean",
        "--which_dataset=clean",
        f"--dataset_path={speech}",
        f"--model_name_or_path={model_folder}",
        f"--num_workers={workers}",
        cwd=tmp_path,
    )
    for path in (chain / "pre_data/clean").iterdir():
        assert (tmp_path / "pre_data/clean" / path.name).read_bytes() == path.read_bytes(), path.name


def infer(cwd, *options, results="./res"):
    return run_script("pyacl_infer.py", MODEL, MANIFEST, f"--infer_res_save_path={results}", *options, cwd=cwd)


@pytest.fixture
def copy(chain, tmp_path):
    """A copy of the chain's folder, to be changed. Its absolute path differs, as on another host."""
    return shutil.copytree(chain, tmp_path / "another host")


def test_npy_results_equal_bin(copy):
    assert infer(copy, "--res_save_type=npy", "--sync_infer=False").returncode == 0
    for key in range(len(ORDER)):
        array = np.load(copy / f"res/{key}.0.npy")
        assert array.tobytes() == (copy / f"om_infer_res_clean/{key}.0.bin").read_bytes()


def test_both_types_give_the_same_transcripts(copy, model_folder):
    infer(copy, "--res_save_type=npy")
    run_ok(
        "postprocess.py",
        "--bin_file_path=res",
        "--res_save_path=res/transcriptions.txt",
        "--which_dataset=clean",
        f"--model_name_or_path={model_folder}",
        cwd=copy,
    )
    assert transcripts(copy / "res/transcriptions.txt") == transcripts(copy / "om_infer_res_clean/transcriptions.txt")


def test_results_are_replaced_and_stale_scores_go(copy):
    before = {path.name: path.read_bytes() for path in (copy / "om_infer_res_clean").iterdir()}
    assert "wer.txt" in before
    assert infer(copy, results="./om_infer_res_clean").returncode == 0
    after = {path.name: path.read_bytes() for path in (copy / "om_infer_res_clean").iterdir()}
    assert set(before) - set(after) == {"transcriptions.txt", *SCORE_NAMES}
    assert all(after[name] == before[name] for name in after if name.endswith(".bin"))


def test_resume_infers_only_what_is_missing(copy):
    folder = copy / "om_infer_res_clean"
    before = {path.name: path.read_bytes() for path in folder.glob("*.bin")}
    (folder / "infer_time.txt").unlink()
    (folder / "1.0.bin").write_bytes(before["1.0.bin"][:-4])  # cut short
    (folder / "3.0.bin").unlink()
    (folder / "0.0.bin").write_bytes(bytes(len(before["0.0.bin"])))  # of the right size
    done = infer(copy, "--resume", results="./om_infer_res_clean")
    assert "resumed: 2 of 5 results are kept" in done.stdout
    after = {path.name: path.read_bytes() for path in folder.glob("*.bin")}
    assert after == before
    figures = parse_figures((folder / "infer_time.txt").read_text())
    assert figures["total infer num"] == 5
    assert not SPENT & figures.keys(), "a part was measured by the other run"


def test_the_conditions_of_a_resumed_run_are_its_last(copy):
    assert infer(copy).returncode == 0
    (copy / "models").rename(copy / "moved")
    assert infer(copy, "--resume", "--workspace=3", "--model_path=moved/wav2vec2-base-960h.onnx").returncode == 0
    run = json.loads((copy / "res/run.json").read_text())
    assert (run["warm_up"], run["resumed"], run["model"]) == (3, True, "moved/wav2vec2-base-960h.onnx")
    assert infer(copy, "--model_path=moved/wav2vec2-base-960h.onnx").returncode == 0
    assert "resumed" not in json.loads((copy / "res/run.json").read_text())


@pytest.mark.parametrize(
    ("options", "difference"),
    [(["--num_threads=1"], "num_threads = "), (["--res_save_type=npy"], "res_save_type = bin, expected npy")],
)
def test_resume_refuses_other_conditions(copy, options, difference):
    infer(copy, "--num_threads=2")
    done = infer(copy, "--resume", "--num_threads=2", *options)
    assert done.returncode == 2
    assert difference in done.stderr


def test_resume_refuses_another_model(copy):
    infer(copy)
    path = copy / "models/wav2vec2-base-960h.onnx"
    model = onnx.load(path)
    model.doc_string = "another"
    onnx.save(model, path)
    done = infer(copy, "--resume")
    assert done.returncode == 2
    assert "its results were made with another model; run without --resume" in done.stderr


def test_a_part_of_the_manifest_will_do(copy, model_folder):
    """A manifest of any name, with a part of utterances.tsv's utterances: its results can be replaced and scored."""
    part = copy / "pre_data/clean/part.info"
    part.write_text("".join((copy / "pre_data/clean/bin_file.info").read_text().splitlines(keepends=True)[1:3]))
    for _ in range(2):
        done = infer(copy, "--input_info_file_path=./pre_data/clean/part.info")
        assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (copy / "res").glob("*.bin")) == ["1.0.bin", "2.0.bin"]
    for _ in range(2):
        run_ok(
            "postprocess.py",
            "--bin_file_path=res",
            "--res_save_path=res/hypotheses.txt",
            "--which_dataset=clean",
            f"--model_name_or_path={model_folder}",
            cwd=copy,
        )
    assert transcripts(copy / "res/hypotheses.txt") == transcripts(copy / "om_infer_res_clean/transcriptions.txt")[1:3]
    assert infer(copy).returncode == 0
    assert not (copy / "res/hypotheses.txt").exists()


def test_preprocessed_again_with_other_content_is_not_resumed(copy, model_folder, speech):
    infer(copy)
    shutil.copytree(speech, copy / "speech")
    path = copy / "speech/test-clean/61/123/61-123-0000.flac"
    waveform, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, waveform[::-1], rate, subtype="PCM_16")
    options = ("--which_dataset=clean", "--dataset_path=./speech", f"--model_name_or_path={model_folder}")
    run_ok("preprocess.py", "--pre_data_save_path=./pre_data/clean", *options, cwd=copy)
    done = infer(copy, "--resume")
    assert done.returncode == 2
    assert "its results were made with other utterances; run without --resume" in done.stderr


def test_workspace_leaves_out_the_first(copy):
    assert infer(copy, "--workspace=4").returncode == 0
    figures = parse_figures((copy / "res/infer_time.txt").read_text())
    last_ms = float((copy / "res/results.tsv").read_text().splitlines()[5].split("\t")[1])
    assert figures["average pure infer time after workspace(ms)"] == pytest.approx(last_ms)
    assert figures["total infer num"] == 5


@pytest.mark.parametrize(
    ("options", "left_out"),
    [((), 1), (("--workspace=3",), 3), (("--workspace=0", "--limit=1"), 0), (("--limit=1",), 0)],
)
def test_the_baseline_leaves_out_its_warm_up(chain, speech, model_folder, tmp_path, options, left_out):
    data = ("--which_dataset=clean", f"--dataset_path={speech}", f"--model_name_or_path={model_folder}")
    run_ok("pth_online_infer.py", "--pred_res_save_path=pth/t.txt", *data, *options, cwd=tmp_path)
    assert json.loads((tmp_path / "pth/run.json").read_text())["warm_up"] == left_out
    figures = parse_figures((tmp_path / "pth/infer_time.txt").read_text())
    number, total_ms = figures["total infer num"], figures["total pure infer time(ms)"]
    timed_ms = figures["average pure infer time after workspace(ms)"] * (number - left_out)
    assert timed_ms == pytest.approx(total_ms) if left_out == 0 else timed_ms < total_ms


def test_two_model_inputs(tmp_path):
    write_two_input_model(tmp_path / "model.onnx")
    lines = []
    for key, length in (("x", 3), ("y", 2)):
        np.arange(length, dtype=np.float32).tofile(tmp_path / f"{key}.bin")
        np.ones(length, np.float32).tofile(tmp_path / f"{key}.mask.bin")
        lines += [f"{key} ./{key}.bin (1,{length})", f"{key} ./{key}.mask.bin (1,{length})"]
    (tmp_path / "bin_file.info").write_text("\n".join(lines))
    run_ok(
        "pyacl_infer.py",
        "--model_path=model.onnx",
        "--input_info_file_path=bin_file.info",
        "--input_dtypes=float32,float32",
        "--infer_res_save_path=res",
        "--res_save_type=npy",
        cwd=tmp_path,
    )
    assert np.load(tmp_path / "res/x.0.npy").tolist() == [[1, 2, 3]]
    assert np.load(tmp_path / "res/y.1.npy").tolist() == [[-1, 0]]
    assert "RTFx" not in (tmp_path / "res/infer_time.txt").read_text()


def test_results_of_another_tool_are_scored_too(copy, model_folder, speech):
    """The folder holds <k>.0.bin alone. The references come from the data set, in its order."""
    folder = copy / "other tool"
    folder.mkdir()
    for key in range(len(ORDER)):
        shutil.copy(copy / f"om_infer_res_clean/{key}.0.bin", folder)
    run_ok(
        "postprocess.py",
        "--bin_file_path=other tool",
        "--res_save_path=other tool/transcriptions.txt",
        "--which_dataset=clean",
        f"--dataset_path={speech}",
        f"--model_name_or_path={model_folder}",
        cwd=copy,
    )
    assert (folder / "wer.txt").read_text() == (copy / "om_infer_res_clean/wer.txt").read_text()


def test_the_whole_evaluation_in_one_command(model_folder, speech, tmp_path):
    environment = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

    def evaluate(*options):
        command = [
            "bash",
            str(ROOT / "test/eval_acc_perf.sh"),
            "--which_dataset=clean",
            "--dataset_path",
            str(speech),
            f"--model_name_or_path={model_folder}",
            *options,
        ]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)

    done = evaluate("--limit=3", "--max_wer=99")
    assert (done.returncode, done.stderr) == (0, "")
    assert "runs on this host's CPU" in done.stdout
    suite, baseline = (tmp_path / f"eval_res/clean/{name}/wer.txt" for name in ("f32", "pytorch"))
    assert suite.read_text() == baseline.read_text()
    assert parse_figures(suite.read_text())["scored utterances"] == 3
    assert (tmp_path / "eval_res/clean/summary.md").read_text() in done.stdout

    done = evaluate("--limit=1", "--skip_baseline", "--max_wer=0.0")
    assert done.returncode == 1
    assert "is above --max_wer=0.0" in done.stderr


NOT_ON_AN_ASCEND_HOST = (
    *("torch", "transformers", "datasets", "soundfile", "jiwer", "onnx", "huggingface_hub", "safetensors"),
)


def test_what_an_ascend_host_needs(chain, tmp_path):
    """pyacl_infer.py runs without torch, transformers and many others, and its modules are Python 3.9."""
    modules = tmp_path / "modules"
    blocked = ",".join(NOT_ON_AN_ASCEND_HOST)
    done = run_script(
        "pyacl_infer.py",
        MODEL,
        MANIFEST,
        f"--infer_res_save_path={tmp_path / 'res'}",
        cwd=chain,
        environment=at_startup(tmp_path, "without_packages.py", BLOCKED=blocked, MODULES=str(modules)),
    )
    assert (done.returncode, done.stderr) == (0, "")
    files = [Path(line) for line in modules.read_text().splitlines()]
    own = [path for path in files if path.is_relative_to(ROOT) and ".venv" not in path.parts]
    assert ROOT / "wav2vec2_eval/engines/onnxruntime_cpu.py" in own
    for path in own:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_output_that_nobody_reads_to_the_end(chain, model_folder, tmp_path):
    """Into a reader that closes the pipe, as `head` does, and into a terminal that knows only ASCII."""
    command = f'"{sys.executable}" "{ROOT}/preprocess.py" --help'
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"],
        env=BARE_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout in ("0\n", "141\n")  # 141 is SIGPIPE's: `true` may end before the help is written, or after
    environment = {**BARE_ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("option", ["--help", "--version"])
@pytest.mark.parametrize("name", sorted(path.name for path in ROOT.glob("*.py")))
def test_help_is_the_docstring_and_imports_nothing_heavy(name, option, tmp_path):
    done = run_script(name, option, cwd=tmp_path, environment={"PYTHONPROFILEIMPORTTIME": "1"})
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text(encoding="utf-8")))
    assert done.returncode == 0
    if option == "--version":
        assert done.stdout == f"{name} {__version__}\n"
    else:
        assert docstring in done.stdout
    imported = set(re.findall(r"\|\s+(\w+)\n", done.stderr))
    assert "argparse" in imported
    assert not imported & {"torch", "transformers", "datasets", "pyarrow", "onnxruntime", "onnx", "jiwer", "soundfile"}
