# SPDX-License-Identifier: Apache-2.0
"""eval_acc_perf.sh and evaluate.py: options, stages, NPU or CPU, and how a run ends.

Most tests set PYTHON to FAKE, which starts evaluate.py with the real Python, and records the scripts instead of running
them.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wav2vec2_eval import evaluate
from wav2vec2_eval.engines.precision import CPU_PRECISIONS
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.machine.cpu import lacks_bfloat16

from conftest import BARE_ENVIRONMENT, ROOT, wait_until

SCRIPT = ROOT / "test/eval_acc_perf.sh"
SET_ENV = ROOT / "test/emulator/set_env.sh"
NEEDS_BFLOAT16 = pytest.mark.skipif(lacks_bfloat16(), reason="this processor lacks bfloat16")

FAKE = f"""#!{sys.executable} -I
import json, os, pathlib, signal, sys, time
argv, here = sys.argv[1:], pathlib.Path(__file__).parent
if argv[:2] == ["-I", "-c"] or argv[-1] == "import acl":
    os.execv({sys.executable!r}, [{sys.executable!r}, *argv])
place = next(place for place, word in enumerate(argv) if not word.startswith("-"))
name, argv = pathlib.Path(argv[place]).name, argv[place + 1 :]
with open(here / "calls", "a") as calls:
    calls.write(json.dumps([name, *argv]) + "\\n")
if name == "has_packages.py":
    here.joinpath("requirements").write_text(pathlib.Path(argv[0]).name)
    sys.exit(os.environ.get("HAS_PACKAGES", "0") != "1")
if name == "venv":
    print("no room for an environment", file=sys.stderr)
    sys.exit(7)
options = dict(word.split("=", 1) for word in argv if word.startswith("--") and "=" in word)
if name == "preprocess.py":
    data = pathlib.Path(options["--pre_data_save_path"])
    data.mkdir(parents=True)
    data.joinpath("utterances.tsv").write_text("0\\n" * int(os.environ.get("UTTERANCES", "2")))
    data.joinpath("padding_lens.txt").write_text("10000\\n20000\\n")
    if "RUN" in os.environ:
        data.joinpath("run.json").write_text(os.environ["RUN"])
elif name == "export_onnx.py":
    pathlib.Path("models").mkdir(exist_ok=True)
    for model in ("wav2vec2-base-960h", "wav2vec2-base-960h-masked"):
        pathlib.Path(f"models/{{model}}.onnx").touch()
elif name == "cann_emulator.atc":
    time.sleep(0.02)
    pathlib.Path(options["--output"] + ".om").touch()
elif name == "postprocess.py":
    scores = pathlib.Path(options["--bin_file_path"], "utterance_scores.tsv")
    scores.parent.mkdir(parents=True)
    scores.write_text("".join(f"{{line}}\\t0\\t0\\t0\\t0\\t0\\t0\\tR{{line}}\\tH{{line}}\\n" for line in range(70)))
does = os.environ.get(name.replace(".", "_"), "")
if does == "wait":
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        here.joinpath("waits").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        does = "130"
if does == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if does:
    print(f"{{name}}: ended early", file=sys.stderr)
    sys.exit(int(does))
"""


class Host:
    """A folder for the user, and a fake Python."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.cwd = folder / "bin", folder / "a user"
        self.bin.mkdir()
        self.cwd.mkdir()
        self.python = self.bin / "python"
        self.python.write_text(FAKE)
        self.python.chmod(0o755)
        self.script = SCRIPT

    def start(self, *options: str, npu: bool = False, **environment: str) -> subprocess.Popen[str]:
        source = f'source "{SET_ENV}" && ' if npu else ""
        return subprocess.Popen(
            ["bash", "-c", f'{source}exec bash "$0" "$@"', str(self.script), *options],
            cwd=self.cwd,
            env={"PATH": "/usr/bin:/bin", "PYTHON": str(self.python), "HAS_PACKAGES": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str, npu: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*options, npu=npu, **environment)
        stdout, stderr = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def all_calls(self) -> list[tuple[str, list[str]]]:
        """The scripts that were run, in order, with their arguments."""
        path = self.bin / "calls"
        calls = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [(name, arguments) for name, *arguments in calls if name != "has_packages.py"]

    def calls(self) -> dict[str, list[str]]:
        """The same by name, where each script was run once."""
        calls = self.all_calls()
        assert len(dict(calls)) == len(calls)
        return dict(calls)

    def requirements(self) -> str:
        return (self.bin / "requirements").read_text()


@pytest.fixture
def host(tmp_path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["word"], "unrecognized arguments: word"),
        (["--lim=5"], "unrecognized arguments: --lim=5"),  # no abbreviations
        (["--limits=5"], "unrecognized arguments: --limits=5"),
        (["--demo=yes"], "--demo: ignored explicit argument 'yes'"),
        (["--limit"], "--limit: expected one argument"),
        (["--limit="], "--limit: expected a whole number, 1 to 999999999, found ''"),
        (["--limit", "0"], "--limit: expected a whole number, 1 to 999999999, found '0'"),
        (["--limit", "-5"], "--limit: expected a whole number, 1 to 999999999, found '-5'"),
        (["--device_id=x"], "--device_id: expected a whole number, 0 to 1023, found 'x'"),
        (["--which_dataset=dirty"], "--which_dataset=dirty: from the hub only validation, clean, other are read"),
        (
            ["--which_dataset=../x"],
            "--which_dataset: expected validation, clean, other, custom, or a split's folder such as",
        ),
        (["--engine", "tensorrt"], "--engine: invalid choice: 'tensorrt'"),
        (["--precision=f16"], "--precision: expected f32, bf16, int8, or several with commas; found 'f16'"),
        (["--precision=f32,INT8"], "--precision: expected f32, bf16, int8, or several with commas; found 'INT8'"),
        (["--precision=f32,"], "--precision: expected f32, bf16, int8, or several with commas; found ''"),
        (["--precision=int8,f32,float32"], "--precision: expected each precision once; found 'int8,f32,float32'"),
        (["--dataset_path="], "--dataset_path: expected a path of printable UTF-8 characters, found ''"),
        (["--gears=pre\udcd6"], "--gears: expected a path of printable UTF-8 characters, found 'pre\\udcd6'"),
        (["--max_wer=nan"], "--max_wer: expected a number like 0.04, found 'nan'"),
        (["--max_wer=4%"], "--max_wer: expected a number like 0.04, found '4%'"),
        (["--max_wer=.5"], "--max_wer: expected a number like 0.04, found '.5'"),
        (["--engine=onnxruntime", "--precision=bf16"], "--precision=bf16: onnxruntime computes in float32"),
        (["--engine=onnxruntime", "--precision=f32,bf16"], "--precision=bf16: onnxruntime computes in float32"),
        (["--calibration=bin_file.info"], "--calibration: only --precision=int8 is calibrated"),
        (["--precision=int8", "--calibration=none"], "--calibration=none: no such file"),
        (["--demo", "--dataset_path=here"], "--demo has a data set and a model of its own"),
        (["--demo", "--model_name_or_path=here"], "--demo has a data set and a model of its own"),
    ],
)
def test_bad_options(host, options, message):
    """One line and status 2, before anything is written, and before an environment is looked for or made."""
    done = host.run(*options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("eval_acc_perf.sh: error: ")
    assert message in done.stderr
    assert not any(host.cwd.iterdir())
    assert [path.name for path in host.bin.iterdir()] == ["python"]


def test_defaults_on_a_cpu(host):
    done = host.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *("", "[1] environment", f"Python: {host.python}"),
        "no NPU can be used here (CANN's atc was not found): the model runs on this host's CPU",
        *("", "[2] preprocess", "", "[3] export to ONNX", "", "[4] f32: infer", "", "[5] f32: decode and score"),
        *("", "[6] PyTorch baseline", "", "[7] result"),
    ]
    assert host.requirements() == "requirements.txt"
    assert host.calls() == {
        "preprocess.py": ["--pre_data_save_path=./pre_data/clean", "--gears=none", "--which_dataset=clean"],
        "export_onnx.py": ["--model_save_dir=./models", "--model_name=wav2vec2-base-960h"],
        "pyacl_infer.py": [
            "--model_path=./models/wav2vec2-base-960h.onnx",
            "--device_id=0",
            "--input_dtypes=float32",
            "--engine=auto",
            "--precision=f32",
            "--workspace=1",
            "--input_info_file_path=./pre_data/clean/bin_file.info",
            "--infer_res_save_path=./eval_res/clean/f32",
        ],
        "postprocess.py": [
            "--bin_file_path=./eval_res/clean/f32",
            "--res_save_path=./eval_res/clean/f32/transcriptions.txt",
            "--which_dataset=clean",
        ],
        "pth_online_infer.py": [
            "--workspace=1",
            "--pred_res_save_path=./eval_res/clean/pytorch/transcriptions.txt",
            "--which_dataset=clean",
        ],
        "wav2vec2_eval.report": [
            "./eval_res/clean/f32",
            "./eval_res/clean/pytorch",
            "--output=./eval_res/clean",
            "--reference=./eval_res/clean/pytorch",
        ],
    }


EVERY_OPTION = {
    "--which_dataset": "other",
    "--dataset_path": "./my data",
    "--model_name_or_path": "./my model",
    "--limit": "3",
    "--gears": ",".join(str(gear) for gear in range(10_000, 560_001, 10_000)),  # longer than a file's name may be
    "--engine": "openvino",
    "--precision": "int8",
    "--device_id": "2",
    "--max_wer": "0.10",
    "--soc_version": "",  # as if it was not given
    "--calibration": "",
}


def test_folders_have_the_name_of_the_split(host):
    assert host.run("--which_dataset=dev-clean-2", "--dataset_path=./tree").returncode == 0
    calls = host.calls()
    assert calls["preprocess.py"][0] == "--pre_data_save_path=./pre_data/dev-clean-2"
    assert calls["pyacl_infer.py"][-1] == "--infer_res_save_path=./eval_res/dev-clean-2/f32"
    assert "--which_dataset=dev-clean-2" in calls["postprocess.py"]
    assert calls["wav2vec2_eval.report"] == [
        "./eval_res/dev-clean-2/f32",
        "./eval_res/dev-clean-2/pytorch",
        "--output=./eval_res/dev-clean-2",
        "--reference=./eval_res/dev-clean-2/pytorch",
        "--audio=./tree",
    ]


@pytest.mark.parametrize("words", [1, 2])
def test_every_option_in_both_spellings(host, words):
    pairs = EVERY_OPTION.items()
    options = [f"{name}={value}" for name, value in pairs] if words == 1 else [word for pair in pairs for word in pair]
    done = host.run(*options, "--attention_mask", "--skip_baseline", UTTERANCES="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert host.requirements() == "requirements-openvino.txt"
    selection = ["--which_dataset=other", "--dataset_path=./my data", "--model_name_or_path=./my model", "--limit=3"]
    gears = f"--gears={EVERY_OPTION['--gears']}"
    assert host.calls() == {
        "preprocess.py": ["--pre_data_save_path=./pre_data/other-masked", gears, *selection, "--attention_mask"],
        "export_onnx.py": [
            "--model_save_dir=./models",
            "--model_name=wav2vec2-base-960h",
            "--model_name_or_path=./my model",
            "--attention_mask",
            "--quantize=int8",
            "--calibration=./pre_data/other-masked/bin_file.info",
        ],
        "pyacl_infer.py": [
            "--model_path=./models/wav2vec2-base-960h-masked-int8.onnx",
            "--device_id=2",
            "--input_dtypes=float32,float32",
            "--engine=openvino",
            "--precision=int8",
            "--workspace=0",  # a single utterance is not left out
            "--input_info_file_path=./pre_data/other-masked/bin_file.info",
            "--infer_res_save_path=./eval_res/other/int8-masked",
        ],
        "postprocess.py": [
            "--bin_file_path=./eval_res/other/int8-masked",
            "--res_save_path=./eval_res/other/int8-masked/transcriptions.txt",
            *selection,
        ],
        "wav2vec2_eval.report": [
            "./eval_res/other/int8-masked",
            "--output=./eval_res/other",
            "--reference=./eval_res/other/int8-masked",
            "--max_wer=0.1",
            "--audio=./my data",
        ],
    }


@pytest.mark.parametrize("baseline", [True, False])
def test_several_variants(host, baseline):
    """Preprocessed once, exported once, because int8 is exported beside float; inferred in the order of the option."""
    done = host.run("--precision=int8,f32", *([] if baseline else ["--skip_baseline"]))
    assert (done.returncode, done.stderr) == (0, "")
    runs = ["int8", "f32"]
    by_pytorch = ["PyTorch baseline"] if baseline else []
    assert re.findall(r"^\[\d+\] (.+)", done.stdout, re.MULTILINE) == [
        *("environment", "preprocess", "export to ONNX, and quantize to int8"),
        *("int8: infer", "int8: decode and score", "f32: infer", "f32: decode and score", *by_pytorch, "result"),
    ]
    assert host.requirements() == "requirements-openvino.txt"
    calls = host.all_calls()
    scripts = ["preprocess.py", "export_onnx.py", *["pyacl_infer.py", "postprocess.py"] * 2]
    last = ["pth_online_infer.py", "wav2vec2_eval.report"] if baseline else ["wav2vec2_eval.report"]
    assert [name for name, _ in calls] == [*scripts, *last]
    assert "--quantize=int8" in calls[1][1]
    models = {"int8": "wav2vec2-base-960h-int8", "f32": "wav2vec2-base-960h"}
    for run, (_, infer), (_, score) in zip(runs, calls[2:6:2], calls[3:6:2]):
        folder = f"./eval_res/clean/{run}"
        assert {f"--model_path=./models/{models[run]}.onnx", f"--precision={run}"} < set(infer)
        assert infer[-1] == f"--infer_res_save_path={folder}"
        assert score[:2] == [f"--bin_file_path={folder}", f"--res_save_path={folder}/transcriptions.txt"]
    compared = [f"./eval_res/clean/{run}" for run in (*runs, *(["pytorch"] if baseline else []))]
    reference = f"--reference=./eval_res/clean/{'pytorch' if baseline else 'int8'}"
    assert calls[-1][1] == [*compared, "--output=./eval_res/clean", reference]


@pytest.mark.parametrize("npu", [True, False])
@pytest.mark.parametrize("attention_mask", [True, False])
def test_folders_of_variants_are_no_names_of_files(npu, attention_mask):
    """Beside these folders the report writes its files, whose names have a point."""
    names = evaluate.name_variants(CPU_PRECISIONS[:1] if npu else CPU_PRECISIONS, npu, attention_mask)
    assert len({*names, evaluate.BASELINE}) == (2 if npu else 4)
    assert not [name for name in names if "." in name]
    assert all(name.endswith("-masked") == attention_mask for name in names)


def test_a_processor_without_bfloat16_is_known_at_the_start(monkeypatch):
    """The inference would refuse it, too, but after the model was exported and the other variants had run."""
    monkeypatch.setattr(evaluate, "cpu_name", lambda: "cpu (A CPU)")
    for lacks in (False, True):
        monkeypatch.setattr(evaluate, "lacks_bfloat16", lambda lacks=lacks: lacks)
        evaluate.parse_args(["--precision=f32,int8"])
        if not lacks:
            assert evaluate.parse_args(["--precision=f32,bfloat16"]).precision == ("f32", "bf16")
    with pytest.raises(SuiteError, match=re.escape("--precision=bf16: cpu (A CPU) has no bfloat16 instructions")):
        evaluate.parse_args(["--precision=f32,bf16"])


@pytest.mark.parametrize(
    ("run", "chunks"),
    [
        ({}, ["--chunk_s=0"]),
        ({"chunk_samples": 112_000, "stride_samples": 16_000}, ["--chunk_s=7.0", "--stride_s=1.0"]),
        ({"chunk_samples": 559_680, "stride_samples": 93_440}, ["--chunk_s=34.98", "--stride_s=5.84"]),
    ],
)
def test_own_recordings(host, run, chunks):
    """PyTorch gets the chunks into which the suite's data were cut, whatever the gears."""
    of_table = ["--audio_column=wav", "--text_column=said"]
    options = ["--which_dataset=custom", "--dataset_path=./t.csv", *of_table]
    more = ["--skip_unusable", "--normalize_text=english", "--word_times", "--chunk_s=20", "--stride_s=4"]
    done = host.run(*options, *more, RUN=json.dumps({"script": "preprocess.py", "format": 2, **run}))
    assert (done.returncode, done.stderr) == (0, "")
    calls = host.calls()
    first = ["--pre_data_save_path=./pre_data/custom", "--gears=none", "--chunk_s=20.0", "--stride_s=4.0"]
    assert calls["preprocess.py"] == [*first, *options, "--skip_unusable"]
    scoring = ["--word_times", "--normalize_text=english"]
    assert calls["postprocess.py"][2:] == [*scoring, *options]
    assert calls["pth_online_infer.py"][2:] == [*scoring, *chunks, "--skip_unusable", *options]
    assert calls["wav2vec2_eval.report"][-3:] == ["--audio=./t.csv", *of_table]


def test_the_home_folder_is_expanded(host, tmp_path):
    """The shell leaves the ~ of --option=~/folder."""
    (tmp_path / "gears.txt").touch()
    options = ["--dataset_path=~/data", "--model_name_or_path=~/model", "--gears=~/gears.txt"]
    assert host.run(*options, HOME=str(tmp_path)).returncode == 0
    assert host.calls()["preprocess.py"][1:] == [
        f"--gears={tmp_path}/gears.txt",
        "--which_dataset=clean",
        f"--dataset_path={tmp_path}/data",
        f"--model_name_or_path={tmp_path}/model",
    ]


def test_cann_may_have_a_python_of_its_own(host, tmp_path):
    """The one that the user had before CANN's environment was loaded runs the scripts."""
    cann = tmp_path / "cann"
    (cann / "bin").mkdir(parents=True)
    (cann / "bin/python3").write_text("#!/bin/sh\necho CANN has no packages >&2\nexit 1\n")
    (cann / "bin/atc").write_text("#!/bin/sh\n")
    for tool in (cann / "bin").iterdir():
        tool.chmod(0o755)
    (cann / "set_env.sh").write_text(f"export PATH={cann}/bin:$PATH\n")
    host.python.rename(host.bin / "python3")
    done = host.run(ASCEND_TOOLKIT_HOME=str(cann), PATH=f"{host.bin}:/usr/bin:/bin", PYTHON="python3")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Python: {host.bin}/python3" in done.stdout


@pytest.mark.parametrize(
    ("options", "requirements"),
    [
        ("--engine=onnxruntime", "requirements.txt"),
        ("--engine=openvino", "requirements-openvino.txt"),
        ("--precision=f32,int8", "requirements-openvino.txt"),
        pytest.param("--precision=bf16", "requirements-openvino.txt", marks=NEEDS_BFLOAT16),
        ("--engine=onnxruntime --precision=int8", "requirements-openvino.txt"),  # NNCF quantizes for every engine
    ],
)
def test_which_requirements(host, options, requirements):
    assert host.run(*options.split()).returncode == 0
    assert host.requirements() == requirements


@pytest.mark.parametrize("calibration", ["", "my manifest"])
def test_int8(host, calibration):
    (host.cwd / "my manifest").touch()
    done = host.run("--precision=int8", f"--calibration={calibration}")
    assert (done.returncode, done.stderr) == (0, "")
    path = calibration or "./pre_data/clean/bin_file.info"
    assert host.calls()["export_onnx.py"][2:] == ["--quantize=int8", f"--calibration={path}"]
    assert host.calls()["pyacl_infer.py"][0] == "--model_path=./models/wav2vec2-base-960h-int8.onnx"
    assert ("int8 is calibrated on a part of the evaluated set itself" in done.stdout) == (not calibration)


def test_the_demo_has_its_own_folder(host):
    (host.cwd / "gears.txt").touch()
    done = host.run("--demo", "--gears=gears.txt")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in host.cwd.iterdir()) == ["demo_res", "gears.txt"]
    assert host.calls()["preprocess.py"] == [
        "--pre_data_save_path=./pre_data/clean",
        f"--gears={host.cwd.resolve() / 'gears.txt'}",
        "--which_dataset=clean",
        f"--dataset_path={ROOT}/test/demo/LibriSpeech",
        f"--model_name_or_path={ROOT}/test/demo/model",
    ]
    shown = ["  R2 / H2", "  R12 / H12", "  R22 / H22", "  R32 / H32", "  R42 / H42"]
    page = f"The page: {host.cwd.resolve()}/demo_res/eval_res/clean/report.html"
    assert done.stdout.splitlines()[-6:] == [*shown, page]
    assert f"All files are in {host.cwd.resolve()}/demo_res. Some of the utterances" in done.stdout


def test_on_an_npu(host):
    done = host.run("--attention_mask", "--device_id=1", npu=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "NPU: Ascend310P3, device 1" in done.stdout
    assert "[4] compile for Ascend310P3\ncompiling ./models/wav2vec2-base-960h-masked.onnx" in done.stdout
    calls = host.calls()
    assert list(calls)[:4] == ["preprocess.py", "export_onnx.py", "cann_emulator.atc", "pyacl_infer.py"]
    assert calls["preprocess.py"][1] == "--gears=default"
    assert "--dynamic_dims=10000,10000;20000,20000" in calls["cann_emulator.atc"]
    assert calls["pyacl_infer.py"][0] == "--model_path=./models/wav2vec2-base-960h-masked.om"
    assert calls["preprocess.py"][0] == "--pre_data_save_path=./pre_data/clean-masked"
    assert calls["pyacl_infer.py"][-1] == "--infer_res_save_path=./eval_res/clean/npu-masked"
    assert calls["wav2vec2_eval.report"] == [
        "./eval_res/clean/npu-masked",
        "./eval_res/clean/pytorch",
        "--output=./eval_res/clean",
        "--reference=./eval_res/clean/pytorch",
        "--soc_version=Ascend310P3",
    ]


def test_the_folder_of_the_plain_model_on_an_npu(host):
    assert host.run("--precision=f32", npu=True).returncode == 0
    assert host.calls()["pyacl_infer.py"][-1] == "--infer_res_save_path=./eval_res/clean/npu"


def test_the_users_soc_version_goes_before_npu_smis(host):
    assert "NPU: Ascend310B1, device 0" in host.run("--soc_version=Ascend310B1", npu=True).stdout
    assert "--soc_version=Ascend310B1" in host.calls()["cann_emulator.atc"]


@pytest.mark.parametrize("option", ["--engine=onnxruntime", "--precision=int8", "--precision=f32,int8"])
def test_options_of_the_cpu_on_an_npu(host, option):
    done = host.run(option, npu=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("eval_acc_perf.sh: error: --engine and --precision are the CPU's")
    assert host.calls() == {}


@pytest.mark.parametrize(
    ("lacks", "reason"),
    [
        ("device", "npu-smi shows none"),
        ("acl", "Python's acl: ModuleNotFoundError: No module named 'acl'"),
    ],
)
def test_what_an_npu_lacks(host, lacks, reason):
    environment = {"ACL_EMULATOR_DEVICES": "0"} if lacks == "device" else {}
    if lacks == "acl":  # atc and npu-smi alone
        environment["PATH"] = f"{SET_ENV.parent}/bin:/usr/bin:/bin"
    done = host.run(npu=lacks != "acl", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"no NPU can be used here ({reason}): the model runs on this host's CPU" in done.stdout
    assert "cann_emulator.atc" not in host.calls()


def test_a_wanted_npu_that_is_not_there(host):
    done = host.run("--soc_version=Ascend310P3")
    assert (done.returncode, done.stderr) == (
        2,
        "eval_acc_perf.sh: error: --soc_version=Ascend310P3: no NPU can be used here (CANN's atc was not found)\n",
    )
    assert host.calls() == {}


STAGES = ("preprocess.py", "export_onnx.py", "pyacl_infer.py", "postprocess.py", "pth_online_infer.py")


@pytest.mark.parametrize("stage", [*STAGES, "wav2vec2_eval.report"])
def test_a_failed_stage_ends_the_run(host, stage):
    done = host.run(**{stage.replace(".", "_"): "41"})
    assert (done.returncode, done.stderr) == (41, f"{stage}: ended early\n")
    assert list(host.calls())[-1] == stage


def test_a_failed_compilation_ends_the_run(host):
    done = host.run(npu=True, cann_emulator_atc="41")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "cann_emulator.atc: ended early")
    assert "onnx2om.sh: error: atc failed with status 41" in done.stderr
    assert list(host.calls())[-1] == "cann_emulator.atc"


def test_a_killed_stage_is_named(host):
    """A process that the system kills for memory cannot report this itself."""
    done = host.run(pyacl_infer_py="kill")
    assert (done.returncode, done.stderr.count("\n")) == (128 + signal.SIGKILL, 1)
    assert done.stderr.startswith("eval_acc_perf.sh: error: signal 9 ended ")
    assert "pyacl_infer.py" in done.stderr


@pytest.mark.parametrize(("number", "to_all", "status"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)])
def test_signals_end_the_stage_and_the_run(host, number, to_all, status):
    """Ctrl-C reaches all processes of the terminal; SIGTERM reaches evaluate.py, which hands it to the stage."""
    process = host.start(pyacl_infer_py="wait")
    wait_until((host.bin / "waits").exists, process)
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=30)  # ends when no process holds the pipe
    assert process.returncode == status
    assert errors == ("pyacl_infer.py: ended early\n" if number == signal.SIGINT else "")


def test_an_environment_that_cannot_be_made(host, tmp_path):
    """In a copy of the suite: an environment beside the original may exist."""
    shutil.copytree(ROOT / "wav2vec2_eval", tmp_path / "suite/wav2vec2_eval")
    (tmp_path / "suite/test").mkdir()
    for name in ("eval_acc_perf.sh", "environment.sh", "has_packages.py"):
        shutil.copy(ROOT / "test" / name, tmp_path / "suite/test")
    host.script = tmp_path / "suite/test/eval_acc_perf.sh"
    done = host.run(HAS_PACKAGES="0")
    assert list(host.calls()) == ["venv"]
    assert (done.returncode, done.stderr.splitlines()[1:]) == (7, ["no room for an environment"])


def test_no_python(host):
    """A Python that is too old, or none, is replaced by another or reported."""
    (host.bin / "dirname").symlink_to("/usr/bin/dirname")
    process = subprocess.run(
        ["/bin/bash", str(SCRIPT)], env={"PATH": str(host.bin)}, capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stderr.count("\n")) == (2, 1)
    assert "expected Python 3.9 or newer, found none; set PYTHON to one" in process.stderr


def test_standard_library_and_python_3_9():
    """evaluate.py starts before any package is installed."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import wav2vec2_eval.evaluate\n"
        "for name, module in sys.modules.items():\n    if name.startswith('wav2vec2_eval'): print(module.__file__)"
    )
    files = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"{ROOT}/wav2vec2_eval/evaluate.py" in files.splitlines()
    for file in files.splitlines():
        ast.parse(Path(file).read_text(encoding="utf-8"), feature_version=(3, 9))


PLANTED = (
    *("acl", "argparse", "multiprocessing", "pip", "platform", "re", "sitecustomize", "threading", "venv"),
    *("wav2vec2_eval/__init__", "preprocess"),
)


def plant(folder: Path) -> Path:
    """Put modules into `folder` that write their name into the returned file when they are executed."""
    marker = folder.parent / "executed"
    for name in PLANTED:
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"with open({str(marker)!r}, 'a') as marker:\n    marker.write({name + chr(10)!r})\n")
    return marker


def test_nothing_in_the_current_folder_is_executed(tmp_path, model_folder, speech):
    """By no process of a whole evaluation. An empty entry of PYTHONPATH is the current folder, too."""
    folder = tmp_path / "user"
    folder.mkdir()
    marker = plant(folder)
    options = [f"--dataset_path={speech}", f"--model_name_or_path={model_folder}", "--limit=2", "--skip_baseline"]
    tools = f"{SET_ENV.parent}/bin:/usr/bin:/bin"  # then acl is looked for, too
    environment = {**BARE_ENVIRONMENT, "PATH": tools, "PYTHONPATH": ":"}
    done = subprocess.run(
        ["bash", str(SCRIPT), *options], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert not marker.exists(), marker.read_text()
    assert (done.returncode, done.stderr) == (0, "")
    assert "No module named 'acl'" in done.stdout


def test_nothing_is_executed_where_an_environment_is_made(tmp_path):
    """With python_with itself, in a copy, so that the environment is made beside the copy."""
    folder = tmp_path / "user"
    folder.mkdir()
    marker = plant(folder)
    for name in ("environment.sh", "has_packages.py"):
        (tmp_path / name).write_text((ROOT / "test" / name).read_text())
    (tmp_path / "requirements.txt").write_text("there-is-no-such-package==1.0; python_version < '3'\n")
    command = ["bash", "-c", 'source "$0" && python_with "$1"', "../environment.sh", "../requirements.txt"]
    done = subprocess.run(command, cwd=folder, env=BARE_ENVIRONMENT, capture_output=True, text=True, check=False)
    assert not marker.exists(), marker.read_text()
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/.venv/bin/python\n"), done.stderr
