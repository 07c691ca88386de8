# SPDX-License-Identifier: Apache-2.0
"""Proves that no script, engine or precision looks anything up, connects, or writes outside the folders it was given.

Libraries that report their use would do both as soon as they are imported. Two witnesses watch: an audit hook in every
Python process, which refuses the access, and strace, where it is installed, which sees the libraries written in C, too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from wav2vec2_eval.machine.cpu import cpu_features

from conftest import BARE_ENVIRONMENT, DEMO, ROOT, at_startup

NETWORK = ("socket", "connect", "bind", "sendto", "sendmsg", "sendmmsg")
CHANGES = (
    *("open", "openat", "creat", "mkdir", "mkdirat", "mknod", "mknodat", "rename", "renameat", "renameat2", "link"),
    *("linkat", "symlink", "symlinkat", "unlink", "unlinkat", "rmdir", "truncate", "chmod", "fchmodat", "utimensat"),
)
STRACE = ("strace", "-f", "--seccomp-bpf", "-y", "-qq", "-s", "4096", "-e", f"trace={','.join((*NETWORK, *CHANGES))}")
CALL = re.compile(r"\d+ +(\w+)\((.*)")  # of process 12: `12 openat(AT_FDCWD</cwd>, "name", O_RDONLY) = 3`
PATH = re.compile(r'(?:<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')


def strace_works() -> bool:
    """Whether it is installed, knows the options, and may watch processes here."""
    return shutil.which("strace") is not None and subprocess.run([*STRACE, "true"], check=False).returncode == 0


def offences(trace: Path, cwd: Path, allowed: tuple[Path, ...]) -> Iterator[str]:
    """The lines of a trace that use the network, or change a file outside the `allowed` folders."""
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        if not (match := CALL.match(line)):
            continue
        call, arguments = match.groups()
        if call in NETWORK:
            if (call == "socket" and "AF_UNIX" not in arguments) or "AF_INET" in arguments:
                yield line
        elif not call.startswith("open") or re.search("O_WRONLY|O_RDWR|O_CREAT", arguments):
            for folder, name in PATH.findall(arguments):
                path = Path(os.path.normpath(cwd / folder / name))
                if "__pycache__" not in path.parts and not any(map(path.is_relative_to, allowed)):
                    yield line


def write_parquet(tree: Path, path: Path, count: int) -> None:
    """The first utterances of the demo in the hub's layout."""
    rows = []
    for transcripts in sorted(tree.glob("*/*/*.trans.txt")):
        for line in transcripts.read_text(encoding="utf-8").splitlines():
            utterance_id, _, text = line.partition(" ")
            audio = (transcripts.parent / f"{utterance_id}.flac").read_bytes()
            rows.append({"id": utterance_id, "text": text, "audio": {"bytes": audio, "path": None}})
    path.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows[:count]), path)


def commands(tree: Path, model_folder: Path, everything: bool) -> Iterator[list[str]]:
    """Scripts, engines and precisions that this machine has, in an order in which each finds its input."""
    model, data = f"--model_name_or_path={model_folder}", f"--dataset_path={tree}"
    few = ("--which_dataset=clean", "--limit=4")
    infer = ("pyacl_infer.py", "--input_info_file_path=pre/bin_file.info")
    # Under strace, two executions of OpenVINO at once sometimes wait for each other without end.
    single = "--in_flight=1"
    float32, int8 = (f"--model_path=models/wav2vec2-base-960h{suffix}.onnx" for suffix in ("", "-int8"))
    openvino = find_spec("openvino") is not None
    quantizes = everything and find_spec("nncf") is not None
    yield ["preprocess.py", "--pre_data_save_path=pre", "--num_workers=2", "--gears=none", *few, data, model]
    quantize = ("--quantize=int8", "--calibration=pre/bin_file.info") if quantizes else ()
    yield ["export_onnx.py", "--model_save_dir=models", model, *quantize]
    yield [*infer, float32, "--infer_res_save_path=res", "--engine=onnxruntime"]
    if openvino:
        yield [*infer, float32, "--infer_res_save_path=res-openvino", "--engine=openvino"]
    yield ["postprocess.py", "--bin_file_path=res", "--res_save_path=res/t.txt", "--which_dataset=clean", model]
    yield ["pth_online_infer.py", "--pred_res_save_path=pth/t.txt", *few, data, model]
    yield ["-m", "wav2vec2_eval.report", "res", "pth", "--output=summary"]
    yield ["-m", "wav2vec2_eval.gears", "--lengths=pre/utterances.tsv", "--count=2", "--output=gears.txt"]
    if not everything:
        return
    yield ["preprocess.py", "--pre_data_save_path=pre-hub", "--num_workers=2", *few, "--dataset_path=hub", model]
    if openvino and cpu_features() & {"avx512_bf16", "amx_bf16", "bf16"}:
        yield [*infer, float32, "--infer_res_save_path=res-bf16", "--precision=bf16", single]
    for engine in ("onnxruntime", *["openvino"] * openvino) if quantizes else ():
        options = ("--precision=int8", *[single] * (engine == "openvino"))
        yield [*infer, int8, f"--infer_res_save_path=res8-{engine}", f"--engine={engine}", *options]


@pytest.mark.parametrize("home", ["empty", "read-only", "unset"])
def test_nothing_is_sent_or_written_elsewhere(speech, model_folder, tmp_path, home):
    """Where root may write into a read-only folder, and where HOME is that of /etc/passwd, strace is the witness."""
    cwd, temporary, log = tmp_path / "work", tmp_path / "tmp", tmp_path / "network.log"
    for name in ("work", "tmp", "home", "startup"):
        (tmp_path / name).mkdir()
    write_parquet(DEMO / "LibriSpeech/test-clean", cwd / "hub/clean/test/0000.parquet", 4)
    (tmp_path / "home").chmod(0o755 if home == "empty" else 0o555)
    environment = {
        "PATH": "/usr/bin:/bin",
        "TQDM_DISABLE": "1",
        "TMPDIR": str(temporary),
        **({} if home == "unset" else {"HOME": str(tmp_path / "home")}),
        **at_startup(tmp_path / "startup", "without_network.py", NETWORK_LOG=str(log)),
    }
    environment["PYTHONPATH"] += f":{ROOT}"  # for python -m
    watched = strace_works()
    # An int8 model of random weights would not be kept. The demo's takes longer.
    source = (DEMO / "LibriSpeech", DEMO / "model", True) if home == "empty" else (speech, model_folder, False)
    for number, (name, *options) in enumerate(commands(*source)):
        trace = tmp_path / f"trace{number}"
        command = [sys.executable, str(ROOT / name) if name.endswith(".py") else name, *options]
        done = subprocess.run(
            [*STRACE, "-o", str(trace), *command] if watched else command,
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert not log.exists(), f"{command}: {log.read_text()}"
        assert (done.returncode, done.stderr) == (0, ""), command
        if watched:
            found = list(offences(trace, cwd, (cwd, temporary, Path("/dev"), Path("/proc"))))
            assert not found, f"{command}: {found[:5]}"
    assert list((tmp_path / "home").iterdir()) == []


def test_both_witnesses_see(tmp_path):
    """Otherwise the test above would prove nothing."""
    program = "import pathlib, socket; pathlib.Path('../elsewhere').touch(); socket.create_connection(('127.0.0.1', 9))"
    log, trace, cwd = tmp_path / "network.log", tmp_path / "trace", tmp_path / "work"
    cwd.mkdir()
    environment = {**BARE_ENVIRONMENT, **at_startup(tmp_path, "without_network.py", NETWORK_LOG=str(log))}
    subprocess.run([sys.executable, "-c", program], cwd=cwd, env=environment, capture_output=True, check=False)
    assert "socket.getaddrinfo" in log.read_text()
    if strace_works():
        command = [*STRACE, "-o", str(trace), sys.executable, "-c", program]
        subprocess.run(command, cwd=cwd, capture_output=True, check=False)
        found = "\n".join(offences(trace, cwd, (cwd, Path("/dev"))))
        assert "elsewhere" in found and "connect(" in found and "AF_INET" in found
