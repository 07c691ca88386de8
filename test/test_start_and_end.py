# SPDX-License-Identifier: Apache-2.0
"""Proves how a script starts and ends: signals at any step, closed and full output, and files that lie about."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wav2vec2_eval.machine import start

from conftest import BARE_ENVIRONMENT, ROOT, at_startup, members, run_script

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MODEL = "--model_path=./models/wav2vec2-base-960h.onnx"


def commands(chain: Path, speech: Path, model_folder: Path) -> dict[str, list[str]]:
    """A command for each script that succeeds in an empty folder."""
    model, data = f"--model_name_or_path={model_folder}", ["--which_dataset=clean", f"--dataset_path={speech}"]
    return {
        "preprocess.py": ["--pre_data_save_path=./out", "--num_workers=2", *data, model],
        "export_onnx.py": ["--model_save_dir=./out", model],
        "pyacl_infer.py": [
            f"--model_path={chain / 'models/wav2vec2-base-960h.onnx'}",
            f"--input_info_file_path={chain / 'pre_data/clean/bin_file.info'}",
            "--infer_res_save_path=./out",
        ],
        "postprocess.py": [
            f"--bin_file_path={chain / 'om_infer_res_clean'}",
            "--res_save_path=./out/transcriptions.txt",
            "--which_dataset=clean",
            model,
        ],
        "pth_online_infer.py": ["--pred_res_save_path=./out/transcriptions.txt", *data, model],
    }


def test_the_scripts_are_known():
    assert sorted(start.SCRIPTS) == sorted(path.name for path in ROOT.glob("*.py"))


# Signals

STEPS = {signal.SIGINT: (0, 1, 2, 3, 5, 8, 13, 21, 34, 89, 377), signal.SIGTERM: (0, 2, 8, 21)}
# Programs that are started in another way. Python's -I would keep sitecustomize.py out.
OTHERS = {
    "report.py": [sys.executable, "-m", "wav2vec2_eval.report", "--help"],
    "gears.py": [sys.executable, "-m", "wav2vec2_eval.gears", "--help"],
    "eval_acc_perf.sh": ["env", "PYTHON=./python-without-I", "bash", str(ROOT / "test/eval_acc_perf.sh"), "--help"],
}


def at_step(folder: Path, event: str, step: int, number: int) -> dict[str, str]:
    return at_startup(folder, "signal_at_step.py", EVENT=event, STEP=str(step), SIGNAL=str(int(number)), GROUP="0")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", start.SCRIPTS)
def test_a_signal_while_modules_load(chain, speech, model_folder, tmp_path, name, number):
    """At the first imports, and at some of the later ones. No library swallows it, and nothing is printed beside it."""
    options = commands(chain, speech, model_folder)[name]
    hint = "; --resume continues" if name == "pyacl_infer.py" else ""
    for step in STEPS[number]:
        done = run_script(name, *options, cwd=tmp_path, environment=at_step(tmp_path, "import", step, number))
        if step > 21 and done.returncode == 0:  # there are not so many imports before its end
            break
        assert done.returncode == 128 + number, (step, done.stderr)
        assert done.stderr in (f"{name}: interrupted\n", f"{name}: interrupted{hint}\n"), step


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_a_c_module_loads(tmp_path, number):
    """NumPy's reports "cannot be imported" for an exception that reaches it."""
    program = tmp_path / "script"
    program.write_text("from wav2vec2_eval import cli\ncli.run(lambda _: __import__('numpy') is None)\n")
    for step in range(30, 70):
        environment = {**BARE_ENVIRONMENT, **at_step(tmp_path, "import", step, number)}
        environment["PYTHONPATH"] += f":{ROOT}"
        done = subprocess.run(
            [sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (128 + number, "script: interrupted\n"), step


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupted_inference_says_how_to_go_on(chain, speech, model_folder, tmp_path, number):
    options = commands(chain, speech, model_folder)["pyacl_infer.py"]
    done = run_script("pyacl_infer.py", *options, cwd=tmp_path, environment=at_step(tmp_path, "os.rename", 2, number))
    assert (done.returncode, done.stderr) == (
        128 + number,
        "pyacl_infer.py: interrupted; --resume continues\n",
    )
    done = run_script("pyacl_infer.py", *options, "--resume", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", OTHERS)
def test_a_signal_while_other_programs_load(tmp_path, name, number):
    wrapper = tmp_path / "python-without-I"
    wrapper.write_text(f'#!/bin/sh\nif [ "$1" = -I ]; then shift; fi\nexec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    for step in range(10):
        variables = at_step(tmp_path, "import", step, number)
        environment = {**BARE_ENVIRONMENT, **variables, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
        done = subprocess.run(
            OTHERS[name], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (128 + number, f"{name}: interrupted\n"), step


@pytest.mark.parametrize("number", SIGNALS)
def test_a_program_of_others_keeps_its_signals(tmp_path, number):
    """It imports the package as a library; or it lies in the suite's folder, but is none of the scripts."""
    program = tmp_path / "preprocess.py"
    program.write_text(
        f"import signal, sys\nbefore = signal.getsignal({int(number)})\nsys.path.append({str(ROOT)!r})\n"
        f"import wav2vec2_eval, wav2vec2_eval.cli, pyacl_infer\nassert signal.getsignal({int(number)}) == before\n"
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def run_in_a_group(cwd: Path, variables: dict[str, str], *options: str) -> tuple[int, str, list[str]]:
    """Run preprocess.py in a process group of its own. Returns its status, its stderr, and what is left running."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "preprocess.py"), *options],
        cwd=cwd,
        env={**BARE_ENVIRONMENT, **variables, "GROUP": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, stderr = process.communicate(timeout=60)  # ends when no process holds the pipe
    finally:
        for _ in range(500):  # a process that is about to end is still listed
            if not (left := members(process.pid)):
                break
            time.sleep(0.02)
        else:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, stderr, left


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("event", "steps"),
    [
        ("start", range(6)),  # before and after the start of each worker
        ("worker import", (0, 1, 2, 4, 8, 16, 32, 64, 128)),
    ],
)
def test_a_signal_to_all_processes_while_workers_start(speech, model_folder, tmp_path, event, steps, number):
    """No worker is left, nobody waits for one that has died, and the signal is answered."""
    options = ["--which_dataset=clean", f"--dataset_path={speech}", f"--model_name_or_path={model_folder}"]
    for step in steps:
        variables = at_step(tmp_path, event, step, number)
        found = run_in_a_group(tmp_path, variables, "--pre_data_save_path=./pre", "--num_workers=3", *options)
        assert found == (128 + number, "preprocess.py: interrupted\n", []), step
        assert not (tmp_path / "pre").exists()


# Output that cannot be written


def shell(command: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command, "bash", *arguments],
        cwd=cwd,
        env=BARE_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", start.SCRIPTS)
@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_change_nothing(chain, speech, model_folder, tmp_path, name, redirection):
    """Without a stdout, the first file that is opened would get its number, and every printed text."""
    if name in ("export_onnx.py", "pth_online_infer.py") and redirection != ">&-":
        pytest.skip("takes long, and prints in the same way")
    options = commands(chain, speech, model_folder)[name]
    done = shell(f'exec "$@" {redirection}', tmp_path, sys.executable, str(ROOT / name), *options)
    assert (done.returncode, done.stderr) == (0, "")
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert written
    assert not [file for file, content in written.items() if b"written: " in content]


@pytest.mark.parametrize("option", ["", "--help"])
@pytest.mark.parametrize("name", ["preprocess.py", "pyacl_infer.py", "postprocess.py"])
def test_a_full_disk_for_stdout_is_one_line(chain, speech, model_folder, tmp_path, name, option):
    options = commands(chain, speech, model_folder)[name]
    done = shell('exec "$@" >/dev/full', tmp_path, sys.executable, str(ROOT / name), *options, *filter(None, [option]))
    assert (done.returncode, done.stderr) == (2, f"{name}: error: No space left on device: standard output\n")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize("option", ["--nonsense", "--bin_file_path=none --res_save_path=t --which_dataset=clean"])
def test_the_status_tells_of_an_error_that_cannot_be_printed(tmp_path, redirection, option):
    done = shell(f'exec "$1" "$2" {option} {redirection}', tmp_path, sys.executable, str(ROOT / "postprocess.py"))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


# Files that lie about


PLANTED = ("argparse", "enum", "platform", "re", "signal", "soundfile", "tqdm", "torch", "wav2vec2_eval/__init__")


@pytest.mark.parametrize("name", [*start.SCRIPTS, *OTHERS])
def test_nothing_in_the_current_folder_is_executed(chain, speech, model_folder, tmp_path, name):
    """By no process of a script. An empty entry of PYTHONPATH is the current folder; some set_env.sh leave one."""
    folder, marker = tmp_path / "user", tmp_path / "executed"
    for module in PLANTED:
        path = folder / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"with open({str(marker)!r}, 'a') as marker:\n    marker.write({module + chr(10)!r})\n")
    variables = {"PYTHONPATH": f"{ROOT}::"}
    if name in OTHERS:
        command = [part.replace("./python-without-I", sys.executable) for part in OTHERS[name]]
        command[1:1] = ["-P"] * (command[1] == "-m")  # without it, the current folder is where -m looks first
    else:
        command = [sys.executable, str(ROOT / name), *commands(chain, speech, model_folder)[name]]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**BARE_ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not marker.exists(), marker.read_text()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ["gears", "report"])
def test_a_module_takes_nothing_from_the_current_folder_once_the_package_is_there(tmp_path, module):
    """Without -P, Python itself looks for the package in the current folder first."""
    for name in ("argparse", "json", "platform", "signal", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('executed')\n")
    done = subprocess.run(
        [sys.executable, "-m", f"wav2vec2_eval.{module}", "--help"],
        cwd=tmp_path,
        env={**BARE_ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
