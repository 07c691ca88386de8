# SPDX-License-Identifier: Apache-2.0
"""Proves that kill -9 at any moment leaves nothing that looks complete but is not, and that the next run succeeds."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import data_folder
from wav2vec2_eval.files import folder as folder_module
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.names import LIST_NAME, LOCK_NAME, MANIFEST_NAME

from conftest import PROGRAMS, ROOT, members, noise, run_ok, script_main, wait_until, write_utterance

UTTERANCES = 60
STAGED = "." + "?" * 16  # the staging folder


@pytest.fixture(scope="module")
def data(tmp_path_factory, model_folder) -> tuple[str, ...]:
    tree = tmp_path_factory.mktemp("tree")
    for number in range(UTTERANCES):
        write_utterance(tree / "test-clean", f"1-{number}-0", noise(50_000 + number, number), f"TEXT {number}")
    return "--which_dataset=clean", f"--dataset_path={tree}", f"--model_name_or_path={model_folder}"


def start(name: str, *options: str, cwd: Path, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start a script in a process group of its own; `communicate` returns its stderr."""
    return subprocess.Popen(
        [*prefix, sys.executable, str(ROOT / name), *options],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def files(folder: Path) -> dict[str, bytes]:
    """The files of a folder, except the lock, which is another one in each run, and those in a staging folder."""
    paths = [path for pattern in ("*", "[!.]*/*") for path in folder.glob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.name != LOCK_NAME}


def tensors(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in files(folder).items() if name.endswith((".bin", ".npy"))}


def count(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.glob(pattern))


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a process has started; none if it has ended."""
    try:
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except OSError:
        return []


def killed_at(step: int, folder: Path, name: str, *options: str, cwd: Path) -> bool:
    """Run a script and kill it at its change number `step` of a file in `folder`; False if it ended before that."""
    command = [sys.executable, str(PROGRAMS / "kill_at_step.py"), str(step), str(folder), str(ROOT / name), *options]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


AIS_BENCH = "--layout=ais_bench"


@pytest.mark.parametrize(
    ("layout", "earlier"),
    [
        *((None, earlier) for earlier in (None, "--gears=none", "--attention_mask", AIS_BENCH)),
        *((AIS_BENCH, earlier) for earlier in (None, "--layout=suite")),
    ],
)
def test_preprocess(data, tmp_path, layout, earlier):
    """Killed at every step, into a new folder and over an earlier data set."""
    options = ("--pre_data_save_path=./pre", "--num_workers=1", "--limit=2", *filter(None, [layout]), *data)
    run_ok("preprocess.py", *options, cwd=tmp_path)
    expected = files(tmp_path / "pre")
    before = {}
    if earlier:
        run_ok("preprocess.py", *options, earlier, cwd=tmp_path)
        before = files(tmp_path / "pre")
    for step in itertools.count():
        cwd = tmp_path / str(step)
        cwd.mkdir()
        folder = cwd / "pre"
        if earlier:
            shutil.copytree(tmp_path / "pre", folder)
        if not killed_at(step, folder, "preprocess.py", *options, cwd=cwd):
            break
        left = files(folder)
        if MANIFEST_NAME in left:
            assert left in (before, expected)
        run_ok("preprocess.py", *options, cwd=cwd)
        assert files(folder) == expected
        assert not count(folder, STAGED)
        assert {path.name for path in folder.iterdir() if path.is_dir()} == ({"input"} if layout else set())
        shutil.rmtree(cwd)
    assert files(folder) == expected
    assert step > 2 * 3, "a poor test: each of 2 tensors is opened and moved, and a move counts twice"


def test_a_killed_preprocess_takes_its_workers_along(data, tmp_path):
    folder = tmp_path / "pre"
    process = start("preprocess.py", "--pre_data_save_path=./pre", "--num_workers=2", *data, cwd=tmp_path)
    wait_until(lambda: count(folder, f"{STAGED}/*.bin"), process)
    process.kill()
    process.wait()
    for _ in range(500):
        if not members(process.pid):
            return
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("a worker outlived its parent by ten seconds")


@pytest.mark.parametrize(
    ("save_type", "earlier", "resume"),
    [
        *(("bin", None, False), ("bin", None, True), ("npy", None, True)),
        *(("bin", "bin", False), ("bin", "bin", True), ("bin", "npy", False)),
    ],
)
def test_pyacl_infer(data, chain, tmp_path, save_type, earlier, resume):
    """Killed at every step, into a new folder and over earlier results; the next run resumes, or starts anew."""
    run_ok("preprocess.py", "--pre_data_save_path=./pre", "--limit=2", *data, cwd=tmp_path)
    options = (
        f"--model_path={chain / 'models/wav2vec2-base-960h.onnx'}",
        "--input_info_file_path=./pre/bin_file.info",
        "--engine=onnxruntime",
    )
    run_ok("pyacl_infer.py", *options, "--infer_res_save_path=./whole", f"--res_save_type={save_type}", cwd=tmp_path)
    expected = tensors(tmp_path / "whole")
    assert len(expected) == 2
    if earlier:
        run_ok("pyacl_infer.py", *options, "--infer_res_save_path=./old", f"--res_save_type={earlier}", cwd=tmp_path)
    for step in itertools.count():
        folder = tmp_path / f"results{step}"
        if earlier:
            shutil.copytree(tmp_path / "old", folder)
        here = (*options, f"--infer_res_save_path={folder}", f"--res_save_type={save_type}")
        if not killed_at(step, folder, "pyacl_infer.py", *here, cwd=tmp_path):
            break
        for name, content in tensors(folder).items():
            assert content == expected.get(name, content), f"{name} looks complete but is not"
        if (folder / "infer_time.txt").exists():
            assert tensors(folder) in (expected, tensors(tmp_path / "old"))
        run_ok("pyacl_infer.py", *here, *["--resume"] * resume, cwd=tmp_path)
        after = files(folder)
        assert after.keys() == files(tmp_path / "whole").keys()
        assert tensors(folder) == expected
        assert len((folder / "results.tsv").read_text().splitlines()) == 1 + 2
        shutil.rmtree(folder)
    assert tensors(folder) == expected
    assert step > 2 * 5, "a poor test: each of 2 results is noted twice, opened and renamed"


@pytest.mark.parametrize("what", ["notes.txt", "sub/notes.txt"])
def test_what_comes_into_the_folder_meanwhile_is_kept(data, tmp_path, monkeypatch, what):
    """The data set of an earlier run in the same folder stays whole, too."""
    folder = tmp_path / "pre"
    preprocess = script_main("preprocess.py")
    options = [f"--pre_data_save_path={folder}", "--num_workers=1", *data]
    preprocess([*options, "--gears=none"])
    before = files(folder)
    write_tensors = data_folder.write_tensors

    def write_and_drop(*arguments):
        (folder / what).parent.mkdir(exist_ok=True)
        (folder / what).write_text("mine")
        return write_tensors(*arguments)

    monkeypatch.setattr(data_folder, "write_tensors", write_and_drop)
    with pytest.raises(SuiteError, match=r"holds files that preprocess\.py did not write"):
        preprocess(options)
    assert (folder / what).read_text() == "mine"
    assert {name: content for name, content in files(folder).items() if name != what} == before


def test_a_worker_that_is_killed_is_reported(data, tmp_path):
    process = start("preprocess.py", "--pre_data_save_path=./pre", "--num_workers=2", *data, cwd=tmp_path)
    wait_until(lambda: count(tmp_path / "pre", f"{STAGED}/*.bin"), process)
    with suppress(OSError, IndexError):  # the script may have ended already
        workers = [pid for pid in children(process) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(workers[0], signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    if process.returncode != 0:
        assert (process.returncode, stderr.count("\n")) == (2, 1)
        assert "a worker process was killed" in stderr
        assert not (tmp_path / "pre").exists()


@pytest.mark.parametrize("started", [0, 1, 2, 3])  # the resource tracker, then the two workers
@pytest.mark.parametrize("tensors", [0, 1, UTTERANCES // 2])
def test_an_interrupted_preprocess_says_so_in_one_line(data, tmp_path, started, tensors):
    """Ctrl-C reaches the workers, too, and may come while they start."""
    process = start("preprocess.py", "--pre_data_save_path=./pre", "--num_workers=2", *data, cwd=tmp_path)
    folder = tmp_path / "pre"
    wait_until(lambda: count(folder, STAGED), process)
    wait_until(lambda: len(children(process)) >= started and count(folder, f"{STAGED}/*.bin") >= tensors, process)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    if (folder / MANIFEST_NAME).exists():  # the script was faster than the signal
        assert "Traceback" not in stderr
    else:
        assert (process.returncode, stderr) == (130, "preprocess.py: interrupted\n")
        assert not folder.exists()


def interrupt_before(monkeypatch, module, name: str) -> None:
    """Raise SIGINT before every call of a module's function."""
    function = getattr(module, name)

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        return function(*arguments)

    monkeypatch.setattr(module, name, interrupted)


def test_ctrl_c_while_files_are_moved_leaves_a_whole_data_set(data, tmp_path, monkeypatch):
    preprocess = script_main("preprocess.py")
    options = ["--num_workers=1", "--limit=3", *data]
    preprocess([f"--pre_data_save_path={tmp_path / 'whole'}", *options])
    interrupt_before(monkeypatch, Path, "rename")
    with pytest.raises(KeyboardInterrupt):
        preprocess([f"--pre_data_save_path={tmp_path / 'pre'}", *options])
    left, whole = files(tmp_path / "pre"), files(tmp_path / "whole")
    assert left.keys() == whole.keys()
    assert {name for name in left if left[name] != whole[name]} == {MANIFEST_NAME, LIST_NAME}  # name another folder


def test_ctrl_c_while_a_failed_run_is_cleared_away_leaves_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "pre"
    with (
        pytest.raises(KeyboardInterrupt),
        output_folder(folder, "preprocess.py") as out,
        out.staging() as staged,
    ):
        (staged.path / "0.bin").touch()
        interrupt_before(monkeypatch, folder_module, "remove_temporaries")
    assert not folder.exists()


def test_a_background_job_is_deaf_to_ctrl_c(data, tmp_path):
    """A shell makes its background jobs ignore SIGINT, so they run to their end."""
    options = ("--pre_data_save_path=./pre", "--num_workers=2", *data)
    deaf = ("bash", "-c", "trap '' INT; exec \"$@\"", "bash")
    process = start("preprocess.py", *options, cwd=tmp_path, prefix=deaf)
    wait_until(lambda: count(tmp_path / "pre", f"{STAGED}/*.bin"), process)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert count(tmp_path / "pre", "*.bin") == UTTERANCES


@pytest.mark.parametrize("engine", [["onnxruntime"], ["openvino", "--in_flight=2"]], ids=" ".join)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_in_order(data, chain, tmp_path, number, engine):
    pytest.importorskip(engine[0])
    run_ok("preprocess.py", "--pre_data_save_path=./pre", *data, cwd=tmp_path)
    options = (
        f"--model_path={chain / 'models/wav2vec2-base-960h.onnx'}",
        "--input_info_file_path=./long.info",
        "--infer_res_save_path=./res",
        f"--engine={engine[0]}",
        *engine[1:],
    )
    path = tmp_path / "long.info"  # not beside utterances.tsv, which lacks these keys
    lines = (tmp_path / "pre/bin_file.info").read_text().splitlines()
    path.write_text("".join(f"{copy}_{line}\n" for copy in range(60) for line in lines))  # long enough to interrupt
    process = start("pyacl_infer.py", *options, cwd=tmp_path)
    wait_until(lambda: count(tmp_path / "res", "*.0.bin"), process)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in stderr
    assert not count(tmp_path / "res", f"{STAGED}*")
    assert not (tmp_path / "res/infer_time.txt").exists()
