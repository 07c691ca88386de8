# SPDX-License-Identifier: Apache-2.0
"""Proves that bad input ends in one clear line on stderr and status 2, and that no file of the user's is lost."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import soundfile

from conftest import make_model, noise, run_script, write_two_input_model, write_utterance

Change = Callable[[Path], object]


class Case(NamedTuple):
    """One mistake: what is changed in the user's folder, the command that must fail, and a part of its message."""

    name: str
    change: Change
    command: tuple[str, ...]
    message: str


# Commands that succeed in the user's folder. An option that is given again replaces the earlier value.
PREPROCESS = ("preprocess.py", "--pre_data_save_path=./pre_data/clean", "--model_name_or_path=./model")
CLEAN = ("--which_dataset=clean", "--dataset_path=./LibriSpeech")
EXPORT = ("export_onnx.py", "--model_save_dir=./models", "--model_name_or_path=./model")
INFER = (
    "pyacl_infer.py",
    "--model_path=./models/wav2vec2-base-960h.onnx",
    "--input_info_file_path=./pre_data/clean/bin_file.info",
    "--infer_res_save_path=./om_infer_res_clean",
)
POSTPROCESS = (
    "postprocess.py",
    "--bin_file_path=./om_infer_res_clean",
    "--res_save_path=./om_infer_res_clean/transcriptions.txt",
    "--which_dataset=clean",
    "--model_name_or_path=./model",
)
SCORE_ELSEWHERE = (*POSTPROCESS, "--res_save_path=./scores/transcriptions.txt")
BASELINE = (
    "pth_online_infer.py",
    "--pred_res_save_path=./pth_online_infer_res/clean/transcriptions.txt",
    "--model_name_or_path=./model",
)

# Files in the user's folder.
FLAC = "LibriSpeech/test-clean/61/123/61-123-0000.flac"
MANIFEST = "pre_data/clean/bin_file.info"
MODEL = "models/wav2vec2-base-960h.onnx"
DATA, RESULTS = "pre_data/clean", "om_infer_res_clean"


@pytest.fixture
def user(chain, model_folder, speech, tmp_path) -> Path:
    """A user's folder after a whole run, with the model and the data in it."""
    folder = shutil.copytree(chain, tmp_path / "user")
    shutil.copytree(model_folder, folder / "model")
    shutil.copytree(speech, folder / "LibriSpeech")
    return folder


# Changes to the user's folder


def unchanged(_root: Path) -> None:
    pass


def together(*changes: Change) -> Change:
    return lambda root: [change(root) for change in changes]


def rewrite(name: str, old: str, new: str) -> Change:
    def change(root: Path) -> None:
        text = (root / name).read_text(encoding="utf-8")
        assert old in text
        (root / name).write_text(text.replace(old, new), encoding="utf-8")

    return change


def old(folder: str, *changes: Change) -> Change:
    """Changes to a folder of an older version, which has no list by which its files are verified."""
    return together(remove(f"{folder}/files.tsv"), rewrite(f"{folder}/run.json", '"format": 2,', ""), *changes)


def cut(name: str, end: int) -> Change:
    """Keep the bytes before `end`."""
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:end])


def remove(name: str) -> Change:
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def create(name: str, content: str = "mine") -> Change:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")

    return change


def empty_folder(name: str) -> Change:
    def change(root: Path) -> None:
        shutil.rmtree(root / name)
        (root / name).mkdir()

    return change


def add_utterance(num_samples: int, rate: int = 16_000, text: str | None = "TEXT") -> Change:
    tree = "LibriSpeech/test-clean"
    return lambda root: write_utterance(root / tree, "61-123-0001", noise(num_samples), text, rate=rate)


def corrupt_flac(root: Path) -> None:
    (root / FLAC).write_bytes(b"fLaC" + bytes(999))


def make_stereo(root: Path) -> None:
    soundfile.write(root / FLAC, np.zeros((5_000, 2)), 16_000, subtype="PCM_16")


def another_vocabulary(root: Path) -> None:
    shutil.rmtree(root / "model")
    make_model(root / "model", vocab_size=40)


def another_head(root: Path) -> None:
    """config.json and vocab.json agree on 40 symbols, but the weights hold 32."""
    make_model(root / "other", vocab_size=40)
    for name in ("config.json", "vocab.json"):
        shutil.copy(root / "other" / name, root / "model")


def folder_of_two_models(root: Path) -> None:
    """vocab.json holds 40 symbols, but config.json and the weights hold 32."""
    shutil.copy(make_model(root / "other", vocab_size=40) / "vocab.json", root / "model")


def other_convolutions(root: Path) -> None:
    shutil.rmtree(root / "model")
    make_model(root / "model", conv_kernel=(10, 3, 3, 3, 3, 2, 3))


def no_head(root: Path) -> None:
    from transformers import Wav2Vec2ForCTC

    Wav2Vec2ForCTC.from_pretrained(root / "model").wav2vec2.save_pretrained(root / "model")


def two_inputs(root: Path) -> None:
    write_two_input_model(root / MODEL)


def two_of_each(root: Path) -> None:
    """Every line of the manifest stands there twice."""
    lines = (root / MANIFEST).read_text().splitlines()
    (root / MANIFEST).write_text("".join(f"{line}\n" * 2 for line in lines))


def two_manifests(root: Path) -> None:
    """A copy of the data folder with a damaged tensor, beside the first one."""
    shutil.copytree(root / "pre_data", root / "old/pre_data")
    cut("old/pre_data/clean/0.bin", 9)(root)


def foreign_scores(root: Path) -> None:
    """wer.txt without the record of postprocess.py."""
    rewrite("om_infer_res_clean/files.tsv", "wer.txt\t", "other.txt\t")(root)


def not_finite(root: Path) -> None:
    np.full((1, 31, 32), np.nan, np.float32).tofile(root / "om_infer_res_clean/1.0.bin")


def results_of_another_tool_cut_short(root: Path) -> None:
    """Only <k>.0.bin files; the first has two frames."""
    for path in (root / "om_infer_res_clean").iterdir():
        if path.suffix != ".bin":
            path.unlink()
    cut("om_infer_res_clean/0.0.bin", 2 * 32 * 4)(root)


# The cases, by script

PREPROCESS_CASES = [
    Case(
        "unknown data set",
        unchanged,
        (*PREPROCESS, "--which_dataset=dirty"),
        "--which_dataset=dirty: from the hub only validation, clean, other are read; for another split give a local",
    ),
    Case(
        "a name that climbs out of its folder",
        unchanged,
        (*PREPROCESS, "--which_dataset=..", "--dataset_path=./LibriSpeech"),
        "--which_dataset: expected validation, clean, other, custom, or a split's folder such as dev-other",
    ),
    Case(
        "a misspelt split",
        unchanged,
        (*PREPROCESS, "--which_dataset=dev-othr", "--dataset_path=./LibriSpeech"),
        "LibriSpeech: expected a split's folder dev-othr, found test-clean; see --which_dataset",
    ),
    Case("no data set", unchanged, PREPROCESS, "required: --which_dataset"),
    Case(
        "missing data folder",
        unchanged,
        (*PREPROCESS, "--which_dataset=clean", "--dataset_path=./none"),
        "none: expected a LibriSpeech folder",
    ),
    Case(
        "data folder without the split",
        unchanged,
        (*PREPROCESS, "--which_dataset=other", "--dataset_path=./LibriSpeech"),
        "expected a folder test-other",
    ),
    Case("empty data folder", empty_folder("LibriSpeech/test-clean"), (*PREPROCESS, *CLEAN), "found no audio"),
    Case(
        "no transcript",
        add_utterance(5_000, text=None),
        (*PREPROCESS, *CLEAN),
        "lack a transcript, first 61-123-0001",
    ),
    Case("corrupt FLAC", corrupt_flac, (*PREPROCESS, *CLEAN), "be decoded"),
    Case(
        "truncated FLAC",
        cut(FLAC, -2_000),
        (*PREPROCESS, *CLEAN, "--num_workers=2"),
        "61-123-0000.flac: cannot be decoded",
    ),
    Case("8 kHz", add_utterance(5_000, rate=8_000), (*PREPROCESS, *CLEAN), "expected 16000 Hz mono, found 8000 Hz"),
    Case("stereo", make_stereo, (*PREPROCESS, *CLEAN), "found 16000 Hz with 2 channels"),
    Case(
        "longer than the last gear",
        add_utterance(562_480),
        (*PREPROCESS, *CLEAN),
        "61-123-0001: 562480 samples are longer than the last gear, 560000",
    ),
    Case(
        "shorter than a frame",
        add_utterance(399),
        (*PREPROCESS, *CLEAN, "--gears=none"),
        "399 samples are too short",
    ),
    Case("bad gears", unchanged, (*PREPROCESS, *CLEAN, "--gears=1e4"), "--gears: expected"),
    Case(
        "data for ais_bench without gears",
        unchanged,
        (*PREPROCESS, *CLEAN, "--layout=ais_bench", "--gears=none"),
        "--layout=ais_bench: ais_bench runs an .om, which takes no other lengths than its gears; give --gears",
    ),
    Case(
        "data for ais_bench below a comma",
        unchanged,
        (*PREPROCESS, *CLEAN, "--layout=ais_bench", "--pre_data_save_path=./a,b"),
        "ais_bench separates paths by commas; expected a path without one, found './a,b'",
    ),
    Case(
        "a foreign folder with the name of a model input",
        create("pre_data/clean/input/0.npy"),
        (*PREPROCESS, *CLEAN, "--layout=ais_bench"),
        "did not write (input)",
    ),
    Case("gears beyond all audio", unchanged, (*PREPROCESS, *CLEAN, "--gears=99999999999999"), "400 to 57600000"),
    Case(
        "an extractor without a padding value",
        rewrite("model/preprocessor_config.json", '"padding_value": 0.0', '"padding_value": null'),
        (*PREPROCESS, *CLEAN),
        "expected a number as padding_value of the feature extractor, found None",
    ),
    Case(
        "bad limit",
        unchanged,
        (*PREPROCESS, *CLEAN, "--limit=0"),
        "expected a whole number, 1 to 999999999, found '0'",
    ),
    Case(
        "missing model folder",
        remove("model"),
        (*PREPROCESS, *CLEAN),
        "./model: expected a model folder or a hub id, found no such folder",
    ),
    Case("foreign files in the output", create("pre_data/clean/notes.txt"), (*PREPROCESS, *CLEAN), "notes.txt"),
    Case(
        "a foreign tensor in the output",
        create("pre_data/clean/7.bin"),
        (*PREPROCESS, *CLEAN),
        "did not write (7.bin)",
    ),
    Case(
        "an output folder of another script",
        unchanged,
        (*PREPROCESS, *CLEAN, "--pre_data_save_path=./om_infer_res_clean"),
        "holds files of pyacl_infer.py",
    ),
    Case(
        "an output folder without our mark",
        remove("pre_data/clean/run.json"),
        (*PREPROCESS, *CLEAN),
        "did not write (0.bin)",
    ),
    Case(
        "an output folder of an older version",
        old("pre_data/clean"),
        (*PREPROCESS, *CLEAN),
        "written by an older version",
    ),
    Case(
        "an output path that is a file",
        unchanged,
        (*PREPROCESS, *CLEAN, "--pre_data_save_path=./model/config.json"),
        "expected a folder, found a file",
    ),
]

EXPORT_CASES = [
    Case("export of a missing model", unchanged, (*EXPORT, "--model_name_or_path=./none"), "found no such folder"),
    Case("export of an empty model folder", empty_folder("model"), EXPORT, "preprocessor_config.json: no such file"),
    Case(
        "export with cut weights",
        cut("model/model.safetensors", 5_000),
        (*EXPORT, "--model_name=new"),
        "cannot be loaded as Wav2Vec2ForCTC",
    ),
    Case("export with a head of another size", another_head, (*EXPORT, "--model_name=new"), "lm_head"),
    Case("export without a head", no_head, (*EXPORT, "--model_name=new"), "lm_head"),
    Case("export of other convolutions", other_convolutions, EXPORT, "expected the convolutions of wav2vec 2.0"),
    Case(
        "export of a model with strided convolutions behind the encoder",
        rewrite("model/config.json", '"add_adapter": false', '"add_adapter": true'),
        EXPORT,
        "add_adapter in config.json is True: convolutions behind the encoder give other frames",
    ),
    Case(
        "export of a model of another type",
        rewrite("model/config.json", '"model_type": "wav2vec2"', '"model_type": "whisper"'),
        EXPORT,
        "expected a CTC model of model_type wav2vec2, hubert, wavlm, data2vec-audio, unispeech-sat, found whisper",
    ),
    Case("export over another model", unchanged, EXPORT, "would replace it; give --model_name=model to keep both"),
    Case("export under the name of a masked model", unchanged, (*EXPORT, "--model_name=a-masked"), "--model_name: exp"),
    Case("a language of a model for one", unchanged, (*EXPORT, "--target_lang=fra"), "has no vocabulary of 'fra'"),
]

INFER_CASES = [
    Case(
        "code in the shape column",
        old(DATA, rewrite(MANIFEST, "(1,40000)", "(__import__('os').remove('model'))")),
        INFER,
        "bin_file.info, line 1: expected a line like",
    ),
    Case("a key that climbs out", old(DATA, rewrite(MANIFEST, "0 ./", "../0 ./")), INFER, "found '../0'"),
    Case(
        "wrong byte size",
        cut("pre_data/clean/2.bin", 39_996),
        INFER,
        "2.bin: 39996 bytes, expected 40000 = (1,10000) float32",
    ),
    Case(
        "a shape beyond all numbers",
        old(DATA, rewrite(MANIFEST, "(1,40000)", f"(1,{10**11},{10**11})")),
        INFER,
        "input has shape (*,*), the manifest says (1,100000000000,100000000000)",
    ),
    Case(
        "a shape of too many digits",
        old(DATA, rewrite(MANIFEST, "(1,40000)", f"(1,{'9' * 5000})")),
        INFER,
        "bin_file.info, line 1: expected a line like",
    ),
    Case(
        "a shape whose size wraps to nothing",
        old(DATA, rewrite(MANIFEST, "(1,40000)", "(4294967296,4294967296)"), cut("pre_data/clean/0.bin", 0)),
        INFER,
        "0.bin: 0 bytes, expected 73786976294838206464",
    ),
    Case("missing bin", remove("pre_data/clean/3.bin"), INFER, "3.bin: no such file"),
    Case("missing manifest", remove(MANIFEST), INFER, "bin_file.info: no such file"),
    Case("empty manifest", old(DATA, create(MANIFEST, "")), INFER, "expected at least one utterance"),
    Case(
        "unknown dtype",
        unchanged,
        (*INFER, "--input_dtypes=float31"),
        "--input_dtypes: expected dtypes from float16",
    ),
    Case(
        "too many dtypes",
        unchanged,
        (*INFER, "--input_dtypes=float32,int8"),
        "expected --input_dtypes=float32 and as many inputs in the data",
    ),
    Case(
        "a dtype of another size",
        unchanged,
        (*INFER, "--input_dtypes=float64"),
        "0.bin: expected float64 as --input_dtypes says, found float32 of preprocess.py; give --input_dtypes=float32",
    ),
    Case(
        "a dtype that the model has not",
        unchanged,
        (*INFER, "--input_dtypes=int32"),
        "the model's inputs are input float32",
    ),
    Case("too few model inputs", two_inputs, INFER, "inputs are a float32, b float32"),
    Case(
        "too many model inputs",
        old(DATA, two_of_each),
        (*INFER, "--input_dtypes=float32,float32"),
        "inputs are input float32",
    ),
    Case("masked data for a plain model", old(DATA, two_of_each), INFER, "give --attention_mask to both"),
    Case(
        "other utterances beside the manifest",
        old(DATA, rewrite("pre_data/clean/utterances.tsv", "4\t121-70-0001", "5\t121-70-0001")),
        INFER,
        "1 utterances are missing (4)",
    ),
    Case(
        "a manifest inside the results",
        unchanged,
        (*INFER, "--input_info_file_path=./om_infer_res_clean/bin_file.info"),
        "holds the manifest, and results would replace it",
    ),
    Case(
        "results into the folder of the model's conversions",
        unchanged,
        (*INFER, "--infer_res_save_path=./models/wav2vec2-base-960h-openvino"),
        "is kept for what engines make of",
    ),
    Case(
        "two files for one entry",
        two_manifests,
        (*INFER, "--input_info_file_path=./old/pre_data/clean/bin_file.info"),
        "old/pre_data/clean/0.bin: 9 bytes, expected 160000",
    ),
    Case(
        "more threads than a number holds",
        unchanged,
        (*INFER, "--num_threads=99999999999"),
        "found '99999999999'",
    ),
    Case("missing model", remove(MODEL), INFER, "no such model file; run export_onnx.py"),
    Case("corrupt model", cut(MODEL, 9_999), INFER, "cannot be loaded"),
    Case("a model of another kind", create("m.pt"), (*INFER, "--model_path=m.pt"), "ends in .onnx, .om or .om2"),
    Case("warm-up without end", unchanged, (*INFER, "--workspace=5"), "--workspace=5 leaves none of the 5 inferences"),
    Case("a bad boolean", unchanged, (*INFER, "--cpu_run=maybe"), "expected True or False, found 'maybe'"),
    Case(
        "foreign files in the results",
        create("om_infer_res_clean/thesis.txt"),
        INFER,
        "did not write (thesis.txt); choose another folder",
    ),
    Case(
        "a foreign tensor in the results",
        create("om_infer_res_clean/best.0.bin"),
        INFER,
        "did not write (best.0.bin)",
    ),
    Case("foreign scores in the results", foreign_scores, INFER, "did not write (wer.txt)"),
    Case(
        "a length of too many digits",
        old(DATA, rewrite("pre_data/clean/utterances.tsv", "\t33361\t", f"\t{'9' * 5000}\t")),
        INFER,
        "utterances.tsv, line 1: expected a key",
    ),
    Case(
        "results folder without our mark",
        remove("om_infer_res_clean/run.json"),
        INFER,
        "holds files that pyacl_infer.py did not write",
    ),
]

POSTPROCESS_CASES = [
    Case("missing results folder", remove("om_infer_res_clean"), POSTPROCESS, "no such folder; expected the results"),
    Case(
        "results cut short",
        old(RESULTS, cut("om_infer_res_clean/1.0.bin", 3_840)),
        SCORE_ELSEWHERE,
        "1.0.bin: 3840 bytes, expected 3968",
    ),
    Case(
        "results that are not finite",
        old(RESULTS, not_finite),
        SCORE_ELSEWHERE,
        "utterance 1: expected finite logits, found NaN or infinity",
    ),
    Case(
        "a journal line without outputs",
        old(RESULTS, create("om_infer_res_clean/results.tsv", "0\t1.0\t1.0\t-\n")),
        SCORE_ELSEWHERE,
        "results.tsv, line 1: malformed",
    ),
    Case(
        "a manifest for results that carry one",
        unchanged,
        (*POSTPROCESS, "--input_info_file_path=./pre_data/clean"),
        "its results carry their manifest; leave --input_info_file_path out",
    ),
    Case(
        "results of two tools",
        together(create("two/1_0.bin"), create("two/0.0.bin")),
        (*POSTPROCESS[:1], "--bin_file_path=./two", "--res_save_path=./t/t.txt"),
        "holds results of ais_bench (1_0.bin) and of pyacl_infer.py (0.0.bin)",
    ),
    Case(
        "results of ais_bench alone",
        create("ais/run/1_0.bin"),
        (*POSTPROCESS[:1], "--bin_file_path=./ais", "--res_save_path=./ais/t.txt"),
        "results of ais_bench have no references; give --input_info_file_path",
    ),
    Case("results missing", remove("om_infer_res_clean/1.0.bin"), POSTPROCESS, "1.0.bin: no such file"),
    Case(
        "results of an unfinished run",
        old(RESULTS, rewrite("om_infer_res_clean/results.tsv", "\n4\t", "\n#4\t")),
        SCORE_ELSEWHERE,
        "expected 5 keys, found 5: 1 missing (4)",
    ),
    Case("results left over", old(RESULTS, create("om_infer_res_clean/77.0.bin")), SCORE_ELSEWHERE, "77.0.bin, too"),
    Case("fewer references than results", unchanged, (*POSTPROCESS, "--limit=4"), "1 extra (4)"),
    Case(
        "transcriptions that would replace the journal",
        unchanged,
        (*POSTPROCESS, "--res_save_path=./om_infer_res_clean/results.tsv"),
        "results.tsv: the suite uses this name for another file",
    ),
    Case(
        "transcriptions beside a foreign file",
        create("mine/wer.txt"),
        (*POSTPROCESS, "--res_save_path=./mine/transcriptions.txt"),
        "mine/wer.txt: no script wrote this file",
    ),
    Case(
        "transcriptions into the baseline's folder",
        unchanged,
        (*POSTPROCESS, "--res_save_path=./pth_online_infer_res/clean/transcriptions.txt"),
        "holds files of pth_online_infer.py",
    ),
    Case(
        "transcriptions where a folder is",
        unchanged,
        (*POSTPROCESS, "--res_save_path=./pre_data"),
        "expected the name of a file to write, found a folder",
    ),
    Case(
        "results of another tool, cut short",
        results_of_another_tool_cut_short,
        (*POSTPROCESS, "--dataset_path=./LibriSpeech"),
        "utterance 0: 2 frames, expected at least 104",
    ),
    Case("a model with another vocabulary", another_vocabulary, POSTPROCESS, "are not of one model"),
    Case(
        "a model with another vocabulary than old results",
        old(RESULTS, remove("om_infer_res_clean/model.json"), another_vocabulary),
        SCORE_ELSEWHERE,
        "expected (1, frames, 40)",
    ),
    Case(
        "a folder of two models",
        folder_of_two_models,
        POSTPROCESS,
        "vocab.json holds 40 symbols, but vocab_size in config.json is 32",
    ),
    Case(
        "results of another data set",
        unchanged,
        (*POSTPROCESS, "--which_dataset=other"),
        "its results are of --which_dataset=clean",
    ),
]

BASELINE_CASES = [
    Case(
        "baseline on a device that is not there",
        unchanged,
        (*BASELINE, *CLEAN, "--device=npu"),
        "--device=npu: PyTorch",
    ),
    Case(
        "baseline beside times of another tool",
        create("mine/infer_time.txt"),
        (*BASELINE, *CLEAN, "--pred_res_save_path=./mine/t.txt"),
        "mine/infer_time.txt: no script wrote this file",
    ),
    Case(
        "baseline of warm-up alone",
        unchanged,
        (*BASELINE, *CLEAN, "--workspace=5"),
        "--workspace=5 leaves none of the 5 inferences",
    ),
    Case(
        "baseline into the suite's results",
        unchanged,
        (*BASELINE, *CLEAN, "--pred_res_save_path=./om_infer_res_clean/t.txt"),
        "holds files of pyacl_infer.py",
    ),
    Case(
        "baseline with a folder of two models",
        rewrite("model/config.json", '"vocab_size": 32', '"vocab_size": 31'),
        (*BASELINE, *CLEAN),
        "vocab_size in config.json is 31",
    ),
]


CASES = [*PREPROCESS_CASES, *EXPORT_CASES, *INFER_CASES, *POSTPROCESS_CASES, *BASELINE_CASES]


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(user, case):
    case.change(user)
    before = snapshot(user)
    script, *options = case.command
    done = run_script(script, *options, cwd=user)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"{script}: error: ")
    assert case.message in done.stderr
    assert snapshot(user) == before


def test_an_empty_reference_text_is_no_score(user):
    old(RESULTS)(user)
    path = user / "om_infer_res_clean/utterances.tsv"
    lines = [line.rsplit("\t", 1)[0] + "\t\n" for line in path.read_text().splitlines()]
    path.write_text("".join(lines))
    done = run_script(*SCORE_ELSEWHERE, cwd=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "expected reference words to score, found none in all utterances" in done.stderr


def test_disk_and_permission_errors_are_one_line_too(user):
    (user / "blocked").write_text("a file where a folder must be")
    done = run_script(*EXPORT, "--model_save_dir=./blocked/x", cwd=user)
    assert (done.returncode, done.stderr) == (2, "export_onnx.py: error: Not a directory: blocked/x\n")


@pytest.mark.parametrize("path", ["pre_data/clean/run.json", "om_infer_res_clean/run.json"])
def test_a_damaged_run_json_is_one_line(user, path):
    (user / path).write_text(json.dumps([1]))
    command = (*PREPROCESS, *CLEAN) if path.startswith("pre") else INFER
    done = run_script(*command, cwd=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "run.json: expected the JSON that this suite writes" in done.stderr


def test_an_external_onnx_error_is_cut_to_a_line(user):
    model = onnx.load(user / MODEL)
    model.graph.node[3].op_type = "NoSuchOperator"
    onnx.save(model, user / MODEL)
    done = run_script(*INFER, cwd=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert re.search(r"cannot be loaded \(\[ONNXRuntimeError\] .{181}\); export it", done.stderr)


def test_an_utterance_that_the_model_cannot_take(user):
    """Only the engine can tell, because manifest and files agree. The results before the failure stay."""
    (user / "pre_data/clean/1.bin").write_bytes(bytes(400))
    old(DATA)(user)
    rewrite(MANIFEST, "1.bin (1,10000)", "1.bin (1,100)")(user)
    done = run_script(*INFER, "--infer_res_save_path=./new", cwd=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "onnxruntime failed on inputs of shape (1, 100)" in done.stderr
    assert not (user / "new/infer_time.txt").exists()
    assert (user / "new/0.0.bin").read_bytes() == (user / "om_infer_res_clean/0.0.bin").read_bytes()
