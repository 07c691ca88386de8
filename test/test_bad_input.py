# SPDX-License-Identifier: Apache-2.0
"""Bad input ends in one clear line on stderr and status 2, and nothing of the user's is lost."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

from conftest import make_model, noise, run_script, write_utterance

PREPROCESS = ("preprocess.py", "--pre_data_save_path=./pre_data/clean", "--model_name_or_path=./model")
CLEAN = ("--which_dataset=clean", "--dataset_path=./LibriSpeech")
EXPORT = ("export_onnx.py", "--model_save_dir=./models")
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
BASELINE = ("pth_online_infer.py", "--pred_res_save_path=./pth_online_infer_res/clean/transcriptions.txt")

Change = Callable[[Path], object]


@pytest.fixture
def user(chain, model_folder, speech, tmp_path) -> Path:
    """A user's folder after a whole run, with the model and the data in it."""
    folder = shutil.copytree(chain, tmp_path / "user")
    shutil.copytree(model_folder, folder / "model")
    shutil.copytree(speech, folder / "LibriSpeech")
    return folder


def unchanged(_: Path) -> None:
    pass


def flac(root: Path) -> Path:
    return root / "LibriSpeech/test-clean/61/123/61-123-0000.flac"


def rewrite(name: str, old: str, new: str) -> Change:
    def change(root: Path) -> None:
        text = (root / name).read_text(encoding="utf-8")
        assert old in text
        (root / name).write_text(text.replace(old, new), encoding="utf-8")

    return change


def cut(name: str, keep: int) -> Change:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:keep])


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
    return lambda root: write_utterance(
        root / "LibriSpeech/test-clean", "61-123-0001", noise(num_samples), text, rate=rate
    )


def make_stereo(root: Path) -> None:
    soundfile.write(flac(root), np.zeros((5_000, 2)), 16_000, subtype="PCM_16")


def another_vocabulary(root: Path) -> None:
    shutil.rmtree(root / "model")
    make_model(root / "model", vocab_size=40)


def another_head(root: Path) -> None:
    """config.json and vocab.json agree on 40 symbols, the weights hold 32."""
    make_model(root / "other", vocab_size=40)
    for name in ("config.json", "vocab.json"):
        shutil.copy(root / "other" / name, root / "model")


def no_head(root: Path) -> None:
    from transformers import Wav2Vec2ForCTC

    Wav2Vec2ForCTC.from_pretrained(root / "model").wav2vec2.save_pretrained(root / "model")


def two_inputs(root: Path) -> None:
    from test_engines import write_model

    write_model(root / "models/wav2vec2-base-960h.onnx")


def two_of_each(root: Path) -> None:
    path = root / "pre_data/clean/bin_file.info"
    path.write_text("".join(f"{line}\n" * 2 for line in path.read_text().splitlines()))


CASES: dict[str, tuple[Change, tuple[str, ...], str]] = {
    # preprocess.py
    "unknown data set": (unchanged, (*PREPROCESS, "--which_dataset=dirty"), "--which_dataset: invalid choice: 'dirty'"),
    "no data set": (unchanged, PREPROCESS, "required: --which_dataset"),
    "missing data folder": (
        unchanged,
        (*PREPROCESS, "--which_dataset=clean", "--dataset_path=./none"),
        "none: expected a LibriSpeech folder",
    ),
    "data folder without the split": (
        unchanged,
        (*PREPROCESS, "--which_dataset=other", "--dataset_path=./LibriSpeech"),
        "expected a folder test-other",
    ),
    "empty data folder": (empty_folder("LibriSpeech/test-clean"), (*PREPROCESS, *CLEAN), "found no audio"),
    "no transcript": (add_utterance(5_000, text=None), (*PREPROCESS, *CLEAN), "lack a transcript, first 61-123-0001"),
    "corrupt FLAC": (lambda root: flac(root).write_bytes(b"fLaC" + bytes(999)), (*PREPROCESS, *CLEAN), "be decoded"),
    "truncated FLAC": (
        lambda root: flac(root).write_bytes(flac(root).read_bytes()[:-2_000]),
        (*PREPROCESS, *CLEAN, "--num_workers=2"),
        "61-123-0000.flac: cannot be decoded",
    ),
    "8 kHz": (add_utterance(5_000, rate=8_000), (*PREPROCESS, *CLEAN), "expected 16000 Hz mono, found 8000 Hz"),
    "stereo": (make_stereo, (*PREPROCESS, *CLEAN), "found 16000 Hz with 2 channels"),
    "longer than the last gear": (
        add_utterance(562_480),
        (*PREPROCESS, *CLEAN),
        "61-123-0001: 562480 samples are longer than the last gear, 560000",
    ),
    "shorter than a frame": (add_utterance(399), (*PREPROCESS, *CLEAN, "--gears=none"), "399 samples are too short"),
    "bad gears": (unchanged, (*PREPROCESS, *CLEAN, "--gears=1e4"), "--gears: gears: expected"),
    "gears beyond all audio": (unchanged, (*PREPROCESS, *CLEAN, "--gears=99999999999999"), "400 to 57600000"),
    "an extractor without a padding value": (
        rewrite("model/preprocessor_config.json", '"padding_value": 0.0', '"padding_value": null'),
        (*PREPROCESS, *CLEAN),
        "expected a number as padding_value of the feature extractor, found None",
    ),
    "bad limit": (unchanged, (*PREPROCESS, *CLEAN, "--limit=0"), "expected a whole number, 1 to 999999999, found '0'"),
    "missing model folder": (
        remove("model"),
        (*PREPROCESS, *CLEAN),
        "./model: expected a model folder or a hub id, found no such folder",
    ),
    "foreign files in the output": (create("pre_data/clean/notes.txt"), (*PREPROCESS, *CLEAN), "notes.txt"),
    "a foreign tensor in the output": (create("pre_data/clean/7.bin"), (*PREPROCESS, *CLEAN), "did not write (7.bin)"),
    "an output folder of another script": (
        unchanged,
        ("preprocess.py", "--pre_data_save_path=./om_infer_res_clean", "--model_name_or_path=./model", *CLEAN),
        "holds files of pyacl_infer.py",
    ),
    "an output folder without our mark": (
        remove("pre_data/clean/run.json"),
        (*PREPROCESS, *CLEAN),
        "did not write (0.bin)",
    ),
    "an output path that is a file": (
        unchanged,
        ("preprocess.py", "--pre_data_save_path=./model/config.json", "--model_name_or_path=./model", *CLEAN),
        "expected a folder, found a file",
    ),
    # export_onnx.py
    "export of a missing model": (unchanged, (*EXPORT, "--model_name_or_path=./none"), "found no such folder"),
    "export of an empty model folder": (
        empty_folder("model"),
        (*EXPORT, "--model_name_or_path=./model"),
        "cannot be loaded as Wav2Vec2ForCTC",
    ),
    "export with cut weights": (
        cut("model/model.safetensors", 5_000),
        (*EXPORT, "--model_name_or_path=./model"),
        "cannot be loaded as Wav2Vec2ForCTC",
    ),
    "export with a head of another size": (another_head, (*EXPORT, "--model_name_or_path=./model"), "lm_head"),
    "export without a head": (no_head, (*EXPORT, "--model_name_or_path=./model"), "lm_head"),
    "export of other convolutions": (
        lambda root: (
            shutil.rmtree(root / "model"),
            make_model(root / "model", conv_kernel=(10, 3, 3, 3, 3, 2, 3)),
        ),
        (*EXPORT, "--model_name_or_path=./model"),
        "expected the convolutions of wav2vec 2.0",
    ),
    "a mask with another blank than the tokenizer's": (
        rewrite("model/config.json", '"pad_token_id": 0', '"pad_token_id": 4'),
        (*EXPORT, "--model_name_or_path=./model", "--attention_mask"),
        "pad_token_id in config.json is 4, which is '|', but the tokenizer's pad_token is '<pad>'",
    ),
    "a mask without a blank": (
        rewrite("model/config.json", '"pad_token_id": 0', '"pad_token_id": null'),
        (*EXPORT, "--model_name_or_path=./model", "--attention_mask"),
        "pad_token_id in config.json is None, which is 'no symbol'",
    ),
    # pyacl_infer.py
    "code in the shape column": (
        rewrite("pre_data/clean/bin_file.info", "(1,40000)", "(__import__('os').remove('model'))"),
        INFER,
        "bin_file.info, line 1: expected a line like",
    ),
    "a key that climbs out": (rewrite("pre_data/clean/bin_file.info", "0 ./", "../0 ./"), INFER, "found '../0'"),
    "wrong byte size": (
        cut("pre_data/clean/2.bin", 39_996),
        INFER,
        "2.bin: 39996 bytes, expected 40000 = (1,10000) float32",
    ),
    "a shape beyond all numbers": (
        rewrite("pre_data/clean/bin_file.info", "(1,40000)", f"(1,{10**17},{10**17})"),
        INFER,
        "0.bin: 160000 bytes, expected 4",
    ),
    "a shape of too many digits": (
        rewrite("pre_data/clean/bin_file.info", "(1,40000)", f"(1,{'9' * 5000})"),
        INFER,
        "bin_file.info, line 1: expected a line like",
    ),
    "a shape whose size wraps to nothing": (
        lambda root: (
            rewrite("pre_data/clean/bin_file.info", "(1,40000)", "(4294967296,4294967296)")(root),
            (root / "pre_data/clean/0.bin").write_bytes(b""),
        ),
        INFER,
        "0.bin: 0 bytes, expected 73786976294838206464",
    ),
    "missing bin": (remove("pre_data/clean/3.bin"), INFER, "3.bin: no such file"),
    "missing manifest": (remove("pre_data/clean/bin_file.info"), INFER, "bin_file.info: no such file"),
    "empty manifest": (create("pre_data/clean/bin_file.info", ""), INFER, "expected at least one utterance"),
    "unknown dtype": (unchanged, (*INFER, "--input_dtypes=float31"), "--input_dtypes: expected dtypes from float16"),
    "too many dtypes": (unchanged, (*INFER, "--input_dtypes=float32,int8"), "has 1 inputs, but --input_dtypes names 2"),
    "a dtype of another size": (unchanged, (*INFER, "--input_dtypes=float64"), "expected 320000 = (1,40000) float64"),
    "a dtype that the model has not": (
        unchanged,
        (*INFER, "--input_dtypes=int32"),
        "the model's inputs are input float32",
    ),
    "too few model inputs": (two_inputs, INFER, "inputs are a float32, b float32"),
    "too many model inputs": (two_of_each, (*INFER, "--input_dtypes=float32,float32"), "inputs are input float32"),
    "other utterances beside the manifest": (
        rewrite("pre_data/clean/utterances.tsv", "4\t121-70-0001", "5\t121-70-0001"),
        INFER,
        "1 missing (4)",
    ),
    "a manifest inside the results": (
        unchanged,
        (INFER[0], INFER[1], INFER[3], "--input_info_file_path=./om_infer_res_clean/bin_file.info"),
        "holds the manifest, and results would replace it",
    ),
    "two files for one entry": (
        lambda root: (
            shutil.copytree(root / "pre_data", root / "old/pre_data"),
            cut("old/pre_data/clean/0.bin", 9)(root),
        ),
        (*INFER, "--input_info_file_path=./old/pre_data/clean/bin_file.info"),
        "another file of that name beside the manifest",
    ),
    "more threads than a number holds": (
        unchanged,
        (*INFER, "--num_threads=99999999999"),
        "1 to 999999999, found '99999999999'",
    ),
    "missing model": (remove("models/wav2vec2-base-960h.onnx"), INFER, "no such model file; run export_onnx.py"),
    "corrupt model": (cut("models/wav2vec2-base-960h.onnx", 9_999), INFER, "cannot be loaded"),
    "a model of another kind": (create("m.pt"), (*INFER, "--model_path=m.pt"), "ends in .onnx or .om"),
    "warm-up without end": (unchanged, (*INFER, "--workspace=5"), "--workspace=5 leaves none of the 5 inferences"),
    "a bad boolean": (unchanged, (*INFER, "--cpu_run=maybe"), "expected True or False, found 'maybe'"),
    "foreign files in the results": (
        create("om_infer_res_clean/thesis.txt"),
        INFER,
        "did not write (thesis.txt); choose another folder",
    ),
    "a foreign tensor in the results": (create("om_infer_res_clean/best.0.bin"), INFER, "did not write (best.0.bin)"),
    "foreign scores in the results": (
        lambda root: (
            [(root / "om_infer_res_clean" / name).unlink() for name in ("transcriptions.txt", "utterance_scores.tsv")],
            rewrite("om_infer_res_clean/run.json", '"transcriptions"', '"not recorded"')(root),
        ),
        INFER,
        "did not write (wer.txt)",
    ),
    "a length of too many digits": (
        rewrite("pre_data/clean/utterances.tsv", "\t33361\t", f"\t{'9' * 5000}\t"),
        INFER,
        "utterances.tsv, line 1: expected a new key",
    ),
    "results folder without our mark": (
        remove("om_infer_res_clean/run.json"),
        INFER,
        "holds files that pyacl_infer.py did not write",
    ),
    # postprocess.py
    "missing results folder": (remove("om_infer_res_clean"), POSTPROCESS, "no such folder; expected the results"),
    "results cut short": (cut("om_infer_res_clean/1.0.bin", 3_840), POSTPROCESS, "1.0.bin: 3840 bytes, expected 3968"),
    "results that are not finite": (
        lambda root: np.full((1, 31, 32), np.nan, np.float32).tofile(root / "om_infer_res_clean/1.0.bin"),
        POSTPROCESS,
        "utterance 1: expected finite logits, found NaN or infinity",
    ),
    "a journal line without outputs": (
        lambda root: (root / "om_infer_res_clean/results.tsv").write_text("0\t1.0\t1.0\t-\n"),
        POSTPROCESS,
        "results.tsv, line 1: not a line of a results journal",
    ),
    "results missing": (remove("om_infer_res_clean/1.0.bin"), POSTPROCESS, "1 missing (1)"),
    "results of an unfinished run": (
        rewrite("om_infer_res_clean/results.tsv", "\n4\t", "\n#4\t"),
        POSTPROCESS,
        "expected 5 keys, found 5: 1 missing (4)",
    ),
    "results left over": (create("om_infer_res_clean/77.0.bin"), POSTPROCESS, "1 extra (77)"),
    "fewer references than results": (unchanged, (*POSTPROCESS, "--limit=4"), "1 extra (4)"),
    "transcriptions that would replace the journal": (
        unchanged,
        (*POSTPROCESS[:2], "--res_save_path=./om_infer_res_clean/results.tsv", *POSTPROCESS[3:]),
        "results.tsv: this name",
    ),
    "transcriptions beside a foreign file": (
        create("mine/wer.txt"),
        (*POSTPROCESS[:2], "--res_save_path=./mine/transcriptions.txt", *POSTPROCESS[3:]),
        "mine/wer.txt: postprocess.py did not write",
    ),
    "transcriptions into the baseline's folder": (
        unchanged,
        (*POSTPROCESS[:2], "--res_save_path=./pth_online_infer_res/clean/transcriptions.txt", *POSTPROCESS[3:]),
        "holds files of pth_online_infer.py",
    ),
    "transcriptions where a folder is": (
        unchanged,
        (*POSTPROCESS[:2], "--res_save_path=./pre_data", *POSTPROCESS[3:]),
        "expected the name of a file to write, found a folder",
    ),
    "results of another tool, cut short": (
        lambda root: (
            [path.unlink() for path in (root / "om_infer_res_clean").iterdir() if path.suffix != ".bin"]
            and cut("om_infer_res_clean/0.0.bin", 2 * 128)(root)
        ),
        (*POSTPROCESS, "--dataset_path=./LibriSpeech"),
        "0.0.bin: 256 bytes, expected at least 104 frames",
    ),
    "a model with another vocabulary": (another_vocabulary, POSTPROCESS, "expected (1, frames, 40)"),
    "a folder of two models": (
        lambda root: shutil.copy(make_model(root / "b", vocab_size=40) / "vocab.json", root / "model"),
        POSTPROCESS,
        "vocab.json holds 40 symbols, but vocab_size in config.json is 32",
    ),
    "results of another data set": (
        unchanged,
        tuple(option.replace("=clean", "=other") for option in POSTPROCESS),
        "its results are of --which_dataset=clean",
    ),
    # pth_online_infer.py
    "baseline on a device that is not there": (
        unchanged,
        (*BASELINE, *CLEAN, "--model_name_or_path=./model", "--device=npu"),
        "--device=npu: PyTorch",
    ),
    "baseline beside times of another tool": (
        create("mine/infer_time.txt"),
        (BASELINE[0], "--pred_res_save_path=./mine/t.txt", *CLEAN, "--model_name_or_path=./model"),
        "mine/infer_time.txt: pth_online_infer.py did not write",
    ),
    "baseline of warm-up alone": (
        unchanged,
        (*BASELINE, *CLEAN, "--model_name_or_path=./model", "--workspace=5"),
        "--workspace=5 leaves none of the 5 inferences",
    ),
    "baseline into the suite's results": (
        unchanged,
        (BASELINE[0], "--pred_res_save_path=./om_infer_res_clean/t.txt", *CLEAN, "--model_name_or_path=./model"),
        "holds files of pyacl_infer.py",
    ),
    "baseline with a folder of two models": (
        rewrite("model/config.json", '"vocab_size": 32', '"vocab_size": 31'),
        (*BASELINE, *CLEAN, "--model_name_or_path=./model"),
        "vocab_size in config.json is 31",
    ),
}


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(user, name):
    change, (script, *options), message = CASES[name]
    change(user)
    before = snapshot(user)
    done = run_script(script, *options, cwd=user)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"{script}: error: ")
    assert message in done.stderr
    assert snapshot(user) == before


def test_an_export_that_differs_leaves_no_file(user, monkeypatch, capsys):
    """The proof is real: weights that change between export and comparison make it fail."""
    import export_onnx
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.pytorch import load_model

    model = load_model(str(user / "model"), attention="eager")
    export_onnx.fold_weight_norm(model)
    trace = export_onnx.trace

    def trace_and_change(module, input_names, path):
        trace(module, input_names, path)
        model.lm_head.bias.add_(1e-2)

    monkeypatch.setattr(export_onnx, "trace", trace_and_change)
    before = snapshot(user)
    with pytest.raises(SuiteError, match=r"differ by .* expected at most 1e-04"):
        export_onnx.export(model, user / "models/new.onnx")
    assert snapshot(user) == before


def test_two_exports_do_not_meet(user):
    from wav2vec2_eval import folders

    before = snapshot(user)
    with folders.locked(user / "models"):
        done = run_script(*EXPORT, "--model_name_or_path=./model", cwd=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "models: another run is writing into it" in done.stderr
    assert snapshot(user) == before


def test_a_graph_that_is_not_finite_fails(user, monkeypatch):
    import export_onnx
    from wav2vec2_eval.errors import SuiteError
    from wav2vec2_eval.pytorch import load_model

    model = load_model(str(user / "model"), attention="eager")
    export_onnx.fold_weight_norm(model)
    model.lm_head.bias.fill_(float("nan"))
    with pytest.raises(SuiteError, match="differ by nan"):
        export_onnx.export(model, user / "models/new.onnx")
    assert not list((user / "models").glob("*new*"))


def test_an_empty_reference_text_is_no_score(user):
    path = user / "om_infer_res_clean/utterances.tsv"
    lines = [line.rsplit("\t", 1)[0] + "\t\n" for line in path.read_text().splitlines()]
    path.write_text("".join(lines))
    done = run_script(*POSTPROCESS, cwd=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "expected reference words to score, found none in 5 utterances" in done.stderr


def test_disk_and_permission_errors_are_one_line_too(user):
    (user / "blocked").write_text("a file where a folder must be")
    done = run_script(*EXPORT[:1], "--model_save_dir=./blocked/x", "--model_name_or_path=./model", cwd=user)
    assert (done.returncode, done.stderr) == (2, "export_onnx.py: error: Not a directory: blocked/x\n")


@pytest.mark.parametrize("path", ["pre_data/clean/run.json", "om_infer_res_clean/run.json"])
def test_a_damaged_run_json_is_one_line(user, path):
    (user / path).write_text(json.dumps([1]))
    command = (*PREPROCESS, *CLEAN) if path.startswith("pre") else INFER
    done = run_script(*command, cwd=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "run.json: expected the JSON that this suite writes" in done.stderr


def test_an_external_onnx_error_is_cut_to_a_line(user):
    model = onnx.load(user / "models/wav2vec2-base-960h.onnx")
    model.graph.node[3].op_type = "NoSuchOperator"
    onnx.save(model, user / "models/wav2vec2-base-960h.onnx")
    done = run_script(*INFER, cwd=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert re.search(r"cannot be loaded \(\[ONNXRuntimeError\] .{181}\); export it", done.stderr)


def test_an_utterance_that_the_model_cannot_take(user):
    """Only the engine can tell: the manifest and the files agree. What was inferred before it stays."""
    (user / "pre_data/clean/1.bin").write_bytes(bytes(400))
    rewrite("pre_data/clean/bin_file.info", "1.bin (1,10000)", "1.bin (1,100)")(user)
    done = run_script(*INFER[:3], "--infer_res_save_path=./new", cwd=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "onnxruntime failed on inputs of shape (1, 100)" in done.stderr
    assert not (user / "new/infer_time.txt").exists()
    assert (user / "new/0.0.bin").read_bytes() == (user / "om_infer_res_clean/0.0.bin").read_bytes()
